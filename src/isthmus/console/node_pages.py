"""The page on which an owner watches its own node, served to this machine alone.

It is kept from others as the page for labels is (`console.label_pages`): loopback only, the host's name in each request, a token that
only the printed address holds, and a policy that loads nothing from elsewhere. It shows; the one thing that it does is pause and resume.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.console.label_pages import HEADERS, check_here, check_token
from isthmus.contracts.errors import IsthmusError
from isthmus.contracts.owner import OwnerView
from isthmus.kit.texts import load_texts

LANGUAGES = Path(__file__).parent / "node_page" / "languages"
ASSETS = {"node.css": "text/css; charset=utf-8", "node.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"}


class OwnerBook(Protocol):
    """What the page asks; sandbox.ownerview implements it. Methods may be called from any thread and raise IsthmusError."""

    def view(self) -> OwnerView: ...

    def pause(self) -> OwnerView: ...

    def resume(self) -> OwnerView: ...


def _asset(name: str) -> bytes:
    return files("isthmus.console").joinpath("node_page", name).read_bytes()


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), 200, HEADERS, "application/json")


def _refused(error: IsthmusError) -> Response:
    return Response(msgspec.json.encode({"error": error.as_dict()}), error.http_status, HEADERS, "application/json")


def node_app(book: OwnerBook, token: str, language: str = "en") -> Starlette:
    """GET /, its assets, /texts.json, /view.json; POST /pause, /resume. All but the page and its assets ask for the token.

    Raises SettingError for a language that has no sentences.
    """
    texts = load_texts(language, LANGUAGES).all()
    page = _asset("node.html").decode("utf-8").replace("{{language}}", language).encode("utf-8")

    async def guarded(request: Request, work: Callable[[], OwnerView]) -> Response:
        try:
            check_token(request, token)
            return _json(await run_in_threadpool(work))
        except IsthmusError as error:
            return _refused(error)

    async def public(request: Request) -> Response:
        name = request.url.path.rsplit("/", 1)[1]
        try:
            check_here(request)
        except IsthmusError as error:
            return _refused(error)
        if name == "texts.json":
            return _json(texts)
        return Response(_asset(name) if name else page, 200, HEADERS, ASSETS.get(name, "text/html; charset=utf-8"))

    async def view(request: Request) -> Response:
        return await guarded(request, book.view)

    async def pause(request: Request) -> Response:
        return await guarded(request, book.pause)

    async def resume(request: Request) -> Response:
        return await guarded(request, book.resume)

    return Starlette(
        routes=[
            Route("/", public, methods=["GET"]),
            *(Route(f"/{name}", public, methods=["GET"]) for name in (*ASSETS, "texts.json")),
            Route("/view.json", view, methods=["GET"]),
            Route("/pause", pause, methods=["POST"]),
            Route("/resume", resume, methods=["POST"]),
        ]
    )
