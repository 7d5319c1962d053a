/* Third thing to touch: an owner leaves, and the model becomes the one that never saw its data. */

function headOf(state) {
  try { return state && state.head ? decodedHead(state.head) : null; } catch { return null; }
}

function coefficientChart(before, after) {
  return (width) => {
    const height = 150, middle = 74;
    const a = before.coefficients, b = after ? after.coefficients : a;
    const most = Math.max(1e-300, ...a.map(Math.abs), ...b.map(Math.abs));
    const x = scale(0, Math.max(a.length, b.length), 4, width - 4), y = scale(-most, most, middle + 62, middle - 62);
    const wide = Math.max(1, (width - 8) / a.length - 0.8);
    const stems = (values, kind) => values.map((value, i) => s('rect', { x: x(i), width: wide, y: Math.min(y(0), y(value)), height: Math.max(0.6, Math.abs(y(value) - y(0))), class: kind }));
    return svgOf(width, height, t('touch.leave.coefficients'), line(4, middle, width - 4, middle, 'grid'), stems(a, 'before'), after ? stems(b, 'after') : null);
  };
}

function changeRow(name, before, after, format) {
  const moved = after !== null && known(before) && known(after.value) && before !== after.value;
  const change = moved && typeof before === 'number' ? h('small', {}, signed(after.value - before, format)) : null;
  return [name, format(before), after === null ? '' : h('span', { class: moved ? 'moved' : '' }, change, format(after.value))];
}

const signed = (value, format) => (value < 0 ? '\u2212' : '+') + format(Math.abs(value));

function payoutRows(before, after) {
  const parties = Array.from(new Set([...before.split, ...(after ? after.split : [])].map((row) => row.party)));
  const paid = (state, party) => state.split.filter((row) => row.party === party).reduce((sum, row) => sum + row.amount_micros, 0);
  const most = Math.max(1, ...parties.map((party) => Math.max(paid(before, party), after ? paid(after, party) : 0)));
  return h('ul', { class: 'payouts' }, parties.map((party) => {
    const [was, is] = [paid(before, party), after ? paid(after, party) : paid(before, party)];
    return h('li', {}, h('span', {}, nameOf(party)), h('i', {}, h('s', { css: { width: (100 * was) / most + '%' } }), h('b', { css: { width: (100 * is) / most + '%', background: colourOf(party, (before.split.find((row) => row.party === party) || {}).role) } })), h('em', {}, amount(is)));
  }));
}

function verdictChanges(before, after) {
  if (!before || !after) return null;
  const old = rescored(before), now = rescored(after);
  if (!old.length || now.length !== old.length) return null;
  const changed = now.map((item, i) => ({ ...item, was: old[i] })).filter((item) => item.verdict !== item.was.verdict);
  return h('p', {}, t(changed.length ? 'touch.leave.rescored' : 'touch.leave.rescored.none', { all: old.length, n: changed.length }), ' ', changed.slice(0, 6).map((item) =>
    h('span', { class: 'change' }, item.cell.id, ' ', t('verdict.' + item.was.verdict), ' → ', h('b', {}, t('verdict.' + item.verdict)), ' ')));
}

function leaveTable(before, after) {
  const value = (read) => (after ? { value: read(after) } : null);
  const row = (key, read, format) => changeRow(t(key), read(before), value(read), format);
  const [a, b] = [headOf(before), headOf(after)];
  const threshold = (name) => changeRow(t('touch.leave.' + name), a ? a[name] : null, after ? { value: b ? b[name] : null } : null, (v) => number(v, 3));
  return table(['', t('touch.leave.before'), after ? t('touch.leave.after') : ''], [
    row('touch.leave.records', (state) => state.records, (v) => number(v)), row('touch.leave.auc', (state) => state.auc, (v) => number(v, 4)),
    row('touch.leave.share', (state) => state.answered_share, (v) => percent(v)), row('touch.leave.bound', (state) => state.error_bound, (v) => percent(v)),
    threshold('lo'), threshold('hi'),
    row('touch.leave.certificate', (state) => state.certificate_issued, (v) => (known(v) ? t(v ? 'yes' : 'no') : NOT_TEXT())),
    row('touch.leave.digest', (state) => state.head_digest, (v) => briefDigest(v))]);
}

function leaveTouch() {
  const leave = report.leave;
  if (!leave) return [missing('touch.leave.none')];
  const out = h('div', { id: 'leave-result', 'aria-live': 'polite' });
  const gone = new Set();
  const show = () => {
    const outcome = gone.size === 1 ? leave.outcomes.find((item) => item.party === Array.from(gone)[0]) : null;
    const after = outcome ? outcome.after : null, [a, b] = [headOf(leave.before), headOf(after)];
    const nodes = [];
    if (gone.size > 1) nodes.push(h('p', { class: 'result none' }, t('touch.leave.several')));
    else if (gone.size && !outcome) nodes.push(h('p', { class: 'result none' }, t('touch.leave.uncomputed', { name: nameOf(Array.from(gone)[0]) })));
    else if (outcome && outcome.refusal) nodes.push(h('p', { class: 'result bad' }, h('b', {}, t('refused')), ' ', h('code', {}, outcome.refusal.code), ' — ', outcome.refusal.message, outcome.refusal.next ? ` (${outcome.refusal.next})` : ''));
    else if (outcome) nodes.push(h('p', { class: 'result ok' }, t('touch.leave.left', { name: nameOf(outcome.party) })));
    if (outcome) nodes.push(h('p', {}, h('span', { class: 'rule-name' }, t('touch.leave.rule') + ' ', h('code', {}, outcome.rule)), ' ', outcome.sentence));
    if (!gone.size) nodes.push(h('p', { class: 'result none' }, t('touch.leave.hint')));
    const paid = leave.before.split.length ? h('div', {}, h('h4', {}, t('touch.leave.payout')), payoutRows(leave.before, after)) : null;
    nodes.push(h('div', { class: 'two leave' }, leaveTable(leave.before, after), paid));
    if (a && !a.trees) nodes.push(figure(t(b ? 'touch.leave.coefficients.both' : 'touch.leave.coefficients'), coefficientChart(a, b)));
    if (b) nodes.push(verdictChanges(a, b));
    out.replaceChildren(...nodes.filter(known));
  };
  const switches = leave.before.owners.map((owner) => {
    const control = h('button', { type: 'button', role: 'switch', 'aria-checked': 'true', 'data-owner': owner, class: 'switch', css: { '--switch': colourOf(owner) }, onclick: () => {
      if (gone.has(owner)) gone.delete(owner); else gone.add(owner);
      control.setAttribute('aria-checked', String(!gone.has(owner)));
      show();
    } }, h('i', {}), nameOf(owner), leave.outcomes.some((item) => item.party === owner) ? null : h('small', {}, t('touch.leave.not.computed')));
    return control;
  });
  show();
  return [h('div', { class: 'switches', role: 'group', 'aria-label': t('touch.leave.switches') }, switches), out];
}
