"""HTTP routes of boxes: enrolling and retiring them, what they judged, and the tickets that wait for a person."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.access.keys import KeyRing
from isthmus.app.edge import EdgeDesk
from isthmus.app.ledger_routes import answer, bearer, body_of, guarded
from isthmus.contracts.edge import EdgeBatch, EdgeDecision, EdgeOrder
from isthmus.contracts.errors import InputError

SEQ_DIGITS_MAX = 9


class _Routes:
    def __init__(self, desk: EdgeDesk, keys: KeyRing) -> None:
        self._desk, self._keys = desk, keys

    async def _operator(self, request: Request) -> None:
        await run_in_threadpool(self._keys.operator, bearer(request))

    async def enrol(self, request: Request) -> Response:
        """Enrols a box that will judge offline with a deployment's certified model

        Its party pays for the allowance at once. The key is in this answer and never shown again. Operator only.
        Body: EdgeOrder
        Answers: EdgeBox
        Status: 201
        """
        await self._operator(request)
        order = await body_of(request, EdgeOrder)
        return answer(await run_in_threadpool(self._desk.enrol, order), 201)

    async def boxes(self, request: Request) -> Response:
        """Every box: what it may still judge, what it told, what it owes

        Operator only.
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._desk.boxes))

    async def retire(self, request: Request) -> Response:
        """Ends a box: its key is revoked, what was not used goes back to its party

        Operator only.
        Answers: EdgeStanding
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._desk.retire, request.path_params["box"]))

    async def take(self, request: Request) -> Response:
        """Takes what a box judged, with the box's own key

        Records are kept, then metered: each batch is one receipt. Sent twice, they are counted once.
        Body: EdgeBatch
        Answers: EdgeTaken
        """
        key = await run_in_threadpool(self._keys.holder, bearer(request))
        batch = await body_of(request, EdgeBatch)
        return answer(await run_in_threadpool(self._desk.take, key, batch))

    async def tickets(self, request: Request) -> Response:
        """Doubtful pictures of all boxes that wait for a person, oldest first

        Operator only. The pictures are at the boxes, under the digests that the tickets name.
        """
        await self._operator(request)
        return answer(await run_in_threadpool(self._desk.tickets))

    async def decide(self, request: Request) -> Response:
        """Records what a person decided about a ticket

        Operator only.
        Body: EdgeDecision
        Answers: EdgeTicket
        """
        await self._operator(request)
        box, seq = request.path_params["box"], request.path_params["seq"]
        if not (seq.isascii() and seq.isdigit() and len(seq) <= SEQ_DIGITS_MAX):
            raise InputError(f"{seq!r} is not the number of a record", "name the box and the number that the ticket shows")
        decision = await body_of(request, EdgeDecision)
        return answer(await run_in_threadpool(self._desk.decide, box, int(seq), decision.verdict))


def edge_routes(desk: EdgeDesk, keys: KeyRing) -> list[Route]:
    """The routes, to be put at the root."""
    r = _Routes(desk, keys)
    table = [
        ("POST", "/v1/edge/boxes", r.enrol),
        ("GET", "/v1/edge/boxes", r.boxes),
        ("POST", "/v1/edge/boxes/{box}/retirement", r.retire),
        ("POST", "/v1/edge/records", r.take),
        ("GET", "/v1/edge/tickets", r.tickets),
        ("POST", "/v1/edge/tickets/{box}/{seq}", r.decide),
    ]
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
