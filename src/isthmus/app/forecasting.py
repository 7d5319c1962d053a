"""Builds a scenario that foretells numbers: owners -> masked sums -> one head a target, with bands -> evaluation at the nodes ->
certificate.

All targets share one Gram matrix, so there is one round of sums for them; penalties are chosen for each from fold-out losses, bands planned
from fold-out residuals, and the promises tried in sequence, as app.build does for verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import msgspec

from isthmus.app.build import FLEET, LEAST_GROUP, SLICE_KINDS_MAX, Build
from isthmus.app.proofs import Proof, sign_certificate
from isthmus.app.rounds import as_candidate
from isthmus.app.workshop import Workshop
from isthmus.assurance.banding import BandPlan, PlannedBands, plan_bands
from isthmus.assurance.bars import Verdict, bars_digest
from isthmus.assurance.bounds import design_effect
from isthmus.assurance.valuebars import ValueEvidence, checked_value_bars, judge_values
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.build import RunRequest
from isthmus.contracts.errors import InputError, JobRefusedError
from isthmus.contracts.head import Head
from isthmus.contracts.ports import Json
from isthmus.contracts.statistic import ALL_RECORDS, CLEAN, JOINT, Corruption, EvaluationKey, condition_name
from isthmus.contracts.sums import GroupSums, group_sums_from
from isthmus.contracts.targets import TARGET_MAX, Target
from isthmus.contracts.valuesums import (
    VALUE_CLUSTERS,
    VALUE_EVALUATE,
    VALUE_FOLD_OUT,
    VALUE_MOMENTS,
    VALUE_SUMS_SIZE,
    Bands,
    ResidualGrid,
    ValueClustersParams,
    ValueEvaluateParams,
    ValueFoldOut,
    ValueFoldOutParams,
    ValueMoments,
    ValueMomentsParams,
    ValueSums,
    value_foldout_from,
    value_keys,
    value_moments_from,
    value_sums_from,
)
from isthmus.foundry.export import head_digest
from isthmus.foundry.forecast import Banded, forecast_head
from isthmus.foundry.ridge import Candidate as Fit
from isthmus.foundry.ridge import candidates

SCORE_EDGES = (-0.5, -0.1, 0.0, 0.1, 0.3, 0.8, 1.6)
"""Where fold-out scores are parted, in deviations of the target from its mean: close where most scores lie, wide in the tails."""

RESIDUAL_BINS, RESIDUAL_DEVIATIONS = 128, 6.0
NEWEST, MEAN = "the newest value", "the training mean"
Found = Mapping[EvaluationKey, tuple[ValueSums, ...]]


@dataclass(frozen=True)
class Chosen:
    """What fold-out sums chose: for each target its fit, the mean squared fold-out error of each penalty, and the residuals of the
    chosen."""

    fits: tuple[Fit, ...]
    losses: tuple[list[float], ...]
    grids: tuple[ResidualGrid, ...]
    sums: ValueFoldOut
    weight: int


@dataclass(frozen=True)
class ValueRung:
    """One promise, tried."""

    bars: Bars
    planned: tuple[PlannedBands, ...]
    effects: tuple[float, ...]
    head: Head
    digest: str
    found: Found
    verdict: Verdict
    evidence: ValueEvidence


class ForecastBuild(Build):
    """One run, walked from the top; see the module."""

    def __init__(self, shop: Workshop, run_id: str, request: RunRequest) -> None:
        if request.probes:
            raise InputError("probes ask for verdicts, and this scenario gives numbers", "leave the probes out")
        if request.scenario.interface.output != "value" or isinstance(request.scenario.certify.values, msgspec.UnsetType):
            raise InputError(
                "the scenario names targets and no output of value, or no bars of numbers", "declare output and certify.values"
            )
        if request.scenario.recipe.head != "ridge":
            raise InputError(f"a head {request.scenario.recipe.head} foretells no numbers", "use the head ridge for numbers")
        super().__init__(shop, run_id, request)

    @property
    def _targets(self) -> tuple[Target, ...]:
        return self._scenario.interface.foretold

    def walk(self) -> tuple[bool, Json]:
        """(certified, result). Raises IsthmusError when a job fails or nothing can be fitted."""
        ladder = self._step("bars", self._sign_bars)
        for bars in ladder:
            checked_value_bars(bars)
        moments = self._step("moments", self._value_moments)
        fits = self._step("fit", lambda: self._fits(moments))
        chosen = self._step("fold-out", lambda: self._chosen(moments, fits))
        rungs: list[ValueRung] = []
        for bars in ladder:
            rungs.append(self._value_rung(bars, moments, chosen))
            if not rungs[-1].verdict.passed:
                break
        proven = [rung for rung in rungs if rung.verdict.passed]
        best = proven[-1] if proven else rungs[0]
        certificate = self._step("certify", lambda: self._value_certificate(best))
        whole = moments.moments
        result: Json = {
            "owners": {party: msgspec.to_builtins(asset) for party, asset in self._assets.items()},
            "stage": msgspec.to_builtins(self._stage),
            "moments": {"records": whole.records, "groups": whole.groups, "sum_w": whole.sum_w},
            "penalty": chosen.fits[0].lam,
            "penalties": list(self._scenario.recipe.lambdas),
            "losses": list(chosen.losses[0]),
            "outputs": [
                {"target": target.name, "penalty": fit.lam, "losses": losses}
                for target, fit, losses in zip(self._targets, chosen.fits, chosen.losses, strict=True)
            ],
            "own_heads": {},
            "auc": {},
            "promises": [_rung_row(rung) for rung in rungs],
            **_rung_row(best),
            "evaluations": [_row(key, sums, self._targets) for key, sums in best.found.items()],
            "notes": [*best.verdict.notes, *self._remarks],
            "certificate": certificate,
            "jobs": dict(self._job_ids),
            "sums": {name: list(digests) for name, digests in self._digests.items()},
        }
        return bool(proven), result

    # Sums and fits.

    def _asked(self) -> Json:
        weigh = self._scenario.recipe.weigh
        named: Json = {"targets": msgspec.to_builtins(self._targets)}
        return named if weigh is msgspec.UNSET else {**named, "weigh": msgspec.to_builtins(weigh)}

    def _value_moments(self) -> ValueMoments:
        params = msgspec.convert(self._asked(), ValueMomentsParams)
        found = value_moments_from(self._total(VALUE_MOMENTS, self._stage, params), len(self._targets), self._stage.dimension)
        if bool((found.squares < 0).any()):
            raise InputError("the sums ran over 64 bits, or belong to no records", "run the job again; a share was damaged")
        return found

    def _fits(self, moments: ValueMoments) -> list[list[Fit]]:
        places = range(len(self._targets))
        return [candidates(moments.of_target(place).moments, self._scenario.recipe.lambdas) for place in places]

    def _residuals(self, fits: Sequence[Sequence[Fit]], weight: int, grids: tuple[ResidualGrid, ...] = ()) -> ValueFoldOut:
        named = [[msgspec.to_builtins(as_candidate(fit)) for fit in one] for one in fits]
        fields = {**self._asked(), "candidates": named, "total_weight": weight, "grids": msgspec.to_builtins(grids)}
        params = msgspec.convert(fields, ValueFoldOutParams)
        return value_foldout_from(self._total(VALUE_FOLD_OUT, self._stage, params), params)

    def _chosen(self, moments: ValueMoments, fits: Sequence[Sequence[Fit]]) -> Chosen:
        """Each target's penalty by its losses, ties to the larger; then the residuals of those."""
        weight = moments.moments.sum_w
        losses = self._residuals(fits, weight)
        best, grids = [], []
        for place, own in enumerate(fits):
            index = min(range(len(own)), key=lambda k: (int(losses.losses[place, k]), -own[k].lam))
            best.append(own[index])
            grids.append(residual_grid(moments, place, int(losses.losses[place, index]) / losses.sum_w))
        sums = self._residuals([[fit] for fit in best], weight, tuple(grids))
        means = tuple([int(one) / losses.sum_w for one in row] for row in losses.losses)
        return Chosen(tuple(best), means, tuple(grids), sums, weight)

    # Promises.

    def _value_rung(self, bars: Bars, moments: ValueMoments, chosen: Chosen) -> ValueRung:
        promise = f"{bars.error_ppm_max / 10_000:g}%"
        plan = self._band_plan(bars)
        planned = tuple(plan_bands(counts, grid, plan) for counts, grid in zip(chosen.sums.counts, chosen.grids, strict=True))
        held = PPM - bars.error_ppm_max
        outputs = [
            Banded(target, fit, one.edges, tuple((band.low, band.high) for band in one.bands), held)
            for target, fit, one in zip(self._targets, chosen.fits, planned, strict=True)
        ]
        head = forecast_head(self._stage, outputs)
        effects = self._step(f"clusters {promise}", lambda: self._effects(head, chosen))
        digest = self._step(f"artefact {promise}", lambda: self._artefact(head))
        naive = tuple(self._naive(moments, place) for place in range(len(self._targets)))
        found = self._step(f"evaluate {promise}", lambda: self._value_evaluate(head, digest, naive))
        evidence = self._evidence(bars, found, effects)
        return ValueRung(bars, planned, effects, head, digest, found, judge_values(bars, evidence), evidence)

    def _band_plan(self, bars: Bars) -> BandPlan:
        certify = self._scenario.certify
        return BandPlan(
            bar=bars.error_ppm_max / PPM,
            records=sum(asset.records_holdout for asset in self._assets.values()),
            groups=sum(asset.groups_holdout for asset in self._assets.values()),
            design_effect=certify.planning_design_effect,
            confidence=bars.confidence_ppm / PPM,
            power=certify.planning_power,
        )

    def _effects(self, head: Head, chosen: Chosen) -> tuple[float, ...]:
        """Of each target's fold-out misses, but not below the one planned with."""
        bands = [msgspec.to_builtins(Bands(edges=one.edges, lows=one.lows, highs=one.highs)) for one in head.outputs]
        named = [msgspec.to_builtins(as_candidate(fit)) for fit in chosen.fits]
        fields = {**self._asked(), "candidates": named, "total_weight": chosen.weight, "bands": bands}
        total = self._total(VALUE_CLUSTERS, self._stage, msgspec.convert(fields, ValueClustersParams))
        least = self._scenario.certify.planning_design_effect
        sums = [group_sums_from(part) for part in total.reshape(len(bands), len(GroupSums.FIELDS))]
        return tuple(max(design_effect(one), least) for one in sums)

    def _naive(self, moments: ValueMoments, place: int) -> float:
        """The units that the naive forecast always foretells."""
        if self._targets[place].change_from:
            return 0.0
        own = moments.of_target(place).moments
        return own.sum_wy / own.sum_w

    def _value_evaluate(self, head: Head, digest: str, naive: tuple[float, ...]) -> Found:
        certify = self._scenario.certify
        known = sorted({kind for asset in self._assets.values() for kind in asset.kinds_holdout})
        kinds, left_out = known[:SLICE_KINDS_MAX], known[SLICE_KINDS_MAX:]
        remark = f"{len(left_out)} kinds of record are not judged by themselves, only {SLICE_KINDS_MAX} are: {', '.join(left_out)}"
        if left_out and remark not in self._remarks:
            self._remarks.append(remark)
        conditions = tuple(Corruption(family=f, severity=s) for f in certify.families for s in certify.severities)
        params = ValueEvaluateParams(
            artefact=digest,
            head=head,
            naive=naive,
            slices=tuple(kinds) if len(kinds) > 1 and not self._slices_refused else (),
            corruptions=() if self._request.clean_only else conditions,
        )
        try:
            total = self._total(VALUE_EVALUATE, self._stage, params)
        except JobRefusedError as error:
            if not params.slices or LEAST_GROUP not in error.message:
                raise
            self._slices_refused = True
            self._remarks.append(f"no kind of record is judged by itself: {error.message}")
            return self._value_evaluate(head, digest, naive)
        keys = value_keys(params)
        parts = total.reshape(len(keys), len(head.outputs), VALUE_SUMS_SIZE)
        return {key: tuple(value_sums_from(one) for one in part) for key, part in zip(keys, parts, strict=True)}

    def _evidence(self, bars: Bars, found: Found, effects: tuple[float, ...]) -> ValueEvidence:
        conditions = {condition_name(Corruption(family=f, severity=s)): (f, s) for f in bars.families for s in bars.severities}
        return ValueEvidence(
            targets=self._targets,
            naive=tuple(f"{NEWEST} of {target.change_from}" if target.change_from else MEAN for target in self._targets),
            clean=found[EvaluationKey(JOINT, CLEAN, ALL_RECORDS)],
            slices={key.slice: sums for key, sums in found.items() if key.condition == CLEAN and key.slice != ALL_RECORDS},
            corrupted={conditions[key.condition]: sums for key, sums in found.items() if key.condition in conditions},
            effects=effects,
            groups_inferred=any(asset.groups_inferred for asset in self._assets.values()),
        )

    def _value_certificate(self, rung: ValueRung) -> Json | None:
        """The certificate as {digest, envelope}, or None when the bars are not met."""
        if not rung.verdict.passed:
            return None
        found = Proof(rung.verdict, rung.evidence, rung.head, rung.digest)
        return sign_certificate(self._shop, self._run_id, self._scenario, FLEET, found, self._agreements)


