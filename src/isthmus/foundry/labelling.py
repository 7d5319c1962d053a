"""A ridge model that learns one label at a time, and says which label would teach it most.

The model is the closed form of `ridge`, over pictures whose features are standardised by all pictures at hand (no label is needed for
that), with a fixed penalty P instead of one that grows with the labels. With normal matrix A = Z^T W Z + P and b = A^-1 Z^T W y, one more
label (z, w, y) changes

    A^-1  by  - w v v^T / (1 + w q)         v = A^-1 z,  q = z^T v         (Sherman and Morrison 1950)
    b     by    w v (y - z^T b) / (1 + w q)

so an answer costs O(d^2), taking it back too, and what any label *would* change is known before it is given. The penalty is chosen among
PENALTIES by leave-one-out loss, from the same inverses.

Rules of choice, in RULES:

- `change`: expected change of the model (Settles, Craven and Ray 2008; for regression Cai, Zhang and Zhou 2013), measured where it
  matters: as the mean square change of the scores of all pictures. The expectation is over the predicted chances of both answers,
  (1 + s) / 2 for a defect at score s, so that E(y - s)^2 = 1 - s^2, widened by 1 + q for what the model does not know about s itself.
- `step`: the same with the root of the change and E|y - s|, not widened.
- `doubt`: the score nearest to zero (uncertainty sampling, Lewis and Gale 1994).
- `spread`: the label that lowers the mean variance of all scores most (V-optimal design, Atkinson and Donev 1992); looks at no label.

Each is multiplied by a factor of diversity, 1 - exp(-distance to the nearest labelled picture / usual distance between neighbours), so that
what is nearly a copy of a labelled picture is not asked. bench/label.py measures the rules against random order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
INTERCEPT_PENALTY = 0.01
SURE_WEIGHT, UNSURE_WEIGHT = 1.0, 0.5
REFRESH_EVERY = 64
NEIGHBOUR_ROWS = 512
SCALE_FLOOR = 1.0
LABELS_MIN = 4
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Given:
    """One label. y: -1 good, +1 defect. w: weight."""

    y: float
    w: float


class Solution:
    """The fit of one penalty: inverse (d + 1, d + 1) and coefficients (d + 1,), the intercept first."""

    def __init__(self, dimension: int, penalty: float) -> None:
        self.penalty = penalty
        self._prior = np.full(dimension + 1, penalty)
        self._prior[0] = INTERCEPT_PENALTY
        self.inverse: Floats = np.diag(1.0 / self._prior)
        self.coefficients: Floats = np.zeros(dimension + 1)

    def shift(self, z: Floats, y: float, w: float) -> None:
        """Adds a label of weight w, or takes it away when w is negative and it was there."""
        v = self.inverse @ z
        scale = w / (1.0 + w * float(z @ v))
        self.coefficients = self.coefficients + v * (scale * (y - float(z @ self.coefficients)))
        self.inverse = self.inverse - scale * np.multiply.outer(v, v)

    def solve(self, z: Floats, y: Floats, w: Floats) -> None:
        """Solves anew from all labels, which removes what rounding has added up."""
        normal = (z * w[:, None]).T @ z + np.diag(self._prior)
        self.inverse = np.asarray(np.linalg.inv(normal), dtype=np.float64)
        self.coefficients = np.asarray(np.linalg.solve(normal, z.T @ (w * y)), dtype=np.float64)


@dataclass(frozen=True)
class Choice:
    """What a rule sees, each (n,). s: scores. q: z^T v. moved: root mean square over all pictures z_j of z_j^T v."""

    s: Floats
    q: Floats
    moved: Floats


def _unsettled(c: Choice) -> Floats:
    """1 - s^2, never quite nothing."""
    return np.maximum(1.0 - c.s**2, 0.02)


RULES: dict[str, Callable[[Choice], Floats]] = {
    "change": lambda c: c.moved**2 * _unsettled(c) / (1.0 + c.q),
    "step": lambda c: c.moved * _unsettled(c) / (1.0 + c.q),
    "doubt": lambda c: 1.0 / (0.05 + np.abs(c.s)),
    "spread": lambda c: c.moved**2 / (1.0 + c.q),
}


class LabelModel:
    """All pictures of a folder, some of them labelled.

    features: (n, d), any scale. Not thread-safe.
    """

    def __init__(self, features: NDArray[np.int16] | Floats) -> None:
        rows = np.asarray(features, dtype=np.float64)
        self.size, dimension = rows.shape
        scale = np.maximum(rows.std(axis=0), SCALE_FLOOR)
        self.z: Floats = np.concatenate([np.ones((self.size, 1)), (rows - rows.mean(axis=0)) / scale], axis=1)
        self.given: dict[int, Given] = {}
        self._second = self.z.T @ self.z / max(1, self.size)
        self._solutions = [Solution(dimension, penalty) for penalty in PENALTIES]
        self._chosen = len(PENALTIES) - 1
        self._since = 0
        self._near = np.full(self.size, np.inf)
        self._usual = self._usual_distance()

    @property
    def solution(self) -> Solution:
        """The fit of the penalty with the least leave-one-out loss."""
        return self._solutions[self._chosen]

    @property
    def scores(self) -> Floats:
        """(n,) scores of all pictures; above zero means defect."""
        return np.asarray(self.z @ self.solution.coefficients)

    def learn(self, rows: list[int], labels: list[Given]) -> None:
        """Many labels at once, solved anew."""
        self.given.update(dict(zip(rows, labels, strict=True)))
        self._refresh()
        self._measure_near()
        self._choose()

    def add(self, row: int, label: Given) -> None:
        """One label; replaces the one that the picture has."""
        if row in self.given:
            self.remove(row)
        self.given[row] = label
        self._shift(row, label.y, label.w)
        self._near = np.minimum(self._near, self._distances(row))

    def remove(self, row: int) -> None:
        """Takes a picture's label back. KeyError when it has none."""
        label = self.given.pop(row)
        self._shift(row, label.y, -label.w)
        self._measure_near()

    def _shift(self, row: int, y: float, w: float) -> None:
        self._since += 1
        if self._since >= REFRESH_EVERY:
            self._refresh()
        else:
            for solution in self._solutions:
                solution.shift(self.z[row], y, w)
        self._choose()

    def _labels(self) -> tuple[NDArray[np.int64], Floats, Floats]:
        rows = np.array(list(self.given), dtype=np.int64)
        y, w = (np.array([getattr(label, name) for label in self.given.values()], dtype=np.float64) for name in ("y", "w"))
        return rows, y, w

    def _refresh(self) -> None:
        rows, y, w = self._labels()
        for solution in self._solutions:
            solution.solve(self.z[rows], y, w)
        self._since = 0

    def _choose(self) -> None:
        """Least leave-one-out loss; ties to the larger penalty. The largest while there are fewer than LABELS_MIN labels."""
        rows, y, w = self._labels()
        if len(rows) < LABELS_MIN:
            self._chosen = len(PENALTIES) - 1
            return
        z, losses = self.z[rows], []
        for solution in self._solutions:
            leverage = w * np.einsum("ij,ij->i", z @ solution.inverse, z)
            errors = (y - z @ solution.coefficients) / np.maximum(1.0 - leverage, 1e-9)
            losses.append(float(w @ errors**2))
        self._chosen = min(range(len(losses)), key=lambda i: (losses[i], -PENALTIES[i]))

    def fold_out(self, groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
        """(labelled rows, their scores by the fit that never saw their group). groups: (n,) over all pictures.

        The block form of the leave-one-out identity (Cook and Weisberg 1982, section 2.2); see kit.hatmatrix, whose short cut for an
        intercept without penalty does not hold here.
        """
        rows, y, w = self._labels()
        scores = np.zeros(len(rows))
        codes = groups[rows]
        found = np.unique(codes)
        if len(found) == len(codes):
            z = self.z[rows]
            leverage = w * np.einsum("ij,ij->i", z @ self.solution.inverse, z)
            return rows, np.asarray(y - (y - z @ self.solution.coefficients) / (1.0 - leverage))
        for code in found:
            mine = codes == code
            scores[mine] = self._without(self.z[rows[mine]], y[mine], w[mine])
        return rows, scores

    def _without(self, z: Floats, y: Floats, w: Floats) -> Floats:
        found = self.solution
        if len(z) > z.shape[1]:
            normal = np.linalg.inv(found.inverse)
            rest = np.linalg.solve(normal - (z * w[:, None]).T @ z, normal @ found.coefficients - z.T @ (w * y))
            return np.asarray(z @ rest)
        root = np.sqrt(w)
        scaled = z * root[:, None]
        kept = np.eye(len(z)) - scaled @ found.inverse @ scaled.T
        return np.asarray(y - np.linalg.solve(kept, root * (y - z @ found.coefficients)) / root)

    def _distances(self, row: int) -> Floats:
        return np.asarray(((self.z - self.z[row]) ** 2).sum(axis=1))

    def _measure_near(self) -> None:
        self._near = np.full(self.size, np.inf)
        for row in self.given:
            self._near = np.minimum(self._near, self._distances(row))

    def _usual_distance(self) -> float:
        """Median distance between nearest neighbours, squared, over at most NEIGHBOUR_ROWS pictures."""
        rows = self.z[:: max(1, self.size // NEIGHBOUR_ROWS)]
        squares = (rows**2).sum(axis=1)
        between = squares[:, None] + squares[None, :] - 2.0 * rows @ rows.T
        np.fill_diagonal(between, np.inf)
        nearest = between.min(axis=1)
        return max(float(np.median(nearest[np.isfinite(nearest)])) if len(rows) > 1 else 1.0, 1e-9)

    def worth(self, rule: str) -> Floats:
        """(n,) how much a label of each picture would be worth by a rule of RULES."""
        v = self.z @ self.solution.inverse
        moved = np.sqrt(np.maximum(np.einsum("ij,ij->i", v @ self._second, v), 0.0))
        worth = RULES[rule](Choice(self.scores, np.einsum("ij,ij->i", v, self.z), moved))
        return np.asarray(worth * -np.expm1(-np.maximum(self._near, 0.0) / self._usual))

    def best(self, open_rows: Flags, rule: str) -> int | None:
        """The unlabelled row among `open_rows`, (n,), that is worth most; ties to the lowest. None when there is none."""
        free = open_rows.copy()
        free[list(self.given)] = False
        if not bool(free.any()):
            return None
        return int(np.argmax(np.where(free, self.worth(rule), -np.inf)))
