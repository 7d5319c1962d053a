"""Closed-form ridge heads from exact integer moments.

The fit minimises sum w (y - b0 - b.z)^2 + lam * sum_w * |b|^2 over standardised features z = (q - mean) / scale, with the
intercept unpenalised and y in {-1, +1}. Centring happens in integers of unlimited size, so nothing cancels: each centred
entry W * G_ij - s_i * s_j is exact before it becomes a double.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Array, Head, Link, Stage
from isthmus.contracts.sums import FEATURE_MAX, Moments
from isthmus.kit.decoders import decoder_named

LAMBDAS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
SCALE_FLOOR = 1.0
SCORE_BITS = 52
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Standard:
    """Standardised moments: mean, scale (d,); correlation (d, d) = Z^T W Z / W; target (d,) = Z^T W (y - ybar) / W."""

    sum_w: float
    target_mean: float
    mean: Floats
    scale: Floats
    correlation: Floats
    target: Floats


@dataclass(frozen=True)
class Candidate:
    """One ridge fit. Rows of its design are (1, (q - mean) / scale): the intercept comes first.

    inverse: (d + 1, d + 1), of Z^T W Z + penalty. coefficients: (d + 1,). link: what makes a score of them; see contracts.head.Head.
    """

    link: ClassVar[Link] = "linear"

    lam: float
    mean: Floats
    scale: Floats
    inverse: Floats
    coefficients: Floats

    def raw(self) -> Floats:
        """(d + 1,): bias and coefficients on raw q."""
        slopes = self.coefficients[1:] / self.scale
        return np.concatenate([[self.coefficients[0] - slopes @ self.mean], slopes])


def _quotient(numerators: NDArray[np.object_], denominator: int) -> Floats:
    """Exact integers divided to the nearest double."""
    flat = [int(v) / denominator for v in numerators.reshape(-1)]
    return np.array(flat, dtype=np.float64).reshape(numerators.shape)


def standard(moments: Moments) -> Standard:
    """Weighted standardisation from raw moments. Scales below SCALE_FLOOR (one quantisation step) become SCALE_FLOOR.

    Raises InputError when there is no weight, or only one class.
    """
    weight = moments.sum_w
    if weight <= 0 or moments.records <= 0:
        raise InputError("there is nothing to fit on: the sums hold no record", "check the owners' folders and the split")
    if abs(moments.sum_wy) >= weight * moments.span:
        if moments.span > 1:
            raise InputError("all records end at one end of the target's range", "declare the range that values are expected in")
        raise InputError("all records are of one class, so no model can be fitted", "give examples of good and of defect")
    sums = moments.sum_wx.astype(object)
    centred = moments.gram.astype(object) * weight - np.multiply.outer(sums, sums)
    against = moments.sum_wyx.astype(object) * weight - sums * moments.sum_wy
    covariance = _quotient(centred, weight * weight)
    if bool((np.diag(covariance) < 0).any()):
        raise InputError("the sums belong to no records: a variance is negative", "run the job again; a share was damaged")
    scale = np.maximum(np.sqrt(np.diag(covariance)), SCALE_FLOOR)
    return Standard(
        sum_w=float(weight),
        target_mean=moments.sum_wy / weight,
        mean=_quotient(sums, weight),
        scale=scale,
        correlation=covariance / np.outer(scale, scale),
        target=_quotient(against, weight * weight) / scale,
    )


def fit(moments: Standard, lam: float) -> Candidate:
    """The ridge fit with penalty lam * sum_w on standardised features. Raises InputError when lam is not positive enough."""
    d = moments.mean.shape[0]
    try:
        factor = cho_factor(moments.correlation + lam * np.eye(d), lower=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise InputError(f"the sums cannot be solved at lambda {lam}", "use a larger lambda or give more records") from error
    inverse = np.zeros((d + 1, d + 1))
    inverse[0, 0] = 1.0 / moments.sum_w
    solved = cho_solve(factor, np.eye(d))
    inverse[1:, 1:] = (solved + solved.T) / (2.0 * moments.sum_w)
    coefficients = np.concatenate([[moments.target_mean], cho_solve(factor, moments.target)])
    return Candidate(float(lam), moments.mean, moments.scale, inverse, coefficients)


def candidates(moments: Moments, lambdas: Sequence[float] = LAMBDAS) -> list[Candidate]:
    """One fit for each lambda, in the order given. Raises InputError; see `standard` and `fit`."""
    if not lambdas or any(not lam > 0 for lam in lambdas):
        raise InputError(f"the penalties {list(lambdas)} cannot be used", "give positive numbers")
    shared = standard(moments)
    return [fit(shared, lam) for lam in lambdas]


def snapped(values: Floats, largest: float) -> Floats:
    """Rounds to a power-of-two grid so fine that sums up to `largest` in magnitude are exact in doubles, in any order."""
    step = 2.0 ** (int(np.frexp(max(largest, 1e-300))[1]) - SCORE_BITS)
    return np.asarray(np.round(values / step) * step)


def head_from(candidate: Candidate, stage: Stage, lo: float, hi: float) -> Head:
    """Folds the standardisation into coefficients on raw q.

    Coefficients and bias are snapped to a grid (relative change about 1e-10 of the largest) on which every score is an exact
    sum: batch size, thread count and processor cannot change it. Raises InputError when dimension or thresholds do not fit.
    """
    if stage.dimension != candidate.mean.shape[0]:
        raise InputError(f"the fit has {candidate.mean.shape[0]} features, the stage {stage.dimension}", "fit on this stage's sums")
    if not (np.isfinite([lo, hi]).all() and lo <= hi):
        raise InputError(f"the thresholds {lo} and {hi} cannot be used", "give finite numbers, the lower first")
    slopes = candidate.coefficients[1:] / candidate.scale
    most = float(np.abs(slopes).sum()) * FEATURE_MAX * 2.0 + abs(float(candidate.coefficients[0]))
    slopes = snapped(slopes, most)
    bias = snapped(np.array(candidate.coefficients[0] - float(slopes @ candidate.mean)), most)  # takes up what snapping shifted
    decoder, link = decoder_named(stage.schema), candidate.link
    return Head(stage=stage, coefficients=Array.of(slopes), bias=float(bias), lo=float(lo), hi=float(hi), decoder=decoder, link=link)
