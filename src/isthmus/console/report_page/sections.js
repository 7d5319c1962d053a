/* The sections of the page, in reading order. Each returns nodes; a part that was not measured says so. */

const missing = (key) => h('p', { class: 'missing' }, h('span', { class: 'not' }, t('not.measured')), ' · ', t(key));
const fact = (name, ...value) => h('div', { class: 'fact' }, h('dt', {}, name), h('dd', {}, ...value));
const facts = (...items) => h('dl', { class: 'facts' }, ...items);
const badge = (text, kind) => h('span', { class: 'badge ' + (kind || '') }, text);
const holdsBadge = (holds) => (known(holds) ? badge(t(holds ? 'bar.holds' : 'bar.fails'), holds ? 'ok' : 'bad') : NOT());

function answerBar(headline) {
  const { records, answered, answered_good: good, answered_defects: defects } = headline;
  if (![records, answered, good, defects].every(known) || !records) return null;
  const parts = [['good', good], ['person', records - answered], ['defect', defects]];
  return h('div', { class: 'answer-bar', role: 'img', 'aria-label': parts.map(([kind, n]) => `${t('verdict.' + kind)}: ${n}`).join(', ') },
    parts.map(([kind, n]) => h('div', { class: 'part ' + kind, css: { 'flex-grow': String(Math.max(n, 0)) } },
      h('span', {}, h('b', {}, percent(n / records, 0)), ' ', t('verdict.' + kind)))));
}

function headlineSection() {
  const headline = report.headline, certificate = report.certificate;
  const share = headline && known(headline.answered_share) ? number(100 * headline.answered_share, 1) : null;
  const proven = headline && known(headline.error_bound) && known(headline.error_goal) && headline.error_bound <= headline.error_goal;
  const words = !headline ? t('headline.none') : t((headline.alarms ? 'headline.alarms.' : 'headline.') + (proven ? 'proven' : 'unproven'), {
    bound: percent(proven ? headline.error_goal : headline.error_bound), goal: percent(headline.error_goal),
    confidence: percent(headline.confidence, 0), rest: percent(known(headline.answered_share) ? 1 - headline.answered_share : null) });
  const verdict = !certificate ? badge(t('certificate.none')) : certificate.issued
    ? badge(t('certificate.issued', { tier: certificate.tier || '' }), 'ok') : badge(t('certificate.refused'), 'bad');
  return [h('div', { class: 'headline' },
    h('p', { class: 'big' }, share === null ? h('span', { class: 'not' }, NOT_TEXT()) : [share, h('small', {}, '%')]),
    h('div', { class: 'words' }, h('p', { class: 'lead' }, words), h('p', {}, verdict))),
  headline ? answerBar(headline) : null,
  headline ? facts(
    fact(t(headline.alarms ? 'headline.alarms' : 'headline.error'), percent(headline.error_share), h('small', {}, t('bound.most', { bound: percent(headline.error_bound) }))),
    fact(t(headline.alarms ? 'headline.alarms.recall' : 'headline.recall'), percent(headline.recall), h('small', {}, t('bound.least', { bound: percent(headline.recall_bound) }))),
    fact(t(headline.alarms ? 'headline.alarms.specificity' : 'headline.specificity'), percent(headline.specificity), h('small', {}, t('bound.least', { bound: percent(headline.specificity_bound) }))),
    fact(t('headline.test'), number(headline.records), h('small', {}, t('headline.groups', { n: number(headline.groups), effect: number(headline.design_effect, 2) })))) : null,
  headline ? para('headline.method', { confidence: percent(headline.confidence, 0) }, 'fine') : null];
}

function loopSection() {
  return [figure(t('loop.caption'), loopPicture)];
}

