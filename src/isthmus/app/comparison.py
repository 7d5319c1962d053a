"""Compares two versions of a deployment over the owners' held-out records: both judge the same records, and only counts leave."""

from __future__ import annotations

from dataclasses import asdict

import msgspec
import numpy as np

from isthmus.app.build import Build
from isthmus.app.lives import Lives
from isthmus.app.site import site_purpose, site_scenario
from isthmus.app.workshop import Workshop, finished_job
from isthmus.assurance.noninferiority import noninferiority, records_needed
from isthmus.contracts.bars import PPM
from isthmus.contracts.build import RunRequest, StepRecord
from isthmus.contracts.errors import ConflictError, InputError
from isthmus.contracts.job import JobRequest
from isthmus.contracts.life import ComparisonOrder, ComparisonRequest, DeployedVersion
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import PAIR, PairParams
from isthmus.contracts.sums import OUTCOMES, pair_from
from isthmus.kit.canonical import digest_of

PAIR_ID_CHARS = 24
MARGIN_PPM_MAX = 500_000
"""How much worse a version may be that replaces another, in parts per million of all records."""


def comparison_request(lives: Lives, name: str, order: ComparisonOrder) -> ComparisonRequest:
    """The order with its versions named. Raises NotFoundError, ConflictError (nothing serves, or nothing is proposed), InputError."""
    if not all(0 < margin <= MARGIN_PPM_MAX for margin in (order.margin_ppm, order.lost_margin_ppm)):
        raise InputError("a margin is not between 0 and one half", f"give parts per million, 1 to {MARGIN_PPM_MAX}; 2 % is 20000")
    if not PPM // 2 <= order.confidence_ppm < PPM:
        raise InputError(
            f"a confidence of {order.confidence_ppm} parts per million cannot be used", "give 500000 to 999999; 95 % is 950000"
        )
    life = lives.life(name)
    if life.current is None:
        raise ConflictError(f"nothing serves as {name}, so there is nothing to compare with", "upgrade without a comparison")
    return ComparisonRequest(
        deployment=name,
        old=life.current,
        new=lives.upgrade_target(name, life, order.to),
        margin_ppm=order.margin_ppm,
        lost_margin_ppm=order.lost_margin_ppm,
        confidence_ppm=order.confidence_ppm,
    )


class Comparison:
    """One comparison, walked from the top like a Build."""

    def __init__(self, shop: Workshop, lives: Lives, run_id: str, request: ComparisonRequest) -> None:
        self._shop, self._run_id, self._request = shop, run_id, request
        versions = lives.life(request.deployment).versions
        self._old, self._new = versions[request.old], versions[request.new]
        self._purpose, self._roster, self._scenario = terms_of(shop, self._new)
        self._site = len(self._roster) == 1

    def basis(self) -> Json:
        """What makes an equal request another comparison."""
        artefacts = [version.deployment.artefact_digest for version in (self._old, self._new)]
        return {"artefacts": artefacts, "agreements": [self._shop.jobs.agreement_digest(party, self._purpose) for party in self._roster]}

    def walk(self) -> tuple[bool, Json]:
        """(whether the new version is shown not to be inferior, what was found). Raises IsthmusError when a node refuses."""
        self._shop.catalogue.step_now(self._run_id, "compare")
        began = self._shop.clock.monotonic_s()
        if self._scenario.interface.foretold:
            raise ConflictError(
                "two models of numbers are not compared pair by pair",
                "each is certified by itself: upgrade with --accept-worse and the reason",
            )
        old, new = (self._shop.catalogue.head(version.deployment.artefact_digest) for version in (self._old, self._new))
        # the job is named by the pair: asked again with other margins, it is the same job, and nothing more leaves an owner
        request = JobRequest(
            run_id="pair_" + digest_of(self.basis()).removeprefix("sha256:")[:PAIR_ID_CHARS],
            round=1,
            purpose=self._purpose,
            scenario=self._new.scenario,
            statistic=PAIR,
            stage=new.stage,
            params=msgspec.to_builtins(PairParams(old=old, new=new)),
            roster=self._roster,
            ttl_s=self._shop.job_ttl_s,
            models_to=self._scenario.serve.models_to,
            owners_share_ppm=self._scenario.serve.owners_ppm,
        )
        status = finished_job(self._shop, request)
        assert status.total is not None
        sums = pair_from(status.total.array().astype(np.int64))
        wall_s = round(self._shop.clock.monotonic_s() - began, 3)
        self._shop.catalogue.step_done(self._run_id, StepRecord(name="compare", wall_s=wall_s, reused=False, detail={}))
        wanted, certify = self._request, self._scenario.certify
        margins = wanted.margin_ppm / PPM, wanted.lost_margin_ppm / PPM
        # a site's records are drawn one by one, each its own group; elsewhere a few disagreements cannot show how they cluster
        least = 1.0 if self._site else certify.planning_design_effect
        found = noninferiority(sums, *margins, wanted.confidence_ppm / PPM, certify.groups_min, least)
        return found.passed, {
            **msgspec.to_builtins(wanted),
            "passed": found.passed,
            "records": found.records,
            "groups": found.groups,
            "outcomes": list(OUTCOMES),
            "table": sums.table.tolist(),
            "differences": [{**asdict(one), "holds": one.holds} for one in found.differences],
            "failures": list(found.failures),
            "records_needed": records_needed(sums, found, certify.groups_min),
            "parties": list(self._roster),
            "job": status.id,
        }


def terms_of(shop: Workshop, version: DeployedVersion) -> tuple[str, tuple[str, ...], Scenario]:
    """(purpose, roster, scenario) by which the version's run asked its owners. Raises ConflictError when no run is known."""
    if not version.run or version.run.startswith("adopted-"):
        raise ConflictError(f"version {version.number} was not made by a run that is known here", "compare with a version that was")
    _, request = shop.catalogue.request_of(version.run)
    if isinstance(request, RunRequest):
        took_part = set((shop.catalogue.view(version.run).result or {}).get("owners", request.owners))
        return Build.purpose_of(request), tuple(sorted(took_part - set(request.without))), request.scenario
    scenario = site_scenario(shop.catalogue.request_of(request.run)[1].scenario, request)
    return site_purpose(scenario.purpose), (request.site,), scenario
