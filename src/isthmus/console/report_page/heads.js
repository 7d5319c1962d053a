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
  return { coefficients, bias: document.bias, lo: document.lo, hi: document.hi, link: document.link || 'linear' };
}

/* Of a logistic head the sum is the logarithm of the odds, and the score 4 p - 2. */
const linked = (link, sum) => (link === 'logistic' ? 2 * Math.tanh(sum / 2) : sum);
const scored = (head, features) => linked(head.link, head.bias + features.reduce((sum, q, i) => sum + q * head.coefficients[i], 0));
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
