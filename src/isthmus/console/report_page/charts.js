/* Charts, drawn by hand from the report's numbers. Each takes a width in CSS pixels and returns an SVG element. */

function scale(from, to, low, high) {
  return (value) => low + ((value - from) / (to - from || 1)) * (high - low);
}

function frame(x0, y0, x1, y1, xs, ys) {
  const parts = [];
  for (const [at, text] of ys) parts.push(line(x0, at, x1, at, 'grid'), label(x0 - 7, at + 4, text, { class: 'tick', 'text-anchor': 'end' }));
  for (const [at, text] of xs) parts.push(label(at, y1 + 17, text, { class: 'tick', 'text-anchor': 'middle' }));
  parts.push(line(x0, y1, x1, y1, 'axis'));
  return parts;
}

const curveColour = (curve) => (curve.party === null ? 'var(--accent)' : colourOf(curve.party));

function rocChart(width) {
  const size = Math.min(width, 460);
  const [x0, y0, x1, y1] = [60, 12, size - 12, size - 46];
  const x = scale(0, 1, x0, x1), y = scale(0, 1, y1, y0);
  const steps = [0, 0.25, 0.5, 0.75, 1];
  const curves = report.roc.slice().sort((a, b) => (a.party === null) - (b.party === null)).map((curve) =>
    s('path', { d: pathOf(curve.points.map(([fa, hit]) => [x(fa), y(hit)])), class: curve.party === null ? 'curve main' : 'curve', css: { stroke: curveColour(curve) } },
      s('title', {}, curve.name + ' · AUC ' + number(curve.auc, 3))));
  const order = report.roc.slice().sort((a, b) => (b.auc || 0) - (a.auc || 0));
  const top = y1 - 16 - 20 * (order.length - 1);
  const keys = order.map((curve, i) => s('g', { transform: `translate(${x1 - 196} ${top + 20 * i})` },
    s('line', { x1: 0, x2: 18, y1: -4, y2: -4, class: curve.party === null ? 'curve main' : 'curve', css: { stroke: curveColour(curve) } }),
    label(25, 0, curve.name.slice(0, 20), { class: curve.party === null ? 'key strong' : 'key' }),
    label(196, 0, number(curve.auc, 3), { class: curve.party === null ? 'key strong' : 'key', 'text-anchor': 'end' })));
  return svgOf(size, size, t('roc.label'),
    frame(x0, y0, x1, y1, steps.map((v) => [x(v), number(v, 2)]), steps.map((v) => [y(v), number(v, 2)])),
    line(x(0), y(0), x(1), y(1), 'chance'), curves, keys,
    label((x0 + x1) / 2, size - 8, t('roc.x'), { class: 'tick', 'text-anchor': 'middle' }),
    label(12, (y0 + y1) / 2, t('roc.y'), { class: 'tick', 'text-anchor': 'middle', transform: `rotate(-90 12 ${(y0 + y1) / 2})` }));
}

/* AUC of every owner alone, jointly and pooled, as dots on one scale. */
function aucDots(width) {
  const rows = report.owners.map((owner) => [t('auc.alone', { name: nameOf(owner.party) }), owner.auc_alone, colourOf(owner.party), false]);
  const model = report.model || {};
  rows.push([t('auc.joint'), model.auc_joint, 'var(--accent)', true], [t('auc.pooled'), model.auc_pooled, 'var(--ink-2)', false]);
  const values = rows.map((row) => row[1]).filter(known);
  const low = Math.floor(Math.min(0.95, ...values) * 20 - 0.3) / 20;
  const narrow = width < 520;
  const x0 = narrow ? 6 : 210, x1 = width - 62, step = narrow ? 46 : 32;
  const x = scale(low, 1, x0, x1);
  const height = rows.length * step + 34;
  const ticks = [low, (low + 1) / 2, 1];
  const parts = rows.map(([name, value, colour, strong], i) => {
    const y = 22 + i * step + (narrow ? 14 : 0);
    return [label(narrow ? x0 : x0 - 14, narrow ? y - 14 : y + 4, name.slice(0, 40), { class: strong ? 'key strong' : 'key', 'text-anchor': narrow ? 'start' : 'end' }),
      line(x0, y, x1, y, 'grid'),
      known(value) ? s('line', { x1: x(low), x2: x(value), y1: y, y2: y, class: strong ? 'stem strong' : 'stem', css: { stroke: colour } }) : null,
      known(value) ? s('circle', { cx: x(value), cy: y, r: strong ? 7 : 5, css: { fill: colour } }) : null,
      label(x1 + 12, y + 4, known(value) ? number(value, 3) : '—', { class: strong ? 'key strong' : 'key' })];
  });
  return svgOf(width, height, t('auc.label'), parts.flat(),
    ticks.map((v) => label(x(v), height - 4, number(v, 2), { class: 'tick', 'text-anchor': 'middle' })));
}

