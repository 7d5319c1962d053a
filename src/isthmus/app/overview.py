"""What the console shows of a running exchange."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isthmus.app.catalogue import Catalogue
from isthmus.app.lives import Lives
from isthmus.app.shadows import Shadows
from isthmus.console.pages import STEPS_MAX, DeploymentRow, HoldRow, LifeRow, Overview, ReceiptRow, ScenarioRow, StepRow
from isthmus.contracts.build import RunRequest, RunView, SiteRequest
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import LogTamperedError, NotFoundError
from isthmus.contracts.life import ComparisonRequest, DeploymentView, LifeStep
from isthmus.contracts.ports import Clock
from isthmus.contracts.withdrawal import Departure
from isthmus.gateway.registry import Loaded, Registry
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import payload_of
from isthmus.ledger.check import unit_sums
from isthmus.ledger.meter import Meter

BUILD_STEPS = ("bars", "moments", "fit", "fold-out", "own-heads", "certify")
PROMISE_STEPS = ("clusters", "artefact", "evaluate")
SITE_STEPS = ("site-head", "artefact", "audit", "proof", "judge")


def steps_most(request: RunRequest | SiteRequest | ComparisonRequest) -> int:
    """How many steps a run has when every promise is tried; it may end with fewer."""
    if isinstance(request, ComparisonRequest):
        return 1
    if isinstance(request, SiteRequest):
        return len(SITE_STEPS)
    return len(BUILD_STEPS) + len(PROMISE_STEPS) * len(request.scenario.certify.promises_ppm)


class ExchangeOverview:
    """See `console.pages.ReadModel`."""

    def __init__(
        self,
        catalogue: Catalogue,
        registry: Registry,
        meter: Meter,
        clock: Clock,
        lives: Lives,
        shadows: Shadows,
        departures: Callable[[], Sequence[Departure]] = tuple,
    ) -> None:
        self._catalogue, self._registry, self._meter, self._clock = catalogue, registry, meter, clock
        self._lives, self._shadows, self._departures = lives, shadows, departures

    def overview(self, rows_max: int) -> Overview:
        runs = self._catalogue.runs()[:rows_max]
        scenarios = tuple(
            ScenarioRow(name=f"{r.scenario} ({r.id[:12]})", state=r.state, progress=self._progress(r) if r.state == "running" else None)
            for r in runs
        )
        holds = tuple(
            HoldRow(id=h.id, party=h.account.party, amount_micros=h.amount, currency=h.account.unit, expires_at_ms=h.expires_at_ms)
            for h in self._meter.open_holds()[:rows_max]
        )
        receipts = tuple(
            ReceiptRow(
                id=r.id,
                at_ms=r.at_ms,
                outcome=r.outcome,
                charge_micros=r.charge_micros,
                currency=str(r.sections["price"].body["price"]["currency"]),
            )
            for r in self._meter.receipts.latest(rows_max)
        )
        return Overview(
            at_ms=int(self._clock.now_s() * 1000),
            scenarios=scenarios,
            deployments=tuple(self._deployment(entry) for entry in self._registry.serving()[:rows_max]),
            lives=tuple(self._life(view) for view in self._lives.views()[:rows_max]),
            holds=holds,
            receipts=receipts,
            receipts_total=self._meter.log.size(),
            entries_sum_micros=sum(abs(total) for total in unit_sums(self._meter.db).values()),
        )

    def _life(self, view: DeploymentView) -> LifeRow:
        try:
            steps = self._lives.steps(view.name)
        except LogTamperedError:  # the view says what is wrong with its record
            steps = []
        serving = next((one.version.scenario for one in view.versions if one.version.number == view.current), "")
        left = self._left(view) if view.problem else ""
        return LifeRow(
            name=view.name,
            site=view.site,
            state=view.state,
            current=view.current,
            scenario=serving,
            problem=f"{view.problem}: {left}" if left else view.problem,
            shadow=self._shadow(view.name),
            earlier=max(0, len(steps) - STEPS_MAX),
            steps=tuple(_step(step) for step in steps[-STEPS_MAX:]),
        )

    def _left(self, view: DeploymentView) -> str:
        """Who left, where that is why the version that serves has lapsed, and what is made in its place."""
        run = next((one.version.run for one in view.versions if one.version.number == view.current), "")
        for found in self._departures():
            if run in {model.run for model in found.lapsed}:
                who = ", ".join(leaver.party for leaver in found.leavers)
                again = f"{found.refit.run} is {found.refit.state}" if found.refit.run else f"it is not made again ({found.refit.way})"
                return f"{who} left, {again}"
        return ""

    def _shadow(self, name: str) -> str:
        try:
            found = self._shadows.view(name)
        except NotFoundError:
            return ""
        changed = sum(count for row, counts in enumerate(found.table) for column, count in enumerate(counts) if row != column)
        compared = f"{found.requests} of {found.wanted} requests compared, {changed} verdicts differ"
        return f"version {found.new} as shadow of {found.old}: {compared}{'' if found.state == 'running' else f' ({found.state})'}"

    def _progress(self, run: RunView) -> float:
        return min(1.0, len(run.steps) / steps_most(self._catalogue.request_of(run.id)[1]))

    def _expires_at_ms(self, deployment: Deployment) -> int | None:
        try:
            envelope = self._catalogue.certificate(deployment.certificate_digest)
        except NotFoundError:
            return None
        return int(parse_canonical(payload_of(envelope))["predicate"]["not_after_s"]) * 1000

    def _deployment(self, entry: Loaded) -> DeploymentRow:
        deployment = entry.deployment
        return DeploymentRow(
            name=deployment.name,
            site=deployment.site,
            tier=deployment.tier,
            serving=self._registry.ready(entry),
            artefact_digest=deployment.artefact_digest,
            expires_at_ms=self._expires_at_ms(deployment),
            problem=str(entry.stopped) if entry.stopped else "",
        )


def _step(step: LifeStep) -> StepRow:
    return StepRow(
        at_ms=step.at_s * 1000,
        action=step.action,
        before=step.before,
        after=step.after,
        brought=None if step.version is None else step.version.number,
        who=step.who,
        why=step.why,
    )
