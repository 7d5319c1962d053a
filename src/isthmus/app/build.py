"""Builds a scenario: owners -> masked sums -> model -> evaluation at the nodes -> certificate or refusal.

Every step is idempotent: jobs are named by their content and fits are deterministic, so a run that was cut off is simply
walked again and finds what stands already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np

from isthmus.app.proofs import Proof, sign_certificate
from isthmus.app.rounds import as_candidate
from isthmus.app.screening import check_total
from isthmus.app.workshop import Workshop, finished_job, unchanged_agreements
from isthmus.assurance.alarms import judged
from isthmus.assurance.auc import auc
from isthmus.assurance.bars import BARS_PAYLOAD_TYPE, Verdict, bars_digest, checked_bars
from isthmus.assurance.bounds import design_effect, korn_graubard_bounds
from isthmus.assurance.certificate import VALIDITY_S_MAX
from isthmus.assurance.evidence import Evidence
from isthmus.contracts.asset import Asset
from isthmus.contracts.bars import PPM, Bars, bar_fields
from isthmus.contracts.build import RunRequest, StepRecord
from isthmus.contracts.errors import InputError, JobRefusedError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.job import JobRequest, JobStatus, Noise
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import (
    CLEAN,
    CLUSTERS,
    EVALUATE,
    FOLD_OUT,
    JOINT,
    MOMENTS,
    OWN_HEAD,
    ClustersParams,
    Corruption,
    EvaluateParams,
    EvaluationKey,
    FoldOutParams,
    MomentsParams,
    NamedHead,
    OwnHeadParams,
    condition_name,
    evaluation_keys,
)
from isthmus.contracts.sums import (
    EVALUATION_SIZE,
    LOSS_UNIT,
    Evaluation,
    FoldOut,
    GroupSums,
    Ints,
    Moments,
    evaluation_from,
    foldout_from,
    group_sums_from,
    moments_from,
)
from isthmus.foundry.export import artefact_digest, build_artefact, head_digest
from isthmus.foundry.foldout import ThresholdPlan, Thresholds, choose_lambda, choose_thresholds
from isthmus.foundry.ridge import Candidate as Fit
from isthmus.foundry.ridge import candidates, head_from
from isthmus.foundry.stages import decoder_of, stage_of
from isthmus.kit.signing import seal

DAY_S = 86_400
SLICE_KINDS_MAX = 8
AFTER_LEAVING = "/after-leaving"
FLEET = "fleet"
LEAST_GROUP = "least-group-size"
T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """What fold-out sums chose. index: of the penalty. histogram: its fold-out scores. losses: mean squared fold-out error of each.
    weight: of the roster's rows, all views counted."""

    weight: int
    index: int
    histogram: Ints
    losses: list[float]


@dataclass(frozen=True)
class Rung:
    """One promise, tried."""

    bars: Bars
    thresholds: Thresholds
    effect: float
    head: Head
    digest: str
    found: Mapping[EvaluationKey, Evaluation]
    verdict: Verdict
    evidence: Evidence