function leftSection() {
  if (!report.owners.length) return [missing('left.none')];
  const head = [t('left.owner'), t('left.records'), t('left.groups'), t('left.holdout'), t('left.images'), t('left.bytes')];
  const rows = report.owners.map((owner) => [h('span', {}, h('i', { class: 'dot', css: { background: colourOf(owner.party) } }), nameOf(owner.party)),
    number(owner.records), [number(owner.groups), owner.groups_inferred ? h('abbr', { title: t('left.inferred.why') }, '*') : null],
    number(owner.holdout_records), h('b', {}, number(owner.images_left)), bytesText(owner.bytes_left)]);
  const logs = report.owners.map((owner) => folded(t('left.log', { name: nameOf(owner.party), n: owner.messages.length }),
    owner.messages.length ? table([t('left.kind'), t('left.shape'), t('left.bytes'), t('left.masked'), 'SHA-256'], owner.messages.map((message) =>
      [message.kind, message.shape.join(' × '), number(message.body_bytes), known(message.masked) ? t(message.masked ? 'yes' : 'no') : NOT(), shortDigest(message.digest)])) : missing('left.messages.none'),
    known(owner.log_head) ? h('p', { class: 'fine' }, t('left.log.head') + ' ', shortDigest(owner.log_head)) : null));
  const model = report.model || {};
  return [table(head, rows), report.owners.some((owner) => owner.groups_inferred) ? para('left.inferred', {}, 'fine') : null,
    figure(t('left.caption'), bytesChart), logs,
    facts(fact(t('left.visibility'), plain(model.visibility)), fact(t('left.membership'), number(model.membership_auc, 2), h('small', {}, t('left.membership.why'))))];
}

function modelSection() {
  const model = report.model;
  if (!model) return [missing('model.none')];
  const difference = model.weights_max_rel_diff_to_pooled;
  return [h('div', { class: 'two' },
    report.roc.length ? figure(t('roc.caption'), rocChart) : missing('roc.none'),
    h('div', {}, figure(t('auc.caption'), aucDots),
      facts(fact(t('model.features'), number(model.dimension)), fact(t('model.records'), number(model.records)),
        fact(t('model.lambda'), known(model.regularisation) ? tiny(model.regularisation) : NOT_TEXT()),
        fact(t('model.difference'), tiny(difference), h('small', {}, t('model.difference.why')))))),
  report.scores ? figure(t('scores.caption'), scoreChart) : missing('scores.none'),
  h('p', { class: 'fine' }, t('model.backbone') + ' ', plain(model.backbone), ' · ', t('model.artefact') + ' ', shortDigest(model.artefact_digest), ' · ', t('model.head') + ' ', shortDigest(model.head_digest))];
}

/* Stated probabilities beside the shares that were found. */
function calibrationTable() {
  const found = report.calibration;
  if (!found) return null;
  const rows = found.rows.map((row) => [`${percent(row.low, 1)} – ${percent(row.high, 1)}`, percent((row.stated_low + row.stated_high) / 2), number(row.records), number(row.defects), percent(row.defects / row.records),
    `${percent(row.share_low, 0)} – ${percent(row.share_high, 0)}`, holdsBadge(row.share_low <= row.stated_high && row.share_high >= row.stated_low)]);
  return [h('h3', {}, t('calibration.title')), para('calibration.about'),
    table([t('calibration.range'), t('calibration.stated'), t('left.records'), t('calibration.defects'), t('calibration.share'), t('calibration.interval'), ''], rows),
    facts(fact('Brier', `${number(found.brier_low, 3)} – ${number(found.brier_high, 3)}`, h('small', {}, t('calibration.bound', { bound: number(found.brier_bound, 3), base: number(found.brier_base, 3) }))),
      fact(t('calibration.error'), `${percent(found.error_low)} – ${percent(found.error_high)}`, h('small', {}, t('calibration.between'))))];
}

function corruptionFigures(goal) {
  const families = Array.from(new Set(report.corruptions.map((row) => row.family)));
  const worst = Math.max(0.1, ...report.corruptions.map((row) => row.error_bound || row.error_share || 0));
  const top = Math.min(1, Math.ceil(worst * 10) / 10);
  return h('div', { class: 'multiples' }, families.map((family) => {
    const rows = report.corruptions.filter((row) => row.family === family).sort((a, b) => a.severity - b.severity);
    return h('div', {}, h('h4', {}, Object.hasOwn(texts, 'family.' + family) ? t('family.' + family) : family), figure(null, corruptionChart(rows, goal, top)));
  }));
}

