"""After an owner has left: finds what descends from its records, lets it lapse at once, and has it made again where the terms allow.

Nothing here waits for an event that a crash could swallow: a turn compares what agreements say now with the runs that stand, so that the
next turn finds what the last one did not finish. Revoking comes first, then the record, then the new run; each is harmless twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from isthmus.app.build import AFTER_LEAVING, FLEET, Build
from isthmus.app.catalogue import Catalogue
from isthmus.app.edge import EdgeDesk
from isthmus.app.jobs import SandboxJobs
from isthmus.app.lives import Lives
from isthmus.app.refits import plan_refit
from isthmus.app.site import site_purpose
from isthmus.contracts.build import RunRequest, SiteRequest
from isthmus.contracts.errors import IsthmusError, JobRefusedError, NotFoundError
from isthmus.contracts.ports import Clock
from isthmus.contracts.withdrawal import Departure, LapsedBox, LapsedModel, Leaver, Refit, SiteRefit
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.log import Log
from isthmus.kit.signing import payload_of
from isthmus.sandbox.withdrawals import Withdrawals

NO_REFIT = "there is no new fleet's model to carry there"
Submit = Callable[[str, Any], str]
"""(kind, request) -> the run's id; the same request again is the same run."""


def newest_expiry(document: Any) -> int:
    """When a certificate's statement is over, in seconds since the Unix epoch."""
    return int(document["predicate"]["not_after_s"])


