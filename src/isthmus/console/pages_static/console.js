/* Polls the overview and draws it. Data becomes text nodes only. */
'use strict';

const POLL_MS = 2000, DAY_MS = 86400000;
const byId = (id) => document.getElementById(id);

function h(tag, kind, ...children) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const at = (ms) => (ms === null ? '—' : new Date(ms).toLocaleString());
const money = (micros, currency) => (micros / 1e6).toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 6 }) + '\u202f' + currency;
const digest = (text) => { const code = h('code', '', text.replace('sha256:', '').slice(0, 12) + '…'); code.title = text; return code; };

function expiry(row, now) {
  if (row.expires_at_ms === null) return h('span', 'bad', 'no certificate');
  const days = (row.expires_at_ms - now) / DAY_MS;
  const text = days < 0 ? 'expired ' + at(row.expires_at_ms) : days < 2 ? Math.max(0, Math.round(days * 24)) + ' h left' : Math.floor(days) + ' days left';
  return h('span', days < 0 ? 'bad' : days < 7 ? 'soon' : 'ok', text);
}

function fill(id, head, rows, none) {
  if (!rows.length) { byId(id).replaceChildren(h('p', 'none', none)); return; }
  const cells = (tag, values) => h('tr', '', ...values.map((value) => h(tag, '', value)));
  byId(id).replaceChildren(h('table', '', h('thead', '', cells('th', head)), h('tbody', '', ...rows.map((row) => cells('td', row)))));
}

const DID = { deploy: 'deployed', propose: 'proposed', upgrade: 'upgraded', rollback: 'rolled back', retire: 'retired' };

function step(row) {
  const moved = row.action === 'propose' ? 'version ' + row.brought : row.after === null ? 'version ' + (row.before ?? '—') : row.before === null ? 'version ' + row.after : row.before + ' → ' + row.after;
  return h('li', row.action, h('b', '', DID[row.action] ?? row.action), ' ', h('span', 'moved', moved), h('span', 'when', at(row.at_ms)), h('span', 'why', row.why + ' (' + row.who + ')'));
}

function lives(rows) {
  if (!rows.length) { byId('lives').replaceChildren(h('p', 'none', 'Nothing was deployed yet.')); return; }
  byId('lives').replaceChildren(...rows.map((row) => {
    const now = row.current === null ? row.state : 'version ' + row.current + ' serves, ' + row.scenario;
    return h('article', '', h('h3', '', row.name), h('p', row.problem ? 'bad' : 'now', row.problem || now + ' · ' + row.site),
      row.shadow ? h('p', 'now', row.shadow) : null, row.earlier ? h('p', 'none', row.earlier + ' earlier steps: isthmus deployment history ' + row.name) : null,
      h('ol', 'life', ...row.steps.map(step)));
  }));
}

function draw(now) {
  const serving = now.deployments.filter((row) => row.serving).length;
  const totals = [['Serving', serving + ' of ' + now.deployments.length], ['Receipts', now.receipts_total ?? 'not measured'],
    ['Open holds', now.holds.length], ['The book sums to', now.entries_sum_micros ?? 'not measured']];
  byId('totals').replaceChildren(...totals.map(([name, value]) => h('div', name === 'The book sums to' && value !== 0 && value !== 'not measured' ? 'bad' : '', h('dt', '', name), h('dd', '', String(value)))));
  fill('deployments', ['Name', 'Site', 'Tier', 'Serves', 'Certificate', 'Artefact'], now.deployments.map((row) =>
    [h('b', '', row.name), row.site, row.tier, row.serving ? h('span', 'ok', 'yes') : h('span', 'bad', row.problem || 'no'), expiry(row, now.at_ms), digest(row.artefact_digest)]), 'Nothing is deployed.');
  lives(now.lives);
  fill('scenarios', ['Name', 'State', 'Progress', 'Changed'], now.scenarios.map((row) => {
    const bar = row.progress === null ? '—' : document.createElement('progress');
    if (row.progress !== null) bar.value = row.progress;
    return [h('b', '', row.name), row.state, bar, at(row.updated_at_ms)];
  }), 'No scenario is known here.');
  fill('receipts', ['When', 'Receipt', 'Outcome', 'Charge'], now.receipts.map((row) => [at(row.at_ms), h('code', '', row.id), row.outcome, money(row.charge_micros, row.currency)]), 'Nothing was served yet.');
  fill('holds', ['Hold', 'Party', 'Amount', 'Expires'], now.holds.map((row) => [h('code', '', row.id), row.party, money(row.amount_micros, row.currency), at(row.expires_at_ms)]), 'No hold is open.');
  fill('refusals', ['When', 'Code', 'What was said'], now.refusals.map((row) => [at(row.at_ms), h('code', '', row.code), row.message]), 'Nothing was refused.');
}

function say(text, kind) {
  byId('state').textContent = text;
  byId('state').className = kind;
}

async function poll() {
  try {
    const response = await fetch('/console/overview.json', { cache: 'no-store' });
    const body = await response.json();
    if (!response.ok) throw new Error(body.error.message);
    draw(body);
    say('Live, ' + new Date(body.at_ms).toLocaleTimeString(), 'ok');
  } catch (error) {
    say('Not live: ' + error.message, 'bad');
  }
  setTimeout(poll, POLL_MS);
}

poll();
