"""Lot certificates: what was judged under one name, counted from receipts, signed, and checked offline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from isthmus.contracts.errors import DocumentError, InputError, IsthmusError, NotFoundError
from isthmus.contracts.inference import VERDICTS
from isthmus.contracts.lot import LOT_FORMAT, LOT_TYPE, SHOWN_SECTIONS, LotCertificate, LotModel, LotReceipt, LotSection, SignedLot
from isthmus.contracts.receipt import CertificateSection, Receipt, Verification, VerificationLine
from isthmus.kit.canonical import digest_of
from isthmus.kit.signing import Envelope, seal, unseal
from isthmus.ledger.merkle import inclusion_path, leaf_hash, verify_inclusion
from isthmus.ledger.meter import Meter
from isthmus.ledger.receipts import leaf_bytes, section_digest
from isthmus.ledger.verify import tree_head, trusted_keys

LOT_RECEIPTS_MAX = 20_000
"""Receipts of one lot; a document of so many has some fifty megabytes."""
PERSON = VERDICTS[2]
NAMED_MAX = 3
"""Damaged receipts that are named one by one."""
Terms = Callable[[str, str, int], LotModel]
"""(certificate's digest, artefact's digest, parts judged under it) -> what it promises. Raises NotFoundError."""


def lot_of(receipt: Receipt | LotReceipt) -> LotSection:
    """A receipt's section on its lot. Raises DocumentError when it has none, or one of another form."""
    try:
        return msgspec.convert(receipt.sections["lot"].body, LotSection, strict=True)
    except (KeyError, msgspec.ValidationError) as error:
        raise DocumentError(
            f"the receipt {receipt.id} says nothing of a lot", "ask the exchange for the lot's certificate again"
        ) from error


def _model_of(receipt: Receipt | LotReceipt) -> tuple[str, str]:
    """(certificate, artefact) that a receipt names. Raises DocumentError."""
    try:
        found = msgspec.convert(receipt.sections["certificate"].body, CertificateSection, strict=True)
    except (KeyError, msgspec.ValidationError) as error:
        raise DocumentError(f"the receipt {receipt.id} names no certificate", "ask the exchange for the lot's certificate again") from error
    return found.certificate_digest or "", found.artefact_digest


def _counted(receipts: Sequence[Receipt | LotReceipt]) -> tuple[dict[str, int], Counter[tuple[str, str]]]:
    """(verdict -> parts, (certificate, artefact) -> parts). Raises DocumentError."""
    counts, models = Counter[str](), Counter[tuple[str, str]]()
    for receipt in receipts:
        found = lot_of(receipt).counts
        if set(found) != set(VERDICTS) or min(found.values()) < 0:
            raise DocumentError(
                f"the receipt {receipt.id} counts other verdicts than {', '.join(VERDICTS)}", "ask the exchange for it again"
            )
        counts.update(found)
        models[_model_of(receipt)] += sum(found.values())
    return {verdict: counts[verdict] for verdict in VERDICTS}, models


