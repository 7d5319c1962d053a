"""The exchange: every room wired together over one state folder."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from isthmus import __version__
from isthmus.access.keys import KeyRing, open_keys
from isthmus.app.attendance import Attendance
from isthmus.app.build import Build
from isthmus.app.build_routes import BuildService, build_routes
from isthmus.app.builders import site_build_of
from isthmus.app.catalogue import Catalogue, write_whole
from isthmus.app.certificate_gate import CertificateGate
from isthmus.app.comparison import Comparison
from isthmus.app.contribution import ContributionRound, check_scorable, site_weights
from isthmus.app.deletions import Deletions
from isthmus.app.deploy import EXCHANGE, Deployer, Made
from isthmus.app.edge import EdgeDesk
from isthmus.app.edge_routes import edge_routes
from isthmus.app.gateway_routes import gateway_routes
from isthmus.app.jobs import SandboxJobs
from isthmus.app.leave_routes import LeaveService, leave_routes
from isthmus.app.leaving import Departures
from isthmus.app.ledger_routes import LedgerService, ledger_routes
from isthmus.app.life_routes import LifeService, life_routes
from isthmus.app.lives import Lives
from isthmus.app.lotterms import LotTerms
from isthmus.app.overview import ExchangeOverview
from isthmus.app.question_routes import question_routes
from isthmus.app.questions import Questions
from isthmus.app.sandbox_routes import sandbox_routes
from isthmus.app.screening import remarks, screen
from isthmus.app.shadows import Shadows
from isthmus.app.site import site_purpose, site_scenario
from isthmus.app.upkeep import Upkeep
from isthmus.app.worker import Walk, Worker
from isthmus.app.workshop import JOB_TTL_S, SILENCE_S, Workshop
from isthmus.assurance.probes import probed
from isthmus.console.pages import console_routes
from isthmus.contracts.build import RunRequest, SiteRequest
from isthmus.contracts.errors import AuthError, ExchangeStateError, ForbiddenError, StorageError
from isthmus.contracts.life import ComparisonRequest
from isthmus.contracts.ports import Clock, Json
from isthmus.foundry.engine_process import EngineProcess
from isthmus.gateway.limits import ENGINES_AWAKE_MAX
from isthmus.gateway.registry import Registry
from isthmus.gateway.service import DECODERS, Service
from isthmus.kit.filelock import held
from isthmus.kit.log import Log
from isthmus.kit.signing import SigningKey
from isthmus.ledger.book import open_book
from isthmus.ledger.meter import Meter
from isthmus.sandbox.jobstore import JobStore
from isthmus.sandbox.notices import NoticeBoard
from isthmus.sandbox.service import NO_PROMISES, Promises, SandboxService
from isthmus.sandbox.withdrawals import Withdrawals

OPERATOR_TOKEN = "operator.token"


@dataclass(frozen=True)
class House:
    """The operator's settings of an exchange. job_ttl_s: how long owners have for one job. awake_max: engines that may run. invited_only:
    whether a new party needs an invitation. silence_s: how long a node may be silent before a run goes on without it.
    promises: what the exchange signs of itself in every job."""

    job_ttl_s: int = JOB_TTL_S
    awake_max: int = ENGINES_AWAKE_MAX
    invited_only: bool = False
    silence_s: int = SILENCE_S
    promises: Promises = NO_PROMISES


DEFAULT_HOUSE = House()


class Exchange:
    """One exchange over `state`. Use `opened`; then `app` is an ASGI application."""

    def __init__(self, state: Path, clock: Clock, log: Log, house: House = DEFAULT_HOUSE) -> None:
        self.state, self.clock, self.log, self.house = state, clock, log, house
        self.key = SigningKey.load_or_create(state / "exchange.key")
        self.catalogue = Catalogue(state, clock)
        self.jobstore = JobStore(state / "sandbox.sqlite")
        self.withdrawals = Withdrawals(state / "withdrawals.sqlite")
        self.sandbox = SandboxService(
            self.jobstore, self.key, clock, house.promises, invited_only=house.invited_only, withdrawals=self.withdrawals
        )
        self.notices = self.sandbox.notices = NoticeBoard(state / "notices.sqlite", self.key)
        self.keys_db = open_keys(state / "keys.sqlite")
        self.keys = KeyRing(self.keys_db, clock)
        self.book_db = open_book(state / "book.sqlite")
        self.meter = Meter(self.book_db, clock, self.key)
        gate = CertificateGate(self.catalogue, {self.key.key_id: self.key.public_hex})
        self.registry = Registry(gate, EngineProcess, clock, DECODERS, house.awake_max)
        self.lives = Lives(state, self.registry, self.catalogue.artefact_path, self.key, clock)
        self.deployer = Deployer(self.catalogue, self.lives, self.meter.prices)
        self.edge = EdgeDesk(state / "edge.sqlite", clock, self.key, self.catalogue, self.registry, self.meter, self.keys, EXCHANGE)
        self.shadows = Shadows(state, self.lives, self.registry, self.catalogue.artefact_path)
        self.serving = Service(self.registry, self.keys, self.meter, clock, __version__, self.shadows.see)
        self.jobs = SandboxJobs(self.sandbox)
        self.questions = Questions(state, self.sandbox, clock)
        walks: dict[str, Walk] = {"build": self._build, "site": self._site, "comparison": self._comparison}
        self.worker = Worker(self.catalogue, walks, clock, log, after=lambda: self.departures.turn())
        self.departures = Departures(self.withdrawals, self.jobs, self.catalogue, self.lives, self.edge, self._submitted, clock, log)
        self.deletions = Deletions(self.sandbox, self.jobstore, self.catalogue, self.lives, self.key, clock)
        self.upkeep = Upkeep(self._expire, log)
        self.operator_token = self._operator_token()

    def _submitted(self, kind: str, request: Any) -> str:
        """Begins a run on the agreements that stand, or finds it."""
        return self.worker.submit(kind, request, self._basis(kind, request))

    def _expire(self) -> None:
        """Ends attempts and agreements that stayed open beyond their time, and deletes what an ended agreement asks to be deleted."""
        ended = self.meter.expire(self.clock.now_s())
        if ended:
            self.log.warning("holds-expired", count=len(ended))
        for negotiation in self.sandbox.desk.expire():
            self.log.warning("agreement-ended", owner=negotiation.owner, agreement=negotiation.agreement or "", state=negotiation.state)
        self.departures.turn()
        for record in self.deletions.turn():
            self.log.warning("deleted", owner=record.owner, agreement=record.agreement, jobs=len(record.jobs), models=len(record.artefacts))

    def _operator_token(self) -> str:
        """The operator's bearer token, kept in a file that only the operator may read."""
        path = self.state / OPERATOR_TOKEN
        with contextlib.suppress(OSError, UnicodeDecodeError, AuthError, ForbiddenError):
            token = path.read_text(encoding="ascii").strip()
            self.keys.operator(token)
            return token
        made = self.keys.create(EXCHANGE, label="operator", operator=True)
        write_whole(path, made.bearer.encode(), mode=0o600)
        return made.bearer

    def is_operator(self, token: str) -> bool:
        """Whether a bearer token is the operator's. Raises StorageError when it cannot tell."""
        try:
            self.keys.operator(token)
        except (AuthError, ForbiddenError):
            return False
        return True

    def _workshop(self) -> Workshop:
        return Workshop(self.jobs, self.catalogue, self.key, self.clock, self.worker.wait, self.house.job_ttl_s, self.house.silence_s)

    def _build(self, run_id: str, request: RunRequest) -> tuple[bool, Json]:
        shop = self._workshop()
        if request.contribution:
            check_scorable(request.scenario)
        purpose = Build.purpose_of(request)
        owners = {party: self.jobs.agreement(party, purpose)[1] for party in request.roster}
        found = screen(shop, self.notices, run_id, request, purpose, owners)
        request = found.request
        certified, result = self._probed(request, *Attendance(shop, run_id, request).walk())
        result = {**result, "screening": found.told, "notes": [*result.get("notes", []), *remarks(found.told)]}
        if certified:
            head = self.catalogue.head(result["artefact_digest"])
            digests = (result["artefact_digest"], result["certificate"]["digest"])
            records = {party: asset["records_train"] for party, asset in result["owners"].items()}
            if request.contribution:
                took_part = msgspec.structs.replace(request, owners=tuple(result["owners"]))
                terms = {party: self.jobs.agreement(party, Build.purpose_of(request))[1] for party in took_part.roster}
                result["contribution"] = ContributionRound(shop, run_id, took_part, terms, result).walk()
                records = result["contribution"]["weights"]
            made = Made(run_id, (*request.without, *request.left), request.origin, request.candidate)
            deployment = self.deployer.deploy(request.scenario, "fleet", head, digests, records, int(self.clock.now_s()), made)
            result = {**result, "deployment": msgspec.to_builtins(deployment)}
        return certified, result

    def _site(self, run_id: str, request: SiteRequest) -> tuple[bool, Json]:
        shop = self._workshop()
        certified, result = self._probed(request, *site_build_of(shop, run_id, request).walk())
        if certified:
            fleet = self.catalogue.view(request.run).result or {}
            scenario = site_scenario(self.catalogue.request_of(request.run)[1].scenario, request)
            head = self.catalogue.head(result["artefact_digest"])
            rows = {party: asset["records_train"] for party, asset in fleet["owners"].items()}
            records = site_weights(fleet, rows, request.site, result["fit"])
            digests = (result["artefact_digest"], result["certificate"]["digest"])
            made = Made(run_id, origin=request.origin, candidate=request.candidate)
            deployment = self.deployer.deploy(scenario, request.site, head, digests, records, int(self.clock.now_s()), made)
            result = {**result, "deployment": msgspec.to_builtins(deployment)}
        return certified, result

    def _probed(self, request: RunRequest | SiteRequest, certified: bool, result: Json) -> tuple[bool, Json]:
        """The same, unless the model fails a case of its package: then its certificate is withdrawn, and the cases are named."""
        if not certified or not request.probes:
            return certified, result
        engine = EngineProcess(self.catalogue.artefact(result["artefact_digest"]))
        try:
            found = probed(request.probes, engine.judged, self.catalogue.head(result["artefact_digest"]).stage.schema)
        finally:
            engine.close()
        failures = [one.sentence for one in found if not one.holds]
        result = {**result, "probes": [{**asdict(one), "holds": one.holds} for one in found]}
        if not failures:
            return True, result
        self.catalogue.revoke(result["certificate"]["digest"], "; ".join(failures))
        return False, {**result, "certificate": None, "passed": False, "failures": failures}

    def _comparison(self, run_id: str, request: ComparisonRequest) -> tuple[bool, Json]:
        return Comparison(self._workshop(), self.lives, run_id, request).walk()

    def _basis(self, kind: str, request: Any) -> Json:
        """What a run rests on: each owner's agreement for the purpose, which names its asset."""
        if isinstance(request, RunRequest):
            purpose = Build.purpose_of(request)
            return {"agreements": [self.jobs.agreement_digest(party, purpose) for party in request.roster]}
        if isinstance(request, ComparisonRequest):
            return Comparison(self._workshop(), self.lives, "", request).basis()
        scenario = self.catalogue.request_of(request.run)[1].scenario
        return {"agreements": [self.jobs.agreement_digest(request.site, site_purpose(scenario.purpose))]}

    def routes(self) -> list[BaseRoute]:
        service = BuildService(self.catalogue, self.worker, self.keys, self._basis)
        return [
            *sandbox_routes(self.sandbox, self.is_operator, self.departures.turn),
            *leave_routes(LeaveService(self.departures, self.withdrawals, self.keys)),
            *build_routes(service),
            *question_routes(self.questions, self.keys),
            *life_routes(LifeService(self.lives, self.shadows, self.keys, self.catalogue, self.worker, self._basis)),
            *ledger_routes(LedgerService(self.meter, self.keys, EXCHANGE, LotTerms(self.catalogue))),
            *gateway_routes(self.serving),
            *edge_routes(self.edge, self.keys),
            Route("/", _to_console, methods=["GET"]),
            *console_routes(
                ExchangeOverview(self.catalogue, self.registry, self.meter, self.clock, self.lives, self.shadows, self.departures.told)
            ),
        ]

    @property
    def app(self) -> Starlette:
        """The ASGI application; its lifespan starts and stops the worker."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self.start()
            try:
                yield
            finally:
                self.stop()

        return Starlette(routes=self.routes(), lifespan=lifespan)

    def start(self) -> None:
        """Ends what a crash left open in the book, loads what may serve, and goes on with runs that were cut off."""
        ended = self.meter.recover(self.clock.now_s())
        if ended:
            self.log.warning("holds-recovered", count=len(ended))
        late = self.edge.settle_all()
        if late:
            self.log.warning("edge-settled", receipts=late)
        self.departures.turn()
        for name, why in self.deployer.load_all().items():
            self.log.warning("deployment-refused", deployment=name, message=why)
        self.shadows.resume()
        self.worker.start()
        self.upkeep.start()

    def stop(self) -> None:
        self.upkeep.stop()
        self.worker.stop()
        self.shadows.stop()
        self.registry.close()

    def close(self) -> None:
        self.catalogue.close()
        self.lives.close()
        self.shadows.close()
        self.jobstore.close()
        self.questions.close()
        self.withdrawals.close()
        self.notices.close()
        self.edge.close()
        self.keys_db.close()
        self.book_db.close()


async def _to_console(request: Request) -> Response:
    """The console

    Leads there.
    """
    return RedirectResponse("/console")


@contextmanager
def opened(state: Path, clock: Clock, log: Log, house: House = DEFAULT_HOUSE) -> Iterator[Exchange]:
    """The exchange over a state folder, alone on it.

    Raises ExchangeStateError when another process holds the folder, StorageError.
    """
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"the state folder {state} cannot be made: {error.strerror}", "choose another with --state") from error
    with held(state / "exchange.lock") as mine:
        if not mine:
            raise ExchangeStateError(f"another exchange is running on {state}", "stop it, or use another --state")
        exchange = Exchange(state, clock, log, house)
        try:
            yield exchange
        finally:
            exchange.close()
