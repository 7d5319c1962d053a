/* Elements, texts and numbers. Nothing here parses markup: data only ever becomes text nodes and attribute values. */

const readJson = (id) => JSON.parse(document.getElementById(id).textContent);
const report = readJson('report-data');
const texts = readJson('report-texts');
const LANG = document.documentElement.lang || 'en';

/* t(KEY, {n: 3}): the text with {n} replaced; a missing text shows its key, which a test looks for. */
function t(key, values = {}) {
  const text = Object.hasOwn(texts, key) ? texts[key] : '[' + key + ']';
  return text.replace(/\{(\w+)\}/g, (whole, name) => (Object.hasOwn(values, name) ? String(values[name]) : whole));
}

function built(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'css') for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

const h = (tag, attributes, ...children) => built(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => built(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

const known = (value) => value !== null && value !== undefined;
const NOT = () => h('span', { class: 'not' }, t('not.measured'));
const NOT_TEXT = () => t('not.measured');

/* A function of a number -> a function that says "not measured" for null. */
const orNot = (format) => (value, ...rest) => (known(value) ? format(value, ...rest) : NOT_TEXT());

const number = orNot((value, digits = 0) =>
  value.toLocaleString(LANG, { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace(/^-/, '\u2212'));
const percent = orNot((value, digits = 1) => number(100 * value, digits) + '\u202f%');
const raised = (text) => text.replace(/[-\d]/g, (c) => (c === '-' ? '\u207b' : '⁰¹²³⁴⁵⁶⁷⁸⁹'[Number(c)]));
const tiny = orNot((value) => {
  if (value === 0 || Math.abs(value) >= 0.01) return number(value, 3);
  const [digits, exponent] = value.toExponential(1).split('e');
  return digits + ' × 10' + raised(exponent);
});
const bytesText = orNot((value) => {
  if (value < 1000) return number(value) + ' B';
  if (value < 1e6) return number(value / 1e3, 1) + ' kB';
  return number(value / 1e6, 2) + ' MB';
});
const plain = orNot((value) => String(value));

function amount(micros, digits = null) {
  if (!known(micros)) return NOT_TEXT();
  const currency = report.money ? report.money.currency : '';
  const shown = digits === null ? (Math.abs(micros) % 10000 === 0 ? 2 : 6) : digits;
  return (micros < 0 ? '\u2212' : '') + number(Math.abs(micros) / 1e6, shown) + '\u202f' + currency;
}

function shortDigest(digest) {
  if (!known(digest)) return NOT();
  const text = String(digest);
  return h('code', { class: 'digest', title: text }, text.length > 30 ? text.slice(0, 19) + '…' + text.slice(-6) : text);
}

/* A sentence in which long digests are shortened; the whole one is in the title. */
const digestsShort = (sentence) => String(sentence).split(/(sha256:[0-9a-f]{64})/).map((part, i) => (i % 2 ? shortDigest(part) : part));
const briefDigest = (digest) => (known(digest) ? h('code', { class: 'digest', title: digest }, bareText(digest).slice(0, 10) + '…') : NOT());
const bareText = (digest) => String(digest).replace(/^sha256:/, '');

function when(text) {
  if (!known(text)) return NOT_TEXT();
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return String(text);
  return time.toLocaleString(LANG, { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC', hour12: false }) + ' UTC';
}

const dayOf = (text) => (known(text) && !Number.isNaN(Date.parse(text)) ? new Date(text).toLocaleDateString(LANG, { dateStyle: 'long', timeZone: 'UTC' }) : plain(text));

const partyOf = (id) => report.parties.find((party) => party.id === id) || null;
const nameOf = (id) => { const party = partyOf(id); return party ? party.name : String(id); };
const ownerIndex = (id) => report.owners.findIndex((owner) => owner.party === id);
const colourOf = (id, role) => {
  const at = ownerIndex(id);
  if (at >= 0) return `var(--o${(at % 6) + 1})`;
  return `var(--r-${['compute', 'vendor', 'exchange', 'line', 'user'].includes(role) ? role : 'other'})`;
};

function table(head, rows, options = {}) {
  const body = rows.map((cells) => h('tr', {}, cells.map((cell, i) =>
    h(i === 0 ? 'th' : 'td', i === 0 ? { scope: 'row' } : { class: 'n' }, cell))));
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': options.caption || head.join(', ') },
    h('table', { class: options.kind || '' },
      options.caption ? h('caption', {}, options.caption) : null,
      h('thead', {}, h('tr', {}, head.map((cell, i) => h('th', { scope: 'col', class: i ? 'n' : '' }, cell)))),
      h('tbody', {}, body)));
}

const folded = (title, ...children) => h('details', {}, h('summary', {}, title), ...children);
const para = (key, values, kind) => h('p', { class: kind || '' }, t(key, values));

/* A figure whose picture is drawn anew when its width changes. draw(width) -> svg element. */
function figure(caption, draw, ...after) {
  const stage = h('div', { class: 'stage' });
  let last = 0;
  const redraw = () => {
    const width = Math.round(stage.clientWidth);
    if (width > 40 && width !== last) { last = width; stage.replaceChildren(draw(width)); }
  };
  new ResizeObserver(redraw).observe(stage);
  return h('figure', {}, stage, caption ? h('figcaption', {}, caption) : null, ...after);
}

const svgOf = (width, height, label, ...children) =>
  s('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label, class: 'chart' }, ...children);
const label = (x, y, text, attributes = {}) => s('text', { x, y, ...attributes }, text);
const line = (x1, y1, x2, y2, kind) => s('line', { x1, y1, x2, y2, class: kind });
const pathOf = (points) => points.map(([x, y], i) => (i ? 'L' : 'M') + x.toFixed(2) + ' ' + y.toFixed(2)).join('');