def residual_grid(moments: ValueMoments, place: int, loss: float) -> ResidualGrid:
    """How one target's fold-out residuals are counted. loss: its mean squared fold-out error, in square units."""
    own = moments.of_target(place)
    weight = own.moments.sum_w
    mean = own.moments.sum_wy / weight
    spread = max(sqrt(max(own.sum_wyy / weight - mean**2, 0.0)), 1.0)
    limit = min(max(RESIDUAL_DEVIATIONS * sqrt(max(loss, 0.0)), 1.0), 4.0 * TARGET_MAX)
    return ResidualGrid(edges=tuple(mean + spread * edge for edge in SCORE_EDGES), limit=limit, bins=RESIDUAL_BINS)


def _rung_row(rung: ValueRung) -> Json:
    return {
        "bars": msgspec.to_builtins(rung.bars),
        "bars_digest": bars_digest(rung.bars),
        "thresholds": {"note": " ".join(one.note for one in rung.planned if one.note)},
        "bands": [{"miss": one.miss, "expected_bound": one.expected_bound, "reached": one.reached} for one in rung.planned],
        "design_effect": max(rung.effects),
        "head": msgspec.to_builtins(rung.head),
        "head_digest": head_digest(rung.head),
        "artefact_digest": rung.digest,
        "passed": rung.verdict.passed,
        "failures": list(rung.verdict.failures),
        "notes": list(rung.verdict.notes),
        "claims": msgspec.to_builtins(rung.verdict.claims),
    }


def _row(key: EvaluationKey, sums: tuple[ValueSums, ...], targets: tuple[Target, ...]) -> Json:
    found = [
        {
            "target": target.name,
            "counts": one.counts,
            "clusters": {name: getattr(one.clusters, name) for name in GroupSums.FIELDS},
            "levels": one.levels,
        }
        for target, one in zip(targets, sums, strict=True)
    ]
    return {**key._asdict(), "values": found}
