"""HTTP route of questions to owners' tables."""

from __future__ import annotations

import time

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.access.keys import KeyRing
from isthmus.app.ledger_routes import answer, bearer, body_of, guarded
from isthmus.app.questions import Questions
from isthmus.contracts.answer import QuestionRequest
from isthmus.contracts.errors import InputError

WAIT_S_MAX = 25.0
LOOK_EVERY_S = 0.05


class _Routes:
    def __init__(self, questions: Questions, keys: KeyRing) -> None:
        self._questions, self._keys = questions, keys

    async def ask(self, request: Request) -> Response:
        """Asks several owners' tables a question

        Only sums leave the owners, under each one's agreement. Ask again with the same body until `phase` is other than waiting; with
        `wait_s` in the query the call waits so long for that. With `preview` nothing is computed: the answer says what it would tell and
        cost. Operator only.
        Body: QuestionRequest
        Answers: QuestionAnswer
        """
        await run_in_threadpool(self._keys.operator, bearer(request))
        wanted = await body_of(request, QuestionRequest)
        deadline_s = time.monotonic() + _wait_s(request)
        while True:
            seen = self._questions.changes
            found = await run_in_threadpool(self._questions.ask, wanted)
            if found.phase != "waiting" or time.monotonic() >= deadline_s:
                return answer(found)
            while self._questions.changes == seen and time.monotonic() < deadline_s:
                await anyio.sleep(LOOK_EVERY_S)


def _wait_s(request: Request) -> float:
    try:
        wanted = float(request.query_params.get("wait_s", "0"))
    except ValueError as error:
        raise InputError("wait_s is not a number", "give seconds") from error
    return min(max(wanted, 0.0), WAIT_S_MAX) if wanted == wanted else 0.0


def question_routes(questions: Questions, keys: KeyRing) -> list[Route]:
    """The route, to be put at the root."""
    r = _Routes(questions, keys)
    return [Route("/v1/questions", guarded(r.ask), methods=["POST"])]