function proofSection() {
  const goal = report.headline ? report.headline.error_goal : null;
  const bars = report.bars.map((bar) => [Object.hasOwn(texts, 'bar.' + bar.name) ? t('bar.' + bar.name) : bar.name,
    number(bar.value, 3), (bar.compare === '<=' ? '≤ ' : '≥ ') + number(bar.goal, 3), holdsBadge(bar.holds)]);
  const slices = report.slices.map((slice) => [slice.name, number(slice.records), number(slice.groups), percent(slice.accuracy), percent(slice.majority_rate),
    percent(slice.answered_share), percent(slice.error_share), percent(slice.error_bound), percent(slice.false_alarm_share), percent(slice.missed_share)]);
  const numbers = report.corruptions.map((row) => [`${row.family} ${row.severity}`, percent(row.answered_share), percent(row.error_share), percent(row.error_bound)]);
  return [bars.length ? table([t('bar.name'), t('bar.value'), t('bar.goal'), ''], bars) : missing('bars.none'),
    slices.length ? [h('h3', {}, t('slices.title')), para('slices.about'), table([t('slices.name'), t('left.records'), t('left.groups'), t('slices.accuracy'), t('slices.majority'), t('slices.answered'), t('headline.error'), t('slices.bound'), t('slices.alarms'), t('slices.missed')], slices)] : missing('slices.none'),
    calibrationTable(),
    h('h3', {}, t('corruption.title')),
    report.corruptions.length ? [para('corruption.about', { goal: percent(goal) }), corruptionFigures(goal),
      folded(t('numbers.show'), table([t('corruption.condition'), t('slices.answered'), t('headline.error'), t('slices.bound')], numbers))] : missing('corruption.none')];
}

function envelopeDigest(certificate) {
  try { return digestOf(unbase64(certificate.envelope.payload)); } catch { return null; }
}

function certificateCard(certificate) {
  if (!certificate.issued) {
    return h('div', { class: 'card refused' }, h('h3', {}, t('certificate.refused')), h('ul', {}, certificate.reasons.map((reason) => h('li', {}, reason))),
      known(certificate.more_groups_needed) ? para('certificate.more.groups', { n: number(certificate.more_groups_needed) }) : null,
      known(certificate.more_records_needed) ? para('certificate.more.records', { n: number(certificate.more_records_needed) }) : null);
  }
  const found = certificate.envelope ? envelopeDigest(certificate) : null;
  const agrees = found !== null && found === certificate.digest;
  return h('div', { class: 'card certificate' }, h('p', { class: 'eyebrow' }, t('certificate.kind')), h('h3', {}, certificate.name || t('certificate.of', { scenario: report.scenario })),
    facts(fact(t('certificate.tier'), plain(certificate.tier)), fact(t('certificate.from'), dayOf(certificate.issued_at)), fact(t('certificate.until'), dayOf(certificate.expires_at))),
    h('p', { class: 'fine' }, t('certificate.digest') + ' ', shortDigest(certificate.digest)),
    found === null ? missing('certificate.unchecked') : h('p', { class: agrees ? 'check ok' : 'check bad' }, t(agrees ? 'certificate.agrees' : 'certificate.differs')),
    para('certificate.ed25519', {}, 'fine'),
    certificate.statement ? folded(t('certificate.statement'), h('pre', { tabindex: '0' }, JSON.stringify(certificate.statement, null, 2))) : null,
    certificate.envelope ? folded(t('certificate.envelope'), h('pre', { tabindex: '0' }, JSON.stringify(certificate.envelope, null, 2))) : null);
}

function certificateSection() {
  return report.certificate ? [certificateCard(report.certificate)] : [missing('certificate.none.why')];
}

