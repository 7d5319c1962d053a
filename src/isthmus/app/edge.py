"""Boxes: small machines that judge offline. Enrols them, takes what they judged, and meters it late.

A box is a party of its own with a balance that was paid beforehand, out of its owner's. So late use follows the book's one rule: records
are kept first, with the batch that they came in; then, in one transaction, the batch's worst case (which is what was used: it has
happened) is held on the box's balance, captured, split and receipted, under an id made of the box and the batch. A crash between the two
leaves a batch without a receipt, which the next request or the next start meters; the same id is never charged twice. What the balance
does not cover stays kept and owed. The party that owns the box is its compute provider.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from isthmus.access.keys import KeyRing
from isthmus.app.catalogue import Catalogue
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.edge import EdgeBatch, EdgeBox, EdgeOrder, EdgeRecord, EdgeStanding, EdgeTaken, EdgeTicket
from isthmus.contracts.errors import ConflictError, ForbiddenError, InputError, InsufficientFundsError, NotFoundError
from isthmus.contracts.key import Key
from isthmus.contracts.money import AccountName, Entry
from isthmus.contracts.ports import Clock, Json
from isthmus.contracts.price import Usage
from isthmus.gateway.registry import Registry
from isthmus.kit.canonical import digest_of, sha256_hex
from isthmus.kit.database import Database, named_sql
from isthmus.kit.ids import slug
from isthmus.kit.signing import SigningKey
from isthmus.ledger.meter import Meter

SQL = named_sql(Path(__file__).parent / "sql" / "edge.sql")
NAME_BYTES = 4
PARTY_CHARS_MAX = 48
TICKETS_MAX = 500
"""Tickets that one answer shows, the oldest first."""
RULE = "judged on a box under a certificate that was valid when it was exported; told later"


def genesis(box: str) -> str:
    """What the first record of a box's journal names as the record before it."""
    return "sha256:" + sha256_hex(box.encode())


