"""Whether a new model may replace an old one: paired, from sums only.

Two models judge the same labelled records. The new one is not inferior when an upper bound on what it has more of the bad (wrong answers,
and right answers lost) lies below a margin that was stated before. Both have to hold, each at the confidence: an intersection-union test
(Berger, Technometrics 24, 1982), so the chance of passing an inferior model is at most that of one.

Sources. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design", Statistics in
Medicine 17 (1998): the score interval, which is right also with few or no disagreements, where Wald's has no width at all. Clusters: the
variance of a mean of differences under cluster sampling (Cochran, "Sampling Techniques", 1977, section 6.3) over that of independent
records is a design effect; the counts are taken at Korn and Graubard's effective size (see `bounds`). The effect is estimated from the
same groups, and where the worst groups are rare it is mostly too small, so it is taken at its upper 90 % limit (chi-square, G - 1 degrees
of freedom): without that an inferior model passes 7 % of the time instead of 5 % in the simulation that the tests run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import chdtri, ndtri

from isthmus.assurance.bounds import effective_n, too_few_groups
from isthmus.contracts.sums import OUTCOMES, PairSums

STEPS = 80
EFFECT_CONFIDENCE = 0.9
RECORDS_MOST = 10_000_000
RIGHT, WRONG = OUTCOMES.index("right"), OUTCOMES.index("wrong")


def tango_score(worse: float, better: float, n: float, difference: float) -> float:
    """The score statistic of H0: P(worse) - P(better) = difference, standard normal under it. worse, better: discordant pairs of n."""
    a = 2.0 * n
    b = -worse - better + (2.0 * n - worse + better) * difference
    c = -better * difference * (1.0 - difference)
    q = (math.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
    spread = n * max(2.0 * q + difference * (1.0 - difference), 0.0)
    gap = worse - better - n * difference
    if spread <= 0.0:
        return 0.0 if gap == 0.0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(spread)


def tango_upper(worse: float, better: float, n: float, confidence: float) -> float:
    """One-sided upper bound on P(worse) - P(better); counts may be effective ones (not whole). 1.0 when n is 0.

    The greatest difference that the score test does not reject, found by halving.
    """
    if not 0.5 <= confidence < 1.0:
        raise ValueError(f"a confidence lies between 0.5 and 1, not {confidence}")
    if n <= 0:
        return 1.0
    limit = -float(ndtri(confidence))
    low, high = (worse - better) / n, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if tango_score(worse, better, n, middle) > limit else (low, middle)
    return high


@dataclass(frozen=True)
class Difference:
    """One difference with its bound. worse, better: discordant pairs. share: (worse - better) / records. bound: at the confidence."""

    what: str
    worse: int
    better: int
    share: float
    design_effect: float
    bound: float
    margin: float

    @property
    def holds(self) -> bool:
        return self.bound < self.margin


@dataclass(frozen=True)
class Noninferiority:
    """The verdict on a pair. failures: a sentence for each thing that is not shown."""

    passed: bool
    records: int
    groups: int
    confidence: float
    differences: tuple[Difference, ...]
    failures: tuple[str, ...]


def paired_design_effect(total: int, squares: int, product: int, sums: PairSums, discordant: int) -> float:
    """Upper limit of the cluster variance of a mean difference over that of independent records; at least 1, and 1 where each record is its
    own group. total, squares, product: sum over groups of the difference, its square, and it times the group's size."""
    n, groups = sums.records, sums.groups
    if groups < 2 or discordant == 0 or sums.nn == n:
        return 1.0
    mean = total / n
    clustered = groups / (groups - 1) * max(squares - 2.0 * mean * product + mean * mean * sums.nn, 0.0) / n**2
    independent = (discordant / n - mean * mean) / n
    if independent <= 0:
        return 1.0
    return max(1.0, clustered / independent * (groups - 1) / float(chdtri(groups - 1, EFFECT_CONFIDENCE)))


def _difference(what: str, counts: tuple[int, int], products: tuple[int, int], sums: PairSums, margin: float, rule: _Rule) -> Difference:
    worse, better = counts
    deff = max(rule.design_effect, paired_design_effect(worse - better, *products, sums, worse + better))
    share = (worse - better) / sums.records if sums.records else 0.0
    return Difference(what, worse, better, share, deff, _bound(worse, better, sums, deff, rule.confidence, 1.0), margin)


def _bound(worse: int, better: int, sums: PairSums, deff: float, confidence: float, grown: float) -> float:
    """grown: how many times the records, in as many times the groups, at the same rates."""
    n = sums.records * grown
    effective = float(effective_n(n, deff, round(sums.groups * grown), confidence))
    scale = effective / sums.records if sums.records else 0.0
    return tango_upper(worse * scale, better * scale, effective, confidence)


@dataclass(frozen=True)
class _Rule:
    confidence: float
    design_effect: float


def noninferiority(
    sums: PairSums, margin: float, lost_margin: float, confidence: float = 0.95, groups_min: int = 8, design_effect: float = 1.0
) -> Noninferiority:
    """Judges a pair. margin: more wrong answers among all records; lost_margin: fewer right answers among all records; both in 0..1.

    design_effect: the least that is assumed: a few disagreements cannot show how they cluster.
    """
    if not (0.0 < margin < 1.0 and 0.0 < lost_margin < 1.0):
        raise ValueError("a margin lies between 0 and 1")
    rule, table = _Rule(confidence, design_effect), sums.table
    worse = int(table[:, WRONG].sum() - table[WRONG, WRONG]), int(table[WRONG, :].sum() - table[WRONG, WRONG])
    lost = int(table[RIGHT, :].sum() - table[RIGHT, RIGHT]), int(table[:, RIGHT].sum() - table[RIGHT, RIGHT])
    differences = (
        _difference("wrong answers", worse, (sums.ww, sums.wn), sums, margin, rule),
        _difference("right answers lost", lost, (sums.rr, sums.rn), sums, lost_margin, rule),
    )
    failures = [
        f"{one.what}: {one.worse} more and {one.better} fewer in {sums.records} records, {one.share:+.2%} that may be as much as"
        f" {one.bound:+.2%} at {confidence:.0%} confidence; less than {one.margin:.2%} is asked for"
        for one in differences
        if not one.holds
    ]
    few = too_few_groups(sums.groups, groups_min)
    if few is not None:
        failures.append(few)
    return Noninferiority(not failures, sums.records, sums.groups, confidence, differences, tuple(failures))


def records_needed(sums: PairSums, found: Noninferiority, groups_min: int = 8) -> int | None:
    """Held-out records in all that would show it if rates and groups stayed as they are; 0 when it is shown, None when no number would.

    By doubling and halving.
    """
    if found.passed:
        return 0
    differences, confidence = found.differences, found.confidence
    if sums.records == 0 or any(one.share >= one.margin for one in differences):
        return None

    def shown(records: float) -> bool:
        grown = records / sums.records
        enough = round(sums.groups * grown) >= groups_min
        return enough and all(_bound(o.worse, o.better, sums, o.design_effect, confidence, grown) < o.margin for o in differences)

    low, high = float(sums.records), float(sums.records) * 2
    while not shown(high):
        low, high = high, high * 2
        if high > RECORDS_MOST:
            return None
    while high - low > 1.0:
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return math.ceil(high)
