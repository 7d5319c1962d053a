/* The gallery of cells: picture, verdict, score on the thresholds' scale, and what made the score. */

function scoreRule(cell) {
  const model = report.model || {};
  const reach = Math.max(1.2, ...report.cells.map((c) => Math.abs(c.score || 0)));
  const x = (v) => 50 + (50 * Math.max(-reach, Math.min(reach, v))) / reach;
  const marks = known(model.lo) && known(model.hi) ? h('i', { class: 'zone', css: { left: x(model.lo) + '%', width: x(model.hi) - x(model.lo) + '%' } }) : null;
  return h('div', { class: 'rule', 'aria-hidden': 'true' }, marks, known(cell.score) ? h('b', { class: 'mark ' + (cell.verdict || ''), css: { left: x(cell.score) + '%' } }) : null);
}

function attributionRows(cell) {
  const items = cell.attributions.map((item) => [item.feature, item.contribution]);
  if (known(cell.rest)) items.push([t('cell.rest'), cell.rest]);
  if (known(cell.bias)) items.push([t('cell.bias'), cell.bias]);
  const most = Math.max(1e-9, ...items.map((item) => Math.abs(item[1])));
  return h('ul', { class: 'attributions' }, items.map(([name, value]) => h('li', {}, h('span', {}, name),
    h('em', {}, (value < 0 ? '\u2212' : '+') + number(Math.abs(value), 3)), h('i', { class: value < 0 ? 'minus' : 'plus' }, h('b', { css: { width: (50 * Math.abs(value)) / most + '%' } })))));
}

/* The parts must add up to the score, or to the logarithm of its odds: checked here, not believed. */
function sumCheck(cell) {
  if (!known(cell.score) || !known(cell.bias) || !cell.attributions.length) return null;
  const sum = cell.bias + (cell.rest || 0) + cell.attributions.reduce((total, item) => total + item.contribution, 0);
  const odds = known(cell.probability), score = linked(odds ? 'logistic' : 'linear', sum);
  const exact = Math.abs(score - cell.score) <= 1e-6 * Math.max(1, Math.abs(cell.score));
  const key = (odds ? 'cell.odds' : 'cell.sum') + (exact ? '' : '.bad');
  return h('p', { class: exact ? 'check ok' : 'check bad' }, t(key, { sum: number(sum, 3), score: number(cell.score, 3), probability: percent(cell.probability, 1), found: percent((score + 2) / 4, 1) }));
}

const agrees = (cell) => cell.verdict === 'person' ? 'person' : cell.verdict === cell.label ? 'right' : 'wrong';

function fieldsOf(cell) {
  return h('dl', { class: 'fields' }, cell.fields.map((item) =>
    h('div', { class: item.value.length > 40 ? 'long' : '' }, h('dt', { dir: 'auto' }, item.column), h('dd', { dir: 'auto' }, item.value))));
}

function pictureOf(cell) {
  if (cell.fields.length) return fieldsOf(cell);
  if (!report.pictures) return null;
  const alt = t('cell.alt', { id: cell.id, verdict: known(cell.verdict) ? t('verdict.' + cell.verdict) : NOT_TEXT() });
  if (!known(cell.picture)) return h('div', { class: 'picture empty' }, t(cell.licence_note.trim() ? 'cell.no.picture' : 'cell.no.licence'));
  return h('div', { class: 'picture' }, h('img', { src: cell.picture, alt }),
    known(cell.heat) ? h('img', { src: cell.heat, alt: '', class: 'heat' }) : null);
}

function cellCard(cell) {
  return h('article', { class: 'cell' }, pictureOf(cell),
    h('div', { class: 'cell-body' },
      h('p', { class: 'cell-head' }, h('span', { class: 'verdict ' + (cell.verdict || '') }, known(cell.verdict) ? t('verdict.' + cell.verdict) : NOT_TEXT()),
        h('b', {}, known(cell.probability) ? percent(cell.probability, 0) : known(cell.score) ? (cell.score < 0 ? '\u2212' : '+') + number(Math.abs(cell.score), 2) : NOT_TEXT())),
      scoreRule(cell),
      h('p', { class: 'fine' }, known(cell.label) ? t('cell.truth', { label: t('verdict.' + cell.label) }) : NOT_TEXT(), cell.certainty === 'unsure' ? t('cell.unsure') : '',
        known(cell.verdict) && known(cell.label) ? [' ', badge(t('cell.' + agrees(cell)), agrees(cell) === 'right' ? 'ok' : agrees(cell) === 'wrong' ? 'bad' : '')] : null),
      h('p', { class: 'fine' }, nameOf(cell.owner), cell.kind ? ' · ' + cell.kind : '', ' · ', cell.id),
      cell.attributions.length ? folded(t('cell.why'), attributionRows(cell), sumCheck(cell)) : missing('cell.no.attribution'),
      cell.licence_note.trim() ? h('p', { class: 'licence' }, cell.licence_note) : null));
}

function cellsSection() {
  if (!report.cells.length) return [missing('cells.none')];
  const grid = h('div', { class: 'cells' }, report.cells.map(cellCard));
  const toggle = h('button', { type: 'button', id: 'heat-toggle', 'aria-pressed': 'false', onclick: () => {
    const on = toggle.getAttribute('aria-pressed') !== 'true';
    toggle.setAttribute('aria-pressed', String(on));
    grid.classList.toggle('hot', on);
    toggle.textContent = t(on ? 'cells.heat.off' : 'cells.heat.on');
  } }, t('cells.heat.on'));
  const open = h('button', { type: 'button', onclick: () => {
    const all = Array.from(grid.querySelectorAll('details')), closed = all.some((item) => !item.open);
    for (const item of all) item.open = closed;
  } }, t('cells.why.all'));
  const heated = report.cells.some((cell) => known(cell.heat));
  return [para('cells.about'), h('p', { class: 'tools' }, heated ? toggle : null, open, heated ? h('span', { class: 'heat-key' }, t('cells.heat.key.good'), h('i', {}), t('cells.heat.key.defect')) : null), grid];
}
