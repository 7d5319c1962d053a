"""Carries a certified run to another site: fleet's sums and a few local labels -> site model -> certificate or refusal.

The site's records stay at its node: the fleet's total goes there, and only the fitted heads and counts come back. Records for
proof are drawn one by one at random from the site's stock, so each is a group of its own and the promise is about that stock.

Thresholds are the site's own. For each promise they are planned, for as many records as are kept for proof, on the left-out scores of the
records that were fitted on, joined with the fleet's fold-out scores where a test does not tell the two apart. The promises are tried in
fixed sequence, the easiest first. Records for proof choose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import msgspec
import numpy as np

from isthmus.app.build import FLEET
from isthmus.app.promises import conditions_note, site_ladder
from isthmus.app.proofs import Proof, sign_certificate
from isthmus.app.workshop import Workshop, finished_job, unchanged_agreements
from isthmus.assurance.alarms import judged
from isthmus.assurance.arithmetic import arithmetic
from isthmus.assurance.auc import auc
from isthmus.assurance.bars import BARS_PAYLOAD_TYPE, Verdict, bars_digest
from isthmus.assurance.bounds import korn_graubard_bounds, needed_samples
from isthmus.assurance.evidence import Evidence
from isthmus.assurance.exchangeability import Exchangeability, exchangeability
from isthmus.contracts.asset import Asset
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.build import ENDED, RunRequest, SiteRequest, StepRecord
from isthmus.contracts.errors import ConflictError, InputError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.job import JobRequest
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import (
    CLEAN,
    EVALUATE,
    FOLD_OUT,
    JOINT,
    LOCAL,
    MOMENTS,
    SITE_HEAD,
    SITE_HEADS,
    Corruption,
    EvaluateParams,
    FleetCurve,
    NamedHead,
    SiteGaussians,
    SiteHeadParams,
    SiteHeads,
    condition_name,
    evaluation_keys,
    site_heads_from,
)
from isthmus.contracts.sums import EVALUATION_SIZE, Evaluation, evaluation_from, foldout_from
from isthmus.contracts.treesums import ASIDE_SCORES
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.foldout import Floats, ThresholdPlan, Thresholds, choose_thresholds, smoothed
from isthmus.foundry.stages import decoder_of
from isthmus.kit.signing import seal

AT_SITE = "/site"
NUMBERS_NEXT = "let the site's own node join the owners and run anew, or use the fleet's model there"
ALARMS = "alarms"
ANSWERED_SHARE = 0.5
"""Share of records that is reckoned to be answered where too few are kept for proof, and those still to be labelled are planned for."""
T = TypeVar("T")
AnyHeads = SiteHeads | SiteGaussians
Counted = Mapping[tuple[str, str], Evaluation]


@dataclass(frozen=True)
class Calibration:
    """What thresholds rest on. histogram: (2, bins) left-out scores of the site's head, smoothed because they are few, with the fleet's
    where `test` trusts them."""

    test: Exchangeability
    histogram: Floats

    @property
    def basis(self) -> str:
        return "site and fleet" if self.test.trusted else "site"


@dataclass(frozen=True)
class SiteRung:
    """One promise, tried at the site. counted, verdict, evidence: None without records for proof."""

    bars: Bars
    thresholds: Thresholds
    head: Head
    digest: str
    counted: Counted | None
    verdict: Verdict | None
    evidence: Evidence | None

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.passed


def site_purpose(scenario_purpose: str) -> str:
    """The purpose that a site's agreement names."""
    return scenario_purpose + AT_SITE


def _different(one: msgspec.Struct, other: msgspec.Struct, within: str = "") -> list[str]:
    """Names of fields that differ, such as `tier` and `certify.groups_min`."""
    found: list[str] = []
    for name in one.__struct_fields__:
        a, b = getattr(one, name), getattr(other, name)
        if a != b:
            found += _different(a, b, f"{name}.") if isinstance(a, msgspec.Struct) else [within + name]
    return found


def site_scenario(of_run: Scenario, request: SiteRequest) -> Scenario:
    """The scenario that a site is built by. Raises ConflictError when the site asks for more than its own price, shares, weightings and
    validity: what the fleet was certified for is not changed by carrying it on."""
    own = request.scenario
    if own is None:
        return of_run
    replace = msgspec.structs.replace
    certify = replace(of_run.certify, validity_days=own.certify.validity_days)
    conditions = {"families": of_run.replicate.families, "severities": of_run.replicate.severities}
    allowed = replace(of_run, serve=own.serve, replicate=replace(own.replicate, **conditions), certify=certify)
    if own != allowed:
        raise ConflictError(
            f"the site asks for another {', '.join(_different(own, allowed))} than the run {request.run} was certified with",
            "set only price, shares, weightings and validity for a site, or run the fleet anew with these values",
        )
    return own


