"""gaussian/1 and its rounds: what good records look like, and how far each record is from that.

A record adds the sums of its positions (patches of a picture, or the record itself). The roster's total comes back for the second round:
a Gaussian head is its mean and covariance, so whoever rebuilds it knows them. From the total a group's own sums are subtracted exactly,
so that no record is judged by a Gaussian that saw a record of its group.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.head import Array, Gaussian, Stage
from isthmus.contracts.statistic import GaussianClustersParams, GaussianFoldOutParams
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, FoldOut, GoodMoments, GroupSums, good_moments_from
from isthmus.kit.mahalanobis import (
    DIMENSION_MAX,
    TOP_MAX,
    Spread,
    Whitening,
    likelihood_loss,
    scores,
    spread_of,
    squared_distances,
    whitening,
    without,
    zone_of,
)
from isthmus.sandbox.statistics.foldout import group_sums, score_histogram, verdicts
from isthmus.sandbox.statistics.moments import exact_gram
from isthmus.sandbox.statistics.records import Ints, TrainingRecords

LOSS_MAX = 65536.0
Floats = NDArray[np.float64]


def places(q: NDArray[np.int16], positions: int) -> NDArray[np.int16]:
    """(n, positions * d) rows of a stage -> (n, positions, d)."""
    return q.reshape(q.shape[0], positions, -1)


def good_moments(training: TrainingRecords, stage: Stage, chosen: NDArray[np.bool_] | None = None) -> GoodMoments:
    """Sums over all positions and views of records labelled good. chosen: (n,) which of them; default all."""
    good = training.records.y < 0 if chosen is None else chosen & (training.records.y < 0)
    d, zone = stage.dimension, zone_of(stage.positions, stage.zones)
    weight, sum_x = np.zeros(stage.zones, dtype=np.int64), np.zeros((stage.zones, d), dtype=np.int64)
    gram = np.zeros((stage.zones, d, d), dtype=np.int64)
    for index in range(stage.zones):
        inside = zone == index
        w = np.repeat(training.w[good], int(inside.sum()))
        for view in training.views:
            rows = places(view[good], stage.positions)[:, inside].reshape(-1, d)
            weight[index] += int(w.sum())
            sum_x[index] += w @ rows.astype(np.int64)
            gram[index] += exact_gram(rows, w)
    return GoodMoments(int(good.sum()), int(np.unique(training.records.groups[good]).size), weight, sum_x, gram)


def gaussian_scores(q: NDArray[np.int16], stage: Stage, head: Gaussian) -> Floats:
    """(n,) scores as an artefact publishes them. Raises RefusedError when the head does not fit."""
    d, zones = stage.dimension, stage.zones
    matrix, centre = head.matrix.array(), head.centre.array()
    fits = matrix.shape == (zones, d, d) and centre.shape == (zones, d) and d <= DIMENSION_MAX
    if not fits or not 1 <= head.top <= min(stage.positions, TOP_MAX):
        raise RefusedError("parameters", "a Gaussian head does not fit its stage", "send it as it was fitted")
    return scores(squared_distances(places(q, stage.positions), matrix, centre), head.top, d)


class LeftOut:
    """The training records under Gaussians of a total that these records are part of, each without the record's own group.

    Raises RefusedError when the total is not one that holds these records.
    """

    def __init__(self, training: TrainingRecords, stage: Stage, total: GoodMoments) -> None:
        own = good_moments(training, stage)
        if bool((total.weight < own.weight).any()) or total.records < own.records:
            raise RefusedError("parameters", "the roster's total is less than this owner's part of it", "send the total of gaussian/1")
        self._q = places(training.views[0], stage.positions)
        self._groups = training.records.groups
        self._spreads: list[tuple[NDArray[np.bool_], Spread]] = []
        for group in np.unique(self._groups):
            mine = self._groups == group
            rest = without(total, good_moments(training, stage, mine))
            if bool((rest.weight <= 0).any()):
                raise RefusedError(
                    "records", "the good records are of one group, so that nothing can be left out", "give two groups or more"
                )
            try:
                self._spreads.append((mine, spread_of(rest)))
            except InputError as error:
                raise RefusedError("parameters", error.message, error.next_step) from error

    def each(self, shrinkage: float, measure: Callable[[Floats, Whitening], Floats]) -> Floats:
        """(n,) of `measure`, which takes a group's squared distances (records, positions) and the Gaussian without the group."""
        result = np.zeros(self._groups.size)
        for mine, spread in self._spreads:
            fitted = whitening(spread, shrinkage)
            result[mine] = measure(squared_distances(self._q[mine], fitted.matrix, fitted.centre), fitted)
        return result

    def scores(self, shrinkage: float, top: int) -> Floats:
        """(n,) scores of the identity view."""
        return self.each(shrinkage, lambda squares, _: scores(squares, top, self._q.shape[2]))

    def losses(self, shrinkage: float) -> Floats:
        """(n,) mean negative log-likelihood a place."""
        return self.each(shrinkage, likelihood_loss)


def total_of(total: Array, stage: Stage) -> GoodMoments:
    """Raises RefusedError for another layout."""
    try:
        return good_moments_from(total.array().astype(np.int64), stage.dimension, stage.zones)
    except ValueError as error:
        raise RefusedError("parameters", f"the total does not fit the stage: {error}", "send the total of gaussian/1") from error


def summed_loss(losses: Floats, good: NDArray[np.bool_], w: Ints) -> int:
    """Sum over good records of w times the loss, in units of 1 / LOSS_UNIT."""
    bounded = np.clip(losses[good], -LOSS_MAX, LOSS_MAX)
    return int((w[good] * np.rint(bounded * LOSS_UNIT).astype(np.int64)).sum())


def gaussian_foldout(training: TrainingRecords, params: GaussianFoldOutParams, stage: Stage) -> FoldOut:
    """One row of loss and histograms a shrinkage; zeros where histograms are not told. sum_w: of good records."""
    y, w = training.records.y, training.w
    left = LeftOut(training, stage, total_of(params.total, stage))
    loss = np.array([summed_loss(left.losses(shrinkage), y < 0, w) for shrinkage in params.shrinkages], dtype=np.int64)
    empty = np.zeros((2, SCORE_BINS), dtype=np.int64)
    told = [score_histogram(left.scores(s, params.top), y) if params.histograms else empty for s in params.shrinkages]
    return FoldOut(int(w[y < 0].sum()), loss, np.stack(told))


def gaussian_clusters(training: TrainingRecords, params: GaussianClustersParams, stage: Stage) -> GroupSums:
    """Answered and wrong fold-out verdicts by group; with `alarms`, good records and those of them that are not called good."""
    records = training.records
    left = LeftOut(training, stage, total_of(params.total, stage))
    found = verdicts(left.scores(params.shrinkage, params.top), params.lo, params.hi)
    if params.alarms:
        return group_sums(records.y < 0, found >= 0, records.groups)
    return group_sums(found != 0, found != records.y, records.groups)
