"""Verifies a receipt offline, with nothing but the receipt's JSON and the exchange's public keys. Names what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from isthmus.contracts.errors import DocumentError, InputError, IsthmusError
from isthmus.contracts.receipt import (
    CHARGED,
    RECEIPT_FORMAT,
    STATEMENT_TYPE,
    TREE_HEAD_TYPE,
    ConsistencyProof,
    OutcomeSection,
    PriceSection,
    Receipt,
    ShareSection,
    SplitSection,
    Statement,
    TreeHead,
    UsageSection,
    Verification,
    VerificationLine,
)
from isthmus.kit.signing import Envelope, key_id, unseal
from isthmus.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from isthmus.ledger.prices import checked_price, checked_split
from isthmus.ledger.receipts import leaf_bytes, section_digest
from isthmus.ledger.splits import claims, divide

PUBLIC_HEX_DIGITS = 64
_Body = TypeVar("_Body", bound=msgspec.Struct)


def trusted_keys(public_keys: Iterable[str]) -> dict[str, str]:
    """Key id -> public key, from public keys in hex. Raises InputError."""
    trusted = {}
    for public in public_keys:
        clean = public.strip().lower()
        if len(clean) != PUBLIC_HEX_DIGITS or any(digit not in "0123456789abcdef" for digit in clean):
            raise InputError("the public key is not 64 hex digits", "give the exchange's Ed25519 public key in hex")
        trusted[key_id(clean)] = clean
    return trusted


def receipt_from(document: Any) -> Receipt:
    """A receipt from parsed JSON. Raises DocumentError."""
    try:
        return msgspec.convert(document, Receipt, strict=True)
    except msgspec.ValidationError as error:
        raise DocumentError(f"this is not a receipt: {error}", "give the file as the exchange sent it") from error


class _Report:
    """Collects lines; knows which sections are shown and undamaged."""

    def __init__(self, receipt: Receipt) -> None:
        self.receipt = receipt
        self.lines: list[VerificationLine] = []
        self.sound: set[str] = set()

    def say(self, part: str, holds: bool, detail: str) -> None:
        self.lines.append(VerificationLine(part=part, holds=holds, detail=detail))

    def body(self, name: str, kind: type[_Body]) -> _Body | None:
        """A sound section's body as its noun; None when it is hidden or damaged, or (said here) not of that form."""
        if name not in self.sound:
            return None
        try:
            return msgspec.convert(self.receipt.sections[name].body, kind, strict=True)
        except msgspec.ValidationError as error:
            self.say(name, False, f"the section has not the form it should have: {error}")
            return None


def verify_receipt(document: Any, public_keys: Iterable[str]) -> Verification:
    """Checks everything that the disclosed sections allow: each section against its digest, usage x price, the split,
    the place in the log and the exchange's signature under it. document: parsed JSON. Raises DocumentError, InputError.

    An altered digit fails the line named after its section.
    """
    receipt = receipt_from(document)
    trusted = trusted_keys(public_keys)
    report = _Report(receipt)
    report.say("format", receipt.format == RECEIPT_FORMAT, receipt.format)
    for name in sorted(receipt.sections):
        intact = _intact(receipt, name)
        if intact:
            report.sound.add(name)
        report.say(name, intact, "unaltered" if intact else "the section was altered: it does not give the digest in the receipt")
    _check_time(report)
    for part, check in (("arithmetic", _check_charge), ("shares", _check_split), ("shares", _check_shares)):
        try:
            check(report)
        except IsthmusError as error:
            report.say(part, False, error.message)
    _check_inclusion(report, trusted)
    hidden = tuple(sorted(set(receipt.digests) - set(receipt.sections)))
    return Verification(receipt=receipt.id, holds=all(line.holds for line in report.lines), lines=tuple(report.lines), hidden=hidden)


def _intact(receipt: Receipt, name: str) -> bool:
    try:
        return receipt.digests.get(name) == section_digest(name, receipt.sections[name])
    except (DocumentError, UnicodeError):
        return False


def _check_time(report: _Report) -> None:
    outcome = report.body("outcome", OutcomeSection)
    if outcome is not None:
        report.say("time", outcome.ended_at_ms == report.receipt.at_ms, f"ended at {outcome.ended_at_ms} ms")


def _check_charge(report: _Report) -> None:
    """The sections have canonical JSON, so all integers in them are exact."""
    used, priced, ended = report.body("usage", UsageSection), report.body("price", PriceSection), report.body("outcome", OutcomeSection)
    if used is None or priced is None or ended is None:
        return
    due = checked_price(priced.price).charge_micros(used.usage.checked())
    report.say("arithmetic", due == priced.priced_micros, f"usage x price {priced.price.id} = {due} micro-{priced.price.currency}")
    charged = CHARGED[ended.outcome]
    charge = min(due, priced.held_micros) if charged else 0
    overrun = max(0, due - priced.held_micros) if charged else 0
    fits = charge == priced.charge_micros and overrun == priced.overrun_micros and charge <= priced.held_micros
    report.say("charge", fits, f"{ended.outcome}: {charge} of {priced.held_micros} held, {overrun} beyond it")
    most = priced.price.charge_micros(used.worst_case)
    report.say("hold", most == priced.held_micros, f"the worst case costs {most}")


