"""Held-out counts with noise on them, as bounds that hold all the same.

The chance of being wrong, one minus the confidence, is parted: NOISE_PART of it that any count lies outside its noise's reach, the rest
that the bound on what was counted fails. Within reach the worst counts are taken: most errors, fewest answers. Both failing has at most the
chance that was promised (a union bound), whatever the true counts are.

A discrete Gaussian of deviation s is beyond t with a chance of at most exp(-t^2 / (2 s^2)) on each side (Canonne, Kamath and Steinke, 2020,
corollary 17), and so is a sum of independent ones. Nothing is told of how scores are spread, so the area under the ROC curve is the least
that two thresholds leave: every defect between them is taken to score below every good one there. Sums over groups are not told, so the
design effect is what was declared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np

from isthmus.assurance.alarms import judged
from isthmus.assurance.auc import auc
from isthmus.assurance.bars import Verdict, bars_digest
from isthmus.assurance.evidence import Evidence
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import EVALUATION_BINS, EVALUATION_COUNTS, Evaluation, GroupSums, Ints

NOISE_PART = 0.2
COUNTS_TOLD = 5
"""Defects, and answers and errors of each class."""


def confidence_left(confidence: float) -> float:
    """At which bounds are taken on the worst counts within the noise."""
    return 1.0 - (1.0 - confidence) * (1.0 - NOISE_PART)


def reach(deviation: float, confidence: float, conditions: int) -> float:
    """How far noise of this deviation can take any of all counts of so many conditions, but for NOISE_PART of the chance of error."""
    each = (1.0 - confidence) * NOISE_PART / (2 * COUNTS_TOLD * conditions)
    return deviation * math.sqrt(2.0 * math.log(1.0 / each))


def cautious(found: Evaluation, records: int, groups: int, reaches: tuple[float, float], defects: int | None = None) -> Evaluation:
    """The worst that noisy counts leave possible, as counts that agree with each other.

    records, groups: public. reaches: of the count of defects, and of answers and errors. defects: where it is known from another count of
    the same records; scores are then not told. Where no counts within reach agree, or none would be answered, all answers count as errors.
    """
    c = found.counts
    low = [max(0, math.floor(c[name] - reaches[1])) for name in ("answered_defects", "answered_good")]
    wrong = [max(0, math.ceil(c[name] + reaches[1])) for name in ("missed_defects", "false_alarms")]
    least = max(low[0], math.floor(c["defects"] - reaches[0]), 0)
    most = min(records - low[1], math.ceil(c["defects"] + reaches[0]))
    agree = all(w <= n for w, n in zip(wrong, low, strict=True)) and sum(low) > 0 and least <= most
    if not agree or (defects is not None and not least <= defects <= most):
        some = min(max(low[0], 1), records) if defects is None else defects
        low = [min(low[0], some), min(low[1], records - some)]
        low = low if sum(low) else [min(1, some), 0 if some else min(1, records)]
        wrong, least, most = list(low), some, some
    elif defects is not None:
        least, most = defects, defects
    places = sorted({*np.linspace(least, most, 65).astype(int).tolist(), least, most})
    histogram, number = min(((_worst_order(low, wrong, records, d), d) for d in places), key=lambda one: auc(one[0]))
    counts = {
        "records": records,
        "groups": groups,
        "defects": number,
        "answered": sum(low),
        "errors": sum(wrong),
        "answered_defects": low[0],
        "missed_defects": wrong[0],
        "answered_good": low[1],
        "false_alarms": wrong[1],
    }
    assert set(counts) == set(EVALUATION_COUNTS)
    return Evaluation(counts, _even_groups(groups, sum(low), sum(wrong)), histogram if defects is None else np.zeros_like(histogram))


def _worst_order(low: list[int], wrong: list[int], records: int, defects: int) -> Ints:
    """(2, EVALUATION_BINS): scores below, between and above the thresholds, in each of which all defects lie below all good ones."""
    found = np.zeros((2, EVALUATION_BINS), dtype=np.int64)
    good = (low[1] - wrong[1], records - defects - low[1], wrong[1])
    bad = (wrong[0], defects - low[0], low[0] - wrong[0])
    for place, (of_good, of_bad) in enumerate(zip(good, bad, strict=True)):
        start = place * (EVALUATION_BINS // 3)
        found[1, start], found[0, start + 1] = of_bad, of_good
    return found


def _even_groups(groups: int, answered: int, errors: int) -> GroupSums:
    """Group sums as if answers and errors were spread evenly: they say nothing of clustering, as nothing is known of it."""
    used = max(1, min(groups, answered))
    if answered == 0:
        return GroupSums(0, 0, 0, 0, 0, 0)
    squares, crossed = max(answered, -(-answered * answered // used)), max(errors, answered * errors // used)
    return GroupSums(used, answered, errors, squares, max(errors, -(-errors * errors // used)), crossed)


def judged_under_noise(bars: Bars, evidence: Evidence, judge: Callable[[Bars, Evidence], Verdict] = judged) -> Verdict:
    """The verdict on cautious counts: its claims hold at the bars' own confidence. Raises InputError, also for promises on good records."""
    if bars.promise == "alarms":
        raise InputError("promises on good records cannot be judged under noise", "use an agreement without a privacy budget")
    strict = msgspec.structs.replace(bars, confidence_ppm=math.ceil(confidence_left(bars.confidence_ppm / PPM) * PPM))
    found = judge(strict, evidence)
    claims = msgspec.structs.replace(found.claims, confidence_ppm=bars.confidence_ppm)
    return replace(found, claims=claims, bars_digest=bars_digest(bars))
