"""Distances from a Gaussian, whole numbers until the last step, so that batch size, threads and processor cannot change them.

A place's features q are whitened, y = round(M q - c), in units of 1 / UNIT of a standard deviation; M and c lie on a grid on which the sum
is exact in doubles in any order. The squares of y add up to whole numbers below 2^53. A record's score is that of the mean square over
its farthest places, through divisions, which IEEE 754 rounds one way only: r = mean / d is 1 for a typical place, and
2 (r - PIVOT) / (r + PIVOT) lies between -2 and 2 and rises with it. Places may lie in zones, each with a Gaussian of its own.

Sources: Mahalanobis (1936). For defects, over patches of a frozen network: Rippel, Mertens and Merhof, "Modeling the distribution of normal
data in pre-trained deep features for anomaly detection" (ICPR 2021); Defard, Setkov, Loesch and Audigier, "PaDiM" (ICPR 2021 workshops).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, solve_triangular

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import FEATURE_MAX, GoodMoments

UNIT = 512
WHITE_MAX = float(1 << 23)
"""Beyond 16,384 standard deviations all is alike."""
SQUARE_MAX = float(1 << 44)
DIMENSION_MAX, TOP_MAX = 128, 256
PIVOT = 4.0
SCALE_FLOOR = 1.0
GRID_BITS = 52
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Whitening:
    """matrix: (zones, d, d); centre: (zones, d), as the module says. log_determinant: (zones,) of the shrunk covariance of q. shrinkage:
    towards the uncorrelated."""

    matrix: Floats
    centre: Floats
    log_determinant: Floats
    shrinkage: float


@dataclass(frozen=True)
class Spread:
    """mean: (zones, d) and covariance: (zones, d, d) of raw q."""

    mean: Floats
    covariance: Floats


def zone_of(positions: int, zones: int) -> NDArray[np.int64]:
    """(positions,) zone of each place: of a square grid, its ring, counted from the edge inwards; the last holds all that is left."""
    side = math.isqrt(positions)
    if zones == 1:
        return np.zeros(positions, dtype=np.int64)
    rows, columns = np.divmod(np.arange(positions), side)
    inside = np.minimum(np.minimum(rows, columns), side - 1 - np.maximum(rows, columns))
    return np.asarray(np.minimum(inside, zones - 1), dtype=np.int64)


def _quotient(numerators: NDArray[np.object_], denominator: int) -> Floats:
    """Exact integers divided to the nearest double."""
    return np.array([int(v) / denominator for v in numerators.reshape(-1)], dtype=np.float64).reshape(numerators.shape)


def spread_of(sums: GoodMoments) -> Spread:
    """Mean and covariance, centred in integers of unlimited size. Raises InputError for sums of no records."""
    if min(int(w) for w in sums.weight) <= 0 or sums.records <= 0:
        raise InputError("there is nothing to fit on: the sums hold no good record", "check the owners' folders and labels")
    means, covariances = [], []
    for weight, first, gram in zip((int(w) for w in sums.weight), sums.sum_x.astype(object), sums.gram.astype(object), strict=True):
        means.append(_quotient(first, weight))
        covariances.append(_quotient(gram * weight - np.multiply.outer(first, first), weight * weight))
    found = Spread(np.stack(means), np.stack(covariances))
    if bool((np.diagonal(found.covariance, axis1=1, axis2=2) < 0).any()):
        raise InputError("the sums belong to no records: a variance is negative", "run the job again; a share was damaged")
    return found


def whitening(spread: Spread, shrinkage: float) -> Whitening:
    """Of the covariance with its correlations multiplied by 1 - shrinkage, zone by zone.

    A feature that hardly varies counts as varying by SCALE_FLOOR. With a shrinkage above 0 it exists for any sums, also of fewer records
    than features. Raises InputError.
    """
    d = spread.mean.shape[1]
    if not 0 < shrinkage <= 1 or d > DIMENSION_MAX:
        raise InputError(
            f"a Gaussian of {d} features with a shrinkage of {shrinkage:g} cannot be fitted",
            f"use at most {DIMENSION_MAX} features and a shrinkage above 0, at most 1",
        )
    zones = [_whitened(mean, covariance, shrinkage) for mean, covariance in zip(spread.mean, spread.covariance, strict=True)]
    matrix, centre, determinant = (np.stack(part) for part in zip(*zones, strict=True))
    return Whitening(matrix, centre, determinant, shrinkage)


def _whitened(mean: Floats, covariance: Floats, shrinkage: float) -> tuple[Floats, Floats, Floats]:
    d = mean.shape[0]
    scale = np.maximum(np.sqrt(np.maximum(np.diag(covariance), 0.0)), SCALE_FLOOR)
    shrunk = (1.0 - shrinkage) * covariance / np.outer(scale, scale)
    np.fill_diagonal(shrunk, 1.0)
    try:
        lower = np.tril(cho_factor(shrunk, lower=True)[0])
    except (np.linalg.LinAlgError, ValueError) as error:
        raise InputError(f"the sums cannot be solved with a shrinkage of {shrinkage:g}", "use a larger one, or more records") from error
    raw = UNIT * solve_triangular(lower, np.eye(d), lower=True) / scale
    most = float((np.abs(raw).sum(axis=1) * FEATURE_MAX + np.abs(raw @ mean)).max())
    step = 2.0 ** (int(np.frexp(max(most, 1e-300))[1]) + 1 - GRID_BITS)
    matrix = np.round(raw / step) * step
    determinant = 2.0 * (np.log(np.diag(lower)).sum() + np.log(scale).sum())
    return matrix, np.round((matrix @ mean) / step) * step, np.asarray(determinant)


def squared_distances(q: NDArray[Any], matrix: Floats, centre: Floats) -> Floats:
    """(n, positions, d) whole features -> (n, positions) squared distances, whole numbers in units of 1 / UNIT^2.

    matrix: (zones, d, d); centre: (zones, d).
    """
    result = np.zeros(q.shape[:2])
    zone = zone_of(q.shape[1], matrix.shape[0])
    for index in range(matrix.shape[0]):
        places = zone == index
        white = np.clip(np.round(q[:, places].astype(np.float64) @ matrix[index].T - centre[index]), -WHITE_MAX, WHITE_MAX)
        result[:, places] = np.minimum((white * white).sum(axis=-1), SQUARE_MAX)
    return result


def distances(squares: Floats, dimension: int) -> Floats:
    """Squared distances -> distances of places, about 1 for a typical one, as float32 holds them; the heat map."""
    return np.asarray(np.sqrt(squares / (dimension * UNIT * UNIT)).astype(np.float32))


def scores(squares: Floats, top: int, dimension: int) -> Floats:
    """(n, positions) squared distances -> (n,) scores, rounded to float32 as an artefact publishes them."""
    farthest = -np.partition(-squares, top - 1, axis=1)[:, :top]
    r = farthest.sum(axis=1) / (top * dimension * UNIT * UNIT)
    return np.asarray(((r - PIVOT) * 2.0 / (r + PIVOT)).astype(np.float32).astype(np.float64))


def distance_ratio(score: float) -> float:
    """Inverse of the last step of `scores`: how many times as far, in squares, as a typical place; infinity at the end of the range."""
    return PIVOT * (2.0 + score) / (2.0 - score) if score < 2.0 else math.inf


def likelihood_loss(squares: Floats, fitted: Whitening) -> Floats:
    """(n, positions) squared distances -> (n,) mean negative log-likelihood a place, without its constant."""
    known = fitted.log_determinant[zone_of(squares.shape[1], fitted.log_determinant.shape[0])].mean()
    return np.asarray(0.5 * (squares.mean(axis=1) / (UNIT * UNIT) + known))


def without(total: GoodMoments, part: GoodMoments) -> GoodMoments:
    """The sums of the others, exactly."""
    return GoodMoments(
        total.records - part.records,
        total.groups - part.groups,
        total.weight - part.weight,
        total.sum_x - part.sum_x,
        total.gram - part.gram,
    )
