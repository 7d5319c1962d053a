/* The two flow pictures: how records become a served, paid answer; and where one charge went. */

function box(x, y, width, height, title, rows, kind) {
  return s('g', { class: 'box ' + (kind || '') },
    s('rect', { x, y, width, height, rx: 7 }),
    label(x + 14, y + 24, title, { class: 'box-title' }),
    rows.map((row, i) => label(x + 14, y + 44 + 18 * i, row, { class: 'box-row' })));
}

const arrow = (d, colour, wide = 2) => s('path', { d, class: 'flow', 'marker-end': 'url(#tip)', css: { stroke: colour || 'var(--ink-3)', 'stroke-width': String(wide) } });
const tip = () => s('defs', {}, s('marker', { id: 'tip', viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto-start-reverse', markerUnits: 'userSpaceOnUse' },
  s('path', { d: 'M0 0 8 4 0 8Z', css: { fill: 'var(--ink-3)' } })));

function loopStages() {
  const model = report.model || {}, certificate = report.certificate, serving = report.serving, money = report.money;
  const short = (digest) => (known(digest) ? String(digest).replace('sha256:', '').slice(0, 10) + '…' : NOT_TEXT());
  return [
    { title: t('loop.sums'), rows: [t('loop.sums.how'), t('loop.sums.images', { n: known(imagesLeft()) ? number(imagesLeft()) : '—' })], kind: 'sum' },
    { title: t('loop.model'), rows: [known(model.dimension) ? t('loop.model.size', { n: number(model.dimension) }) : NOT_TEXT(), known(model.auc_joint) ? 'AUC ' + number(model.auc_joint, 3) : ''], kind: 'model' },
    { title: certificate && !certificate.issued ? t('loop.refused') : t('loop.certificate'),
      rows: certificate ? [certificate.issued ? short(certificate.digest) : t('loop.nothing.served'), certificate.issued && certificate.expires_at ? t('loop.until', { day: String(certificate.expires_at).slice(0, 10) }) : ''] : [NOT_TEXT()],
      kind: certificate && !certificate.issued ? 'refused' : 'certificate' },
    { title: t('loop.service'), rows: serving ? [t('loop.requests', { n: number(serving.requests) }), t('loop.receipts', { n: number(serving.receipts) })] : [NOT_TEXT()], kind: 'service' },
    { title: t('loop.money'), rows: money ? [amount(money.charge_micros), t('loop.book', { n: known(money.entries_sum_micros) ? number(money.entries_sum_micros) : '—' })] : [NOT_TEXT()], kind: 'money' },
  ];
}

const imagesLeft = () => {
  const counts = report.owners.map((owner) => owner.images_left);
  return counts.length && counts.every(known) ? counts.reduce((a, b) => a + b, 0) : null;
};

const ownerRows = (owner) => [known(owner.records) ? t('loop.records', { n: number(owner.records) }) : NOT_TEXT(), known(owner.bytes_left) ? t('loop.left', { size: bytesText(owner.bytes_left) }) : ''];

function loopPicture(width) {
  return width < 760 ? loopDown(width) : loopAcross(width);
}

function loopAcross(width) {
  const owners = report.owners, stages = loopStages();
  const rowHeight = 82, ownersHeight = Math.max(1, owners.length) * rowHeight, height = Math.max(ownersHeight, 150) + 88;
  const gap = 26, ownerWidth = Math.min(205, width * 0.2), wide = (width - ownerWidth - gap * stages.length - 4) / stages.length;
  const middle = Math.max(ownersHeight, 150) / 2, top = middle - ownersHeight / 2;
  const parts = [];
  owners.forEach((owner, i) => {
    const y = top + i * rowHeight + 4;
    parts.push(box(1, y, ownerWidth, 70, nameOf(owner.party).slice(0, 22), ownerRows(owner), 'owner'),
      s('rect', { x: 1, y, width: 5, height: 70, rx: 2.5, css: { fill: colourOf(owner.party) } }),
      arrow(`M${ownerWidth + 2} ${y + 35}C${ownerWidth + gap * 0.7} ${y + 35} ${ownerWidth + gap * 0.3} ${middle + (i - (owners.length - 1) / 2) * 14} ${ownerWidth + gap - 2} ${middle + (i - (owners.length - 1) / 2) * 14}`, colourOf(owner.party), 2.5));
  });
  const left = (i) => ownerWidth + gap + i * (wide + gap);
  stages.forEach((stage, i) => {
    parts.push(box(left(i), middle - 42, wide, 84, stage.title, stage.rows, stage.kind));
    if (i) parts.push(arrow(`M${left(i) - gap + 2} ${middle}H${left(i) - 2}`));
  });
  const back = Math.max(ownersHeight, 150) + 26;
  if (owners.length) parts.push(s('path', { d: `M${left(4) + wide / 2} ${middle + 43}V${back}Q${left(4) + wide / 2} ${back + 12} ${left(4) + wide / 2 - 12} ${back + 12}H${ownerWidth / 2 + 12}Q${ownerWidth / 2} ${back + 12} ${ownerWidth / 2} ${back}V${top + ownersHeight + 1}`, class: 'flow back', 'marker-end': 'url(#tip)' }),
    label(width / 2, back + 34, t('loop.back'), { class: 'tick', 'text-anchor': 'middle' }));
  if (owners.length > 1) parts.push(s('line', { x1: ownerWidth + gap / 2, x2: ownerWidth + gap / 2, y1: top + 4, y2: top + ownersHeight - 8, class: 'border' }));
  return svgOf(width, height, t('loop.aria'), tip(), parts);
}

function loopDown(width) {
  const stages = loopStages(), owners = report.owners, parts = [];
  let y = 2;
  owners.forEach((owner) => {
    parts.push(box(1, y, width - 2, 70, nameOf(owner.party).slice(0, 34), ownerRows(owner), 'owner'), s('rect', { x: 1, y, width: 5, height: 70, rx: 2.5, css: { fill: colourOf(owner.party) } }));
    y += 78;
  });
  parts.push(s('line', { x1: 8, x2: width - 8, y1: y + 7, y2: y + 7, class: 'border' }));
  y += 16;
  stages.forEach((stage) => {
    parts.push(arrow(`M${width / 2} ${y - 6}V${y + 16}`), box(1, y + 18, width - 2, 84, stage.title, stage.rows, stage.kind));
    y += 110;
  });
  return svgOf(width, y, t('loop.aria'), tip(), parts);
}

/* A charge on the left, its parts on the right; band heights are in proportion, and the parts are summed again here. */
function moneyFlow(split, charge) {
  return (width) => {
    const narrow = width < 560;
    const total = split.reduce((sum, row) => sum + row.amount_micros, 0) || 1;
    const gap = 44, tall = Math.max(130, split.length * 26), height = tall + gap * (split.length - 1) + 16;
    const x0 = narrow ? 14 : 160, x1 = narrow ? width - 190 : width - 300;
    const start = (height - tall) / 2;
    let from = start, to = 8;
    const bands = split.map((row) => {
      const size = Math.max(1.5, (tall * row.amount_micros) / total);
      const colour = colourOf(row.party, row.role), bend = (x1 - x0) * 0.5;
      const d = `M${x0} ${from}C${x0 + bend} ${from} ${x1 - bend} ${to} ${x1} ${to}V${to + size}C${x1 - bend} ${to + size} ${x0 + bend} ${from + size} ${x0} ${from + size}Z`;
      const y = to + size / 2;
      const part = s('g', { class: 'band' }, s('path', { d, css: { fill: colour } }, s('title', {}, `${nameOf(row.party)}: ${amount(row.amount_micros)}`)),
        s('rect', { x: x1, y: to, width: 6, height: size, css: { fill: colour } }),
        label(x1 + 16, y - 2, nameOf(row.party).slice(0, narrow ? 22 : 34), { class: 'key strong' }),
        label(x1 + 16, y + 15, `${amount(row.amount_micros)} · ${percent(row.amount_micros / total)}`, { class: 'tick' }));
      from += size; to += size + gap;
      return part;
    });
    return svgOf(width, Math.max(height, to - gap + 30), t('money.label'), bands, s('rect', { x: x0 - 6, y: start, width: 6, height: tall, class: 'source' }),
      narrow ? null : [label(x0 - 18, start + tall / 2 - 3, t('money.charge'), { class: 'key strong', 'text-anchor': 'end' }),
        label(x0 - 18, start + tall / 2 + 15, amount(charge), { class: 'tick', 'text-anchor': 'end' })]);
  };
}
