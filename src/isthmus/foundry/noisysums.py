"""A ridge head from sums with noise on them: what is known of the noise decides how far they are believed.

Noise makes a matrix of second moments neither positive nor its variances true. Variances below what noise alone could make are lifted to
that, directions that come out negative are taken as empty, and the penalty grows by the noise's own spread over all directions: a
symmetric matrix of independent noise of deviation s has eigenvalues up to about 2 s sqrt(d) (Wigner), and sufficient statistics are
regularised by that order (Wang, "Revisiting differentially private linear regression", UAI 2018). All of it follows from the noise's public
deviations, so it costs nothing, and nothing is tuned on data.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import SCORE_BINS, Ints, Moments
from isthmus.foundry.ridge import SCALE_FLOOR, Candidate, Standard, fit

VARIANCE_NOISES = 4.0
"""A variance counts as at least so many deviations of its noise."""
Floats = NDArray[np.float64]


def believed(moments: Moments, records: int, groups: int, sum_w: int) -> Moments:
    """Noisy moments with the counts that are public, and labels that could be: at least one in a thousand of each class."""
    edge = max(1, sum_w - max(1, sum_w // 500))
    labels = int(np.clip(moments.sum_wy, -edge, edge))
    return replace(moments, records=records, groups=groups, sum_w=sum_w, sum_wy=labels)


def noisy_fit(moments: Moments, gram_deviation: float, penalty: float) -> Candidate:
    """The fit of noisy moments. gram_deviation: of the noise on each entry of the Gram matrix, of all shares together. penalty: as it would
    be without noise, per unit of weight; `Candidate.lam` is what it came to. Raises InputError."""
    if moments.sum_w <= 0:
        raise InputError("there is nothing to fit on: the sums hold no record", "check the owners' folders and the split")
    weight = float(moments.sum_w)
    mean, against = moments.sum_wx / weight, moments.sum_wyx / weight
    labels = moments.sum_wy / weight
    covariance = moments.gram / weight - np.outer(mean, mean)
    noise = gram_deviation / weight
    scale = np.sqrt(np.maximum(np.diag(covariance), max(VARIANCE_NOISES * noise, SCALE_FLOOR**2)))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    correlation = (vectors * np.maximum(values, 0.0)) @ vectors.T
    spread = noise / float(np.mean(scale**2)) * np.sqrt(moments.dimension)
    found = Standard(weight, labels, mean, scale, (correlation + correlation.T) / 2.0, (against - mean * labels) / scale)
    return fit(found, penalty + spread)


def believed_scores(histogram: Ints) -> Floats:
    """(2, SCORE_BINS) counts from a noisy (2, bins) histogram: none below zero, bins spread evenly, classes' totals as they came out.

    Cutting off what is negative leaves too much in all; what is too much is taken off alike.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    kept = np.maximum(counts, 0.0)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    kept = np.where(kept.sum(axis=1, keepdims=True) > 0, kept, 1.0)
    for _ in range(64):
        over = np.maximum(kept.sum(axis=1, keepdims=True) - totals, 0.0)
        kept = np.maximum(kept - over / np.maximum((kept > 0).sum(axis=1, keepdims=True), 1), 0.0)
    times = SCORE_BINS // counts.shape[1]
    return np.asarray(np.repeat(np.maximum(kept, 1e-9), times, axis=1) / times)