/* Scores by true class, good upwards and defects downwards, with the three verdict zones behind. */
function scoreChart(width) {
  const { low, high, good, defect } = report.scores;
  const merge = Math.max(1, Math.round(good.length / Math.min(64, width / 9)));
  const sums = (counts) => Array.from({ length: Math.ceil(counts.length / merge) }, (_, i) =>
    counts.slice(i * merge, (i + 1) * merge).reduce((a, b) => a + b, 0));
  const up = sums(good), down = sums(defect);
  const used = up.map((v, i) => (v + down[i] > 0 ? i : -1)).filter((i) => i >= 0);
  const first = Math.max(0, (used[0] ?? 0) - 1), last = Math.min(up.length - 1, (used[used.length - 1] ?? 0) + 1);
  const height = 250, x0 = 8, x1 = width - 8, middle = 122;
  const bin = ((high - low) / good.length) * merge;
  const from = low + first * bin, to = low + (last + 1) * bin;
  const x = scale(from, to, x0, x1);
  const tall = scale(0, Math.max(1, ...up, ...down), 0, 86);
  const model = report.model || {};
  const clip = (v) => Math.min(to, Math.max(from, v));
  const zone = (a, b, kind, text) => [s('rect', { x: x(clip(a)), width: Math.max(0, x(clip(b)) - x(clip(a))), y: 22, height: 200, class: 'zone ' + kind }),
    x(clip(b)) - x(clip(a)) > 46 ? label((x(clip(a)) + x(clip(b))) / 2, 15, text, { class: 'key ' + kind, 'text-anchor': 'middle' }) : null];
  const zones = known(model.lo) && known(model.hi)
    ? [zone(from, model.lo, 'good', t('verdict.good')), zone(model.lo, model.hi, 'person', t('verdict.person')), zone(model.hi, to, 'defect', t('verdict.defect')),
      label(x(clip(model.lo)), 238, number(model.lo, 2), { class: 'tick', 'text-anchor': 'end', dx: -2 }), label(x(clip(model.hi)), 238, number(model.hi, 2), { class: 'tick', 'text-anchor': 'start', dx: 2 }),
      line(x(clip(model.lo)), 22, x(clip(model.lo)), 222, 'threshold'), line(x(clip(model.hi)), 22, x(clip(model.hi)), 222, 'threshold')].flat() : [];
  const bars = [];
  for (let i = first; i <= last; i++) {
    const left = x(low + i * bin) + 0.5, wide = Math.max(1, x(low + (i + 1) * bin) - x(low + i * bin) - 1);
    if (up[i]) bars.push(s('rect', { x: left, width: wide, y: middle - 1 - tall(up[i]), height: tall(up[i]), class: 'bar-good' }, s('title', {}, t('scores.good', { n: up[i] }))));
    if (down[i]) bars.push(s('rect', { x: left, width: wide, y: middle + 1, height: tall(down[i]), class: 'bar-defect' }, s('title', {}, t('scores.defect', { n: down[i] }))));
  }
  return svgOf(width, height, t('scores.label'), zones, bars, line(x0, middle, x1, middle, 'axis'),
    label(x0 + 4, 40, t('scores.up'), { class: 'tick' }), label(x0 + 4, 214, t('scores.down'), { class: 'tick' }));
}

