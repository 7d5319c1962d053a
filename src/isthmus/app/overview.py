"""What the console shows of a running exchange."""

from __future__ import annotations

from isthmus.app.catalogue import Catalogue
from isthmus.console.pages import DeploymentRow, HoldRow, Overview, ReceiptRow, ScenarioRow
from isthmus.contracts.build import RunRequest, RunView, SiteRequest
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import NotFoundError
from isthmus.contracts.life import ComparisonRequest
from isthmus.contracts.ports import Clock
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

    def __init__(self, catalogue: Catalogue, registry: Registry, meter: Meter, clock: Clock) -> None:
        self._catalogue, self._registry, self._meter, self._clock = catalogue, registry, meter, clock

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
            holds=holds,
            receipts=receipts,
            receipts_total=self._meter.log.size(),
            entries_sum_micros=sum(abs(total) for total in unit_sums(self._meter.db).values()),
        )

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
