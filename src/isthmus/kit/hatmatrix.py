"""Leave-one-group-out predictions of a ridge fit, from its inverse normal matrix and coefficients alone; exact where the matrix is.

For a weighted ridge fit with normal matrix A = Z^T W Z + P (P: the penalty) and coefficients b = A^-1 Z^T W y, leaving
the rows B out and keeping P gives residuals

    sqrt(W_B) e_out = (I - H_BB)^-1 sqrt(W_B) (y_B - Z_B b),    H_BB = sqrt(W_B) Z_B A^-1 Z_B^T sqrt(W_B)

(the block form of the PRESS identity; Allen 1974; Cook and Weisberg 1982, section 2.2). No second fit is needed. Who fits on its own rows
has A^-1; who stands in a roster does not, and estimates it (`scaled_inverse`). P and the columns' scaling stay those of the total.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError

WEIGHT_LEFT_MIN = 1e-9
HALVINGS = 50
_NOTHING_LEFT = ("leaving one group out leaves nothing to fit on", "give records of at least two groups")
Floats = NDArray[np.float64]


def design(q: NDArray[Any], mean: Floats, scale: Floats) -> Floats:
    """Rows (1, (q - mean) / scale): (n, d) features -> (n, d + 1), the intercept's column first."""
    rows = np.empty((q.shape[0], q.shape[1] + 1))
    rows[:, 0] = 1.0
    rows[:, 1:] = (q.astype(np.float64) - mean) / scale
    return rows


def _scores_without(z: Floats, w: Floats, y: Floats, inverse: Floats, normal: Floats, coefficients: Floats) -> Floats:
    """Predictions for the rows z by the fit that never saw them. normal: of which `inverse` is the inverse."""
    if float(w.sum()) * float(inverse[0, 0]) > 1.0 - WEIGHT_LEFT_MIN:  # inverse[0, 0] is one over the total weight
        raise np.linalg.LinAlgError("no weight is left")
    root = np.sqrt(w)
    scaled = z * root[:, None]
    if z.shape[0] <= z.shape[1]:
        kept = np.eye(z.shape[0]) - scaled @ inverse @ scaled.T
        errors = np.linalg.solve(kept, root * (y - z @ coefficients))
        return np.asarray(y - errors / root)
    without = np.linalg.solve(normal - scaled.T @ scaled, normal @ coefficients - scaled.T @ (root * y))
    return np.asarray(z @ without)


def scaled_inverse(z: Floats, w: NDArray[Any], penalty: float, total_weight: float) -> Floats:
    """(d + 1, d + 1) inverse normal matrix of a fit of which only these rows, and the total weight, are known.

    z: (n, d + 1), centred, the intercept first. penalty: per unit of weight, on all but the intercept. The other rows' products are between
    nothing (they vary along none of these directions) and these rows' own, scaled up to the total weight (they are just like them); what is
    taken is the geometric mean of both ends, own products times sqrt(total / own weight). Exact when the rows are all there is.
    """
    weights = np.asarray(w, dtype=np.float64)
    return scaled_products((z * weights[:, None]).T @ z, float(weights.sum()), penalty, total_weight)


def scaled_products(products: Floats, own_weight: float, penalty: float, total_weight: float) -> Floats:
    """`scaled_inverse` where z^T W z is known already: (d + 1, d + 1), the intercept first. own_weight: of the rows behind it."""
    normal = products * np.sqrt(total_weight / own_weight)
    normal[1:, 1:] += penalty * total_weight * np.eye(len(products) - 1)
    normal[0, 0] = total_weight
    return np.asarray(np.linalg.inv(normal))


def matched_inverse(z: Floats, w: NDArray[Any], penalty: float, total_weight: float, freedom: float) -> Floats:
    """As `scaled_inverse`, where the fit's effective number of parameters is known too: the sum of all rows' leverages.

    penalty: of all rows, on each but the intercept. freedom: that number, the intercept's one included. Own products are scaled up so far,
    between once and as much as the weight, that the own rows' leverages sum to their share of it; so over all owners they sum to it. Where
    owners have few rows for each feature this is much nearer than the geometric mean, and one number tells next to nothing.
    """
    weights = np.asarray(w, dtype=np.float64)
    return matched_products((z[:, 1:] * weights[:, None]).T @ z[:, 1:], float(weights.sum()), penalty, total_weight, freedom)


def matched_products(products: Floats, own_weight: float, penalty: float, total_weight: float, freedom: float) -> Floats:
    """`matched_inverse` where z^T W z without the intercept is known already: (d, d). own_weight: of the rows behind it."""
    share = own_weight / total_weight
    values, vectors = np.linalg.eigh(products)
    values, wanted = np.maximum(values, 0.0), share * max(freedom - 1.0, 0.0)
    low, high = 1.0, 1.0 / share
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if float((values / (middle * values + penalty)).sum()) > wanted else (low, middle)
    inverse = np.zeros((len(products) + 1, len(products) + 1))
    inverse[0, 0] = 1.0 / total_weight
    inverse[1:, 1:] = (vectors / (high * values + penalty)) @ vectors.T
    return inverse


class WithoutGroup:
    """The fit without one group of any number of rows, given in pieces. Raises InputError when nothing is left to fit on."""

    def __init__(self, inverse: Floats, coefficients: Floats) -> None:
        self._room = (1.0 - WEIGHT_LEFT_MIN) / float(inverse[0, 0])
        self._normal = np.linalg.inv(inverse)
        self._target = self._normal @ coefficients

    def subtract(self, z: Floats, w: Floats, y: Floats) -> None:
        """A piece of the group: rows of `design`, weights, targets."""
        weighted = z * w[:, None]
        self._normal = self._normal - weighted.T @ z
        self._target = self._target - weighted.T @ y
        self._room -= float(w.sum())

    def solved(self) -> Floats:
        """(d + 1,) coefficients, intercept first."""
        try:
            if self._room < 0:
                raise np.linalg.LinAlgError("no weight is left")
            found = np.linalg.solve(self._normal, self._target)
        except np.linalg.LinAlgError as error:
            raise InputError(*_NOTHING_LEFT) from error
        if not bool(np.isfinite(found).all()):
            raise InputError(*_NOTHING_LEFT)
        return np.asarray(found)


def leave_group_out(z: Floats, w: NDArray[Any], y: NDArray[Any], groups: NDArray[Any], inverse: Floats, coefficients: Floats) -> Floats:
    """Fold-out scores (n,): each row's score by the fit without its whole group.

    z: (n, d + 1) rows of `design`. w: (n,) weights > 0. y: (n,) targets in {-1, +1}. groups: (n,) labels of any type; all
    views of a record must share one. inverse: (d + 1, d + 1) and coefficients: (d + 1,) of the total fit, intercept
    first. Raises InputError when a group cannot be left out because the rest is empty.
    """
    weights, targets = np.asarray(w, dtype=np.float64), np.asarray(y, dtype=np.float64)
    result = np.empty(z.shape[0])
    order = np.argsort(np.unique(groups, return_inverse=True)[1].reshape(-1), kind="stable")
    _, starts = np.unique(np.asarray(groups)[order], return_index=True)
    normal: Floats = np.asarray(np.linalg.inv(inverse), dtype=np.float64)
    for rows in np.split(order, np.sort(starts)[1:]):
        try:
            scores = _scores_without(z[rows], weights[rows], targets[rows], inverse, normal, coefficients)
        except np.linalg.LinAlgError as error:
            raise InputError(*_NOTHING_LEFT) from error
        if not bool(np.isfinite(scores).all()):
            raise InputError(*_NOTHING_LEFT)
        result[rows] = scores
    return result
