"""pair/1: what two models make of the same labelled records, counted."""

from __future__ import annotations

import numpy as np

from isthmus.contracts.sums import OUTCOMES, PairSums
from isthmus.sandbox.statistics.records import Ints, Records, sums_by_group

RIGHT, WRONG, PERSON = range(len(OUTCOMES))


def outcomes(verdicts: Ints, y: Ints) -> Ints:
    """(n,) verdicts in {-1, 0, +1} and labels in {-1, +1} -> places in OUTCOMES."""
    return np.where(verdicts == 0, PERSON, np.where(verdicts == y, RIGHT, WRONG)).astype(np.int64)


def pair(records: Records, old: Ints, new: Ints) -> PairSums:
    """Sums of two models' (n,) verdicts."""
    before, after = outcomes(old, records.y), outcomes(new, records.y)
    table = np.bincount(before * len(OUTCOMES) + after, minlength=len(OUTCOMES) ** 2).reshape(len(OUTCOMES), -1).astype(np.int64)
    worse = (after == WRONG).astype(np.int64) - (before == WRONG)
    lost = (before == RIGHT).astype(np.int64) - (after == RIGHT)
    n, w, r = (sums_by_group(values, records.groups) for values in (np.ones_like(worse), worse, lost))
    return PairSums(int(n.size), table, *(int((a * b).sum()) for a, b in ((n, n), (w, w), (w, n), (r, r), (r, n))))
