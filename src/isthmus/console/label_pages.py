"""The page on which a person labels pictures, served by the owner's own node to this machine alone.

Three things keep others out. The server listens on loopback, and a request that names another host is refused (a page elsewhere that had
its own name resolve to this machine: DNS rebinding). Every request for data carries a token in a header, made anew at each start, that
only the printed address holds, behind its `#`, where browsers send it to nobody; a page elsewhere can neither know it nor set the header
(cross-site requests). And the policy of the page lets it load nothing from anywhere else.
"""

from __future__ import annotations

import secrets
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

from isthmus.console.pages import only_here
from isthmus.contracts.errors import AuthError, BodyTooLargeError, ConsoleForbiddenError, InputError, IsthmusError
from isthmus.contracts.labelling import AnswerGiven, DeskState
from isthmus.kit.texts import load_texts

TOKEN_HEADER = "x-isthmus-token"
TOKEN_BYTES = 24
BODY_BYTES_MAX = 4096
LANGUAGES = Path(__file__).parent / "label_page" / "languages"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
ASSETS = {
    "label.css": "text/css; charset=utf-8",
    "label.js": "text/javascript; charset=utf-8",
    "curve.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Desk(Protocol):
    """What the page asks of a desk; scenarios.labelling implements it. Methods may be called from any thread and raise IsthmusError, after
    which nothing has changed."""

    def state(self) -> DeskState: ...

    def picture(self, identity: str) -> bytes:
        """PNG bytes."""

    def answer(self, identity: str, verdict: str, sure: bool) -> DeskState: ...

    def undo(self) -> DeskState: ...


def new_token() -> str:
    """The secret of one start."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def _asset(name: str) -> bytes:
    return files("isthmus.console").joinpath("label_page", name).read_bytes()


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), 200, HEADERS, "application/json")


def _refused(error: IsthmusError) -> Response:
    return Response(msgspec.json.encode({"error": error.as_dict()}), error.http_status, HEADERS, "application/json")


def check_here(request: Request) -> None:
    if not only_here(request):
        raise ConsoleForbiddenError("this page answers only on its own machine", "open it there, by the address that was printed")


def check_token(request: Request, token: str) -> None:
    check_here(request)
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{request.headers.get('host', '')}":
        raise ConsoleForbiddenError("the request comes from another page", "use the page that the command opened")
    if not secrets.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), token.encode()):
        raise AuthError("this page has no token, or one of an earlier start", "open the address that the command printed")


async def _body(request: Request) -> bytes:
    """Raises BodyTooLargeError as soon as there is too much."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > BODY_BYTES_MAX:
            raise BodyTooLargeError(f"an answer has at most {BODY_BYTES_MAX} bytes", "send only the picture's id and the verdict")
    return raw


async def _given(request: Request) -> AnswerGiven:
    try:
        return msgspec.json.decode(await _body(request), type=AnswerGiven)
    except msgspec.DecodeError as error:
        raise InputError(f"the answer cannot be read: {error}", "send id, verdict and sure") from error


def label_app(desk: Desk, token: str, language: str = "en") -> Starlette:
    """GET /, its assets, /texts.json, /state.json, /picture/ID; POST /answer, /undo. All but the page and its assets ask for the token.

    Raises SettingError for a language that has no sentences.
    """
    texts = load_texts(language, LANGUAGES).all()
    page = _asset("label.html").decode("utf-8").replace("{{language}}", language).encode("utf-8")

    async def guarded(request: Request, work: Callable[[], DeskState]) -> Response:
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

    async def state(request: Request) -> Response:
        return await guarded(request, desk.state)

    async def undo(request: Request) -> Response:
        return await guarded(request, desk.undo)

    async def answer(request: Request) -> Response:
        try:
            check_token(request, token)
            given = await _given(request)
        except IsthmusError as error:
            return _refused(error)
        return await guarded(request, lambda: desk.answer(given.id, given.verdict, given.sure))

    async def picture(request: Request) -> Response:
        try:
            check_token(request, token)
            raw = await run_in_threadpool(desk.picture, request.path_params["identity"])
            return Response(raw, 200, HEADERS, "image/png")
        except IsthmusError as error:
            return _refused(error)

    return Starlette(
        routes=[
            Route("/", public, methods=["GET"]),
            *(Route(f"/{name}", public, methods=["GET"]) for name in (*ASSETS, "texts.json")),
            Route("/state.json", state, methods=["GET"]),
            Route("/picture/{identity}", picture, methods=["GET"]),
            Route("/answer", answer, methods=["POST"]),
            Route("/undo", undo, methods=["POST"]),
        ]
    )
