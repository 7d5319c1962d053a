"""HTTP routes of the book: receipts, log, accounts, statements, prices, splits and keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from isthmus.access.keys import KeyRing
from isthmus.contracts.errors import (
    BodyTooLargeError,
    DocumentError,
    ForbiddenError,
    InputError,
    IsthmusError,
    MissingKeyError,
    NotFoundError,
)
from isthmus.contracts.key import Key, KeyOrder
from isthmus.contracts.lot import LotModel, lot_name
from isthmus.contracts.money import Account, AccountName, Credit, Entry, currency
from isthmus.contracts.price import Price, Split
from isthmus.contracts.receipt import SignedStatement
from isthmus.kit.ids import slug
from isthmus.ledger.book import check_amount
from isthmus.ledger.check import check_book
from isthmus.ledger.lots import Terms, signed_lot
from isthmus.ledger.meter import Meter
from isthmus.ledger.statements import sealed, statement

BODY_BYTES_MAX = 4 * 1024 * 1024
"""The body of a request to the book."""
TEXT_CHARACTERS_MAX = 200
"""The id or the reason of a credit."""
_Noun = TypeVar("_Noun", bound=msgspec.Struct)
Handler = Callable[[Request], Awaitable[Response]]


def no_terms(certificate: str, artefact: str, parts: int) -> LotModel:
    """Of an exchange that knows no certificates."""
    raise NotFoundError(f"there is no certificate {certificate[:24]} here", "ask the exchange that issued it")


@dataclass(frozen=True)
class LedgerService:
    """What the routes serve. exchange: the exchange's own party; credit is issued from its account. terms: what a certificate promises, for
    documents on lots."""

    meter: Meter
    keys: KeyRing
    exchange: str = "exchange"
    terms: Terms = no_terms


def answer(document: Any, status: int = 200) -> Response:
    """A document as JSON."""
    return Response(msgspec.json.encode(document), status_code=status, media_type="application/json")


def guarded(handler: Handler) -> Handler:
    """Turns an IsthmusError into its status and {code, message, next}."""

    async def guard(request: Request) -> Response:
        try:
            return await handler(request)
        except IsthmusError as error:
            headers = {"www-authenticate": "Bearer"} if error.http_status == 401 else None
            return JSONResponse(error.as_dict(), status_code=error.http_status, headers=headers)

    guard.__doc__ = handler.__doc__
    guard.__name__ = handler.__name__
    return guard


def bearer(request: Request) -> str:
    """The request's bearer token. Raises MissingKeyError."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise MissingKeyError("the request carries no key", "send `Authorization: Bearer` and your key")
    return token.strip()


async def body_of(request: Request, kind: type[_Noun]) -> _Noun:
    """The request's JSON body as a contract noun. Raises DocumentError, BodyTooLargeError."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > BODY_BYTES_MAX:
            raise BodyTooLargeError(f"the body has more than {BODY_BYTES_MAX} bytes", "send less")
    try:
        return msgspec.json.decode(bytes(raw), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(f"the body is not a {kind.__name__}: {error}", "see its JSON Schema") from error


def time_ms(request: Request, name: str, default: int) -> int:
    """A query parameter as milliseconds since the epoch: an ISO 8601 date or time (UTC unless it says otherwise)."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        when = datetime.fromisoformat(text)
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name} = {text!r} is not a date or time", "use ISO 8601, such as 2027-01-31") from error


def leaf_count(request: Request, name: str) -> int:
    """A query parameter as a number of leaves. Raises InputError."""
    text = request.query_params.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InputError(f"{name} = {text!r} is not a number of leaves", "give from and to as whole numbers")
    return int(text)


def may_see(key: Key, party: str) -> None:
    """Raises ForbiddenError unless the key is the party's own or an operator's."""
    if not key.operator and key.party != party:
        raise ForbiddenError(f"the key of {key.party} cannot see {party}", "use that party's own key")


