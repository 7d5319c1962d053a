"""site-gaussian/1: the fleet's Gaussian shrunk towards a site's own good records, in closed form.

Both sides are moments, so a share t gives the Gaussian of (1 - t) fleet + t site: what a conjugate normal-inverse-Wishart prior that is
worth so many records makes of them. Shares from 0 to 1 are tried; each is judged by the likelihood of the site's good records under the
Gaussian that saw nothing of their group. As with heads (decision 11) no share is picked: they are averaged, with weights
exp(-n loss / TEMPERATURE) and a prior of one half on the fleet alone, and the average share is one Gaussian again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.statistic import SITE_HEADS, SiteGaussianParams, SiteGaussians
from isthmus.contracts.sums import SCORE_BINS, GoodMoments
from isthmus.kit.mahalanobis import Spread, Whitening, likelihood_loss, scores, spread_of, squared_distances, whitening, without
from isthmus.sandbox.statistics.foldout import score_histogram
from isthmus.sandbox.statistics.gaussian import good_moments, places
from isthmus.sandbox.statistics.records import TrainingRecords

PRIOR_FLEET = 0.5
TEMPERATURE = 4.0
Floats = NDArray[np.float64]


def blended(fleet: Spread, own: Spread, share: float) -> Spread:
    """Of a mixture that holds `share` of the own moments: second moments about zero are averaged, then centred."""
    mean = (1.0 - share) * fleet.mean + share * own.mean
    apart = own.mean - fleet.mean
    between = share * (1.0 - share) * apart[:, :, None] * apart[:, None, :]
    return Spread(mean, (1.0 - share) * fleet.covariance + share * own.covariance + between)


@dataclass(frozen=True)
class _Local:
    """The site's records by group, with the spread of its good ones and that without each group; None where nothing is left."""

    training: TrainingRecords
    q: NDArray[np.int16]
    own: Spread
    groups: tuple[tuple[NDArray[np.bool_], Spread | None], ...]

    def left_out(self, fleet: Spread, share: float, shrinkage: float, top: int) -> tuple[float, Floats]:
        """(mean loss of good records, (n,) scores), each record without its group."""
        loss, score = np.zeros(self.q.shape[0]), np.zeros(self.q.shape[0])
        for mine, rest in self.groups:
            fitted = whitening(fleet if rest is None else blended(fleet, rest, share), shrinkage)
            squares = squared_distances(self.q[mine], fitted.matrix, fitted.centre)
            loss[mine], score[mine] = likelihood_loss(squares, fitted), scores(squares, top, self.q.shape[2])
        good = self.training.records.y < 0
        w = self.training.w[good]
        return float((w * loss[good]).sum() / w.sum()), score


def _local(training: TrainingRecords, stage: Stage, own: GoodMoments) -> _Local:
    codes, parts = training.records.groups, []
    for group in np.unique(codes):
        mine = codes == group
        rest = without(own, good_moments(training, stage, mine))
        parts.append((mine, spread_of(rest) if rest.records > 0 else None))
    return _Local(training, places(training.views[0], stage.positions), spread_of(own), tuple(parts))


def share_of(fleet: GoodMoments, own: GoodMoments, factor: float) -> float:
    """What the own records are of the moments when each counts `factor` times."""
    ours = float(own.weight[0]) * factor
    return ours / (float(fleet.weight[0]) + ours)


def site_gaussians(training: TrainingRecords, fleet: GoodMoments, params: SiteGaussianParams, stage: Stage) -> SiteGaussians:
    """Fleet alone, combined, site alone. Raises RefusedError when there is no good record of a second group."""
    own = good_moments(training, stage)
    local, seen = _local(training, stage, own), spread_of(fleet)
    if all(rest is None for _, rest in local.groups):
        raise RefusedError("records", "the good records are of one group, so that nothing can be left out", "give two groups or more")
    shares = [0.0, *(share_of(fleet, own, factor) for factor in sorted(params.factors)), 1.0]
    tried: list[tuple[float, float]] = []
    for share in shares:
        grid = (params.fleet_shrinkage,) if share == 0.0 else params.shrinkages
        loss, negative = min((local.left_out(seen, share, s, params.top)[0], -s) for s in grid)
        tried.append((loss, -negative))
    losses = np.array([loss for loss, _ in tried])
    prior = np.array([PRIOR_FLEET, *np.full(len(shares) - 1, (1 - PRIOR_FLEET) / (len(shares) - 1))])
    weight = prior * np.exp(-own.records * (losses - losses.min()) / TEMPERATURE)
    weight /= weight.sum()
    averaged = float(weight @ np.array(shares)), float(np.exp(weight @ np.log([s for _, s in tried])))
    chosen = {"fleet": (0.0, params.fleet_shrinkage), "combined": averaged, "local": (1.0, tried[-1][1])}
    return _packed(local, seen, chosen, params.top)


def _packed(local: _Local, fleet: Spread, chosen: dict[str, tuple[float, float]], top: int) -> SiteGaussians:
    fits: list[Whitening] = []
    losses, histograms = np.zeros(3), np.zeros((3, 2, SCORE_BINS), dtype=np.int64)
    for index, name in enumerate(SITE_HEADS):
        share, shrinkage = chosen[name]
        fits.append(whitening(blended(fleet, local.own, share), shrinkage))
        losses[index], left = local.left_out(fleet, share, shrinkage, top)
        histograms[index] = score_histogram(left, local.training.records.y)
    shares, shrinkages = (np.array([chosen[name][place] for name in SITE_HEADS]) for place in (0, 1))
    matrices, centres = np.stack([f.matrix for f in fits]), np.stack([f.centre for f in fits])
    return SiteGaussians(np.ones(3, dtype=bool), shares, shrinkages, losses, matrices, centres, histograms)
