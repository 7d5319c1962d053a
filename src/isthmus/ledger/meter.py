"""The meter: what the gateway calls around each attempt to serve. open -> (serve) -> close or void.

Every attempt that was opened ends in exactly one terminal record, a receipt: by close, by void, by expire, or by
recover after a crash. Each call is durable when it returns, and either happened whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from isthmus.contracts.errors import BookError, ConflictError, InputError, UnknownHoldError
from isthmus.contracts.lot import LotSection
from isthmus.contracts.money import AccountName, Entry, Hold, counted_unit
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.price import Price, ShareLine, Split, Usage
from isthmus.contracts.receipt import (
    CHARGED,
    CertificateSection,
    Outcome,
    OutcomeSection,
    PartiesSection,
    PolicySection,
    PriceSection,
    Receipt,
    ShareSection,
    SplitSection,
    UsageSection,
)
from isthmus.kit.canonical import canonical_bytes, digest_of, sha256_hex
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import SigningKey
from isthmus.ledger.book import Book, ended_error
from isthmus.ledger.log import ReceiptLog
from isthmus.ledger.prices import PriceList
from isthmus.ledger.receipts import ReceiptStore, salted
from isthmus.ledger.splits import divide

HOLD_TTL_S_DEFAULT = 900.0
"""How long an attempt may stay open before `expire` ends it: longer than any answer takes."""

_SQL = named_sql(Path(__file__).parent / "sql" / "receipts.sql")


class Attempt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `open` was asked, as it is stored."""

    request_id: str
    caller: str
    model: str
    artefact_digest: str
    certificate_digest: str | None
    price_id: str
    split_id: str
    compute: str
    worst_case: Usage
    policy: Json