def _check_split(report: _Report) -> None:
    split, priced = report.body("split", SplitSection), report.body("price", PriceSection)
    if split is None:
        return
    total = sum(line.amount_micros for line in split.lines)
    sums = total == split.charge_micros and (priced is None or priced.charge_micros == split.charge_micros)
    ruled = split.lines == divide(checked_split(split.rule), split.charge_micros, split.compute)
    report.say("shares", sums and ruled, f"{len(split.lines)} shares by {split.rule.id} sum to {total}")


def _check_shares(report: _Report) -> None:
    split = report.body("split", SplitSection)
    for name in sorted(report.sound):
        share = report.body(name, ShareSection) if name.startswith("share-") else None
        if share is None:
            continue
        line = share.line
        floor = share.charge_micros * line.weight // line.weight_total if line.weight_total > 0 else -1
        fits = line.amount_micros in (floor, floor + 1) and 0 <= line.weight <= line.weight_total
        if split is not None:
            _, weight_total = claims(split.rule, split.compute)
            fits = fits and line in split.lines and line.weight_total == weight_total and share.charge_micros == split.charge_micros
        report.say(name, fits, f"{line.role} {line.party}: {line.amount_micros} of {share.charge_micros}")


def _check_inclusion(report: _Report, trusted: dict[str, str]) -> None:
    receipt, proof = report.receipt, report.receipt.proof
    if proof is None:
        report.say("inclusion", False, "the file has no proof; fetch the receipt again")
        return
    try:
        head = tree_head(proof.head, trusted)
        path, root = [bytes.fromhex(step) for step in proof.path], bytes.fromhex(head.root)
    except IsthmusError as error:
        report.say("head", False, error.message)
        return
    except ValueError:
        report.say("inclusion", False, "the proof is not in hex")
        return
    report.say("head", head.tree_size == proof.tree_size, f"signed for {head.tree_size} leaves of {head.log}")
    try:
        leaf = leaf_hash(leaf_bytes(receipt.id, receipt.at_ms, receipt.digests))
    except (DocumentError, UnicodeError):
        report.say("inclusion", False, "the id, time or digests have no canonical form")
        return
    placed = proof.leaf_index == receipt.leaf_index and verify_inclusion(leaf, proof.leaf_index, proof.tree_size, path, root)
    detail = f"leaf {proof.leaf_index} of {proof.tree_size}" if placed else "the id, time, digests or proof do not lead to the signed root"
    report.say("inclusion", placed, detail)


def tree_head(envelope: Any, trusted: dict[str, str]) -> TreeHead:
    """The signed tree head in an envelope (parsed JSON). Raises SignatureError, DocumentError."""
    try:
        return msgspec.convert(unseal(msgspec.convert(envelope, Envelope), TREE_HEAD_TYPE, trusted), TreeHead)
    except msgspec.ValidationError as error:
        raise DocumentError(f"this is not a signed tree head: {error}", "fetch it again") from error


def verify_growth(proof: ConsistencyProof, older: TreeHead, newer: TreeHead) -> bool:
    """Whether the log under `newer` only grew from the one under `older`."""
    try:
        path = [bytes.fromhex(step) for step in proof.path]
        roots = bytes.fromhex(older.root), bytes.fromhex(newer.root)
    except ValueError:
        return False
    same = (proof.first, proof.second, older.log) == (older.tree_size, newer.tree_size, newer.log)
    return same and verify_consistency(older.tree_size, newer.tree_size, *roots, path)


def verify_statement(envelope: Any, public_keys: Iterable[str]) -> Statement:
    """The statement that the exchange signed, with its sums recomputed. Raises SignatureError, DocumentError."""
    try:
        payload = unseal(msgspec.convert(envelope, Envelope), STATEMENT_TYPE, trusted_keys(public_keys))
        statement = msgspec.convert(payload, Statement)
    except msgspec.ValidationError as error:
        raise DocumentError(f"this is not a signed statement: {error}", "fetch it again") from error
    for total in statement.totals:
        moved = sum(line.amount for line in statement.lines if (line.role, line.unit) == (total.role, total.unit))
        if moved != total.moved or total.opening + moved != total.closing:
            raise DocumentError(f"the statement's lines in {total.unit} do not sum to its total", "ask the exchange for it again")
    return statement
