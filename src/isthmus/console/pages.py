"""Web pages of a running exchange: one overview that polls its own JSON, for the operator at the machine itself."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Protocol

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.contracts.errors import ConsoleForbiddenError, IsthmusError

ROWS_MAX = 50
STEPS_MAX = 12
"""Steps of a deployment's life that are shown, the latest."""
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
LOCAL_CLIENTS = ("127.0.0.1", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
ASSETS = {"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8"}


class ScenarioRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times are milliseconds since the Unix epoch, amounts integer micro-units, here and below.

    state: where the scenario stands in its life, one word. progress: 0..1 of a run that is going on, else None."""

    name: str
    state: str
    progress: float | None = None
    updated_at_ms: int | None = None


class DeploymentRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deployment and the certificate it serves under. expires_at_ms is None when it has none; problem says why it does not serve."""

    name: str
    site: str
    tier: str
    serving: bool
    artefact_digest: str
    expires_at_ms: int | None = None
    problem: str = ""


class StepRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a deployment's life. action: deploy, propose, upgrade, rollback or retire. before, after: number of the version that
    served until then and from then on; None, none. brought: the version that came with it, None where none did."""

    at_ms: int
    action: str
    before: int | None
    after: int | None
    brought: int | None
    who: str
    why: str


class LifeRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deployment through its versions. steps: the latest, oldest first; earlier: how many more there are before them. scenario: of what
    serves. shadow: what was compared so far where one runs or ran, else empty."""

    name: str
    site: str
    state: str
    current: int | None
    scenario: str
    problem: str
    shadow: str
    earlier: int
    steps: tuple[StepRow, ...]


class HoldRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An open hold."""

    id: str
    party: str
    amount_micros: int
    currency: str
    expires_at_ms: int


class ReceiptRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The latest receipts, newest first."""

    id: str
    at_ms: int
    outcome: str
    charge_micros: int
    currency: str


class RefusalRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The latest refusals, newest first, in the words that the caller got."""

    at_ms: int
    code: str
    message: str


class Overview(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the overview shows now. Totals are of everything, rows of the latest ROWS_MAX."""

    at_ms: int
    scenarios: tuple[ScenarioRow, ...] = ()
    deployments: tuple[DeploymentRow, ...] = ()
    lives: tuple[LifeRow, ...] = ()
    holds: tuple[HoldRow, ...] = ()
    receipts: tuple[ReceiptRow, ...] = ()
    refusals: tuple[RefusalRow, ...] = ()
    receipts_total: int | None = None
    entries_sum_micros: int | None = None


class ReadModel(Protocol):
    """What the pages read; the app implements it over the rooms' stores."""

    def overview(self, rows_max: int) -> Overview:
        """The state now, each list of at most rows_max rows. Called from a worker thread; raises IsthmusError when it cannot be read."""


Permit = Callable[[Request], bool]


def only_here(request: Request) -> bool:
    """Whether the request comes from this machine and names it: another host's name in it is a page elsewhere trying its luck."""
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rsplit(":", 1)[0] if ":" in host else host
    client = request.client.host if request.client else ""
    return name in LOCAL_HOSTS and client in LOCAL_CLIENTS


def _asset(name: str) -> str:
    return files("isthmus.console").joinpath("pages_static", name).read_text(encoding="utf-8")


def _refused(error: IsthmusError) -> Response:
    return Response(msgspec.json.encode({"error": error.as_dict()}), error.http_status, HEADERS, "application/json")


def console_routes(read_model: ReadModel, permit: Permit = only_here) -> list[Route]:
    """GET /console, /console/overview.json, /console/console.css and /console/console.js.

    The overview shows all parties' receipts to the operator, so `permit` lets only this machine in unless it is replaced.
    """

    async def answered(request: Request, body: Callable[[], bytes], media: str) -> Response:
        try:
            if not permit(request):
                raise ConsoleForbiddenError(
                    "the console answers only on the exchange's own machine", "open it there, by its loopback address"
                )
            return Response(await run_in_threadpool(body), 200, HEADERS, media)
        except IsthmusError as error:
            return _refused(error)

    async def page(request: Request) -> Response:
        return await answered(request, lambda: _asset("console.html").encode(), "text/html; charset=utf-8")

    async def overview(request: Request) -> Response:
        return await answered(request, lambda: msgspec.json.encode(read_model.overview(ROWS_MAX)), "application/json")

    async def asset(request: Request) -> Response:
        name = request.url.path.rsplit("/", 1)[1]
        return await answered(request, lambda: _asset(name).encode(), ASSETS[name])

    return [
        Route("/console", page, methods=["GET"]),
        Route("/console/overview.json", overview, methods=["GET"]),
        *(Route(f"/console/{name}", asset, methods=["GET"]) for name in ASSETS),
    ]
