/* Prices and splits as the ledger computes them: whole micro-units, exact, largest remainder. Numbers become BigInt; a number that is not whole throws. */

const PPM = 1000000n;
const ROLES = ['compute', 'vendor', 'owner', 'exchange', 'residue'];
const CHARGED = { reported: true, recounted: true, partial: true, zero: false, void: false };

/* What the usage costs: tokens are rounded up once. */
function pricedMicros(price, usage) {
  const n = (value) => BigInt(value || 0);
  const tokens = n(usage.tokens_in) * n(price.million_tokens_in_micros) + n(usage.tokens_out) * n(price.million_tokens_out_micros);
  return Number(n(usage.inferences) * n(price.inference_micros) + (tokens + 999999n) / 1000000n);
}

/* Who claims which weight of a charge, in the one order, and the total of the weights. */
function claimsOf(rule, compute) {
  const owned = rule.owners.reduce((sum, owner) => sum + BigInt(owner.weight), 0n), unit = owned || 1n;
  const owners = owned ? BigInt(rule.owners_ppm) : 0n;
  const [a, b, c] = [rule.compute_ppm, rule.vendor_ppm, rule.exchange_ppm].map(BigInt);
  if ([a, b, c, BigInt(rule.owners_ppm)].some((share) => share < 0n) || a + b + c + BigInt(rule.owners_ppm) > PPM) throw new Error('shares');
  const all = [['compute', compute, a * unit], ['vendor', rule.vendor, b * unit], ['exchange', rule.exchange, c * unit],
    ['residue', rule.residue, (PPM - a - b - c - owners) * unit], ...rule.owners.map((owner) => ['owner', owner.party, owners * BigInt(owner.weight)])];
  const order = (p, q) => ROLES.indexOf(p[0]) - ROLES.indexOf(q[0]) || (p[1] < q[1] ? -1 : p[1] > q[1] ? 1 : 0);
  return [all.filter((claim) => claim[2]).sort(order), PPM * unit];
}

/* The lines of the split: rounded down, then one more micro-unit each for the largest remainders. */
function dividedCharge(rule, charge, compute) {
  const [claims, total] = claimsOf(rule, compute);
  const whole = claims.map((claim) => (BigInt(charge) * claim[2]) / total), rest = claims.map((claim) => (BigInt(charge) * claim[2]) % total);
  const left = Number(BigInt(charge) - whole.reduce((a, b) => a + b, 0n));
  const places = claims.map((_, i) => i).sort((i, j) => (rest[j] > rest[i] ? 1 : rest[j] < rest[i] ? -1 : i - j));
  const extra = new Set(places.slice(0, left));
  return claims.map(([role, party, weight], i) => ({ role, party, weight: Number(weight), weight_total: Number(total), amount_micros: Number(whole[i]) + (extra.has(i) ? 1 : 0) }));
}

/* One party's own line: its weight of the charge, and the same as in the split where that is shown. */
function ownLineFits(body, split) {
  const { line: own, charge_micros: charge } = body;
  const floor = Number((BigInt(charge) * BigInt(own.weight)) / BigInt(own.weight_total));
  const fits = (own.amount_micros === floor || own.amount_micros === floor + 1) && own.weight >= 0 && own.weight <= own.weight_total;
  return fits && (!split || (charge === split.charge_micros && split.lines.some((one) => canonical(one) === canonical(own))));
}