function moneySection() {
  const serving = report.serving, money = report.money;
  const served = serving ? facts(fact(t('serving.requests'), number(serving.requests)), fact(t('serving.receipts'), number(serving.receipts)),
    fact(t('serving.person'), number(serving.to_person)),
    fact(t('serving.latency'), known(serving.latency_p50_ms) ? number(serving.latency_p50_ms, 1) + ' ms' : NOT_TEXT(), h('small', {}, t('serving.p95', { ms: number(serving.latency_p95_ms, 1) })))) : missing('serving.none');
  const refusals = serving && serving.refusals.length ? folded(t('serving.refusals', { n: serving.refusals.length }), h('ul', { class: 'plain' },
    serving.refusals.map((refusal) => h('li', {}, h('code', {}, refusal.code), ' ', refusal.message, refusal.count > 1 ? ` (× ${number(refusal.count)})` : '', refusal.next ? h('small', {}, ' ' + refusal.next) : null)))) : null;
  if (!money) return [served, refusals, missing('money.none')];
  const sum = money.split.reduce((total, row) => total + row.amount_micros, 0);
  const exact = known(money.charge_micros) && sum === money.charge_micros;
  return [served, refusals, money.split.length ? figure(t('money.caption'), moneyFlow(money.split, money.charge_micros)) : missing('money.split.none'),
    h('p', { class: exact ? 'check ok' : 'check bad' }, known(money.charge_micros) ? t(exact ? 'money.exact' : 'money.inexact', { sum: number(sum), charge: number(money.charge_micros) }) : NOT_TEXT()),
    known(money.entries_sum_micros) ? h('p', { class: money.entries_sum_micros === 0 ? 'check ok' : 'check bad' }, t('money.entries', { n: number(money.entries), sum: number(money.entries_sum_micros) })) : missing('money.entries.none'),
    money.units.length ? folded(t('money.units', { sum: number(money.units_sum) }), table([t('money.account'), t('money.unit'), t('money.balance')], money.units.map((row) => [row.account, row.unit, number(row.amount)]))) : missing('money.units.none'),
    h('p', { class: 'fine' }, t('money.funds'))];
}

function siteSection() {
  const site = report.site;
  if (!site) return [missing('site.none')];
  const rows = site.candidates.map((row) => [h('span', { class: row.name === 'combined' ? 'strong' : '' }, Object.hasOwn(texts, 'site.' + row.name) ? t('site.' + row.name) : row.name),
    number(row.auc, 3), percent(row.answered_share), percent(row.error_share), percent(row.error_bound)]);
  return [h('p', { class: 'lead' }, t('site.lead', { site: site.site, n: number(site.samples_given) })),
    rows.length ? table([t('site.candidate'), 'AUC', t('slices.answered'), t('headline.error'), t('slices.bound')], rows) : missing('site.candidates.none'),
    known(site.audit_records) ? para('site.audit', { n: number(site.audit_records) }, 'fine') : null,
    facts(fact(t('site.fit'), number(site.samples_fit)), fact(t('site.test'), number(site.samples_test)),
      fact(t('site.groups'), [known(site.groups_test) ? number(site.groups_test) : '—', ' / ', known(site.groups_needed) ? number(site.groups_needed) : '—']), fact(t('site.needed'), number(site.samples_needed))),
    site.sentence ? h('p', {}, site.sentence) : null, site.certificate ? certificateCard(site.certificate) : missing('certificate.none.why')];
}

function partiesSection() {
  const rows = report.parties.map((party) => [party.name, Object.hasOwn(texts, 'role.' + party.role) ? t('role.' + party.role) : party.role, party.sample ? badge(t('party.sample'), 'sample') : '', party.licence_note || '—']);
  const total = report.timings.reduce((sum, step) => sum + step.wall_s, 0);
  const longest = Math.max(0.001, ...report.timings.map((step) => step.wall_s));
  const steps = report.timings.map((step) => h('li', {}, h('span', {}, step.name), h('i', { css: { width: Math.max(0.5, (100 * step.wall_s) / longest) + '%' } }),
    h('b', {}, step.reused ? t('timing.reused') : number(step.wall_s, 1) + ' s')));
  return [rows.length ? table([t('party.name'), t('party.role'), '', t('party.licence')], rows, { kind: 'wrapping' }) : missing('party.none'),
    h('h3', {}, t('timing.title')), steps.length ? [para('timing.total', { s: number(total, 1) }), h('ol', { class: 'steps' }, steps)] : missing('timing.none'),
    report.notes.length ? [h('h3', {}, t('notes.title')), h('ul', {}, report.notes.map((note) => h('li', {}, note)))] : null,
    report.figures ? folded(t('figures.title'), h('pre', { tabindex: '0' }, JSON.stringify(report.figures, null, 2))) : missing('figures.none')];
}
