/* First thing to touch: change a byte of the model's head document. */

const HEX_DIGITS = '0123456789abcdef';

function certifiedSubject(digest) {
  const statement = report.certificate && report.certificate.statement;
  const subjects = statement && Array.isArray(statement.subject) ? statement.subject : [];
  return subjects.find((subject) => subject && subject.digest && 'sha256:' + subject.digest.sha256 === digest) || null;
}

/* The certificate's subject is the whole artefact; its predicate names the head that the artefact is rebuilt from. */
function inPredicate(digest) {
  const statement = report.certificate && report.certificate.statement;
  return Boolean(statement && statement.predicate && statement.predicate.head_digest === digest);
}

function filledMessage(demo, found) {
  return demo.message.replaceAll('{expected}', demo.digest).replaceAll('{found}', found);
}

/* The grid of bytes. onChange(bytes, at) is called after each edit. */
class HexGrid {
  constructor(bytes, onChange) {
    this.original = bytes;
    this.bytes = Uint8Array.from(bytes);
    this.onChange = onChange;
    this.at = 0;
    this.half = 0;
    this.cells = Array.from(bytes, (b, i) => h('span', { role: 'gridcell', 'data-at': i, tabindex: i ? '-1' : '0' }));
    const rows = [];
    for (let i = 0; i < this.cells.length; i += 16) rows.push(h('div', { role: 'row' }, h('span', { class: 'offset', role: 'rowheader' }, i.toString(16).padStart(4, '0')), this.cells.slice(i, i + 16), h('span', { class: 'ascii', 'aria-hidden': 'true' })));
    this.element = h('div', { class: 'hex', id: 'head-bytes', role: 'grid', 'aria-label': t('touch.head.grid'), onkeydown: (event) => this.key(event), onclick: (event) => this.click(event), onfocusin: (event) => this.click(event) }, rows);
    this.cells.forEach((_, i) => this.paint(i));
  }

  paint(i) {
    const cell = this.cells[i], value = this.bytes[i];
    cell.textContent = value.toString(16).padStart(2, '0');
    cell.classList.toggle('edited', value !== this.original[i]);
    const row = i - (i % 16);
    cell.parentNode.lastChild.textContent = Array.from(this.bytes.slice(row, row + 16), (b) => (b > 31 && b < 127 ? String.fromCharCode(b) : '·')).join('');
  }

  choose(i, focus = true) {
    this.cells[this.at].tabIndex = -1;
    this.cells[this.at].classList.remove('chosen');
    this.at = Math.max(0, Math.min(this.cells.length - 1, i));
    this.half = 0;
    const cell = this.cells[this.at];
    cell.tabIndex = 0;
    cell.classList.add('chosen');
    if (focus) cell.focus({ preventScroll: true });
    const top = cell.offsetTop - this.element.offsetTop;
    if (top < this.element.scrollTop || top > this.element.scrollTop + this.element.clientHeight - 30) this.element.scrollTop = top - 60;
    this.onChange(this.bytes, this.at);
  }

  set(i, value) {
    this.bytes[i] = value;
    this.paint(i);
    this.onChange(this.bytes, i);
  }

  restore() {
    this.bytes.set(this.original);
    this.cells.forEach((cell, i) => { if (cell.classList.contains('edited')) this.paint(i); });
    this.onChange(this.bytes, this.at);
  }

  click(event) {
    const cell = event.target.closest('[role=gridcell]');
    if (cell && Number(cell.dataset.at) !== this.at) this.choose(Number(cell.dataset.at), event.type === 'click');
    else if (cell) cell.classList.add('chosen');
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 16, ArrowUp: -16, PageDown: 128, PageUp: -128 }[event.key];
    const digit = HEX_DIGITS.indexOf(event.key.toLowerCase());
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) this.choose(this.at + step);
    else if (event.key === 'Home') this.choose(0);
    else if (event.key === 'End') this.choose(this.cells.length - 1);
    else if (event.key.length === 1 && digit >= 0) this.digit(digit);
    else return;
    event.preventDefault();
  }

  digit(value) {
    const old = this.bytes[this.at], half = this.half;
    this.set(this.at, half ? (old & 0xf0) | value : (old & 0x0f) | (value << 4));
    if (half) this.choose(this.at + 1);
    else this.half = 1;
  }
}

/* What the edited document would have meant, had anyone loaded it. */
function meaning(bytes, at, span, before) {
  if (!span || !before) return null;
  const inside = at >= span[0] && at < span[1];
  const index = inside ? Math.min(before.coefficients.length - 1, Math.floor((((at - span[0]) * 3) / 4) / 8)) : -1;
  const where = inside ? t('touch.head.coefficient', { i: index }) : t('touch.head.other');
  let after;
  try { after = decodedHead(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))); } catch { return [where, ' ', t('touch.head.broken')]; }
  const parts = [where];
  if (inside && after.coefficients[index] !== before.coefficients[index]) parts.push(' ', t('touch.head.became', { before: before.coefficients[index].toPrecision(4), after: after.coefficients[index].toPrecision(4) }));
  const old = rescored(before), changed = rescored(after).filter((item, i) => item.verdict !== old[i].verdict);
  if (old.length && changed.length) parts.push(' ', t('touch.head.changed', { n: changed.length, all: old.length }));
  return parts;
}

function headTouch() {
  const demo = report.head;
  if (!demo) return [missing('touch.head.none')];
  const original = utf8(demo.text), span = coefficientSpan(demo.text);
  let before = null;
  try { before = decodedHead(JSON.parse(demo.text)); } catch { before = null; }
  const subject = certifiedSubject(demo.digest);
  const found = h('code', { class: 'digest whole', id: 'head-found' }), result = h('p', { class: 'result', id: 'head-result', role: 'status' }), note = h('p', { class: 'fine', id: 'head-meaning' });
  const update = (bytes, at) => {
    const digest = digestOf(bytes), same = digest === demo.digest;
    found.textContent = digest;
    found.className = 'digest whole ' + (same ? 'ok' : 'bad');
    result.className = 'result ' + (same ? 'ok' : 'bad');
    result.replaceChildren(...(same ? [t(report.certificate && report.certificate.issued ? 'touch.head.accepted' : 'touch.head.uncertified')]
      : [h('b', {}, t('refused')), ' ', h('code', {}, demo.code), ' — ', digestsShort(filledMessage(demo, digest)), demo.next ? ` (${demo.next})` : ''].flat()));
    note.replaceChildren(...(meaning(bytes, at, span, before) || []));
  };
  const grid = new HexGrid(original, update);
  const flip = () => {
    const start = span ? span[0] : 0;
    const at = grid.at || start + 40;
    grid.choose(Math.min(at, original.length - 1), false);
    grid.set(grid.at, grid.bytes[grid.at] ^ 1);
  };
  const tools = h('p', { class: 'tools' }, h('button', { type: 'button', id: 'head-flip', onclick: flip }, t('touch.head.flip')), h('button', { type: 'button', id: 'head-restore', onclick: () => grid.restore() }, t('touch.restore')));
  const said = h('div', {}, h('dl', { class: 'digests' }, h('dt', {}, t('touch.head.found')), h('dd', {}, found), h('dt', {}, t(subject ? 'touch.head.subject' : inPredicate(demo.digest) ? 'touch.head.predicate' : 'touch.head.recorded', { name: subject ? subject.name : '' })), h('dd', {}, h('code', { class: 'digest whole' }, demo.digest))), result, note);
  update(grid.bytes, 0);
  return [h('div', { class: 'bench head-bench' }, h('div', {}, grid.element, tools), said)];
}
