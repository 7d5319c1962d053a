/* Numbers that are foretold: in the place of verdicts where a run has them. */

const foretells = () => report.values.length > 0;
const wholeRows = () => report.values.filter((row) => row.slice === '');
const withUnit = (value, unit) => (known(value) ? [number(value, value < 10 ? 3 : 1), unit && unit !== '1' ? ' ' + unit : ''] : NOT());

function valuesHeadline() {
  const rows = wholeRows(), certificate = report.certificate, worst = rows.reduce((a, b) => (b.miss_bound > a.miss_bound ? b : a));
  const proven = certificate && certificate.issued;
  const words = t(proven ? 'values.headline.proven' : 'values.headline.unproven', { bound: percent(worst.miss_bound), goal: percent(worst.goal, 0), n: number(rows.length) });
  const verdict = !certificate ? badge(t('certificate.none')) : proven ? badge(t('certificate.issued', { tier: certificate.tier || '' }), 'ok') : badge(t('certificate.refused'), 'bad');
  return [h('div', { class: 'headline' }, h('p', { class: 'big' }, [number(100 * (1 - worst.goal), 0), h('small', {}, '%')]),
    h('div', { class: 'words' }, h('p', { class: 'lead' }, words), h('p', {}, verdict))),
  facts(...rows.map((row) => fact(row.name, number(row.efficiency, 3), h('small', {}, t('values.fact.skill', { skill: percent(row.skill, 0), naive: row.naive, bound: percent(row.skill_bound, 0) }))))),
  para('values.method', {}, 'fine')];
}

function valuesTable() {
  const head = [t('values.name'), t('left.records'), t('left.groups'), t('values.miss'), t('values.bound'), t('values.skill'), t('values.skill.bound'), t('values.efficiency'), t('values.rmse'), t('values.naive.rmse'), t('values.width')];
  return table(head, report.values.map((row) => [row.slice ? h('span', { class: 'fine' }, row.name + ' · ' + row.slice) : h('b', {}, row.name), number(row.records), number(row.groups),
    percent(row.miss_share), row.slice ? '–' : percent(row.miss_bound), percent(row.skill), row.slice ? '–' : percent(row.skill_bound), number(row.efficiency, 3),
    row.slice ? '–' : withUnit(row.rmse, row.unit), row.slice ? '–' : withUnit(row.naive_rmse, row.unit), row.slice ? '–' : percent(row.width)]));
}

/* Served forecasts of one number, by rising value: the band, the value, and what came of it. */
function forecastChart(shown, width) {
  const rows = shown.slice().sort((a, b) => a.value - b.value), height = 220, left = 46, foot = 24;
  const ends = rows.flatMap((row) => [row.low, row.high, row.outcome].filter(known));
  const log = Math.min(...ends) > 0 && Math.max(...ends) / Math.min(...ends) > 30;
  const scale = (v) => (log ? Math.log(v) : v), low = scale(Math.min(...ends)), high = scale(Math.max(...ends));
  const y = (v) => height - foot - ((scale(v) - low) / Math.max(high - low, 1e-12)) * (height - foot - 10);
  const x = (i) => left + ((i + 0.5) / rows.length) * (width - left - 8);
  const marks = [low, (low + high) / 2, high].map((v) => (log ? Math.exp(v) : v));
  return s('svg', { class: 'chart forecast', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': t('values.chart.label', { name: rows[0].name }) },
    marks.map((v) => [s('line', { x1: left, x2: width - 8, y1: y(v), y2: y(v), class: 'grid' }), s('text', { x: left - 6, y: y(v) + 4, 'text-anchor': 'end', class: 'tick' }, number(v, v < 10 ? 2 : 0))]),
    rows.map((row, i) => [s('line', { x1: x(i), x2: x(i), y1: y(row.low), y2: y(row.high), class: 'reach' }), s('circle', { cx: x(i), cy: y(row.value), r: 1.6, class: 'foretold' }),
      known(row.outcome) ? s('circle', { cx: x(i), cy: y(row.outcome), r: 2.4, class: row.outcome < row.low || row.outcome > row.high ? 'outcome beyond' : 'outcome' }) : null]),
    s('text', { x: left, y: height - 6, class: 'tick' }, t('values.chart.axis')));
}

function forecastFigures() {
  const names = Array.from(new Set(report.forecasts.map((row) => row.name)));
  return names.map((name) => figure(t('values.chart.caption', { name }), (width) => forecastChart(report.forecasts.filter((row) => row.name === name), width)));
}

function valuesModel() {
  const model = report.model;
  return [valuesTable(), para('values.about', {}, 'fine'),
    report.forecasts.length ? [h('h3', {}, t('values.chart.title')), para('values.chart.about'), forecastFigures()] : missing('values.chart.none'),
    model ? [facts(fact(t('model.features'), number(model.dimension)), fact(t('model.records'), number(model.records)), fact(t('model.lambda'), known(model.regularisation) ? tiny(model.regularisation) : NOT_TEXT())),
      h('p', { class: 'fine' }, t('model.backbone') + ' ', plain(model.backbone), ' · ', t('model.artefact') + ' ', shortDigest(model.artefact_digest), ' · ', t('model.head') + ' ', shortDigest(model.head_digest))] : missing('model.none')];
}

function valuesProof() {
  const bars = report.bars.map((bar) => [Object.hasOwn(texts, 'bar.' + bar.name) ? t('bar.' + bar.name) : bar.name, number(bar.value, 3), (bar.compare === '<=' ? '≤ ' : '≥ ') + number(bar.goal, 3), holdsBadge(bar.holds)]);
  const rows = report.corruptions.filter((row) => row.severity > 0).map((row) => [`${row.family} ${row.severity}`, percent(row.error_share), percent(row.error_bound)]);
  return [bars.length ? table([t('bar.name'), t('bar.value'), t('bar.goal'), ''], bars) : missing('bars.none'), h('h3', {}, t('values.corruption.title')),
    rows.length ? [para('values.corruption.about'), table([t('corruption.condition'), t('values.miss'), t('values.bound')], rows)] : missing('corruption.none')];
}
