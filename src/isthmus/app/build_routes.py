"""HTTP routes of runs, models and certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.access.keys import KeyRing
from isthmus.app.catalogue import Catalogue
from isthmus.app.ledger_routes import answer, bearer, body_of, guarded
from isthmus.app.worker import Worker
from isthmus.assurance.probes import checked_cases
from isthmus.contracts.build import RunRequest, SiteRequest
from isthmus.contracts.ports import Json


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a certificate is withdrawn."""

    why: str


@dataclass(frozen=True)
class BuildService:
    """What the routes serve. basis: what makes an equal request another run (assets, agreements, certificates)."""

    catalogue: Catalogue
    worker: Worker
    keys: KeyRing
    basis: Callable[[str, Any], Json]


class _Routes:
    def __init__(self, service: BuildService) -> None:
        self._service = service

    async def _operator(self, request: Request) -> None:
        await run_in_threadpool(self._service.keys.operator, bearer(request))

    async def begin(self, request: Request) -> Response:
        """Builds a scenario with a roster of owners

        Answers at once with the run; poll GET /v1/runs/ID. The same request on the same assets is the same run. Operator only.
        Body: RunRequest
        Answers: RunView
        """
        await self._operator(request)
        return await self._begun("build", await body_of(request, RunRequest))

    async def begin_site(self, request: Request) -> Response:
        """Carries a certified run to another site

        Operator only.
        Body: SiteRequest
        Answers: RunView
        """
        await self._operator(request)
        return await self._begun("site", await body_of(request, SiteRequest))

    async def _begun(self, kind: str, wanted: Any) -> Response:
        checked_cases(wanted.probes)
        service = self._service
        basis = await run_in_threadpool(service.basis, kind, wanted)
        run_id = await run_in_threadpool(service.worker.submit, kind, wanted, basis)
        return answer(await run_in_threadpool(service.catalogue.view, run_id, False))

    async def runs(self, request: Request) -> Response:
        """The latest runs, without results

        Operator only.
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._service.catalogue.runs))

    async def run(self, request: Request) -> Response:
        """One run with its steps and, once it has ended, its result

        Operator only.
        Answers: RunView
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._service.catalogue.view, request.path_params["run"]))

    async def head(self, request: Request) -> Response:
        """The head of a model

        Operator only.
        Answers: Head
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._service.catalogue.head, request.path_params["model"]))

    async def artefact(self, request: Request) -> Response:
        """The bytes of a model: one ONNX graph

        Operator only.
        """
        await self._operator(request)
        return Response(
            await run_in_threadpool(self._service.catalogue.artefact, request.path_params["model"]), media_type="application/octet-stream"
        )

    async def certificates(self, request: Request) -> Response:
        """All certificates, latest first

        Needs no key: a certificate is meant to be shown.
        """
        found = await run_in_threadpool(self._service.catalogue.certificates)
        return answer([{"digest": digest, "envelope": envelope, "revoked": revoked} for digest, envelope, revoked in found])

    async def certificate(self, request: Request) -> Response:
        """One certificate, as a DSSE envelope

        Needs no key.
        """
        return answer(await run_in_threadpool(self._service.catalogue.certificate, request.path_params["certificate"]))

    async def bars(self, request: Request) -> Response:
        """The bars that a certificate names, as they were signed before the run

        Needs no key.
        """
        return answer(await run_in_threadpool(self._service.catalogue.bars, request.path_params["bars"]))

    async def revoke(self, request: Request) -> Response:
        """Withdraws a certificate for good; its deployments stop with the next request

        Operator only.
        Body: Revocation
        """
        await self._operator(request)
        wanted = await body_of(request, Revocation)
        await run_in_threadpool(self._service.catalogue.revoke, request.path_params["certificate"], wanted.why)
        return answer({"revoked": True})


def build_routes(service: BuildService) -> list[Route]:
    """The routes, to be put at the root."""
    r = _Routes(service)
    table = [
        ("POST", "/v1/runs", r.begin),
        ("GET", "/v1/runs", r.runs),
        ("GET", "/v1/runs/{run}", r.run),
        ("POST", "/v1/sites", r.begin_site),
        ("GET", "/v1/models/{model}/head", r.head),
        ("GET", "/v1/models/{model}/artefact", r.artefact),
        ("GET", "/v1/certificates", r.certificates),
        ("GET", "/v1/certificates/{certificate}", r.certificate),
        ("POST", "/v1/certificates/{certificate}/revocation", r.revoke),
        ("GET", "/v1/bars/{bars}", r.bars),
    ]
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