/* One family: share answered (upper panel), error among answered with its bound and the bar (lower panel). */
function corruptionChart(rows, goal, top) {
  return (width) => {
    const height = 236, x0 = 40, x1 = width - 10;
    const x = scale(0, 5, x0 + 8, x1 - 8);
    const share = scale(0, 1, 100, 14), error = scale(0, top, 206, 128);
    const parts = [frame(x0, 14, x1, 100, [], [0, 0.5, 1].map((v) => [share(v), percent(v, 0)])),
      frame(x0, 128, x1, 206, [0, 1, 2, 3, 4, 5].map((v) => [x(v), v === 0 ? t('corruption.clean') : String(v)]), [0, top / 2, top].map((v) => [error(v), percent(v, v && top / 2 < 0.03 ? 1 : 0)]))].flat();
    const at = (read, y) => rows.filter((row) => known(read(row))).map((row) => [x(row.severity), y(Math.min(read(row), y === error ? top : 1))]);
    const bound = at((row) => row.error_bound, error), point = at((row) => row.error_share, error), answered = at((row) => row.answered_share, share);
    if (answered.length) {
      const [first, last] = [answered[0][0], answered[answered.length - 1][0]];
      parts.push(s('path', { d: pathOf(answered) + `L${last} 100L${first} 100Z`, class: 'area' }), s('path', { d: pathOf(answered), class: 'curve main', css: { stroke: 'var(--accent)' } }));
      parts.push(...answered.map(([cx, cy]) => s('circle', { cx, cy, r: 3, css: { fill: 'var(--accent)' } })));
    }
    if (known(goal)) parts.push(line(x0, error(goal), x1, error(goal), 'goal'));
    for (const [cx, cy] of point) {
      const top_ = bound.find((b) => b[0] === cx);
      if (top_) parts.push(line(cx, cy, cx, top_[1], 'whisker'), line(cx - 4, top_[1], cx + 4, top_[1], 'whisker'));
      parts.push(s('circle', { cx, cy, r: 3.2, css: { fill: 'var(--defect)' } }));
    }
    return svgOf(width, height, t('corruption.label', { family: rows.length ? rows[0].family : '' }), parts,
      label(x0 + 2, 10, t('corruption.share'), { class: 'tick' }), label(x0 + 2, 122, t('corruption.error'), { class: 'tick' }));
  };
}

/* Bytes of each owner against the bytes of its pictures would dwarf the drawing, so: one bar an owner, parts by kind of message. */
function bytesChart(width) {
  const most = Math.max(1, ...report.owners.map((owner) => owner.bytes_left || 0));
  const x0 = 4, x1 = width - 84, step = 58;
  const x = scale(0, most, 0, x1 - x0);
  const parts = report.owners.map((owner, i) => {
    const y = 24 + i * step;
    let left = x0;
    const kinds = new Map();
    for (const message of owner.messages) kinds.set(message.kind, (kinds.get(message.kind) || 0) + message.body_bytes);
    const bars = Array.from(kinds).map(([kind, size], k) => {
      const bar = s('rect', { x: left, y: y + 6, width: Math.max(1, x(size) - 1.5), height: 20, css: { fill: colourOf(owner.party), opacity: String(Math.max(0.3, 1 - 0.17 * k)) } },
        s('title', {}, `${kind}: ${bytesText(size)}`));
      const name = x(size) > 8 * kind.length + 12 ? label(left + 7, y + 20, kind, { class: 'tick inside' }) : null;
      left += x(size);
      return [bar, name];
    });
    return [label(x0, y, nameOf(owner.party).slice(0, 44), { class: 'key' }), bars, label(left + 8, y + 21, bytesText(owner.bytes_left), { class: 'key strong' })];
  });
  return svgOf(width, report.owners.length * step + 8, t('left.label'), parts);
}
