"""HTTP routes of deployments: where they stand, their history, and the steps of their life. Operator only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.access.keys import KeyRing
from isthmus.app.catalogue import Catalogue
from isthmus.app.comparison import comparison_request
from isthmus.app.ledger_routes import answer, bearer, body_of, guarded
from isthmus.app.lives import Lives
from isthmus.app.shadows import Shadows
from isthmus.app.worker import Worker
from isthmus.contracts.build import RunView
from isthmus.contracts.errors import ConflictError
from isthmus.contracts.life import ComparisonOrder, ComparisonRequest, LifeStep, RetireOrder, RollbackOrder, ShadowOrder, UpgradeOrder
from isthmus.contracts.ports import Json


@dataclass(frozen=True)
class LifeService:
    """What the routes serve. basis: what makes an equal comparison another run."""

    lives: Lives
    shadows: Shadows
    keys: KeyRing
    catalogue: Catalogue
    worker: Worker
    basis: Callable[[str, ComparisonRequest], Json]


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
        name = request.path_params["name"]
        step = await run_in_threadpool(self._service.lives.rollback, name, order, who)
        await run_in_threadpool(self._service.shadows.settle, name)
        return answer(step)

    async def compare(self, request: Request) -> Response:
        """Compares a version with the one that serves, over the owners' held-out records

        Both judge the same records at the owners' nodes; only counts leave. Answers at once with a run; poll GET /v1/runs/ID. It ends as
        certified when the new version is shown not to be inferior, else as refused, with the reasons in its result. Operator only.
        Body: ComparisonOrder
        Answers: RunView
        """
        await self._operator(request)
        order = await body_of(request, ComparisonOrder)
        service, name = self._service, request.path_params["name"]

        def begun() -> RunView:
            wanted = comparison_request(service.lives, name, order)
            run_id = service.worker.submit("comparison", wanted, service.basis("comparison", wanted))
            return service.catalogue.view(run_id, False)

        return answer(await run_in_threadpool(begun))

    async def shadow(self, request: Request) -> Response:
        """Puts a certified version beside the one that serves

        It scores the next requests after they were answered; its answers are returned to nobody and charged to nobody, only how the
        verdicts differ is counted. The same order again goes on with the same shadow. Operator only.
        Body: ShadowOrder
        Answers: ShadowView
        """
        await self._operator(request)
        order = await body_of(request, ShadowOrder)
        return answer(await run_in_threadpool(self._service.shadows.begin, request.path_params["name"], order))

    async def shadow_seen(self, request: Request) -> Response:
        """What a deployment's shadow has counted so far

        Operator only.
        Answers: ShadowView
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._service.shadows.view, request.path_params["name"]))

    async def upgrade(self, request: Request) -> Response:
        """Puts a certified version in the place of the one that serves, once a comparison has shown it not to be inferior

        Refused with the reasons otherwise, unless the order says why it is accepted; that is recorded. Requests under way are answered by
        the version that has them. The same id again gives the same step. Operator only.
        Body: UpgradeOrder
        Answers: LifeStep
        """
        who = await self._operator(request)
        order = await body_of(request, UpgradeOrder)
        service, name = self._service, request.path_params["name"]

        def upgraded() -> LifeStep:
            found = _found(service.catalogue, name, order.comparison)
            step = service.lives.upgrade(name, order, who, found, service.shadows.of_pair(name, found))
            service.shadows.settle(name)
            return step

        return answer(await run_in_threadpool(upgraded))

    async def retire(self, request: Request) -> Response:
        """Takes a deployment out of service; its record and receipts stay

        New requests get 410. The same id again gives the same step. Operator only.
        Body: RetireOrder
        Answers: LifeStep
        """
        who = await self._operator(request)
        order = await body_of(request, RetireOrder)
        name = request.path_params["name"]
        step = await run_in_threadpool(self._service.lives.retire, name, order, who)
        await run_in_threadpool(self._service.shadows.settle, name)
        return answer(step)


def _found(catalogue: Catalogue, name: str, run_id: str) -> Json | None:
    """What a comparison found, if one is named and it is of this deployment. Raises NotFoundError, ConflictError."""
    if not run_id:
        return None
    kind, request = catalogue.request_of(run_id)
    view = catalogue.view(run_id)
    if kind != "comparison" or request.deployment != name:
        raise ConflictError(f"{run_id} is no comparison of {name}", f"compare first: POST /v1/deployments/{name}/comparison")
    if view.result is None:
        raise ConflictError(f"the comparison {run_id} is {view.state}", "wait until it has ended, or ask for it again")
    return view.result


def life_routes(service: LifeService) -> list[Route]:
    """The routes, to be put at the root."""
    r = _Routes(service)
    table = [
        ("GET", "/v1/deployments", r.deployments),
        ("GET", "/v1/deployments/{name}", r.history),
        ("POST", "/v1/deployments/{name}/comparison", r.compare),
        ("POST", "/v1/deployments/{name}/shadow", r.shadow),
        ("GET", "/v1/deployments/{name}/shadow", r.shadow_seen),
        ("POST", "/v1/deployments/{name}/upgrade", r.upgrade),
        ("POST", "/v1/deployments/{name}/rollback", r.rollback),
        ("POST", "/v1/deployments/{name}/retire", r.retire),
    ]
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
