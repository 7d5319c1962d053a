"""Builds a scenario whose head is a Gaussian: sums of good records, one round more for scores, then as any other run.

Thresholds: with the promise `error`, from fold-out scores of both classes, as for a ridge. With `alarms`, from good records' alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from isthmus.app.build import Build, Choice
from isthmus.app.site import AnyHeads, SiteBuild
from isthmus.app.workshop import Workshop
from isthmus.assurance.alarms import alarms_of
from isthmus.assurance.bounds import design_effect
from isthmus.contracts.bars import Bars
from isthmus.contracts.build import RunRequest
from isthmus.contracts.head import Array, Head
from isthmus.contracts.statistic import (
    GAUSSIAN,
    GAUSSIAN_CLUSTERS,
    GAUSSIAN_FOLD_OUT,
    SITE_GAUSSIAN,
    GaussianClustersParams,
    GaussianFoldOutParams,
    GaussianParams,
    SiteGaussianParams,
    SiteGaussians,
    site_gaussians_from,
)
from isthmus.contracts.sums import LOSS_UNIT, Evaluation, FoldOut, GoodMoments, Ints, foldout_from, good_moments_from, group_sums_from
from isthmus.foundry.foldout import NEVER, Floats, ThresholdPlan, Thresholds, choose_alarm_threshold, choose_lambda, loose_edges
from isthmus.foundry.gaussian import GaussianFit, gaussian_fits, gaussian_head, head_of_arrays, top_of

ALARMS = "alarms"


class GaussianBuild(Build):
    """See `Build`. No owner's own model is made: its matrix would say all of its sums."""

    def __init__(self, shop: Workshop, run_id: str, request: RunRequest) -> None:
        super().__init__(shop, run_id, request)
        self._sums: GoodMoments | None = None
        self._top = top_of(self._stage)
        self._clustering = 1.0

    @property
    def _alarms(self) -> bool:
        return self._scenario.certify.promise == ALARMS

    def _moments(self) -> Any:
        params = msgspec.convert(self._training(), GaussianParams)
        total = self._total(GAUSSIAN, self._stage, params)
        self._sums = good_moments_from(total, self._stage.dimension, self._stage.zones)
        return self._sums

    def _fit(self, moments: Any) -> list[Any]:
        return gaussian_fits(moments, self._scenario.recipe.lambdas)

    def _choose(self, fits: Sequence[Any], weight: int) -> Choice:
        """The shrinkage by the likelihood of good records; then the fold-out scores of that one."""
        losses = self._scored(fits, histograms=False)
        index = choose_lambda(losses, [f.lam for f in fits])
        chosen = self._scored(fits[index : index + 1], histograms=True)
        if self._alarms:
            loose = [self._clusters(fits[index], lo, NEVER) for lo in loose_edges(chosen.histogram[0])]
            self._clustering = max(loose)
        return Choice(weight, index, chosen.histogram[0], [int(v) / losses.sum_w / LOSS_UNIT for v in losses.loss])

    def _scored(self, fits: Sequence[GaussianFit], histograms: bool) -> FoldOut:
        params = GaussianFoldOutParams(**self._round_fields(), shrinkages=tuple(f.lam for f in fits), histograms=histograms)
        return foldout_from(self._total(GAUSSIAN_FOLD_OUT, self._stage, params), len(fits))

    def _round_fields(self) -> dict[str, Any]:
        assert self._sums is not None
        recipe = self._scenario.recipe
        weights = {"sure_weight": recipe.sure_weight, "unsure_weight": recipe.unsure_weight}
        return {"views": recipe.views, **weights, "total": Array.of(self._sums.packed()), "top": self._top}

    def _thresholds(self, histogram: Ints, bars: Bars) -> Thresholds:
        if not self._alarms:
            return super()._thresholds(histogram, bars)
        return choose_alarm_threshold(histogram, self._plan(bars), good_share_of(histogram))

    def _head(self, fit: Any, thresholds: Thresholds) -> Head:
        return gaussian_head(fit.fitted, self._stage, thresholds.lo, thresholds.hi)

    def _plan(self, bars: Bars) -> ThresholdPlan:
        """Alarms are planned with the clustering of good records, which the few above the threshold do not show."""
        plan = super()._plan(bars)
        return replace(plan, design_effect=max(plan.design_effect, self._clustering))

    def _effect(self, fit: Any, thresholds: Thresholds, weight: int) -> float:
        found = self._clusters(fit, thresholds.lo, thresholds.hi)
        return max(found, self._clustering, self._scenario.certify.planning_design_effect)

    def _clusters(self, fit: Any, lo: float, hi: float) -> float:
        """The design effect of fold-out verdicts at two thresholds."""
        params = GaussianClustersParams(**self._round_fields(), shrinkage=fit.lam, lo=lo, hi=hi, alarms=self._alarms)
        return design_effect(group_sums_from(self._total(GAUSSIAN_CLUSTERS, self._stage, params)))

    def _own_heads(self) -> dict[str, Head]:
        return {}


class GaussianSite(SiteBuild):
    """See `SiteBuild`: the fleet's Gaussian shrunk towards the site's own good records."""

    scored_by = GAUSSIAN_FOLD_OUT

    @property
    def _alarms(self) -> bool:
        return self._scenario.certify.promise == ALARMS

    def _heads(self) -> SiteGaussians:
        recipe = self._scenario.recipe
        params = SiteGaussianParams(
            views=recipe.views,
            sure_weight=recipe.sure_weight,
            unsure_weight=recipe.unsure_weight,
            total=self._total_of(GAUSSIAN),
            fleet_shrinkage=float(self._fleet["penalty"]),
            factors=self._scenario.replicate.weightings,
            shrinkages=recipe.lambdas,
            top=top_of(self._stage),
        )
        status = self._job(SITE_GAUSSIAN, params)
        return site_gaussians_from(status.heads[self._request.site].array(), self._stage.dimension, self._stage.zones)

    def _document(self, heads: AnyHeads, index: int, lo: float, hi: float) -> Head:
        assert isinstance(heads, SiteGaussians)
        return head_of_arrays(heads.matrices[index], heads.centres[index], self._stage, lo, hi)

    def _thresholds(self, bars: Bars, histogram: Floats) -> Thresholds:
        if not self._alarms:
            return super()._thresholds(bars, histogram)
        return choose_alarm_threshold(histogram, self._plan(bars, 1.0), good_share_of(histogram))

    def _proof_counts(self, found: Evaluation) -> dict[str, int]:
        if not self._alarms:
            return found.counts
        good, alarms, _, _ = alarms_of(found)
        return {"answered": good, "errors": alarms}


def good_share_of(histogram: Any) -> float:
    """Of the records behind fold-out scores by class."""
    return float(histogram[0].sum()) / max(1.0, float(histogram.sum()))
