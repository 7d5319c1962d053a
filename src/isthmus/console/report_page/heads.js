/* A head document in the page: its numbers, and scores made from them. */

/* {dtype, shape, data} -> array of numbers; throws when bytes and shape do not fit or a number is not finite. */
function decodedArray(array) {
  const raw = unbase64(array.data);
  const size = array.shape.reduce((a, b) => a * b, 1);
  if (raw.length !== 8 * size) throw new Error('size');
  const view = new DataView(raw.buffer);
  const out = Array.from({ length: size }, (_, i) => (array.dtype === '<f8' ? view.getFloat64(8 * i, true) : Number(view.getBigInt64(8 * i, true))));
  if (!out.every(Number.isFinite)) throw new Error('not finite');
  return out;
}

function decodedHead(document) {
  const coefficients = decodedArray(document.coefficients);
  const trees = document.forest ? decodedForest(document.forest) : null;
  return { coefficients, bias: document.bias, lo: document.lo, hi: document.hi, trees, link: document.link || 'linear' };
}

/* Trees of a head document: for each, its nodes as {feature, edge, left} or {value}; what they add up to, times share. */
function decodedForest(forest) {
  const sizes = decodedArray(forest.sizes), codes = decodedArray(forest.nodes), trees = [];
  let start = 0;
  for (const size of sizes) {
    let inner = 0;
    trees.push(codes.slice(start, start + size).map((code) => {
      if (code % 2 === 0) return { value: code / 2 / 2 ** 40 };
      const asked = (Math.abs(code) - 1) / 2;
      return { feature: Math.floor(asked / 2 ** 17), edge: (asked % 2 ** 17) - 2 ** 16, left: 2 * inner++ + 1 };
    }));
    start += size;
  }
  if (start !== codes.length || trees.some((nodes) => nodes.filter((node) => node.left).length * 2 + 1 !== nodes.length)) throw new Error('trees');
  return { base: forest.base, share: forest.loss === 'logistic' ? 0.25 : 1, trees };
}

function treeSum(forest, features) {
  return forest.share * forest.trees.reduce((sum, nodes) => {
    let at = 0;
    while (nodes[at].left) at = nodes[at].left + (features[nodes[at].feature] < nodes[at].edge ? 0 : 1);
    return sum + nodes[at].value;
  }, forest.base);
}

/* Of a logistic head the sum is the logarithm of the odds, and the score 4 p - 2. */
const linked = (link, sum) => (link === 'logistic' ? 2 * Math.tanh(sum / 2) : sum);
const linear = (head, features) => head.bias + features.reduce((sum, q, i) => sum + q * head.coefficients[i], 0);
const scored = (head, features) => linked(head.link, linear(head, features) + (head.trees ? treeSum(head.trees, features) : 0));
const verdictOf = (head, score) => (score <= head.lo ? 'good' : score >= head.hi ? 'defect' : 'person');

/* Cells that carry features of this head's length, scored by it. */
function rescored(head) {
  return report.cells.filter((cell) => cell.features && cell.features.length === head.coefficients.length).map((cell) => {
    const score = scored(head, cell.features);
    return { cell, score, verdict: verdictOf(head, score) };
  });
}

/* Where the base64 of the coefficients stands in a canonical head document, as byte offsets. */
function coefficientSpan(text) {
  const found = /"coefficients":\{"data":"([A-Za-z0-9+/=]*)"/.exec(text);
  if (!found) return null;
  const start = found.index + found[0].length - 1 - found[1].length;
  return [start, start + found[1].length];
}