class Build:
    """One run, walked from the top; see the module."""

    def __init__(self, shop: Workshop, run_id: str, request: RunRequest) -> None:
        self._shop = shop
        self._run_id = run_id
        self._request = request
        self._scenario: Scenario = request.scenario
        self._round = 0
        self._job_ids: dict[str, str] = {}
        self._remarks: list[str] = []
        self._slices_refused = False
        recipe = self._scenario.recipe
        other = request.without and recipe.parts_after_leaving
        parts = recipe.parts_after_leaving if other else recipe.parts
        self._stage: Stage = stage_of(recipe.backbone, parts, self._scenario.interface.schema)
        self._roster = request.roster
        self._singly = shop.jobs.singly(request.left, self.purpose) if request.left else ()
        self._digests: dict[str, list[str]] = {}
        self._agreements = {party: shop.jobs.agreement_digest(party, self.purpose) for party in self._roster}
        self._assets: dict[str, Asset] = {party: shop.jobs.owner(party, self.purpose) for party in self._roster}

    @staticmethod
    def purpose_of(request: RunRequest) -> str:
        """A run after a leaver has a purpose of its own, because its terms differ."""
        return f"{request.scenario.purpose}{AFTER_LEAVING}" if request.without else request.scenario.purpose

    @property
    def purpose(self) -> str:
        return self.purpose_of(self._request)

    # Steps.

    def walk(self) -> tuple[bool, Json]:
        """(certified, result). Raises IsthmusError when a job fails or nothing can be fitted."""
        ladder = self._step("bars", self._sign_bars)
        moments = self._step("moments", self._moments)
        fits = self._step("fit", lambda: self._fit(moments))
        chosen = self._step("fold-out", lambda: self._choose(fits, moments.sum_w))
        own = self._step("own-heads", self._own_heads)
        rungs: list[Rung] = []
        for bars in ladder:
            rungs.append(self._rung(bars, fits[chosen.index], chosen, own))
            if not rungs[-1].verdict.passed:
                break
        proven = [rung for rung in rungs if rung.verdict.passed]
        best = proven[-1] if proven else rungs[0]
        certificate = self._step("certify", lambda: self._certify(best))
        result: Json = {
            "owners": {p: msgspec.to_builtins(a) for p, a in self._assets.items()},
            "stage": msgspec.to_builtins(self._stage),
            "moments": {"records": moments.records, "groups": moments.groups, "sum_w": moments.sum_w},
            "penalty": fits[chosen.index].lam,
            "penalties": [f.lam for f in fits],
            "losses": chosen.losses,
            **self._facts(fits[chosen.index]),
            "own_heads": {name: msgspec.to_builtins(h) for name, h in own.items()},
            "auc": {name: _ranking(best.found[EvaluationKey(name, CLEAN, "all")].histogram) for name in (JOINT, *own)},
            "promises": [_rung_row(rung) for rung in rungs],
            **_rung_row(best),
            "evaluations": [_evaluation_row(key, value) for key, value in best.found.items()],
            "notes": [*best.verdict.notes, *self._remarks],
            "certificate": certificate,
            "jobs": dict(self._job_ids),
            "sums": {name: list(digests) for name, digests in self._digests.items()},
        }
        return bool(proven), result

    def _rung(self, bars: Bars, fit: Any, choice: Choice, own: Mapping[str, Head]) -> Rung:
        """Thresholds planned for one promise, the artefact with them, and what the held-out records say of it."""
        promise = f"{bars.error_ppm_max / 10_000:g}%"
        thresholds = self._thresholds(choice.histogram, bars)
        effect = self._step(f"clusters {promise}", lambda: self._effect(fit, thresholds, choice.weight))
        head = self._head(fit, thresholds)
        digest = self._step(f"artefact {promise}", lambda: self._artefact(head))
        found = self._step(f"evaluate {promise}", lambda: self._evaluate(head, digest, own))
        verdict, evidence = self._judge(bars, found, effect)
        return Rung(bars, thresholds, effect, head, digest, found, verdict, evidence)

    def _step(self, name: str, work: Callable[[], T]) -> T:
        self._shop.catalogue.step_now(self._run_id, name)
        began = self._shop.clock.monotonic_s()
        value = work()
        record = StepRecord(name=name, wall_s=round(self._shop.clock.monotonic_s() - began, 3), reused=False, detail={})
        self._shop.catalogue.step_done(self._run_id, record)
        return value

    def _sign_bars(self) -> list[Bars]:
        """The bars of each promise, signed and kept before any sum is asked for. Raises InputError for promises that are no sequence."""
        certify = self._scenario.certify
        if not certify.promises_ppm or list(certify.promises_ppm) != sorted(set(certify.promises_ppm), reverse=True):
            raise InputError(f"the promises {list(certify.promises_ppm)} are no sequence", "name at least one, the easiest first")
        if not 0 < certify.validity_days * DAY_S <= VALIDITY_S_MAX:
            raise InputError(f"a certificate cannot last {certify.validity_days} days", f"use 1 to {VALIDITY_S_MAX // DAY_S}")
        fields = bar_fields(certify)
        fields |= {"scenario": self._scenario.id, "tier": self._scenario.tier}
        ladder = [checked_bars(msgspec.convert({**fields, "error_ppm_max": ppm}, Bars)) for ppm in self._scenario.certify.promises_ppm]
        for bars in ladder:
            self._shop.catalogue.keep_bars(bars_digest(bars), seal(self._shop.key, BARS_PAYLOAD_TYPE, bars))
        return ladder

    def _training(self) -> Json:
        """How records enter the sums, as every job on the training split is told."""
        found: Json = msgspec.to_builtins(self._scenario.recipe.training)
        return found

    def _moments(self) -> Moments:
        params = msgspec.convert(self._training(), MomentsParams)
        total = moments_from(self._total(MOMENTS, self._stage, params), self._stage.dimension)
        check_total(total, params, self._assets)
        return total

    def _fit(self, moments: Moments) -> list[Any]:
        return list(candidates(moments, self._scenario.recipe.lambdas))

    def _facts(self, fit: Any) -> Json:
        """What a result says of the chosen fit beside what it says of any."""
        return {}

    def _choose(self, fits: list[Any], weight: int) -> Choice:
        """The penalty by the losses of all; then the fold-out scores of that one."""
        losses = self._fold_out(fits, weight, histograms=False)
        index = choose_lambda(losses, [f.lam for f in fits])
        chosen = self._fold_out(fits[index : index + 1], weight, histograms=True)
        return Choice(weight, index, chosen.histogram[0], [int(v) / losses.sum_w / LOSS_UNIT for v in losses.loss])

    def _fold_out(self, fits: Sequence[Fit], weight: int, histograms: bool) -> FoldOut:
        found = [msgspec.to_builtins(as_candidate(f)) for f in fits]
        fields = {**self._training(), "candidates": found, "total_weight": weight, "histograms": histograms}
        return foldout_from(self._total(FOLD_OUT, self._stage, msgspec.convert(fields, FoldOutParams)), len(fits))

    def _thresholds(self, histogram: Ints, bars: Bars) -> Thresholds:
        return choose_thresholds(histogram, self._plan(bars))

    def _head(self, fit: Fit, thresholds: Thresholds) -> Head:
        return head_from(fit, self._stage, thresholds.lo, thresholds.hi)

    def _plan(self, bars: Bars) -> ThresholdPlan:
        certify = self._scenario.certify
        confidence = bars.confidence_ppm / PPM
        return ThresholdPlan(
            bar=bars.error_ppm_max / PPM,
            records=sum(a.records_holdout for a in self._assets.values()),
            groups=sum(a.groups_holdout for a in self._assets.values()),
            design_effect=certify.planning_design_effect,
            bound=lambda errors, n, effect, groups: korn_graubard_bounds(errors, n, effect, groups, confidence),
            power=certify.planning_power,
            recall_min=bars.recall_ppm_min / PPM,
            specificity_min=bars.specificity_ppm_min / PPM,
        )

    def _effect(self, fit: Any, thresholds: Thresholds, weight: int) -> float:
        """Of training folds at these thresholds, but not below the one planned with: chosen thresholds flatter it."""
        return max(design_effect(self._verdicts(fit, thresholds, weight)), self._scenario.certify.planning_design_effect)

    def _verdicts(self, fit: Any, thresholds: Thresholds, weight: int) -> GroupSums:
        """Fold-out verdicts at these thresholds, over groups."""
        found = {"candidate": msgspec.to_builtins(as_candidate(fit)), "total_weight": weight}
        fields = {**self._training(), **found, "lo": thresholds.lo, "hi": thresholds.hi}
        return group_sums_from(self._total(CLUSTERS, self._stage, msgspec.convert(fields, ClustersParams)))

    def _artefact(self, head: Head) -> str:
        artefact = build_artefact(head)
        digest = artefact_digest(artefact)
        self._shop.catalogue.add_model(digest, head, artefact)
        return digest

    def _own_heads(self) -> dict[str, Head]:
        """Each owner's own head, as a document that answers always (lo = hi = 0). They are for comparison only: an owner that keeps its
        own (as its node must with too few records) does not end the run, it is noted."""
        if self._request.without:
            return {}
        params = msgspec.convert({**self._training(), "penalties": list(self._scenario.recipe.lambdas)}, OwnHeadParams)
        try:
            status = self._finished(OWN_HEAD, self._stage, params, suffix="/own-heads")
        except JobRefusedError as error:
            self._remarks.append(f"no owner's own model was measured: {error.message}")
            return {}
        found: dict[str, Head] = {}
        for party, array in sorted((status.heads or {}).items()):
            values = array.array()
            decoder = decoder_of(self._stage)
            found[party] = Head(
                stage=self._stage, coefficients=Array.of(values[1:]), bias=float(values[0]), lo=0.0, hi=0.0, decoder=decoder
            )
        return found

    def _evaluate(self, head: Head, digest: str, own: Mapping[str, Head]) -> dict[EvaluationKey, Evaluation]:
        certify = self._scenario.certify
        families, severities = certify.families, certify.severities
        known = sorted({kind for asset in self._assets.values() for kind in asset.kinds_holdout})
        kinds, left_out = known[:SLICE_KINDS_MAX], known[SLICE_KINDS_MAX:]
        remark = f"{len(left_out)} kinds of record are not judged by themselves, only {SLICE_KINDS_MAX} are: {', '.join(left_out)}"
        if left_out and remark not in self._remarks:
            self._remarks.append(remark)
        params = EvaluateParams(
            artefact=digest,
            head=head,
            others=tuple(NamedHead(name=name, head=own_head) for name, own_head in own.items()),
            slices=tuple(kinds) if len(kinds) > 1 and not self._slices_refused else (),
            corruptions=() if self._request.clean_only else tuple(Corruption(family=f, severity=s) for f in families for s in severities),
        )
        try:
            total = self._total(EVALUATE, self._stage, params)
        except JobRefusedError as error:
            if not params.slices or LEAST_GROUP not in error.message:
                raise
            self._slices_refused = True
            self._remarks.append(f"no kind of record is judged by itself: {error.message}")
            return self._evaluate(head, digest, own)
        keys = evaluation_keys(params)
        return {key: evaluation_from(part) for key, part in zip(keys, total.reshape(len(keys), EVALUATION_SIZE), strict=True)}

    def _judge(self, bars: Bars, found: Mapping[EvaluationKey, Evaluation], effect: float) -> tuple[Verdict, Evidence]:
        joint = {key: value for key, value in found.items() if key.head == JOINT}
        conditions = {condition_name(Corruption(family=f, severity=s)): (f, s) for f in bars.families for s in bars.severities}
        evidence = Evidence(
            clean=found[EvaluationKey(JOINT, CLEAN, "all")],
            slices={key.slice: value for key, value in joint.items() if key.condition == CLEAN and key.slice != "all"},
            corrupted={
                conditions[key.condition]: value for key, value in joint.items() if key.condition in conditions and key.slice == "all"
            },
            design_effect=effect,
            groups_inferred=any(a.groups_inferred for a in self._assets.values()),
            probability=self._scenario.recipe.head == "logistic",
        )
        return self._verdict(bars, evidence), evidence

    def _verdict(self, bars: Bars, evidence: Evidence) -> Verdict:
        return judged(bars, evidence)

    def _certify(self, rung: Rung) -> Json | None:
        """The certificate as {digest, envelope}, or None when the bars are not met."""
        if not rung.verdict.passed:
            return None
        found = Proof(rung.verdict, rung.evidence, rung.head, rung.digest)
        return sign_certificate(self._shop, self._run_id, self._scenario, FLEET, found, self._agreements)

    # Jobs.

    def _total(self, statistic: str, on: Stage, params: msgspec.Struct, noise: Noise | None = None) -> Any:
        """The roster's sum as an int64 vector."""
        status = self._finished(statistic, on, params, noise=noise)
        assert status.total is not None
        return status.total.array().astype(np.int64)

    def _finished(self, statistic: str, on: Stage, params: msgspec.Struct, suffix: str = "", noise: Noise | None = None) -> JobStatus:
        """Asks and waits; see `finished_job`."""
        self._round += 1
        request = JobRequest(
            run_id=self._run_id + self._shop.run_suffix + suffix,
            round=self._round,
            purpose=self.purpose,
            scenario=f"{self._scenario.id}@{self._scenario.version}",
            statistic=statistic,
            stage=on,
            params=msgspec.to_builtins(params),
            roster=self._roster,
            ttl_s=self._shop.job_ttl_s,
            seen_singly=self._singly,
            models_to=self._scenario.serve.models_to,
            owners_share_ppm=self._scenario.serve.owners_ppm,
            noise=noise,
        )
        status = finished_job(self._shop, request)
        unchanged_agreements(self._shop, self._agreements, self.purpose)
        self._job_ids[statistic] = status.id
        if status.total_digest is not None:
            self._digests.setdefault(statistic, []).append(status.total_digest)
        return status


def _ranking(histogram: Ints) -> float | None:
    """The area under the ROC curve; None where a class was not held out."""
    return auc(histogram) if bool(histogram.any(axis=1).all()) else None


def _rung_row(rung: Rung) -> Json:
    return {
        "bars": msgspec.to_builtins(rung.bars),
        "bars_digest": bars_digest(rung.bars),
        "thresholds": {name: getattr(rung.thresholds, name) for name in rung.thresholds.__dataclass_fields__},
        "design_effect": rung.effect,
        "head": msgspec.to_builtins(rung.head),
        "head_digest": head_digest(rung.head),
        "artefact_digest": rung.digest,
        "passed": rung.verdict.passed,
        "failures": list(rung.verdict.failures),
        "notes": list(rung.verdict.notes),
        "claims": msgspec.to_builtins(rung.verdict.claims),
    }


def _evaluation_row(key: EvaluationKey, value: Evaluation) -> Json:
    return {
        **key._asdict(),
        "counts": value.counts,
        "clusters": {name: getattr(value.clusters, name) for name in value.clusters.FIELDS},
        "histogram": value.histogram.tolist(),
    }