class SiteBuild:
    """One site's run, walked from the top like a Build."""

    scored_by = FOLD_OUT
    """The fleet's job that told its fold-out scores."""

    def __init__(self, shop: Workshop, run_id: str, request: SiteRequest) -> None:
        self._shop, self._run_id, self._request = shop, run_id, request
        kind, fleet_request = shop.catalogue.request_of(request.run)
        view = shop.catalogue.view(request.run)
        if request.site == FLEET:
            raise InputError(f"a site cannot be called {FLEET}", "give it a name of its own")
        if kind != "build" or not isinstance(fleet_request, RunRequest) or view.result is None or view.state not in ENDED:
            raise ConflictError(f"the run {request.run} has no model to carry to a site", "finish that run first")
        if fleet_request.scenario.interface.foretold:
            raise ConflictError("a model of numbers is not carried to a site by a few labels", NUMBERS_NEXT)
        self._fleet: Json = view.result
        self._scenario = site_scenario(fleet_request.scenario, request)
        self._stage: Stage = msgspec.convert(self._fleet["stage"], Stage)
        self._head: Head = msgspec.convert(self._fleet["head"], Head)
        self._purpose = site_purpose(self._scenario.purpose)
        self._agreements = {request.site: shop.jobs.agreement_digest(request.site, self._purpose)}
        self._asset: Asset = shop.jobs.owner(request.site, self._purpose)
        if self._asset.groups_holdout != self._asset.records_holdout:
            raise ConflictError(
                f"the records for proof at {request.site} are not drawn one by one: {self._asset.records_holdout} in"
                f" {self._asset.groups_holdout} groups",
                "lay the site's folder out with `isthmus replicate`, which draws them",
            )
        self._round = 0

    def walk(self) -> tuple[bool, Json]:
        """(certified, result). Raises IsthmusError when the site's node refuses or cannot fit."""
        ladder = self._step("bars", self._sign_bars)
        heads = self._step("site-head", self._heads)
        calibration = self._step("calibration", lambda: self._calibration(heads))
        rungs: list[SiteRung] = []
        for bars in ladder:
            rungs.append(self._rung(bars, heads, calibration))
            if not rungs[-1].passed:
                break
        best = next((rung for rung in reversed(rungs) if rung.passed), rungs[0])
        others = self._others(heads, best)
        audit = self._step("audit", lambda: self._measured(best.head, best.digest, others, "audit", ()))
        certificate = None
        if best.passed and best.verdict is not None and best.evidence is not None:
            found = Proof(best.verdict, best.evidence, best.head, best.digest)
            certificate = sign_certificate(self._shop, self._run_id, self._scenario, self._request.site, found, self._agreements)
        result = self._result(heads, calibration, rungs, best, audit)
        result["certificate"] = certificate
        return certificate is not None, result

    def _step(self, name: str, work: Callable[[], T]) -> T:
        self._shop.catalogue.step_now(self._run_id, name)
        began = self._shop.clock.monotonic_s()
        value = work()
        wall_s = round(self._shop.clock.monotonic_s() - began, 3)
        self._shop.catalogue.step_done(self._run_id, StepRecord(name=name, wall_s=wall_s, reused=False, detail={}))
        return value

    def _job(self, statistic: str, params: msgspec.Struct) -> Any:
        self._round += 1
        request = JobRequest(
            run_id=self._run_id,
            round=self._round,
            purpose=self._purpose,
            scenario=f"{self._scenario.id}@{self._scenario.version}",
            statistic=statistic,
            stage=self._stage,
            params=msgspec.to_builtins(params),
            roster=(self._request.site,),
            ttl_s=self._shop.job_ttl_s,
            models_to=self._scenario.serve.models_to,
            owners_share_ppm=self._scenario.serve.owners_ppm,
        )
        status = finished_job(self._shop, request)
        unchanged_agreements(self._shop, self._agreements, self._purpose)
        return status

    def _heads(self) -> AnyHeads:
        recipe = self._scenario.recipe
        params = SiteHeadParams(
            views=recipe.views,
            augmentations=recipe.training.augmentations,
            sure_weight=recipe.sure_weight,
            unsure_weight=recipe.unsure_weight,
            drawn_weight=recipe.drawn_weight,
            fleet=self._total_of(MOMENTS),
            fleet_penalty=float(self._fleet["penalty"]),
            factors=self._scenario.replicate.weightings,
            penalties=recipe.lambdas,
            head=None if self._head.forest is None else self._head,
            logistic=self._fleet_curve(),
        )
        status = self._job(SITE_HEAD, params)
        return site_heads_from(status.heads[self._request.site].array(), self._stage.dimension)

    def _fleet_curve(self) -> FleetCurve | None:
        """A logistic fleet's last round, and where it was asked; None for other heads."""
        if "irls" not in self._fleet:
            return None
        told = self._fleet["irls"]
        total = self._shop.jobs.status(told["job"]).total
        if total is None:
            raise ConflictError("the fleet's last round is gone", "run the fleet again")
        return FleetCurve(sums=total, coefficients=msgspec.convert(told["at"], Array))

    def _sign_bars(self) -> list[Bars]:
        """The site's bars of each promise, signed and kept before any sum is asked for."""
        ladder = site_ladder(self._scenario)
        for bars in ladder:
            self._shop.catalogue.keep_bars(bars_digest(bars), seal(self._shop.key, BARS_PAYLOAD_TYPE, bars))
        return ladder

    def _total_of(self, statistic: str) -> Array:
        total = self._shop.jobs.status(self._fleet["jobs"][statistic]).total
        if total is None:
            raise ConflictError("the fleet's sums are gone", "run the fleet again")
        return total

    def _calibration(self, heads: AnyHeads) -> Calibration:
        """Both sides under the fleet's own head: its fold-out scores, of trees those of groups set aside, and the site's records, which it
        never saw."""
        calibrated = self.scored_by if self._head.forest is None else ASIDE_SCORES
        fleet = foldout_from(self._total_of(calibrated).array().astype(np.int64), 1).histogram[0]
        test = exchangeability(fleet, heads.histograms[SITE_HEADS.index(FLEET)])
        own = smoothed(heads.histograms[heads.best])
        return Calibration(test, own + fleet if test.trusted else own)

    def _thresholds(self, bars: Bars, histogram: Floats) -> Thresholds:
        return choose_thresholds(histogram, self._plan(bars, ANSWERED_SHARE))

    def _plan(self, bars: Bars, share: float) -> ThresholdPlan:
        """For the records that are kept for proof; where they could not prove the promise at all, for those that could. share: of records,
        that count for it."""
        confidence, bar = bars.confidence_ppm / PPM, bars.error_ppm_max / PPM
        records = max(self._asset.records_holdout, round(needed_samples(bar, confidence) / share))
        return ThresholdPlan(
            bar=bar,
            records=records,
            groups=records,
            design_effect=1.0,
            bound=lambda errors, n, effect, groups: korn_graubard_bounds(errors, n, effect, groups, confidence),
            power=self._scenario.certify.planning_power,
            recall_min=bars.recall_ppm_min / PPM,
            specificity_min=bars.specificity_ppm_min / PPM,
        )

    def _rung(self, bars: Bars, heads: AnyHeads, calibration: Calibration) -> SiteRung:
        promise = f"{bars.error_ppm_max / 10_000:g}%"
        thresholds = self._thresholds(bars, calibration.histogram)
        head = self._document(heads, heads.best, thresholds.lo, thresholds.hi)
        digest = self._step(f"artefact {promise}", lambda: self._artefact(head))
        corruptions = tuple(Corruption(family=f, severity=s) for f in bars.families for s in bars.severities)
        counted = self._step(f"proof {promise}", lambda: self._measured(head, digest, {}, "holdout", corruptions))
        verdict, evidence = self._judge(bars, counted, calibration)
        return SiteRung(bars, thresholds, head, digest, counted, verdict, evidence)

    def _document(self, heads: AnyHeads, index: int, lo: float, hi: float) -> Head:
        """A candidate as a head document; the fleet's trees are in all but that of the site alone."""
        assert isinstance(heads, SiteHeads)
        values, forest = heads.heads[index], self._head.forest if SITE_HEADS[index] != LOCAL else None
        return Head(
            stage=self._stage,
            coefficients=Array.of(values[1:]),
            bias=float(values[0]),
            lo=lo,
            hi=hi,
            decoder=decoder_of(self._stage),
            forest=forest,
            link=self._head.link,
        )

    def _others(self, heads: AnyHeads, best: SiteRung) -> dict[str, Head]:
        """What the chosen head is compared with: the fleet's as it serves elsewhere, with the fleet's thresholds, and the site's labels
        alone, with thresholds of their own."""
        found = {}
        for index, name in enumerate(SITE_HEADS):
            if index == heads.best or not heads.known[index]:
                continue
            lo, hi = self._head.lo, self._head.hi
            if name != FLEET:
                own = self._thresholds(best.bars, smoothed(heads.histograms[index]))
                lo, hi = own.lo, own.hi
            found[name] = self._document(heads, index, lo, hi)
        return found

    def _artefact(self, head: Head) -> str:
        raw = build_artefact(head)
        digest = artefact_digest(raw)
        self._shop.catalogue.add_model(digest, head, raw)
        return digest

    def _measured(
        self, head: Head, digest: str, others: dict[str, Head], split: str, corruptions: tuple[Corruption, ...]
    ) -> Counted | None:
        """(head, condition) -> counts on one split of the site's records; None when it has none."""
        count = self._asset.records_holdout if split == "holdout" else self._asset.records_audit
        if count == 0:
            return None
        params = EvaluateParams(
            artefact=digest,
            head=head,
            others=tuple(NamedHead(name=name, head=other) for name, other in others.items()),
            corruptions=corruptions,
            records=split,
        )
        status = self._job(EVALUATE, params)
        keys = evaluation_keys(params)
        parts = status.total.array().astype(np.int64).reshape(len(keys), EVALUATION_SIZE)
        return {(key.head, key.condition): evaluation_from(part) for key, part in zip(keys, parts, strict=True)}

    def _judge(self, bars: Bars, proof: Counted | None, calibration: Calibration) -> tuple[Verdict | None, Evidence | None]:
        if proof is None:
            return None, None
        names = {condition_name(Corruption(family=f, severity=s)): (f, s) for f in bars.families for s in bars.severities}
        evidence = Evidence(
            clean=proof[(JOINT, CLEAN)],
            corrupted={names[condition]: found for (_, condition), found in proof.items() if condition in names},
            design_effect=1.0,
            probability=self._head.link == "logistic",
        )
        verdict = judged(bars, evidence)
        notes = [f"thresholds rest on the scores of: {calibration.basis}", conditions_note(self._scenario, bars)]
        return replace(verdict, notes=(*verdict.notes, *(note for note in notes if note))), evidence

    def _result(self, heads: AnyHeads, calibration: Calibration, rungs: list[SiteRung], best: SiteRung, audit: Counted | None) -> Json:
        verdict = best.verdict
        found = self._arithmetic(best, audit)
        return {
            "site": self._request.site,
            "fleet_run": self._request.run,
            "fit": self._asset.records_train,
            "proof": self._asset.records_holdout,
            "audit": self._asset.records_audit,
            "best": SITE_HEADS[heads.best],
            "candidates": self._candidates(heads, audit),
            "head": msgspec.to_builtins(best.head),
            "artefact_digest": best.digest,
            "bars": msgspec.to_builtins(best.bars),
            "bars_digest": bars_digest(best.bars),
            "thresholds": {**asdict(best.thresholds), "basis": calibration.basis},
            "exchangeability": asdict(calibration.test),
            "promises": [_rung_row(rung) for rung in rungs],
            "arithmetic": found,
            "passed": best.passed,
            "failures": [found["sentence"]] if verdict is None else list(verdict.failures),
            "notes": [] if verdict is None else list(verdict.notes),
            "claims": None if verdict is None else msgspec.to_builtins(verdict.claims),
        }

    def _arithmetic(self, best: SiteRung, audit: Counted | None) -> Json:
        """Of the promise that is proven, or of the easiest."""
        seen = audit or best.counted
        clean = None if seen is None else seen[(JOINT, CLEAN)].counts
        share = best.thresholds.share if clean is None or not clean["records"] else self._proof_share(clean)
        counts = {"answered": 0, "errors": 0} if best.counted is None else self._proof_counts(best.counted[(JOINT, CLEAN)])
        bars = best.bars
        found = arithmetic(
            bars.error_ppm_max / PPM,
            bars.confidence_ppm / PPM,
            self._asset.records_holdout,
            counts["answered"],
            counts["errors"],
            share,
            alarms=best.bars.promise == ALARMS,
        )
        return asdict(found)

    def _proof_share(self, counts: Mapping[str, int]) -> float:
        """The share of records that prove."""
        return counts["answered"] / counts["records"]

    def _proof_counts(self, found: Evaluation) -> dict[str, int]:
        """What the arithmetic counts: records that prove, and errors among them."""
        return found.counts

    def _candidates(self, heads: AnyHeads, audit: Counted | None) -> Json:
        found: Json = {}
        for index, name in enumerate(SITE_HEADS):
            if not heads.known[index]:
                continue
            measured = None if audit is None else audit[(JOINT if index == heads.best else name, CLEAN)]
            found[name] = {
                "loss": float(heads.losses[index]),
                "factor": float(heads.factors[index]),
                "penalty": float(heads.penalties[index]),
                "auc": None if measured is None else auc(measured.histogram),
                "counts": None if measured is None else measured.counts,
            }
        return found


def _rung_row(rung: SiteRung) -> Json:
    verdict = rung.verdict
    return {
        "error_ppm_max": rung.bars.error_ppm_max,
        "bars_digest": bars_digest(rung.bars),
        "artefact_digest": rung.digest,
        "thresholds": asdict(rung.thresholds),
        "passed": rung.passed,
        "failures": [] if verdict is None else list(verdict.failures),
        "claims": None if verdict is None else msgspec.to_builtins(verdict.claims),
    }
