"""A build under a privacy budget: sums come with noise, and what they cost each owner is fixed before the first is asked for.

The training split pays for moments and for one histogram of scores, the held-out split for one evaluation of each promise; a record is in
one split, so a run costs epsilon once. Fold-outs are left out, since nothing bounds what one record changes in them: the penalty follows
from the noise, and thresholds are planned on scores of the records that the head was fitted on, whose optimism noise itself keeps small.
Nothing else is chosen by data, and a run that is walked again asks the same questions, which cost nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from isthmus.app.build import Build, Choice
from isthmus.app.workshop import Workshop
from isthmus.assurance.bars import Verdict
from isthmus.assurance.bounds import korn_graubard_bounds
from isthmus.assurance.evidence import Evidence
from isthmus.assurance.noisycounts import cautious, confidence_left, judged_under_noise, reach
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.build import RunRequest
from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Head
from isthmus.contracts.job import Noise
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Privacy
from isthmus.contracts.statistic import (
    EVALUATE,
    MOMENTS,
    Corruption,
    EvaluateParams,
    EvaluationKey,
    MomentsParams,
    evaluation_keys,
)
from isthmus.contracts.sums import EVALUATION_SIZE, FEATURE_MAX, Evaluation, Moments, evaluation_from, moments_from
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.foldout import Floats, ThresholdPlan, Thresholds
from isthmus.foundry.noisysums import believed, believed_scores, noisy_fit
from isthmus.sandbox.accounting import NANOS, rho_for
from isthmus.sandbox.privacy import deviations_for
from isthmus.sandbox.statistics.sensitivity import Unit, evaluate_blocks, moments_blocks

MOMENTS_PART, SCORES_PART = 0.85, 0.15
"""Of what the training split costs."""
MOMENT_PARTS = {"labels": 0.05, "features": 0.15, "features by labels": 0.3, "gram": 0.5}
COUNT_PARTS = {"defects": 0.15, "answers": 0.85}
SPARE_NANOS = 20
"""Left over for rounding up."""


class PrivateBuild(Build):
    """See the module. Raises InputError for recipes of which noisy sums would not be enough."""

    def __init__(self, shop: Workshop, run_id: str, request: RunRequest) -> None:
        super().__init__(shop, run_id, request)
        recipe = self._scenario.recipe
        if recipe.privacy is None or recipe.head != "ridge" or self._scenario.interface.output != "verdict":
            raise InputError(
                "only a ridge head that gives verdicts can be made of noisy sums", "leave privacy out of the recipe, or write head: ridge"
            )
        if recipe.sure_weight != recipe.unsure_weight or recipe.drawn_weight:
            raise InputError(
                "under noise all records weigh the same, so that their weight is public", "use one weight, and no drawn defects"
            )
        self._privacy: Privacy = recipe.privacy
        self._rho = rho_for(self._privacy.epsilon, self._privacy.delta) - SPARE_NANOS / NANOS
        self._unit = Unit(self._privacy.unit_records_max, self._privacy.unit == "group")
        self._norm_max = max(1, math.floor(self._privacy.norm * FEATURE_MAX * math.sqrt(self._stage.width)))

    @property
    def _excess(self) -> float:
        """All shares' noise over that of all but one voice, as deviations. Members that some agreement does not pin are one voice."""
        fewest = len(self._roster)
        for party in self._roster:
            pinned = self._shop.jobs.agreement(party, self.purpose)[1].participants
            fewest = min(fewest, len({member if member in pinned else "" for member in self._roster}))
        return math.sqrt(len(self._roster) / max(1, fewest - 1))

    def _moments(self) -> Moments:
        params = msgspec.convert(self._training(), MomentsParams)
        blocks = moments_blocks(params, self._stage, self._unit, self._norm_max)
        noise = Noise(deviations=deviations_for(blocks, self._rho * MOMENTS_PART, MOMENT_PARTS), norm_max=self._norm_max)
        self._gram_deviation = noise.deviations[-1] * self._excess
        found = moments_from(self._total(MOMENTS, self._stage, params, noise), self._stage.dimension)
        records, groups = (sum(getattr(a, f"{name}_train") for a in self._assets.values()) for name in ("records", "groups"))
        return believed(found, records, groups, records * params.rows_per_record * params.sure_weight)

    def _fit(self, moments: Moments) -> list[Any]:
        return [noisy_fit(moments, self._gram_deviation, self._privacy.penalty)]

    def _choose(self, fits: list[Any], weight: int) -> Choice:
        """There is one fit; its scores on the training split, in few bins."""
        head = self._head(fits[0], Thresholds(lo=0.0, hi=0.0, share=1.0, error_rate=0.0, predicted_bound=1.0, reached=False))
        params = EvaluateParams(artefact=artefact_digest(build_artefact(head)), head=head, records="train")
        noise = Noise(
            deviations=deviations_for(evaluate_blocks(params, self._stage, self._unit, 0), self._rho * SCORES_PART, {"scores": 1.0})
        )
        found = evaluation_from(self._total(EVALUATE, self._stage, params, noise))
        scores: Any = believed_scores(found.histogram)
        return Choice(weight, 0, scores, [])

    def _facts(self, fit: Any) -> Json:
        wanted: Json = msgspec.to_builtins(self._privacy)
        return {"privacy": {**wanted, "rho": self._rho, "norm_max": self._norm_max, "gram_deviation": self._gram_deviation}}

    def _effect(self, fit: Any, thresholds: Thresholds, weight: int) -> float:
        """As declared: nothing is asked about groups."""
        return max(1.0, self._scenario.certify.planning_design_effect)

    def _own_heads(self) -> dict[str, Head]:
        """None: an owner's own head would leave without noise."""
        return {}

    def _evaluate(self, head: Head, digest: str, own: Mapping[str, Head]) -> dict[EvaluationKey, Evaluation]:
        certify = self._scenario.certify
        changed = (
            () if self._request.clean_only else [Corruption(family=f, severity=s) for f in certify.families for s in certify.severities]
        )
        params = EvaluateParams(artefact=digest, head=head, corruptions=tuple(changed))
        blocks = evaluate_blocks(params, self._stage, self._unit, 0)
        keys = evaluation_keys(params)
        noise = Noise(deviations=deviations_for(blocks, self._rho / len(certify.promises_ppm) / len(keys), COUNT_PARTS))
        total = self._total(EVALUATE, self._stage, params, noise).reshape(len(keys), EVALUATION_SIZE)
        reaches = self._reaches(noise, len(keys))
        records, groups = (sum(getattr(a, f"{name}_holdout") for a in self._assets.values()) for name in ("records", "groups"))
        clean = cautious(evaluation_from(total[0]), records, groups, reaches)
        rest = [cautious(evaluation_from(part), records, groups, reaches, clean.counts["defects"]) for part in total[1:]]
        return dict(zip(keys, [clean, *rest], strict=True))

    def _reaches(self, noise: Noise, conditions: int) -> tuple[float, float]:
        confidence, excess = self._scenario.certify.confidence_ppm / PPM, self._excess
        return reach(noise.deviations[1] * excess, confidence, conditions), reach(noise.deviations[3] * excess, confidence, conditions)

    def _plan(self, bars: Bars) -> ThresholdPlan:
        """Thresholds are planned for the bound that will be taken, noise and all."""
        conditions = 1 if self._request.clean_only else 1 + len(bars.families) * len(bars.severities)
        each = self._rho / len(self._scenario.certify.promises_ppm) / conditions
        deviation = math.sqrt(2.0) * self._unit.records / math.sqrt(2.0 * each * COUNT_PARTS["answers"])
        noise = reach(deviation * self._excess, bars.confidence_ppm / PPM, conditions)
        confidence = confidence_left(bars.confidence_ppm / PPM)

        def bound(errors: Floats, n: Floats, design_effect: float, groups: int) -> Floats:
            worst = np.maximum(np.asarray(n, dtype=np.float64) - 2.0 * noise, 0.0)
            return korn_graubard_bounds(np.minimum(errors + 2.0 * noise, worst), worst, design_effect, groups, confidence)

        return replace(super()._plan(bars), bound=bound)

    def _verdict(self, bars: Bars, evidence: Evidence) -> Verdict:
        found = judged_under_noise(bars, evidence)
        p = self._privacy
        unit = "record" if p.unit == "record" else f"group of at most {p.unit_records_max} records"
        notes = (
            f"every answer carries noise: this run costs each owner epsilon {p.epsilon:g} at delta {p.delta:g} for each {unit}",
            "counts are the worst that the noise leaves possible, so bounds hold at the stated confidence; so is the area",
            f"nothing is told of groups, so the bounds rest on the declared design effect of {evidence.design_effect:g}",
        )
        return replace(found, notes=(*notes, *found.notes))