def signed_lot(meter: Meter, party: str, lot: str, terms: Terms) -> SignedLot:
    """The document on a party's lot, over all its receipts in the log as it stands. Raises NotFoundError when there are none, InputError
    when there are too many."""
    with meter.db.transaction():
        found = meter.receipts.of_lot(party, lot, LOT_RECEIPTS_MAX + 1)
        if not found:
            raise NotFoundError(f"{party} has judged nothing as lot {lot!r}", f"judge it with: isthmus judge NAME PICTURES --lot {lot}")
        if len(found) > LOT_RECEIPTS_MAX:
            raise InputError(f"lot {lot!r} has more than {LOT_RECEIPTS_MAX} receipts", "send more parts in a request, or make smaller lots")
        head = meter.log.head()
        size = meter.log.size()
    receipts = tuple(_shown(meter, receipt, size) for receipt in found)  # of leaves that stay as they are, so nobody has to wait
    counts, judged = _counted(receipts)
    models = tuple(terms(*key, parts) for key, parts in sorted(judged.items()))
    document = LotCertificate(
        format=LOT_FORMAT,
        lot=lot,
        party=party,
        log=meter.log.name,
        tree_size=size,
        issued_at_ms=int(meter.clock.now_s() * 1000),
        first_at_ms=min(one.at_ms for one in receipts),
        last_at_ms=max(one.at_ms for one in receipts),
        receipts=len(receipts),
        receipts_digest=digest_of(receipts),
        parts=sum(counts.values()),
        counts=counts,
        graded=sum(counts.values()) - counts[PERSON],
        error_bound_ppm=max(one.error_bound_ppm for one in models),
        confidence_ppm=min(one.confidence_ppm for one in models),
        models=models,
    )
    envelope = seal(meter.log.key, LOT_TYPE, document)
    return SignedLot(lot=document, envelope=msgspec.to_builtins(envelope), head=msgspec.to_builtins(head), receipts=receipts)


def _shown(meter: Meter, receipt: Receipt, size: int) -> LotReceipt:
    path = inclusion_path(receipt.leaf_index, size, meter.log.subtree)
    return LotReceipt(
        id=receipt.id,
        at_ms=receipt.at_ms,
        digests=receipt.digests,
        sections={name: section for name, section in receipt.sections.items() if name in SHOWN_SECTIONS},
        leaf_index=receipt.leaf_index,
        path=tuple(step.hex() for step in path),
    )


def lot_from(document: Any) -> SignedLot:
    """A lot's document from parsed JSON. Raises DocumentError."""
    try:
        return msgspec.convert(document, SignedLot, strict=True)
    except msgspec.ValidationError as error:
        raise DocumentError(f"this is not a lot's certificate: {error}", "give the file as isthmus lot certify wrote it") from error


class _Check:
    """Lines of what was checked."""

    def __init__(self, given: SignedLot) -> None:
        self.given = given
        self.lines: list[VerificationLine] = []

    def say(self, part: str, holds: bool, detail: str) -> None:
        self.lines.append(VerificationLine(part=part, holds=holds, detail=detail))

    def told(self, part: str, broken: list[str], held: str) -> None:
        """One line for many receipts: the first that are broken are named."""
        more = f" and {len(broken) - NAMED_MAX} more" if len(broken) > NAMED_MAX else ""
        self.say(part, not broken, f"{'; '.join(broken[:NAMED_MAX])}{more}" if broken else held)


def verify_lot(document: Any, public_keys: Iterable[str]) -> Verification:
    """Checks a lot's document with nothing but itself and the exchange's public keys: the signature, every receipt's sections and its place
    in the signed log, and that the counts are those of the receipts. Whatever was altered fails the line that names it.

    document: parsed JSON. Raises DocumentError, InputError.
    """
    given, trusted = lot_from(document), trusted_keys(public_keys)
    check = _Check(given)
    check.say("format", given.lot.format == LOT_FORMAT, given.lot.format)
    _check_signature(check, trusted)
    _check_receipts(check)
    _check_counts(check)
    _check_log(check, trusted)
    return Verification(receipt=given.lot.lot, holds=all(line.holds for line in check.lines), lines=tuple(check.lines), hidden=())


def _check_signature(check: _Check, trusted: dict[str, str]) -> None:
    given = check.given
    try:
        signed = msgspec.convert(unseal(msgspec.convert(given.envelope, Envelope), LOT_TYPE, trusted), LotCertificate, strict=True)
    except (IsthmusError, msgspec.ValidationError) as error:
        check.say("signature", False, error.message if isinstance(error, IsthmusError) else str(error))
        return
    names = [name for name in LotCertificate.__struct_fields__ if getattr(signed, name) != getattr(given.lot, name)]
    check.say("signature", True, f"by a key that you trust, on lot {signed.lot} of {signed.party}")
    check.say("text", not names, f"differs from what was signed in {', '.join(names)}" if names else "as it was signed")


