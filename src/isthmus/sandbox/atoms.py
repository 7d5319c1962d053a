"""Which cells of a question an owner may answer, so that no difference of answers shows a few of its records.

Every answer is a sum over sets of the owner's records. Two records that have stood in the same sets are in one atom; a linear combination
of answers weighs all records of an atom alike. So it isolates fewer than k records only if it weighs none of the atoms that have k or more
and some of those that have fewer. Whether there is one is linear algebra: it is there when a combination of the sets that vanishes on all
large atoms does not vanish on the small ones. Then the question is not answered as it stands, whoever put the earlier ones, and even if
every other owner tells the asker its own share.

Not to answer is itself a word (Kenthapadi, Mishra and Nissim, "Simulatable auditing", PODS 2005): were a set refused as it differs from
an earlier one by a person, and answered where it does not differ at all, the refusal would say that the person is there. So a set that on
the large atoms follows from earlier ones is refused in both cases, unless the question's form alone says that it follows exactly; and a
cell with no record is told like one with fewer than k.

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


@dataclass(frozen=True)
class _Algebra:
    """The sets of a universe over its atoms. large, small: (atoms, sets) 0 or 1. new: which sets are asked for now."""

    large: csr_array
    small: csr_array
    new: NDArray[np.bool_]

    def isolates(self) -> bool:
        """Whether a combination that vanishes on all large atoms does not on the small ones."""
        if not self.small.shape[0]:
            return False
        weights, vectors = self._spectrum(np.ones_like(self.new))
        unseen = vectors[:, weights <= _floor(weights)]
        return bool((np.abs(self.small @ unseen) > SEEN).any())

    def follow(self) -> int:
        """How many of the new sets follow from the others on the large atoms."""
        before, after = (self._spectrum(chosen)[0] for chosen in (~self.new, np.ones_like(self.new)))
        ranks = [int((weights > _floor(after)).sum()) for weights in (before, after)]
        return int(self.new.sum()) - (ranks[1] - ranks[0])

    def _spectrum(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        part = self.large[:, np.flatnonzero(chosen)]
        weights, vectors = np.linalg.eigh((part.T @ part).toarray())
        return weights, vectors


def _floor(weights: NDArray[np.float64]) -> float:
    return NULL * max(1.0, float(weights.max(initial=0.0)))


def _algebra(told: Sequence[Labels], asked: Labels, universe: NDArray[np.bool_], least: int) -> _Algebra:
    labelings = [labels[universe] for labels in (*told, asked)]
    atoms = np.zeros(int(universe.sum()), dtype=np.int64)
    for labels in labelings:
        atoms = np.unique(atoms * (int(labels.max(initial=OUTSIDE)) + 2) + labels + 1, return_inverse=True)[1].reshape(-1)
    _, first, counts = np.unique(atoms, return_index=True, return_counts=True)
    sets, owner = _sets([labels[first] for labels in labelings])
    small = counts < least
    return _Algebra(sets[np.flatnonzero(~small)], sets[np.flatnonzero(small)], owner == len(labelings) - 1)


def isolates(labelings: Sequence[Labels], universe: NDArray[np.bool_], least: int) -> bool:
    """Whether a linear combination of the sets' sums rests on 1 to least - 1 records of the universe, or on atoms that are all so small."""
    return bool(universe.any()) and _algebra(labelings[:-1], labelings[-1], universe, least).isolates()


def _sets(told: Sequence[Labels]) -> tuple[csr_array, Labels]:
    """(atoms, sets) 0 or 1: which atoms each set holds; and the number of the labels that each set comes from."""
    rows, columns, owners, at = [], [], [], 0
    for number, labels in enumerate(told):
        found, place = np.unique(labels[labels != OUTSIDE], return_inverse=True)
        rows.append(np.flatnonzero(labels != OUTSIDE))
        columns.append(at + place.reshape(-1))
        owners.append(np.full(found.size, number, dtype=np.int64))
        at += found.size
    if at > SETS_MAX:
        message = f"more than {SETS_MAX} sets of these records would be summed exactly"
        raise RefusedError("questions", message, "ask for fewer groups, or ask the owner for a privacy budget")
    where = (np.concatenate(rows), np.concatenate(columns))
    return csr_array((np.ones(where[0].size), where), shape=(told[0].size, at)), np.concatenate(owners)


def answerable(labels: Labels, cells: int, families: Sequence[Family], least: int, by_form: int) -> Labels:
    """The labels with OUTSIDE for every record of a cell that is left out, so that what is left isolates nothing in any family.

    cells: how many there are by declaration. by_form: how many of them follow from what was told by the question's form alone. It is
    answered whole if all cells have least records and no others follow; else cells are taken from the largest to the smallest, as long as
    none of them follows from what was told. Deterministic.
    """
    found, counts = np.unique(labels[labels != OUTSIDE], return_counts=True)
    order = [int(cell) for cell in found[np.lexsort((found, -counts))] if counts[np.searchsorted(found, cell)] >= least]
    there = [family for family in families if family.universe.any()]
    if len(order) == cells and all(_stands(labels, one, least, cells, by_form) for one in there):
        return labels

    def kept(chosen: Sequence[int]) -> Labels:
        return np.where(np.isin(labels, chosen), labels, OUTSIDE)

    def holds(chosen: Sequence[int]) -> bool:
        wanted = kept(chosen)
        return all(_stands(wanted, one, least, len(chosen)) for one in there)

    return kept(_taken(order, holds))


def _stands(wanted: Labels, family: Family, least: int, chosen: int, by_form: int = 0) -> bool:
    """Whether each of the chosen cells is there in the family, and may be told beside what was told."""
    algebra = _algebra(family.told, wanted, family.universe, least)
    return int(algebra.new.sum()) == chosen and algebra.follow() == by_form and not algebra.isolates()


def following(groups: Sequence[tuple[str, int]], told: Sequence[frozenset[str]]) -> int:
    """How many cells of a question follow by form from questions with the same condition that were told whole.

    groups: (name, size) of each group. told: names of the groups of each such question; none for a count of all. The sums over some groups
    span the products of (size - 1) of every set of those groups, so what is new are the sets that no earlier question has.
    """
    cells, new = 1, 0
    sets: list[tuple[frozenset[str], int]] = [(frozenset(), 1)]
    for name, size in groups:
        cells *= size
        sets += [(names | {name}, freedom * (size - 1)) for names, freedom in sets]
    for names, freedom in sets:
        if not any(names <= known for known in told):
            new += freedom
    return cells - new


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
