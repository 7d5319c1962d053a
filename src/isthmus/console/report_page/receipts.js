/* Verifies a receipt: salted sections, leaf, inclusion path (RFC 9162), root, and the arithmetic. No signature is checked here. */

const bare = (digest) => String(digest).replace(/^sha256:/, '');
const LEAF = Uint8Array.of(0), NODE = Uint8Array.of(1);
const RECEIPT_FORMAT = 'isthmus-receipt/1';

const sectionDigest = (name, section) => hex(sha256(utf8(canonical({ body: section.body, name, salt: section.salt }))));
const leafHash = (receipt) => sha256(joined(LEAF, utf8(canonical({ at_ms: receipt.at_ms, digests: receipt.digests, format: RECEIPT_FORMAT, id: receipt.id }))));

/* Root from a leaf hash and its path, RFC 9162 section 2.1.3.2. Returns hex, or null when the path has a wrong length. */
function rootFrom(leaf, index, size, path) {
  if (!(index < size)) return null;
  let [fn, sn, r] = [index, size - 1, leaf];
  for (const step of path) {
    if (sn === 0) return null;
    const p = unhex(bare(step));
    if (fn % 2 === 1 || fn === sn) {
      r = sha256(joined(NODE, p, r));
      while (fn % 2 === 0 && fn !== 0) { fn = Math.floor(fn / 2); sn = Math.floor(sn / 2); }
    } else r = sha256(joined(NODE, r, p));
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 ? hex(r) : null;
}

function signedHead(receipt) {
  try { return JSON.parse(new TextDecoder().decode(unbase64(receipt.proof.head.payload))); } catch { return null; }
}

const bodyOf = (receipt, name) => (receipt.sections[name] ? receipt.sections[name].body : null);

function chargeChecks(receipt) {
  const [usage, price, outcome] = ['usage', 'price', 'outcome'].map((name) => bodyOf(receipt, name));
  if (!usage || !price) return [];
  const due = pricedMicros(price.price, usage.usage), most = pricedMicros(price.price, usage.worst_case);
  const checks = [{ name: 'priced', ok: due === price.priced_micros, values: { found: due, stated: price.priced_micros } }];
  const charged = outcome ? CHARGED[outcome.outcome] === true : price.charge_micros > 0;
  const charge = charged ? Math.min(due, price.held_micros) : 0, over = charged ? Math.max(0, due - price.held_micros) : 0;
  checks.push({ name: 'charge', ok: charge === price.charge_micros && over === price.overrun_micros, values: { found: charge, stated: price.charge_micros, held: price.held_micros } });
  checks.push({ name: 'hold', ok: most === price.held_micros, values: { found: most, stated: price.held_micros } });
  return checks;
}

function splitChecks(receipt) {
  const [price, split] = ['price', 'split'].map((name) => bodyOf(receipt, name));
  const checks = [];
  if (split) {
    const sum = split.lines.reduce((total, row) => total + row.amount_micros, 0);
    const charge = price ? price.charge_micros : split.charge_micros;
    checks.push({ name: 'split', ok: sum === charge && split.charge_micros === charge, values: { found: sum, stated: charge } });
    checks.push({ name: 'shares', ok: canonical(split.lines) === canonical(dividedCharge(split.rule, split.charge_micros, split.compute)), values: {} });
  }
  const own = Object.entries(receipt.sections).filter(([name]) => name.startsWith('share-'));
  const odd = own.filter(([, section]) => !ownLineFits(section.body, split)).map(([name]) => name);
  if (own.length) checks.push({ name: 'own', ok: !odd.length, values: { n: own.length, section: odd.join(', ') } });
  return checks;
}

function timeCheck(receipt) {
  const outcome = bodyOf(receipt, 'outcome');
  return outcome ? [{ name: 'time', ok: outcome.ended_at_ms === receipt.at_ms, values: {} }] : [];
}

/* All checks of the sums; a number that is no whole number breaks one of them. */
function arithmetic(receipt) {
  const checks = [];
  for (const check of [chargeChecks, splitChecks, timeCheck]) {
    try { checks.push(...check(receipt)); } catch { checks.push({ name: 'form', ok: false, values: {} }); }
  }
  return checks;
}

/* {sections: [{name, found, ok}], leaf, root, stated, head, included, arithmetic: [{name, ok, values}], changed: [names], valid} */
function verifyReceipt(receipt) {
  const names = Object.keys(receipt.sections).sort();
  const sections = names.map((name) => {
    const found = sectionDigest(name, receipt.sections[name]);
    return { name, found, ok: Object.hasOwn(receipt.digests, name) && receipt.digests[name] === 'sha256:' + found };
  });
  const head = signedHead(receipt), leaf = leafHash(receipt);
  let root = null;
  try { root = receipt.proof ? rootFrom(leaf, receipt.leaf_index, receipt.proof.tree_size, receipt.proof.path) : null; } catch { root = null; }
  const stated = head ? bare(head.root) : null;
  const included = root !== null && root === stated && receipt.format === RECEIPT_FORMAT && head.tree_size === receipt.proof.tree_size && receipt.leaf_index === receipt.proof.leaf_index;
  const sums = arithmetic(receipt), changed = sections.filter((one) => !one.ok).map((one) => one.name);
  const valid = included && !changed.length && sums.every((check) => check.ok);
  return { sections, leaf: hex(leaf), root, stated, head, included, arithmetic: sums, changed, valid };
}