def _check_receipts(check: _Check) -> None:
    given, broken = check.given, list[str]()
    for receipt in given.receipts:
        for name, section in receipt.sections.items():
            try:
                intact = receipt.digests.get(name) == section_digest(name, section)
            except (DocumentError, UnicodeError):
                intact = False
            if not intact:
                broken.append(f"receipt {receipt.id}: section {name} was altered")
        if set(receipt.sections) != SHOWN_SECTIONS:
            broken.append(f"receipt {receipt.id} shows {', '.join(sorted(receipt.sections)) or 'nothing'}")
    check.told("receipts", broken, f"{len(given.receipts)} receipts, none altered")
    try:
        whole = digest_of(given.receipts) == given.lot.receipts_digest and len({r.id for r in given.receipts}) == given.lot.receipts
    except (DocumentError, UnicodeError):
        whole = False
    check.say("list", whole, "all those that were signed" if whole else "receipts were altered, added, taken out, or given twice")


def _check_counts(check: _Check) -> None:
    given, lot = check.given, check.given.lot
    try:
        counts, models = _counted(given.receipts)
        named = {lot_of(receipt).lot for receipt in given.receipts}
    except IsthmusError as error:
        check.say("counts", False, error.message)
        return
    parts = sum(counts.values())
    right = counts == lot.counts and parts == lot.parts and lot.graded == parts - counts[PERSON] and named == {lot.lot}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    check.say("counts", right, f"{said}: {'as' if right else 'not as'} the document says")
    listed = {(one.certificate_digest, one.artefact_digest): one.parts for one in lot.models}
    bound = bool(lot.models) and lot.error_bound_ppm == max(one.error_bound_ppm for one in lot.models)
    bound = bound and lot.confidence_ppm == min(one.confidence_ppm for one in lot.models)
    check.say(
        "certificates",
        listed == dict(models) and bound,
        f"{len(listed)} named by the receipts, error bound {lot.error_bound_ppm / 1e4:g} %",
    )


def _check_log(check: _Check, trusted: dict[str, str]) -> None:
    given, broken = check.given, list[str]()
    try:
        head = tree_head(given.head, trusted)
        root = bytes.fromhex(head.root)
    except IsthmusError as error:
        check.say("head", False, error.message)
        return
    except ValueError:
        check.say("head", False, "its root is not in hex")
        return
    same = (head.log, head.tree_size) == (given.lot.log, given.lot.tree_size)
    check.say("head", same, f"signed for {head.tree_size} leaves of {head.log}")
    for receipt in given.receipts:
        try:
            leaf = leaf_hash(leaf_bytes(receipt.id, receipt.at_ms, receipt.digests))
            path = [bytes.fromhex(step) for step in receipt.path]
            placed = verify_inclusion(leaf, receipt.leaf_index, head.tree_size, path, root)
        except (DocumentError, UnicodeError, ValueError):
            placed = False
        if not placed:
            broken.append(f"receipt {receipt.id}: its id, time, digests or path do not lead to the signed root")
    check.told("inclusion", broken, f"all receipts are in the log of {head.tree_size}")
    times = [receipt.at_ms for receipt in given.receipts]
    right = bool(times) and (min(times), max(times)) == (given.lot.first_at_ms, given.lot.last_at_ms)
    check.say("time", right, "first and last as the document says" if right else "first or last differ from the receipts'")


def checked_lot(document: Any, public_keys: Iterable[str]) -> LotCertificate:
    """The certificate in a document that verifies. Raises DocumentError naming what does not hold."""
    found = verify_lot(document, public_keys)
    broken = [f"{line.part}: {line.detail}" for line in found.lines if not line.holds]
    if broken:
        raise DocumentError(f"the lot's certificate does not verify: {'; '.join(broken)}", "ask for it again, from who made it")
    return lot_from(document).lot
