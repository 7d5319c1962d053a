"""pair/1: what two models make of the same labelled records, counted."""

from __future__ import annotations

import numpy as np

from isthmus.contracts.sums import OUTCOMES, PairSums
from isthmus.sandbox.statistics.records import GroupTally, Ints, Records

RIGHT, WRONG, PERSON = range(len(OUTCOMES))


def outcomes(verdicts: Ints, y: Ints) -> Ints:
    """(n,) verdicts in {-1, 0, +1} and labels in {-1, +1} -> places in OUTCOMES."""
    return np.where(verdicts == 0, PERSON, np.where(verdicts == y, RIGHT, WRONG)).astype(np.int64)


class PairTally:
    """Sums of two models' verdicts over chunks. contiguous: whether each group's records stand together."""

    def __init__(self, contiguous: bool = False) -> None:
        self._table = np.zeros((len(OUTCOMES), len(OUTCOMES)), dtype=np.int64)
        self._groups = GroupTally(3, contiguous)

    def add(self, records: Records, old: Ints, new: Ints) -> None:
        """A chunk's records with their (n,) verdicts."""
        before, after = outcomes(old, records.y), outcomes(new, records.y)
        self._table += np.bincount(before * len(OUTCOMES) + after, minlength=len(OUTCOMES) ** 2).reshape(len(OUTCOMES), -1).astype(np.int64)
        worse = (after == WRONG).astype(np.int64) - (before == WRONG)
        lost = (before == RIGHT).astype(np.int64) - (after == RIGHT)
        self._groups.add(np.stack([np.ones_like(worse), worse, lost], axis=1), records.groups)

    def sums(self) -> PairSums:
        """Of all that was added."""
        done = self._groups.finish()
        n, w, r = range(3)
        return PairSums(done.groups, self._table, *(int(done.products[a, b]) for a, b in ((n, n), (w, w), (w, n), (r, r), (r, n))))


def pair(records: Records, old: Ints, new: Ints) -> PairSums:
    """Sums of two models' (n,) verdicts, all at once."""
    tally = PairTally()
    tally.add(records, old, new)
    return tally.sums()