class Departures:
    """Thread-safe: one turn at a time."""

    def __init__(
        self,
        withdrawals: Withdrawals,
        jobs: SandboxJobs,
        catalogue: Catalogue,
        lives: Lives,
        edge: EdgeDesk,
        submit: Submit,
        clock: Clock,
        log: Log,
    ) -> None:
        self._withdrawals, self._jobs, self._catalogue, self._lives, self._edge = withdrawals, jobs, catalogue, lives, edge
        self._submit, self._clock, self._log = submit, clock, log
        self._lock = threading.Lock()

    def turn(self) -> None:
        """One look at who has left, and one step ahead with each model that is made again. Raises StorageError."""
        with self._lock:
            runs = {run: self._catalogue.request_of(run)[1] for run in self._catalogue.certified()}
            known: dict[tuple[str, str], Leaver | None] = {}
            for run, request in runs.items():
                leavers = self._leavers(run, request, known)
                before = self._withdrawals.departure(run)
                if leavers and {one.party for one in leavers} - {one.party for one in (before.leavers if before else ())}:
                    self._withdrawals.put(self._lapsed(run, request, leavers, runs, before))
            for departure in self._withdrawals.departures():
                ahead = self._ahead(departure)
                if ahead != departure:
                    self._withdrawals.put(ahead)

    def told(self) -> list[Departure]:
        """What became of every run that has lapsed, as it stands now."""
        return [self._followed(departure) for departure in self._withdrawals.departures()]

    # Who has left.

    def _leavers(self, run: str, request: Any, known: dict[tuple[str, str], Leaver | None]) -> tuple[Leaver, ...]:
        if isinstance(request, SiteRequest):
            pairs = [(request.site, self._site_purpose(request))]
        elif isinstance(request, RunRequest):
            pairs = [(party, Build.purpose_of(request)) for party in request.roster]
        else:
            return ()
        for pair in pairs:
            if pair not in known:
                known[pair] = self._leaver(*pair)
        return tuple(found for pair in pairs if (found := known[pair]) is not None)

    def _site_purpose(self, request: SiteRequest) -> str:
        return site_purpose(self._catalogue.request_of(request.run)[1].scenario.purpose)

    def _leaver(self, party: str, purpose: str) -> Leaver | None:
        """The owner as one who has left, by the newest agreement that it made for the purpose; None while that stands."""
        signed = self._jobs.signed_agreement(party, purpose)
        if signed is None:
            return None
        digest, agreement, _ = signed
        for name, word in self._withdrawals.of(digest):
            if purpose in word.purposes:
                return Leaver(party=party, cause="withdrawal", document=name, at_s=word.at_s, why=word.why)
        if self._clock.now_s() < agreement.expires_at_s:
            return None
        return Leaver(party=party, cause="expiry", document=digest, at_s=agreement.expires_at_s)

    # What lapses.

    def _lapsed(self, run: str, request: Any, leavers: tuple[Leaver, ...], runs: Mapping[str, Any], before: Departure | None) -> Departure:
        """Revokes every certificate that descends from the run, then tells what that was."""
        causes = {"withdrawal": "its agreement is withdrawn", "expiry": "its agreement has expired"}
        why = "; ".join(f"{one.party} has left: {causes[one.cause]}" for one in leavers)
        site = request.site if isinstance(request, SiteRequest) else FLEET
        sites = [(other, of) for other, of in runs.items() if isinstance(of, SiteRequest) and of.run == run]
        serving = self._current()
        models = [self._model(run, site, why, serving), *(self._model(other, of.site, why, serving) for other, of in sites)]
        for model in models:
            self._log.warning("model-lapsed", run=model.run, site=model.site, certificate=model.certificate, why=why)
        if before is not None and before.refit.state in ("running", "certified") and not models[0].deployments:
            return msgspec.structs.replace(before, leavers=leavers)
        own = isinstance(request, SiteRequest)
        later = [] if own else [SiteRefit(site=m.site, old=m.run) for m in models[1:] if m.deployments]
        scenario = self._catalogue.request_of(request.run)[1].scenario if own else request.scenario
        return Departure(
            run=run,
            scenario=f"{scenario.id}@{scenario.version}",
            purpose=self._site_purpose(request) if own else Build.purpose_of(request),
            leavers=leavers,
            lapsed=tuple(models),
            refit=Refit(way="too-few", reason=f"{site} was the only one whose labels this model has")
            if own
            else self._planned(request, leavers, models[0]),
            sites=tuple(later),
        )

    def _current(self) -> dict[str, list[str]]:
        """run -> names of deployments whose current version it made."""
        found: dict[str, list[str]] = {}
        for name in self._lives.names():
            try:
                serving = self._lives.life(name).serving
            except IsthmusError as error:  # a record that was damaged is told by its own view, and serves nothing
                self._log.error("life-unread", deployment=name, message=str(error))
                continue
            if serving is not None:
                found.setdefault(serving.run, []).append(name)
        return found

    def _model(self, run: str, site: str, why: str, serving: Mapping[str, list[str]]) -> LapsedModel:
        boxes: list[LapsedBox] = []
        issued = self._catalogue.issued_by(run)
        for certificate in issued:
            self._catalogue.revoke(certificate, why)
            until_s = newest_expiry(parse_canonical(payload_of(self._catalogue.certificate(certificate))))
            boxes += [LapsedBox(box=box, party=party, lapses_at_s=until_s) for box, party in self._edge.copies(certificate)]
        result = self._catalogue.view(run).result or {}
        return LapsedModel(
            run=run,
            site=site,
            artefact=result.get("artefact_digest", ""),
            certificate=issued[-1] if issued else "",
            deployments=tuple(serving.get(run, ())),
            boxes=tuple(boxes),
        )

    # What is made again.

    def _planned(self, request: RunRequest, leavers: tuple[Leaver, ...], model: LapsedModel) -> Refit:
        if not model.deployments:
            return Refit(way="not-serving", reason="it serves nowhere, so nothing is made in its place")
        purpose = Build.purpose_of(request)
        signed = {party: self._jobs.signed_agreement(party, purpose) for party in request.roster}
        terms = {party: found[1] for party, found in signed.items() if found is not None}
        after = [party for party in request.roster if self._stands(party, request.scenario.purpose + AFTER_LEAVING)]
        plan = plan_refit(request, [one.party for one in leavers], terms, after)
        if plan.request is None:
            return Refit(way=plan.way, reason=plan.reason, next=plan.next)
        try:
            return Refit(way=plan.way, run=self._submit("build", plan.request), state="running")
        except IsthmusError as error:
            return Refit(way=plan.way, reason=error.message, next=error.next_step)

    def _stands(self, party: str, purpose: str) -> bool:
        return self._jobs.signed_agreement(party, purpose) is not None and self._leaver(party, purpose) is None

    def _ahead(self, departure: Departure) -> Departure:
        """The departure, with a run that failed asked for again and sites' runs asked for once the fleet's is there."""
        found = self._followed(departure)
        refit = found.refit
        if refit.state == "failed" and not self._final(refit.run):
            self._again("build", refit.run)
            refit = msgspec.structs.replace(refit, state="running")
        sites = tuple(self._site_ahead(site, refit) for site in found.sites)
        return msgspec.structs.replace(found, refit=refit, sites=sites)

    def _final(self, run: str) -> bool:
        """Whether owners refused: asking again would not help."""
        return (self._catalogue.view(run, with_result=False).error or {}).get("code") == JobRefusedError.code

    def _again(self, kind: str, run: str) -> None:
        try:
            self._submit(kind, self._catalogue.request_of(run)[1])
        except IsthmusError as error:
            self._log.warning("refit-not-begun", run=run, message=str(error))

    def _site_ahead(self, site: SiteRefit, refit: Refit) -> SiteRefit:
        if site.state == "waits" and refit.state == "certified":
            wanted = msgspec.structs.replace(self._catalogue.request_of(site.old)[1], run=refit.run)
            try:
                return msgspec.structs.replace(site, run=self._submit("site", wanted), state="running")
            except IsthmusError as error:
                return msgspec.structs.replace(site, state="lapsed", reason=error.message)
        if site.state == "waits" and (refit.state in ("refused", "none") or (refit.state == "failed" and self._final(refit.run))):
            return msgspec.structs.replace(site, state="lapsed", reason=NO_REFIT)
        return site

    def _followed(self, departure: Departure) -> Departure:
        """The departure with its runs' states as they are now."""
        refit, sites = departure.refit, departure.sites
        if refit.run:
            view = self._catalogue.view(refit.run)
            result, error = view.result or {}, view.error or {}
            reason = error.get("message", "; ".join(result.get("failures", ())) if view.state == "refused" else "")
            sums = {name: tuple(digests) for name, digests in result.get("sums", {}).items()}
            told = {"state": view.state, "reason": reason, "next": error.get("next", "")}
            refit = msgspec.structs.replace(refit, artefact=result.get("artefact_digest", ""), sums=sums, **told)
        return msgspec.structs.replace(departure, refit=refit, sites=tuple(self._site_followed(site) for site in sites))

    def _site_followed(self, site: SiteRefit) -> SiteRefit:
        if not site.run:
            return site
        view = self._catalogue.view(site.run)
        reason = (view.error or {}).get("message", "")
        return msgspec.structs.replace(site, state=view.state, reason=reason)

    def departure(self, run: str) -> Departure:
        """What became of one run. Raises NotFoundError."""
        found = self._withdrawals.departure(run)
        if found is None:
            raise NotFoundError(f"the run {run!r} has not lapsed, or is not known here", "list them: isthmus withdrawal list")
        return self._followed(found)
