"""HTTP routes that tell who has left, and what became of what was made with their records."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.access.keys import KeyRing
from isthmus.app.leaving import Departures
from isthmus.app.ledger_routes import answer, bearer, guarded
from isthmus.sandbox.withdrawals import Withdrawals


@dataclass(frozen=True)
class LeaveService:
    """What the routes serve."""

    departures: Departures
    withdrawals: Withdrawals
    keys: KeyRing


class _Routes:
    def __init__(self, service: LeaveService) -> None:
        self._service = service

    async def _operator(self, request: Request) -> None:
        await run_in_threadpool(self._service.keys.operator, bearer(request))

    async def all(self, request: Request) -> Response:
        """Who has left, each by a signed withdrawal, and every run that has lapsed by that or by an agreement that expired

        Operator only.
        """
        await self._operator(request)
        signed = await run_in_threadpool(self._service.withdrawals.all)
        departures = await run_in_threadpool(self._service.departures.told)
        words = [{"digest": digest, "withdrawal": word, "envelope": envelope} for digest, word, envelope in signed]
        return answer({"withdrawals": msgspec.to_builtins(words), "departures": departures})

    async def one(self, request: Request) -> Response:
        """What became of one run that has lapsed

        Operator only.
        Answers: Departure
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._service.departures.departure, request.path_params["run"]))


def leave_routes(service: LeaveService) -> list[Route]:
    """The routes, to be put at the root."""
    r = _Routes(service)
    table = [("GET", "/v1/withdrawals", r.all), ("GET", "/v1/withdrawals/{run}", r.one)]
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