class Meter:
    """Holds, charges and receipts for the gateway.

    db: from `open_book`. key: the exchange's, signs tree heads. entropy: n -> n unpredictable bytes, for salts.
    May be called from several threads; calls wait for each other and for the disk, so not from an event loop directly.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        key: SigningKey,
        log_name: str = "isthmus",
        hold_ttl_s: float = HOLD_TTL_S_DEFAULT,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.db = db
        self.clock = clock
        self.hold_ttl_s = hold_ttl_s
        self.entropy = entropy
        self.book = Book(db, clock)
        self.prices = PriceList(db)
        self.log = ReceiptLog(db, clock, key, log_name)
        self.receipts = ReceiptStore(db, self.log)

    def open(
        self,
        request_id: str,
        caller: str,
        model: str,
        artefact_digest: str,
        price_id: str,
        split_id: str,
        worst_case: Usage,
        policy: Json,
        *,
        certificate_digest: str | None = None,
        compute: str | None = None,
    ) -> Hold:
        """Holds what the attempt costs at worst. Dispatch only after it has returned.

        request_id: minted anew for each attempt. policy: the decision that allowed it, for the receipt.
        compute: the provider that serves, if not the split rule's. Called again with the same content while the attempt
        is open, the same Hold comes back. Raises InsufficientFundsError (402), UnknownPriceError, UnknownSplitError (422),
        ConflictError (same id, other content; or the attempt has ended: Hold*Error), AmountError, StorageError (503).
        """
        price = self.prices.in_effect(price_id, self.clock.now_s())
        rule = self.prices.split(split_id)
        attempt = Attempt(
            request_id=request_id,
            caller=caller,
            model=model,
            artefact_digest=artefact_digest,
            certificate_digest=certificate_digest,
            price_id=price_id,
            split_id=split_id,
            compute=compute or rule.compute,
            worst_case=worst_case.checked(),
            policy=policy,
        )
        raw = canonical_bytes(attempt)
        digest = sha256_hex(raw)
        account = AccountName(party=caller, role="balance", unit=price.currency)
        with self.db.transaction() as connection:
            row = connection.execute(_SQL["attempt"], {"id": request_id}).fetchone()
            if row is not None and row["digest"] != digest:
                raise ConflictError(f"the attempt {request_id} was opened before with other content", "mint a new id for each attempt")
            expires_at_ms = self.book.now_ms() + int(self.hold_ttl_s * 1000)
            hold = self.book.hold(request_id, account, price.charge_micros(worst_case), expires_at_ms)
            if hold.state != "open":
                raise ended_error(hold)
            if row is None:
                connection.execute(_SQL["attempt_add"], {"id": request_id, "digest": digest, "document": raw})
            return hold

    def close(self, request_id: str, usage: Usage, outcome: Outcome, lot: LotSection | None = None) -> Receipt:
        """Captures what was used, splits it, moves the counted units, and writes the receipt, in one transaction.

        Finish the answer only after it has returned. outcome: reported, recounted, partial or zero (see CHARGED). A charge
        beyond the hold is cut to the hold and noted as overrun. Again with the same content: the same receipt.
        lot: what the receipt says of the lot that the parts belong to.
        Raises UnknownHoldError, Hold*Error, ConflictError (other content), AmountError, StorageError.
        """
        if outcome == "void" or outcome not in CHARGED:
            raise InputError(f"an attempt cannot be closed as {outcome!r}", "use reported, recounted, partial or zero; or void it")
        usage.checked()
        digest = digest_of({"usage": usage, "outcome": outcome} | ({} if lot is None else {"lot": lot}))
        with self.db.transaction():
            attempt, hold = self._opened(request_id)
            known = self.receipts.find(request_id)
            if known is not None and known[1] == digest:
                return known[0]
            if known is not None and known[0].outcome != "void":
                raise ConflictError(
                    f"the attempt {request_id} was closed before with another usage", "keep the first; correct it by a transfer"
                )
            price = self.prices.price(attempt.price_id)
            priced = price.charge_micros(usage)
            charge = min(priced, hold.amount) if CHARGED[outcome] else 0
            lines = divide(self.prices.split(attempt.split_id), charge, attempt.compute)
            entries = _share_entries(lines, price.currency) + (_unit_entries(attempt, usage) if CHARGED[outcome] else [])
            self.book.capture(request_id, charge, entries, f"{outcome}: {attempt.model}")
            return self._record(attempt, price, usage, lines, outcome, "", digest, lot)

    def void(self, request_id: str, reason: str) -> Receipt:
        """Gives the whole hold back and records that nothing was charged, and why.

        An attempt that was voided or has expired before keeps its first record, which comes back. Raises UnknownHoldError,
        HoldCapturedError (it was closed), StorageError.
        """
        with self.db.transaction():
            attempt, hold = self._opened(request_id)
            if hold.state in ("voided", "expired"):
                return self._receipt(request_id)
            self.book.void(request_id)
            return self._record_void(attempt, reason)

    def find(self, request_id: str) -> Receipt | None:
        """The terminal record of an attempt with all sections, or None while it is open or unknown."""
        found = self.receipts.find(request_id)
        return None if found is None else found[0]

    def open_holds(self) -> tuple[Hold, ...]:
        """The holds of attempts that have no terminal record yet, the first to expire first."""
        return tuple(hold for hold in self.book.open_holds() if self.db.row(_SQL["attempt"], {"id": hold.id}) is not None)

    def expire(self, now_s: float) -> tuple[Receipt, ...]:
        """Ends attempts that stayed open beyond their time, each with its terminal record. Call it every minute or so."""
        ended = []
        for hold in self.open_holds():
            if hold.expires_at_ms > int(now_s * 1000):
                break
            with self.db.transaction():
                attempt, standing = self._opened(hold.id)
                if standing.state == "open":
                    self.book.expire(hold.id, int(now_s * 1000))
                    ended.append(self._record_void(attempt, "the attempt stayed open beyond its time"))
        return tuple(ended)

    def recover(self, now_s: float) -> tuple[Receipt, ...]:
        """Ends what a crash left open. Call it at start, before the first request: no answer of these was finished."""
        ended = []
        for hold in self.open_holds():
            with self.db.transaction():
                attempt, _ = self._opened(hold.id)
                if hold.expires_at_ms <= int(now_s * 1000):
                    self.book.expire(hold.id, int(now_s * 1000))
                else:
                    self.book.void(hold.id)
                ended.append(self._record_void(attempt, "the exchange stopped before the answer was finished"))
        return tuple(ended)

    def _opened(self, request_id: str) -> tuple[Attempt, Hold]:
        row = self.db.row(_SQL["attempt"], {"id": request_id})
        hold = self.book.find_hold(request_id)
        if row is None or hold is None:
            raise UnknownHoldError(f"there is no attempt {request_id}", "open it before it is dispatched")
        return msgspec.json.decode(row["document"], type=Attempt), hold

    def _receipt(self, request_id: str) -> Receipt:
        found = self.receipts.find(request_id)
        if found is None:
            raise BookError(f"the hold {request_id} was ended without a record", "run `isthmus book check`")
        return found[0]

    def _record_void(self, attempt: Attempt, reason: str) -> Receipt:
        price = self.prices.price(attempt.price_id)
        return self._record(attempt, price, Usage(), (), "void", reason, digest_of({"void": reason}))

    def _record(
        self,
        attempt: Attempt,
        price: Price,
        usage: Usage,
        lines: tuple[ShareLine, ...],
        outcome: Outcome,
        reason: str,
        digest: str,
        lot: LotSection | None = None,
    ) -> Receipt:
        hold = self.book.find_hold(attempt.request_id)
        if hold is None or hold.ended_at_ms is None:
            raise BookError(f"the hold {attempt.request_id} has not ended", "end it before it is recorded")
        rule = self.prices.split(attempt.split_id)
        lines = lines or divide(rule, 0, attempt.compute)
        bodies = _sections(attempt, hold, price, rule, usage, lines, outcome, reason) | ({} if lot is None else {"lot": lot})
        parties = [attempt.caller, attempt.compute, rule.vendor, *(line.party for line in lines if line.amount_micros)]
        index = {"outcome": outcome, "charge_micros": hold.captured, "currency": price.currency}
        made = self.receipts.add(attempt.request_id, hold.ended_at_ms, salted(bodies, self.entropy), parties, index, digest)
        if lot is not None:
            self.receipts.add_to_lot(attempt.caller, lot.lot, made.leaf_index)
        return made


def _share_entries(lines: tuple[ShareLine, ...], currency: str) -> list[Entry]:
    return [
        Entry(
            account=AccountName(party=line.party, role="residue" if line.role == "residue" else "earned", unit=currency),
            amount=line.amount_micros,
        )
        for line in lines
    ]


def _unit_entries(attempt: Attempt, usage: Usage) -> list[Entry]:
    """Counted units from the provider (made) to the caller (used), per model version."""
    entries = []
    for kind, count in usage.counts().items():
        unit = counted_unit(kind, attempt.artefact_digest)
        entries.append(Entry(account=AccountName(party=attempt.compute, role="made", unit=unit), amount=-count))
        entries.append(Entry(account=AccountName(party=attempt.caller, role="used", unit=unit), amount=count))
    return entries


def _sections(
    attempt: Attempt, hold: Hold, price: Price, rule: Split, usage: Usage, lines: tuple[ShareLine, ...], outcome: Outcome, reason: str
) -> dict[str, msgspec.Struct]:
    charge, priced = hold.captured, price.charge_micros(usage)
    bodies: dict[str, msgspec.Struct] = {
        "usage": UsageSection(usage=usage, worst_case=attempt.worst_case, model=attempt.model),
        "price": PriceSection(
            price=price,
            held_micros=hold.amount,
            priced_micros=priced,
            charge_micros=charge,
            overrun_micros=max(0, priced - hold.amount) if CHARGED[outcome] else 0,
        ),
        "split": SplitSection(rule=rule, compute=attempt.compute, charge_micros=charge, lines=lines),
        "policy": PolicySection(decision=attempt.policy),
        "parties": PartiesSection(caller=attempt.caller, compute=attempt.compute, vendor=rule.vendor, exchange=rule.exchange),
        "certificate": CertificateSection(artefact_digest=attempt.artefact_digest, certificate_digest=attempt.certificate_digest),
        "outcome": OutcomeSection(outcome=outcome, reason=reason, opened_at_ms=hold.opened_at_ms, ended_at_ms=hold.ended_at_ms or 0),
    }
    for place, line in enumerate(line for line in lines if line.amount_micros):
        bodies[f"share-{place}"] = ShareSection(line=line, charge_micros=charge, currency=price.currency, split_id=rule.id)
    return bodies
