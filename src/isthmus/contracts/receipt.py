"""What was used, what it cost, who got what: the receipt of one attempt, its place in the log, and statements of many.

A receipt is made of sections. Each has its own random salt and its own digest; the leaf in the log commits to the
digests only. So a party can be shown its own sections, and check them, without seeing the others'.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from isthmus.contracts.price import Price, ShareLine, Split, Usage

Outcome = Literal["reported", "recounted", "partial", "zero", "void"]
RECEIPT_FORMAT = "isthmus-receipt/1"
TREE_HEAD_TYPE = "application/vnd.isthmus.tree-head+json"
STATEMENT_TYPE = "application/vnd.isthmus.statement+json"

CHARGED: dict[str, bool] = {"reported": True, "recounted": True, "partial": True, "zero": False, "void": False}
"""The stated policy per outcome: is what was used charged?

reported: the engine's own count. recounted: the engine gave none, the gateway counted. partial: the answer broke off,
what was delivered is charged. zero: the engine ran and delivered nothing. void: nothing was delivered or dispatched.
"""


class UsageSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was used, and the worst case that was held for it."""

    usage: Usage
    worst_case: Usage
    model: str


class PriceSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """priced = price applied to usage; charge = min(priced, held) if the outcome is charged, else 0; overrun = what was
    used beyond the hold and is paid by nobody."""

    price: Price
    held_micros: int
    priced_micros: int
    charge_micros: int
    overrun_micros: int


class SplitSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The published rule, the compute provider of this attempt, and each share; shares sum to the charge."""

    rule: Split
    compute: str
    charge_micros: int
    lines: tuple[ShareLine, ...]


class ShareSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One party's own line of the split, with what it needs to recompute it: amount is charge * weight / weight_total,
    rounded down, or one more by the largest remainder."""

    line: ShareLine
    charge_micros: int
    currency: str
    split_id: str


class PolicySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rules let the request pass."""

    decision: dict[str, Any]


class PartiesSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who took part: party ids."""

    caller: str
    compute: str
    vendor: str
    exchange: str


class CertificateSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which artefact answered, under which certificate."""

    artefact_digest: str
    certificate_digest: str | None


class OutcomeSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the attempt ended, and when."""

    outcome: Outcome
    reason: str
    opened_at_ms: int
    ended_at_ms: int


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A disclosed section. Its digest is sha256 over the canonical JSON of {body, name, salt}."""

    salt: str
    body: dict[str, Any]


class InclusionProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """RFC 9162 inclusion proof (hex hashes, leaf side first) and the signed tree head it leads to (DSSE, as JSON)."""

    leaf_index: int
    tree_size: int
    path: tuple[str, ...]
    head: dict[str, Any]


class ConsistencyProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """RFC 9162 proof that the log of `first` leaves is the beginning of the log of `second` leaves."""

    first: int
    second: int
    first_root: str
    second_root: str
    path: tuple[str, ...]


class TreeHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the exchange signs: so many leaves, this root, at this time."""

    log: str
    tree_size: int
    root: str
    at_ms: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt's terminal record. `digests` lists every section; `sections` holds those that are disclosed here.

    The leaf in the log is the canonical JSON of {at_ms, digests, format, id}.
    """

    format: str
    id: str
    at_ms: int
    digests: dict[str, str]
    sections: dict[str, Section]
    leaf_index: int
    proof: InclusionProof | None = None

    def _body(self, name: str) -> dict[str, Any]:
        return self.sections[name].body

    @property
    def outcome(self) -> Outcome:
        return msgspec.convert(self._body("outcome"), OutcomeSection).outcome

    @property
    def usage(self) -> Usage:
        return msgspec.convert(self._body("usage"), UsageSection).usage

    @property
    def charge_micros(self) -> int:
        return msgspec.convert(self._body("price"), PriceSection).charge_micros

    @property
    def split(self) -> SplitSection:
        return msgspec.convert(self._body("split"), SplitSection)

    @property
    def lines(self) -> tuple[ShareLine, ...]:
        return self.split.lines


class StatementLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receipt, or one other transfer, as it moved one of the party's accounts. amount is signed."""

    at_ms: int
    kind: Literal["receipt", "transfer"]
    id: str
    role: str
    unit: str
    amount: int
    reason: str


class StatementTotal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """opening + moved = closing, by the book's entries; from_receipts is the part that receipts explain."""

    role: str
    unit: str
    opening: int
    moved: int
    closing: int
    from_receipts: int


class Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A party's receipts and other transfers in [from_ms, to_ms), summed."""

    party: str
    from_ms: int
    to_ms: int
    issued_at_ms: int
    receipts: int
    lines: tuple[StatementLine, ...]
    totals: tuple[StatementTotal, ...]


class SignedStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A statement to read, and the exchange's DSSE envelope over the same document (as JSON)."""

    statement: Statement
    envelope: dict[str, Any]


class VerificationLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One check of a receipt. part: a section's name, or arithmetic, charge, hold, shares, time, head, inclusion, format."""

    part: str
    holds: bool
    detail: str


class Verification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an offline check of a receipt found. hidden: sections that were not disclosed, so not checked."""

    receipt: str
    holds: bool
    lines: tuple[VerificationLine, ...]
    hidden: tuple[str, ...]
