"""Which cells of a question an owner may answer, so that no difference of answers shows a few of its records.

Every answer is a sum over sets of the owner's records. Two records that have stood in the same sets are in one atom; a linear combination
of answers weighs all records of an atom alike. So it isolates fewer than k records only if it weighs none of the atoms that have k or more
and some of those that have fewer. Whether there is one is linear algebra: it is there when a combination of the sets that vanishes on all
large atoms does not vanish on the small ones. Then the question is not answered as it stands, whoever put the earlier ones, and even if
every other owner tells the asker its own share.

What other statistics tell are sums over whole splits; these are sets from the beginning. The number of independent answers is at most that
of large atoms, hence at most a k-th of the records, over all questions. What this does not hold against is in docs/decisions/0031.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from isthmus.contracts.errors import RefusedError

Labels = NDArray[np.int64]
OUTSIDE = -1
"""The label of a record that is in no cell."""
SETS_MAX = 512
"""Sets that are ever summed exactly for one owner: the algebra takes the cube of them."""
NULL, SEEN = 1e-9, 1e-6


@dataclass(frozen=True)
class Family:
    """Sets that are summed alike. universe: (n,) which records can be in them at all: all, or those that have a column's value. told: the
    labels of what was answered, (n,) each."""

    universe: NDArray[np.bool_]
    told: tuple[Labels, ...]


def isolates(labelings: Sequence[Labels], universe: NDArray[np.bool_], least: int) -> bool:
    """Whether a linear combination of the sets' sums rests on 1 to least - 1 records of the universe, or on atoms that are all so small."""
    size = int(universe.sum())
    if not size:
        return False
    told = [labels[universe] for labels in labelings]
    atoms = np.zeros(size, dtype=np.int64)
    for labels in told:
        atoms = np.unique(atoms * (int(labels.max(initial=OUTSIDE)) + 2) + labels + 1, return_inverse=True)[1].reshape(-1)
    _, first, counts = np.unique(atoms, return_index=True, return_counts=True)
    small = counts < least
    if not small.any():
        return False
    sets = _sets([labels[first] for labels in told])
    large = sets[~small]
    weights, vectors = np.linalg.eigh((large.T @ large).toarray())
    unseen = vectors[:, weights <= NULL * max(1.0, float(weights.max(initial=0.0)))]
    return bool((np.abs(sets[small] @ unseen) > SEEN).any())


def _sets(told: Sequence[Labels]) -> csr_array:
    """(atoms, sets) 0 or 1: which atoms each set holds."""
    rows, columns, at = [], [], 0
    for labels in told:
        found, place = np.unique(labels, return_inverse=True)
        inside = np.flatnonzero(labels != OUTSIDE)
        rows.append(inside)
        columns.append(at + place.reshape(-1)[inside])
        at += found.size
    used, dense = np.unique(np.concatenate(columns), return_inverse=True)
    if used.size > SETS_MAX:
        message = f"more than {SETS_MAX} sets of these records would be summed exactly"
        raise RefusedError("questions", message, "ask for fewer groups, or ask the owner for a privacy budget")
    where = (np.concatenate(rows), dense.reshape(-1))
    return csr_array((np.ones(where[0].size), where), shape=(told[0].size, used.size))


def answerable(labels: Labels, families: Sequence[Family], least: int) -> Labels:
    """The labels with OUTSIDE for every record of a cell that is left out, so that what is left isolates nothing in any family.

    Cells are taken from the largest to the smallest, as long as they may stand beside what was taken: of two that cannot both be told the
    larger one is. Which are left out depends on the owner's records, as every suppression does. Deterministic.
    """
    cells, counts = np.unique(labels[labels != OUTSIDE], return_counts=True)
    order = [int(cell) for cell in cells[np.lexsort((cells, -counts))] if counts[np.searchsorted(cells, cell)] >= least]

    def kept(chosen: Sequence[int]) -> Labels:
        return np.where(np.isin(labels, chosen), labels, OUTSIDE)

    def holds(chosen: Sequence[int]) -> bool:
        found = kept(chosen)
        return not any(isolates((*family.told, found), family.universe, least) for family in families)

    return kept(_taken(order, holds))


def _taken(order: Sequence[int], holds: Callable[[Sequence[int]], bool]) -> list[int]:
    """The cells that may be told, found by halves: a part that may stand as a whole is taken as a whole."""
    taken: list[int] = []
    waiting = [list(order)]
    while waiting:
        part = waiting.pop()
        if not part:
            continue
        if holds([*taken, *part]):
            taken += part
        elif len(part) > 1:
            half = len(part) // 2
            waiting += [part[half:], part[:half]]
    return taken
