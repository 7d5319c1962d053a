"""Carries a certified run to another site: fleet's sums and a few local labels -> site model -> certificate or refusal.

The site's records stay at its node: the fleet's total goes there, and only the fitted heads and counts come back. Records for
proof are drawn one by one at random from the site's stock, so each is a group of its own and the promise is about that stock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import numpy as np

from isthmus.app.build import FLEET, Proof, Workshop, finished_job, sign_certificate, unchanged_agreements
from isthmus.assurance.arithmetic import arithmetic
from isthmus.assurance.auc import auc
from isthmus.assurance.bars import Verdict, judge
from isthmus.assurance.evidence import Evidence
from isthmus.contracts.asset import Asset
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.build import ENDED, RunRequest, SiteRequest, StepRecord
from isthmus.contracts.errors import ConflictError, InputError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.job import JobRequest
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import (
    EVALUATE,
    JOINT,
    SITE_HEAD,
    SITE_HEADS,
    Corruption,
    EvaluateParams,
    NamedHead,
    SiteHeadParams,
    SiteHeads,
    condition_name,
    evaluation_keys,
    site_heads_from,
)
from isthmus.contracts.sums import EVALUATION_SIZE, Evaluation, evaluation_from
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.stages import decoder_of

AT_SITE = "/site"
T = TypeVar("T")


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
    allowed = replace(of_run, serve=own.serve, replicate=own.replicate, certify=certify)
    if own != allowed:
        raise ConflictError(
            f"the site asks for another {', '.join(_different(own, allowed))} than the run {request.run} was certified with",
            "set only price, shares, weightings and validity for a site, or run the fleet anew with these values",
        )
    return own


class SiteBuild:
    """One site's run, walked from the top like a Build."""

    def __init__(self, shop: Workshop, run_id: str, request: SiteRequest) -> None:
        self._shop, self._run_id, self._request = shop, run_id, request
        kind, fleet_request = shop.catalogue.request_of(request.run)
        view = shop.catalogue.view(request.run)
        if request.site == FLEET:
            raise InputError(f"a site cannot be called {FLEET}", "give it a name of its own")
        if kind != "build" or not isinstance(fleet_request, RunRequest) or view.result is None or view.state not in ENDED:
            raise ConflictError(f"the run {request.run} has no model to carry to a site", "finish that run first")
        self._fleet: Json = view.result
        self._scenario = site_scenario(fleet_request.scenario, request)
        self._stage: Stage = msgspec.convert(self._fleet["stage"], Stage)
        self._head: Head = msgspec.convert(self._fleet["head"], Head)
        self._bars: Bars = msgspec.convert(self._fleet["bars"], Bars)
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
        heads = self._step("site-head", self._heads)
        known = {name: self._document(heads, index) for index, name in enumerate(SITE_HEADS) if heads.known[index]}
        best = SITE_HEADS[heads.best]
        head = known[best]
        digest = self._step("artefact", lambda: self._artefact(head))
        others = {name: other for name, other in known.items() if name != best}
        audit = self._step("audit", lambda: self._measured(head, digest, others, "audit", ()))
        corruptions = tuple(Corruption(family=f, severity=s) for f in self._bars.families for s in self._bars.severities)
        proof = self._step("proof", lambda: self._measured(head, digest, {}, "holdout", corruptions))
        verdict, evidence = self._step("judge", lambda: self._judge(proof))
        certificate = None
        if verdict is not None and evidence is not None and verdict.passed:
            found = Proof(verdict, evidence, head, digest)
            certificate = sign_certificate(self._shop, self._run_id, self._scenario, self._request.site, found, self._agreements)
        result = self._result(heads, known, best, digest, audit, proof)
        result["passed"] = certificate is not None
        result["failures"] = [result["arithmetic"]["sentence"]] if verdict is None else list(verdict.failures)
        result["claims"] = None if verdict is None else msgspec.to_builtins(verdict.claims)
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
        )
        status = finished_job(self._shop, request)
        unchanged_agreements(self._shop, self._agreements, self._purpose)
        return status

    def _heads(self) -> SiteHeads:
        recipe = self._scenario.recipe
        total = self._shop.jobs.status(self._fleet["jobs"]["moments/1"]).total
        if total is None:
            raise ConflictError("the fleet's sums are gone", "run the fleet again")
        params = SiteHeadParams(
            views=recipe.views,
            sure_weight=recipe.sure_weight,
            unsure_weight=recipe.unsure_weight,
            fleet=total,
            fleet_penalty=float(self._fleet["penalty"]),
            factors=self._scenario.replicate.weightings,
            penalties=recipe.lambdas,
        )
        status = self._job(SITE_HEAD, params)
        return site_heads_from(status.heads[self._request.site].array(), self._stage.dimension)

    def _document(self, heads: SiteHeads, index: int) -> Head:
        """A candidate with the fleet's thresholds: scores stay on the fleet's scale of -1 to +1."""
        values = heads.heads[index]
        return Head(
            stage=self._stage,
            coefficients=Array.of(values[1:]),
            bias=float(values[0]),
            lo=self._head.lo,
            hi=self._head.hi,
            decoder=decoder_of(self._stage),
        )

    def _artefact(self, head: Head) -> str:
        raw = build_artefact(head)
        digest = artefact_digest(raw)
        self._shop.catalogue.add_model(digest, head, raw)
        return digest

    def _measured(
        self, head: Head, digest: str, others: dict[str, Head], split: str, corruptions: tuple[Corruption, ...]
    ) -> dict[tuple[str, str], Evaluation] | None:
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

    def _judge(self, proof: dict[tuple[str, str], Evaluation] | None) -> tuple[Verdict | None, Evidence | None]:
        if proof is None:
            return None, None
        names = {condition_name(Corruption(family=f, severity=s)): (f, s) for f in self._bars.families for s in self._bars.severities}
        evidence = Evidence(
            clean=proof[(JOINT, "clean")],
            corrupted={names[condition]: found for (_, condition), found in proof.items() if condition in names},
            design_effect=1.0,
        )
        return judge(self._bars, evidence), evidence

    def _result(
        self,
        heads: SiteHeads,
        known: dict[str, Head],
        best: str,
        digest: str,
        audit: dict[tuple[str, str], Evaluation] | None,
        proof: dict[tuple[str, str], Evaluation] | None,
    ) -> Json:
        seen = audit or proof
        clean = None if seen is None else seen[(JOINT, "clean")].counts
        share = 0.0 if clean is None or not clean["records"] else clean["answered"] / clean["records"]
        counts = {"answered": 0, "errors": 0} if proof is None else proof[(JOINT, "clean")].counts
        found = arithmetic(
            self._bars.error_ppm_max / PPM,
            self._bars.confidence_ppm / PPM,
            self._asset.records_holdout,
            counts["answered"],
            counts["errors"],
            share,
        )
        candidates = {}
        for index, name in enumerate(SITE_HEADS):
            if name in known:
                measured = None if audit is None else audit[(JOINT if name == best else name, "clean")]
                candidates[name] = {
                    "loss": float(heads.losses[index]),
                    "factor": float(heads.factors[index]),
                    "penalty": float(heads.penalties[index]),
                    "auc": None if measured is None else auc(measured.histogram),
                    "counts": None if measured is None else measured.counts,
                }
        return {
            "site": self._request.site,
            "fleet_run": self._request.run,
            "fit": self._asset.records_train,
            "proof": self._asset.records_holdout,
            "audit": self._asset.records_audit,
            "best": best,
            "candidates": candidates,
            "head": msgspec.to_builtins(known[best]),
            "artefact_digest": digest,
            "thresholds": {"lo": self._head.lo, "hi": self._head.hi},
            "arithmetic": {name: getattr(found, name) for name in found.__dataclass_fields__},
        }
