"""Why trees gave a record its score: exact Shapley values of its features against a reference record.

A leaf is reached where all that is asked on its path holds. With some features taken from the record and the others from the reference, it
is reached just when each asked feature comes from the one that satisfies it; so a leaf's share falls to the features on which record and
reference differ, by a closed form (Lundberg et al., "From local explanations to global understanding", 2020: interventional values with
one background record). Summed over leaves and trees they are score(record) - score(reference), exactly but for rounding in doubles.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Forest
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.kit.treewalk import checked_forest, share_of

Floats = NDArray[np.float64]
Bounds = dict[int, tuple[int, int]]
LOWEST, HIGHEST = -FEATURE_MAX - 1, FEATURE_MAX + 2


@dataclass(frozen=True)
class Leaf:
    """One path. bounds: feature -> (least, end): the record's value must be at least the one and below the other."""

    value: float
    bounds: Bounds


def leaves_of(forest: Forest, features: int) -> list[Leaf]:
    """Every path of every tree, with what it adds to a score."""
    found: list[Leaf] = []
    for nodes in checked_forest(forest, features):
        waiting: list[tuple[int, Bounds]] = [(0, {})]
        while waiting:
            node, bounds = waiting.pop()
            asked, edge, left = int(nodes.feature[node]), int(nodes.edge[node]), int(nodes.left[node])
            if asked < 0:
                found.append(Leaf(float(nodes.value[node]) * share_of(forest), bounds))
                continue
            least, end = bounds.get(asked, (LOWEST, HIGHEST))
            waiting.append((left, {**bounds, asked: (least, min(end, edge))}))
            waiting.append((left + 1, {**bounds, asked: (max(least, edge), end)}))
    return found


def tree_attributions(forest: Forest, q: NDArray[Any], reference: Floats) -> Floats:
    """(n, d) each feature's part of score(record) - score(reference). q: (n, d). reference: (d,) need not be whole numbers."""
    result = np.zeros((q.shape[0], q.shape[1]))
    for leaf in leaves_of(forest, q.shape[1]):
        asked = list(leaf.bounds)
        if not asked:
            continue
        low, end = (np.array([leaf.bounds[f][side] for f in asked]) for side in range(2))
        here = (q[:, asked] >= low) & (q[:, asked] < end)
        there = (reference[asked] >= low) & (reference[asked] < end)
        ours, theirs = here & ~there, ~here & there
        possible = (here | there).all(axis=1)
        a, b = ours.sum(axis=1), theirs.sum(axis=1)
        # a: features that must come from the record, b: from the reference. a's share: (a-1)! b! / (a+b)!, b's: -a! (b-1)! / (a+b)!
        gain = np.array([[1.0 / (i * comb(i + j, i)) if i else 0.0 for j in range(len(asked) + 1)] for i in range(len(asked) + 1)])
        for place, f in enumerate(asked):
            part = np.where(ours[:, place], gain[a, b], 0.0) - np.where(theirs[:, place], gain[b, a], 0.0)
            result[:, f] += np.where(possible, leaf.value * part, 0.0)
    return result
