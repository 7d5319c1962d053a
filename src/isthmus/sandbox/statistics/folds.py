"""Leaving each group out of a fit, part by part: what foldout/2 and clusters/2 score with, for ridge and logistic candidates alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.kit.hatmatrix import Floats, WithoutGroup, design, leave_group_out
from isthmus.sandbox.statistics.records import GroupBlock, Ints, Training

Weighing = Callable[[NDArray[Any], Ints, Ints], tuple[Floats, Floats]]


def plain(q: NDArray[Any], y: Ints, w: Ints) -> tuple[Floats, Floats]:
    """A ridge fit's rows: weights and labels as they are."""
    return w.astype(np.float64), y.astype(np.float64)


@dataclass(frozen=True)
class Fold:
    """A fit that each group can be left out of; see kit.hatmatrix. mean, scale: (d,) of the design. inverse, coefficients: of the total
    fit. weighing: (features, labels, weights) of rows -> their weights and targets in the fit."""

    mean: Floats
    scale: Floats
    inverse: Floats
    coefficients: Floats
    weighing: Weighing = plain

    def left_out(self, part: tuple[GroupBlock, ...]) -> list[Floats]:
        """Of each block of a part: (n,) scores of the identity view, by the fit that saw no view of any record of the group."""
        try:
            if len(part) > 1:
                return self._large(part)
            z, w, y, groups = self._rows(part[0])
            found = leave_group_out(z, w, y, groups, self.inverse, self.coefficients)
        except InputError as error:
            raise RefusedError("records", error.message, error.next_step) from error
        return [found[: part[0].training.size]]

    def gathered(self, training: Training) -> Floats:
        """(n,) scores of all records, in order."""
        result = np.empty(training.size)
        for part in training.parts():
            for block, scores in zip(part, self.left_out(part), strict=True):
                result[block.places] = scores
        return result

    def _rows(self, block: GroupBlock) -> tuple[Floats, Floats, Floats, Ints]:
        q, y, w, groups = block.training.stacked()
        weights, targets = self.weighing(q, y, w)
        return design(q, self.mean, self.scale), weights, targets, groups

    def _large(self, part: tuple[GroupBlock, ...]) -> list[Floats]:
        """A group that is walked twice: once for its sums, once for its scores."""
        rest = WithoutGroup(self.inverse, self.coefficients)
        for block in part:
            z, w, y, _ = self._rows(block)
            rest.subtract(z, w, y)
        without = rest.solved()
        return [(design(block.training.views[0], self.mean, self.scale) @ without) for block in part]


def each_left_out(training: Training, folds: list[Fold]) -> Iterator[tuple[GroupBlock, list[Floats]]]:
    """Blocks of records, each with its scores by every fold."""
    for part in training.parts():
        found = [fold.left_out(part) for fold in folds]
        for place, block in enumerate(part):
            yield block, [scores[place] for scores in found]