class EdgeDesk:
    """Boxes of one exchange. exchange: its own party, from which credit is issued. entropy: n -> n unpredictable bytes."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        key: SigningKey,
        catalogue: Catalogue,
        registry: Registry,
        meter: Meter,
        keys: KeyRing,
        exchange: str,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.db = Database(path, [SQL["schema_1"]])
        self.clock, self.key, self.catalogue, self.registry = clock, key, catalogue, registry
        self.meter, self.keys, self.exchange, self.entropy = meter, keys, exchange, entropy

    def enrol(self, order: EdgeOrder) -> EdgeBox:
        """A new box: paid for beforehand, with a key of its own. Raises UnknownModelError, CertificateError, InsufficientFundsError."""
        if len(slug(order.party, "the party")) > PARTY_CHARS_MAX:
            raise InputError(f"the party's name has more than {PARTY_CHARS_MAX} characters", "use a shorter one")
        entry = self.registry.find(order.deployment, order.version)
        self.registry.admit(entry)
        deployment = entry.deployment
        price = self.meter.prices.in_effect(deployment.price_id, self.clock.now_s())
        cost, box = price.charge_micros(Usage(inferences=order.allowance)), f"{order.party}-box-{self.entropy(NAME_BYTES).hex()}"
        with self.meter.db.transaction():
            if order.credit:
                self._move(f"credit:{box}", (self.exchange, "issued"), (order.party, "balance"), price.currency, cost, f"credit for {box}")
            self._move(f"prepay:{box}", (order.party, "balance"), (box, "balance"), price.currency, cost, f"paid beforehand for {box}")
            row = {"id": box, "party": order.party, "allowance": order.allowance, "prepaid_micros": cost, "head": genesis(box)}
            with self.db.transaction() as connection:
                connection.execute(SQL["box_add"], {**row, "deployment": msgspec.json.encode(deployment), "now": self.clock.now_s()})
        made = self.keys.create(box, label=f"box of {order.party}")
        with self.db.transaction() as connection:
            connection.execute(SQL["box_key"], {"id": box, "key_id": made.key.id})
        return EdgeBox(
            box=box,
            party=order.party,
            deployment=deployment.name,
            version=deployment.version,
            site=deployment.site,
            tier=deployment.tier,
            decoder=deployment.decoder,
            artefact_digest=deployment.artefact_digest,
            certificate_digest=deployment.certificate_digest,
            certificate=msgspec.to_builtins(self.catalogue.certificate(deployment.certificate_digest)),
            public_key=self.key.public_hex,
            allowance=order.allowance,
            prepaid_micros=cost,
            currency=price.currency,
            key=made.bearer,
        )

    def _move(self, transfer: str, source: tuple[str, str], target: tuple[str, str], unit: str, amount: int, reason: str) -> None:
        pairs = ((source, -amount), (target, amount))
        names = [(msgspec.convert({"party": p, "role": r, "unit": unit}, AccountName), moved) for (p, r), moved in pairs]
        self.meter.book.post(transfer, [Entry(account=name, amount=moved) for name, moved in names], reason)

    def _box(self, box: str) -> sqlite3.Row:
        row = self.db.row(SQL["box_get"], {"id": box})
        if row is None:
            raise NotFoundError(f"there is no box {box!r} here", "list them with GET /v1/edge/boxes")
        return row

    def take(self, key: Key, batch: EdgeBatch) -> EdgeTaken:
        """Keeps a box's records, and meters them. Records that were taken before change nothing.

        Raises ForbiddenError (the key is no box's), ConflictError (the records do not go on where the journal was left, or
        differ from those taken before), StorageError.
        """
        found = self.db.row(SQL["box_of_key"], {"key_id": key.id})
        if found is None:
            raise ForbiddenError("this key is not a box's", "use the key that `isthmus export` wrote for the box")
        box = str(found["id"])
        taken = self._kept(box, batch.records)
        receipts, owed = self.settle(box)
        deployment = msgspec.json.decode(found["deployment"], type=Deployment)
        withdrawn = deployment.certificate_digest in self.catalogue.revoked()
        return EdgeTaken(taken=taken, owed=owed, receipts=receipts, withdrawn=withdrawn)

    def _kept(self, box: str, records: tuple[EdgeRecord, ...]) -> int:
        with self.db.transaction() as connection:
            row = connection.execute(SQL["box_get"], {"id": box}).fetchone()
            taken, head = int(row["taken"]), str(row["head"])
            first = taken + 1
            for place, record in enumerate(records):
                digest = digest_of(record)
                if place and record.seq != records[place - 1].seq + 1:
                    raise _broken(box, record.seq)
                if record.seq <= taken:
                    known = connection.execute(SQL["record_digest"], {"box": box, "seq": record.seq}).fetchone()
                    if known is None or known["digest"] != digest:
                        raise _broken(box, record.seq)
                    continue
                if record.seq != taken + 1 or record.prev != head:
                    raise _broken(box, record.seq)
                taken, head = record.seq, digest
                said = {"at_s": record.at_s, "image": record.image, "score": record.score, "verdict": record.verdict}
                connection.execute(SQL["record_add"], {"box": box, "seq": record.seq, "digest": digest, **said})
            if taken >= first:
                connection.execute(SQL["batch_add"], {"box": box, "first": first, "last": taken})
                connection.execute(SQL["box_taken"], {"id": box, "taken": taken, "head": head})
            return taken

    def settle(self, box: str) -> tuple[tuple[str, ...], int]:
        """Meters every batch that has no receipt. (Receipts that were made, pictures still owed for lack of balance.)"""
        made, owed = [], 0
        for row in self.db.rows(SQL["batches_owed"], {"box": box}):
            first, last = int(row["first"]), int(row["last"])
            try:
                receipt = self._metered(box, first, last)
            except InsufficientFundsError:
                owed += last - first + 1
                continue
            with self.db.transaction() as connection:
                connection.execute(SQL["batch_paid"], {"box": box, "first": first, "receipt": receipt})
            made.append(receipt)
        return tuple(made), owed

    def settle_all(self) -> int:
        """Meters what a crash left unmetered. Returns the number of receipts made. Call it at start."""
        return sum(len(self.settle(str(row["box"]))[0]) for row in self.db.rows(SQL["boxes_owing"]))

    def _metered(self, box: str, first: int, last: int) -> str:
        receipt = "rcp_" + digest_of([box, first, last]).removeprefix("sha256:")[:32]
        row, usage = self._box(box), Usage(inferences=last - first + 1)
        deployment = msgspec.json.decode(row["deployment"], type=Deployment)
        digest = self.db.row(SQL["record_digest"], {"box": box, "seq": last})
        assert digest is not None  # kept in the transaction that made the batch
        decision: Json = {"rule": RULE, "deployment": deployment.name, "version": deployment.version, "site": deployment.site}
        decision |= {"tier": deployment.tier, "box": box, "first": first, "last": last, "journal": str(digest["digest"])}
        with self.meter.db.transaction():
            if self.meter.find(receipt) is not None:
                return receipt
            self.meter.open(
                receipt,
                box,
                f"{deployment.name}/{deployment.version}",
                deployment.artefact_digest,
                deployment.price_id,
                deployment.split_id,
                usage,
                decision,
                certificate_digest=deployment.certificate_digest,
                compute=str(row["party"]),
            )
            self.meter.close(receipt, usage, "reported")
        return receipt

    def boxes(self) -> list[EdgeStanding]:
        """Every box, oldest first."""
        names = ("party", "allowance", "taken", "owed", "waiting", "returned_micros", "state")
        return [
            EdgeStanding(
                box=row["id"],
                deployment=msgspec.json.decode(row["deployment"], type=Deployment).name,
                **{name: row[name] for name in names},
            )
            for row in self.db.rows(SQL["boxes_all"])
        ]

    def copies(self, certificate: str) -> list[tuple[str, str]]:
        """(box, party) of every box that is not retired and holds what a certificate is for."""
        held = [(row, msgspec.json.decode(row["deployment"], type=Deployment)) for row in self.db.rows(SQL["boxes_all"])]
        return [(row["id"], row["party"]) for row, of in held if of.certificate_digest == certificate and row["state"] == "open"]

    def retire(self, box: str) -> EdgeStanding:
        """Ends a box: its key is revoked, and what was not used goes back to its party. Again is no error. Raises NotFoundError.

        What the box has judged and not sent by then is lost to the book: let it send first.
        """
        row = self._box(box)
        if row["key_id"]:
            self.keys.revoke(row["key_id"])
        self.settle(box)
        if row["state"] == "open":
            deployment = msgspec.json.decode(row["deployment"], type=Deployment)
            currency = self.meter.prices.price(deployment.price_id).currency
            left = self.meter.book.balance(AccountName(party=box, role="balance", unit=currency)).available or 0
            known = self.meter.book.transfer(f"return:{box}")
            if known is None:
                self._move(f"return:{box}", (box, "balance"), (row["party"], "balance"), currency, left, f"not used by {box}")
            else:
                left = sum(entry.amount for entry in known.entries if entry.amount > 0)
            with self.db.transaction() as connection:
                connection.execute(SQL["box_retire"], {"id": box, "returned_micros": left})
        return next(found for found in self.boxes() if found.box == box)

    def tickets(self) -> list[EdgeTicket]:
        """Doubtful pictures that wait for a person, oldest first, at most TICKETS_MAX."""
        return [msgspec.convert(dict(row), EdgeTicket) for row in self.db.rows(SQL["tickets"], {"count": TICKETS_MAX})]

    def decide(self, box: str, seq: int, verdict: str) -> EdgeTicket:
        """Records what a person decided; the same again is no error. Raises NotFoundError, ConflictError (decided otherwise before)."""
        with self.db.transaction() as connection:
            connection.execute(SQL["ticket_decide"], {"box": box, "seq": seq, "decided": verdict})
            row = connection.execute(SQL["ticket"], {"box": box, "seq": seq}).fetchone()
        if row is None:
            raise NotFoundError(f"there is no ticket {seq} of {box!r}", "list them with GET /v1/edge/tickets")
        if row["decided"] != verdict:
            raise ConflictError(f"the ticket was decided as {row['decided']} before", "a decision stands")
        return msgspec.convert(dict(row), EdgeTicket)

    def close(self) -> None:
        self.db.close()


def _broken(box: str, seq: int) -> ConflictError:
    return ConflictError(
        f"record {seq} of {box} does not go on where its journal was left",
        "send from the first record again (remove sent.json at the box); if it stays so, the box was copied or its journal edited",
    )