class _Routes:
    """The handlers, each with the work that may wait (disk, locks) in a worker thread."""

    def __init__(self, service: LedgerService) -> None:
        self.service = service
        self.meter = service.meter

    async def _holder(self, request: Request) -> Key:
        return await run_in_threadpool(self.service.keys.holder, bearer(request))

    async def _operator(self, request: Request) -> Key:
        return await run_in_threadpool(self.service.keys.operator, bearer(request))

    async def receipt(self, request: Request) -> Response:
        """A receipt with its proof: the sections that are the caller's, all of them for the operator.

        Answers: Receipt
        """
        key = await self._holder(request)
        party = None if key.operator else key.party
        return answer(await run_in_threadpool(self.meter.receipts.shown, request.path_params["id"], party))

    async def proof(self, request: Request) -> Response:
        """The receipt's inclusion proof against the log as it stands now, with its signed head.

        Answers: InclusionProof
        """
        key = await self._holder(request)
        party = None if key.operator else key.party
        receipt = await run_in_threadpool(self.meter.receipts.shown, request.path_params["id"], party)
        return answer(receipt.proof)

    async def head(self, request: Request) -> Response:
        """The signed head of the receipts log (DSSE envelope); needs no key, so that anyone can watch the log."""
        return answer(await run_in_threadpool(self.meter.log.head))

    async def log_key(self, request: Request) -> Response:
        """The public key that signs tree heads and statements; pin it, and compare it with what the exchange says elsewhere."""
        key = self.meter.log.key
        return answer({"key_id": key.key_id, "public_key": key.public_hex, "log": self.meter.log.name})

    async def consistency(self, request: Request) -> Response:
        """Proof that the log of `from` leaves begins the log of `to` leaves (query parameters); needs no key.

        Answers: ConsistencyProof
        """
        first, second = leaf_count(request, "from"), leaf_count(request, "to")
        return answer(await run_in_threadpool(self.meter.log.consistency, first, second))

    async def account(self, request: Request) -> Response:
        """A party's accounts, money and counted units; with the party's own key or the operator's.

        Answers: Account
        """
        party = request.path_params["party"]
        may_see(await self._holder(request), party)
        return answer(Account(party=party, balances=await run_in_threadpool(self.meter.book.balances, party)))

    async def credit(self, request: Request) -> Response:
        """Credits a party's balance (operator). The same id and content again gives the same answer.

        Body: Credit
        Answers: Transfer
        """
        await self._operator(request)
        party, order = slug(request.path_params["party"], "the party"), await body_of(request, Credit)
        check_amount(order.amount_micros)
        unit = currency(order.currency)
        if not order.id or len(order.id) > TEXT_CHARACTERS_MAX or len(order.reason) > TEXT_CHARACTERS_MAX:
            raise InputError("the credit's id or reason is empty or too long", f"use 1 to {TEXT_CHARACTERS_MAX} characters")
        entries = (
            Entry(account=AccountName(party=self.service.exchange, role="issued", unit=unit), amount=-order.amount_micros),
            Entry(account=AccountName(party=party, role="balance", unit=unit), amount=order.amount_micros),
        )
        return answer(await run_in_threadpool(self.meter.book.post, f"credit:{order.id}", entries, order.reason))

    async def statement(self, request: Request) -> Response:
        """A party's signed statement from `from` to `to` (query, ISO 8601, UTC, `to` excluded; default: all until now).

        Answers: SignedStatement
        """
        party = request.path_params["party"]
        may_see(await self._holder(request), party)
        from_ms, to_ms = time_ms(request, "from", 0), time_ms(request, "to", self.meter.book.now_ms() + 1)
        document = await run_in_threadpool(statement, self.meter, party, from_ms, to_ms)
        return answer(SignedStatement(statement=document, envelope=msgspec.to_builtins(sealed(document, self.meter.log.key))))

    async def lot(self, request: Request) -> Response:
        """A signed document on all that a party had judged as one lot, with the party's own key or the operator's.

        It holds the receipts' proofs, and shows no price, no share and no other party. Asked later it may count more.
        Answers: SignedLot
        """
        party = request.path_params["party"]
        may_see(await self._holder(request), party)
        lot = lot_name(request.path_params["lot"])
        return answer(await run_in_threadpool(signed_lot, self.meter, party, lot, self.service.terms))

    async def check(self, request: Request) -> Response:
        """Rebuilds the book from its entries and proves every invariant (operator). Writers wait meanwhile.

        Answers: BookCheck
        """
        await self._operator(request)
        key = self.meter.log.key
        return answer(await run_in_threadpool(check_book, self.meter.db, {key.key_id: key.public_hex}))

    async def add_price(self, request: Request) -> Response:
        """Adds an immutable price version (operator). The same again gives the same answer; other content is refused.

        Body: Price
        Answers: Price
        Status: 201
        """
        await self._operator(request)
        price = await body_of(request, Price)
        return answer(await run_in_threadpool(self.meter.prices.add_price, price), 201)

    async def price(self, request: Request) -> Response:
        """A price version, with any key.

        Answers: Price
        """
        await self._holder(request)
        return answer(await run_in_threadpool(self.meter.prices.price, request.path_params["id"]))

    async def add_split(self, request: Request) -> Response:
        """Adds an immutable version of a split rule (operator).

        Body: Split
        Answers: Split
        Status: 201
        """
        await self._operator(request)
        rule = await body_of(request, Split)
        return answer(await run_in_threadpool(self.meter.prices.add_split, rule), 201)

    async def split(self, request: Request) -> Response:
        """A version of a split rule, with any key: rules are published.

        Answers: Split
        """
        await self._holder(request)
        return answer(await run_in_threadpool(self.meter.prices.split, request.path_params["id"]))

    async def add_key(self, request: Request) -> Response:
        """Makes an API key for a party (operator). Its bearer token is in this answer and never shown again.

        Body: KeyOrder
        Answers: NewKey
        Status: 201
        """
        await self._operator(request)
        order = await body_of(request, KeyOrder)
        make = self.service.keys.create
        return answer(await run_in_threadpool(make, order.party, order.label, order.operator, order.expires_in_s), 201)

    async def revoke_key(self, request: Request) -> Response:
        """Revokes a key at once: the operator any, a party its own.

        Answers: Key
        """
        holder = await self._holder(request)
        key_id = request.path_params["id"]
        if not holder.operator:
            own = await run_in_threadpool(self.service.keys.listed)
            if key_id not in {key.id for key in own if key.party == holder.party and not key.operator}:
                raise ForbiddenError(f"the key of {holder.party} cannot revoke {key_id!r}", "revoke your own keys, or ask the operator")
        return answer(await run_in_threadpool(self.service.keys.revoke, key_id))


def ledger_routes(service: LedgerService) -> list[Route]:
    """All routes of the book."""
    on = _Routes(service)
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/v1/receipts/{id}", on.receipt),
        ("GET", "/v1/receipts/{id}/proof", on.proof),
        ("GET", "/v1/log/head", on.head),
        ("GET", "/v1/log/key", on.log_key),
        ("GET", "/v1/log/consistency", on.consistency),
        ("GET", "/v1/accounts/{party}", on.account),
        ("POST", "/v1/accounts/{party}/credit", on.credit),
        ("GET", "/v1/statements/{party}", on.statement),
        ("GET", "/v1/lots/{party}/{lot}", on.lot),
        ("GET", "/v1/book/check", on.check),
        ("POST", "/v1/prices", on.add_price),
        ("GET", "/v1/prices/{id}", on.price),
        ("POST", "/v1/splits", on.add_split),
        ("GET", "/v1/splits/{id}", on.split),
        ("POST", "/v1/keys", on.add_key),
        ("DELETE", "/v1/keys/{id}", on.revoke_key),
    ]
    return [Route(path, guarded(handler), methods=[method]) for method, path, handler in table]
