/* Second thing to touch: alter a digit of the receipt; the verifier names what was changed. */

function* scalars(value, path = []) {
  if (value !== null && typeof value === 'object') {
    for (const key of Object.keys(value)) yield* scalars(value[key], path.concat(key));
  } else yield [path, value];
}

function put(target, path, value) {
  path.slice(0, -1).reduce((at, key) => at[key], target)[path[path.length - 1]] = value;
}

/* What was typed, as the type that stood there. */
function typed(text, before) {
  if (typeof before === 'number' && text.trim() !== '' && Number.isFinite(Number(text))) return Number(text);
  if (before === null && text === 'null') return null;
  if (typeof before === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

function field(state, path, before) {
  const name = path.join('.');
  const wide = Math.max(4, Math.min(46, String(before).length + 1));
  const input = h('input', { type: 'text', value: String(before), 'data-path': name, 'aria-label': name, spellcheck: 'false', autocomplete: 'off', inputmode: typeof before === 'number' ? 'numeric' : null, css: { width: wide + 'ch' } });
  input.addEventListener('input', () => {
    put(state.receipt, path, typed(input.value, before));
    input.classList.toggle('edited', input.value !== String(before));
    state.update();
  });
  const shown = path[0] === 'sections' ? path.slice(path[2] === 'body' ? 3 : 2).join('.') : name;
  const party = path[3] === 'lines' ? report.receipt.sections[path[1]].body.lines[path[4]].party : null;
  return h('label', { class: typeof before === 'number' ? 'number' : '' }, h('span', {}, shown, party ? h('b', {}, ' ' + nameOf(party)) : null), input);
}

const OPEN_SECTIONS = ['usage', 'price', 'split'];

/* Amounts first, then what makes them, then the rest in the document's order. */
function weightOf(path) {
  const last = path[path.length - 1];
  if (last === 'charge_micros' || last === 'inferences') return 0;
  if (/_micros$/.test(last) && path[0] !== 'price') return 1;
  return last === 'inference_micros' ? 2 : 3;
}

function sectionCard(state, name) {
  const section = report.receipt.sections[name];
  const mark = h('b', { class: 'mark' }), digest = h('code', { class: 'digest' });
  const fields = Array.from(scalars(section.body)).sort((a, b) => weightOf(a[0]) - weightOf(b[0])).map(([path, value]) => field(state, ['sections', name, 'body'].concat(path), value));
  const few = fields.slice(0, 6), more = fields.slice(6);
  const card = h('details', { class: 'section', 'data-section': name, open: OPEN_SECTIONS.includes(name) }, h('summary', {}, mark, ' ', h('code', {}, name), section.body.line && section.body.line.party ? h('small', {}, ' ' + nameOf(section.body.line.party)) : null), few,
    more.length ? folded(t('touch.receipt.more', { n: more.length }), more) : null, folded(t('touch.receipt.salt'), field(state, ['sections', name, 'salt'], section.salt), h('p', { class: 'fine' }, digest)));
  return { name, card, mark, digest };
}

function verifierLine(ok, text) {
  return h('li', { class: ok ? 'ok' : 'bad' }, h('span', { 'aria-hidden': 'true' }, ok ? '✓' : '✗'), h('span', { class: 'unseen' }, t(ok ? 'ok' : 'wrong')), ' ', text);
}

function verifierLines(result) {
  const bad = result.changed;
  const lines = [verifierLine(!bad.length, bad.length ? t('verify.sections.bad', { names: bad.join(', ') }) : t('verify.sections', { n: result.sections.length }))];
  lines.push(verifierLine(result.included, result.root === null ? t('verify.no.path') : t(result.included ? 'verify.root' : 'verify.root.bad', { root: result.root.slice(0, 16), stated: String(result.stated).slice(0, 16), size: result.head ? result.head.tree_size : '—' })));
  for (const check of result.arithmetic) lines.push(verifierLine(check.ok, t('verify.' + check.name + (check.ok ? '' : '.bad'), check.values)));
  return lines;
}

function receiptVerdict(result) {
  if (result.changed.length) return t('touch.receipt.changed', { names: result.changed.join(', ') });
  if (!result.included) return t('touch.receipt.unlogged');
  const wrong = result.arithmetic.find((check) => !check.ok);
  return wrong ? t('verify.' + wrong.name + '.bad', wrong.values) : t('touch.receipt.valid');
}

function receiptTouch() {
  if (!report.receipt) return [missing('touch.receipt.none')];
  const state = { receipt: structuredClone(report.receipt), update: () => {} };
  const verdict = h('p', { class: 'result', id: 'receipt-result', role: 'status' }), list = h('ul', { class: 'verifier', id: 'receipt-checks' });
  const forge = h('button', { type: 'button', id: 'receipt-forge' }, t('touch.receipt.forge'));
  const order = ['usage', 'price', 'split', 'outcome', 'parties', 'certificate', 'policy'];
  const rank = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  const cards = h('div', { class: 'sections' });
  let parts = [];
  state.update = () => {
    const result = verifyReceipt(state.receipt);
    const wrong = !result.valid;
    verdict.className = 'result ' + (wrong ? 'bad' : 'ok');
    verdict.replaceChildren(...(wrong ? [h('b', {}, t('refused')), ' '] : []), receiptVerdict(result));
    list.replaceChildren(...verifierLines(result));
    forge.disabled = !result.changed.length;
    for (const part of parts) {
      const found = result.sections.find((one) => one.name === part.name);
      part.card.classList.toggle('changed', !found.ok);
      part.mark.textContent = found.ok ? '✓' : '✗';
      part.digest.textContent = found.found;
    }
  };
  const fill = () => {
    parts = Object.keys(report.receipt.sections).sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1)).map((name) => sectionCard(state, name));
    cards.replaceChildren(...parts.map((part) => part.card));
    state.update();
  };
  forge.addEventListener('click', () => {
    for (const name of verifyReceipt(state.receipt).changed) {
      state.receipt.digests[name] = 'sha256:' + sectionDigest(name, state.receipt.sections[name]);
    }
    state.update();
  });
  const restore = h('button', { type: 'button', id: 'receipt-restore', onclick: () => { state.receipt = structuredClone(report.receipt); fill(); } }, t('touch.restore'));
  fill();
  return [h('div', { class: 'bench' }, cards, h('div', { class: 'verdicts' }, h('h4', {}, t('touch.receipt.verifier')), verdict, list, h('p', { class: 'tools' }, forge, restore), para('touch.receipt.signature', {}, 'fine'))),
    folded(t('touch.receipt.whole'), h('pre', { tabindex: '0' }, JSON.stringify(report.receipt, null, 2)))];
}
