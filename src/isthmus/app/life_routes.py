"""HTTP routes of deployments: where they stand, their history, and the steps of their life. Operator only."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.access.keys import KeyRing
from isthmus.app.ledger_routes import answer, bearer, body_of, guarded
from isthmus.app.lives import Lives
from isthmus.contracts.life import RetireOrder, RollbackOrder


@dataclass(frozen=True)
class LifeService:
    """What the routes serve."""

    lives: Lives
    keys: KeyRing


class _Routes:
    def __init__(self, service: LifeService) -> None:
        self._service = service

    async def _operator(self, request: Request) -> str:
        """Who asks, as the record names it."""
        key = await run_in_threadpool(self._service.keys.operator, bearer(request))
        return f"{key.party}/{key.id}"

    async def deployments(self, request: Request) -> Response:
        """Every deployment: which version serves, whether it would serve now, and all its versions

        Operator only.
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._service.lives.views))

    async def history(self, request: Request) -> Response:
        """One deployment with its steps, each sealed by the exchange's key and naming the one before

        Operator only.
        Answers: DeploymentHistory
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._service.lives.history, request.path_params["name"]))

    async def rollback(self, request: Request) -> Response:
        """Goes back to the previous version whose certificate still holds

        Requests under way are answered by the version that has them. The same id again gives the same step. Operator only.
        Body: RollbackOrder
        Answers: LifeStep
        """
        who = await self._operator(request)
        order = await body_of(request, RollbackOrder)
        return answer(await run_in_threadpool(self._service.lives.rollback, request.path_params["name"], order, who))

    async def retire(self, request: Request) -> Response:
        """Takes a deployment out of service; its record and receipts stay

        New requests get 410. The same id again gives the same step. Operator only.
        Body: RetireOrder
        Answers: LifeStep
        """
        who = await self._operator(request)
        order = await body_of(request, RetireOrder)
        return answer(await run_in_threadpool(self._service.lives.retire, request.path_params["name"], order, who))


def life_routes(service: LifeService) -> list[Route]:
    """The routes, to be put at the root."""
    r = _Routes(service)
    table = [
        ("GET", "/v1/deployments", r.deployments),
        ("GET", "/v1/deployments/{name}", r.history),
        ("POST", "/v1/deployments/{name}/rollback", r.rollback),
        ("POST", "/v1/deployments/{name}/retire", r.retire),
    ]
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
