"""Lots: all receipts of one are counted and signed, a buyer checks them offline, and whatever was altered is named."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.cli.main import main
from isthmus.console.lot_page import lot_page
from isthmus.contracts.errors import DocumentError, InputError, NotFoundError
from isthmus.contracts.lot import LotModel, LotSection, SignedLot, lot_name
from isthmus.contracts.price import Usage
from isthmus.kit.signing import SigningKey
from isthmus.ledger.lots import checked_lot, lot_from, signed_lot, verify_lot
from isthmus.ledger.meter import Meter
from isthmus.ledger.verify import verify_receipt
from tests.ledger.world import ARTEFACT, CERTIFICATE, KEY, credit, new_meter, opened

LOT = "pallet-7"
PUBLIC = [KEY.public_hex]
COUNTS = [(8, 1, 1), (0, 2, 0), (5, 0, 3)]


def judged(meter: Meter, request_id: str, counts: tuple[int, int, int], lot: str | None = LOT, caller: str = "line") -> None:
    parts = Usage(inferences=sum(counts))
    opened(meter, request_id, caller, parts)
    section = None
    if lot is not None:
        section = LotSection(lot=lot, counts=dict(zip(("good", "defect", "person"), counts, strict=True)), request="sha256:00")
    meter.close(request_id, parts, "reported", section)


def terms(certificate: str, artefact: str, parts: int) -> LotModel:
    assert (certificate, artefact) == (CERTIFICATE, ARTEFACT)
    return LotModel(
        certificate_digest=certificate,
        artefact_digest=artefact,
        scenario="produce-grading@0.1.0",
        site="fleet",
        tier="T2",
        classes=("first_grade", "second_grade"),
        error_bound_ppm=74_000,
        confidence_ppm=950_000,
        not_after_s=1_900_000_000,
        parts=parts,
    )


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> SignedLot:
    """A lot of three receipts among those of other lots and other callers, in a log that has grown further."""
    meter = new_meter(tmp_path_factory.mktemp("book"))
    credit(meter, "other", 1_000_000)
    judged(meter, "x0", (3, 3, 3), None)
    for place, counts in enumerate(COUNTS):
        judged(meter, f"r{place}", counts)
        judged(meter, f"other{place}", (9, 9, 9), LOT, "other")
        judged(meter, f"next{place}", (4, 4, 4), "pallet-8")
    opened(meter, "void")
    meter.void("void", "the engine failed")
    found = signed_lot(meter, "line", LOT, terms)
    whole = meter.receipts.shown("r0", "line")
    assert "lot" in whole.sections and verify_receipt(msgspec.to_builtins(whole), PUBLIC).holds
    assert "lot" not in meter.receipts.shown("r0", "north").sections, "an owner is not told of the lot"
    with pytest.raises(NotFoundError):
        signed_lot(meter, "line", "pallet-9", terms)
    return found


@pytest.fixture
def document(signed: SignedLot) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(signed))
    return found


def broken(document: Any, keys: list[str] = PUBLIC) -> set[str]:
    found = verify_lot(document, keys)
    assert found.holds == all(line.holds for line in found.lines)
    return {line.part for line in found.lines if not line.holds}


def test_all_receipts_of_the_lot_are_counted_and_no_other(signed: SignedLot, document: dict[str, Any]) -> None:
    lot = signed.lot
    assert (lot.parts, lot.counts, lot.graded, lot.receipts) == (20, {"good": 13, "defect": 3, "person": 4}, 16, 3)
    assert (lot.party, lot.lot, lot.error_bound_ppm, lot.confidence_ppm) == ("line", LOT, 74_000, 950_000)
    assert lot.models[0].parts == 20 and lot.tree_size == 11
    assert broken(document) == set() and checked_lot(document, PUBLIC) == lot


def test_it_shows_nobody_elses_part(document: dict[str, Any]) -> None:
    shown = {name for receipt in document["receipts"] for name in receipt["sections"]}
    assert shown == {"lot", "certificate"}
    text = json.dumps(document)
    for word in ("north", "south", "edge", '"lab"', "cells-1", "micros", "EUR", "pallet-8", "other"):
        assert word not in text, word


EDITS: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("text", lambda d: d["lot"].update(party="orchard")),
    ("text", lambda d: d["lot"].update(error_bound_ppm=10_000)),
    ("counts", lambda d: d["lot"]["counts"].update(good=14)),
    ("receipts", lambda d: d["receipts"][1]["sections"]["lot"]["body"]["counts"].update(defect=1)),
    ("receipts", lambda d: d["receipts"][0]["sections"]["certificate"]["body"].update(artefact_digest="sha256:" + "ef" * 32)),
    ("receipts", lambda d: d["receipts"][0]["sections"].pop("certificate")),
    ("list", lambda d: d["receipts"].pop()),
    ("list", lambda d: d["receipts"].append(d["receipts"][0])),
    ("inclusion", lambda d: d["receipts"][2].update(leaf_index=0)),
    ("inclusion", lambda d: d["receipts"][2].update(at_ms=1)),
    ("inclusion", lambda d: d["receipts"][0]["path"].reverse()),
    ("inclusion", lambda d: d["receipts"][0].update(path=["zz"])),
    ("head", lambda d: d["head"].update(payload=d["head"]["payload"][4:])),
    ("signature", lambda d: d["envelope"].update(payload=d["envelope"]["payload"][4:])),
    ("format", lambda d: d["lot"].update(format="isthmus-lot/2")),
]


@pytest.mark.parametrize(("part", "edit"), EDITS)
def test_what_was_altered_is_named(part: str, edit: Callable[[dict[str, Any]], Any], document: dict[str, Any]) -> None:
    edit(document)
    assert part in broken(document)
    with pytest.raises(DocumentError, match=part):
        checked_lot(document, PUBLIC)


def test_a_receipt_of_another_lot_does_not_fit(signed: SignedLot, document: dict[str, Any]) -> None:
    stranger = copy.deepcopy(document["receipts"][0])
    stranger["sections"]["lot"]["body"]["lot"] = "pallet-8"
    document["receipts"][0] = stranger
    assert {"receipts", "counts", "list"} <= broken(document)


def test_another_key_does_not_verify(document: dict[str, Any]) -> None:
    assert {"signature", "head"} <= broken(document, [SigningKey.from_seed(b"\x09" * 32).public_hex])
    with pytest.raises(InputError):
        verify_lot(document, ["no key"])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_changed_byte_is_noticed(signed: SignedLot, data: st.DataObject) -> None:
    raw = msgspec.json.encode(signed)
    place = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:place] + bytes([data.draw(st.integers(32, 126))]) + raw[place + 1 :]
    try:
        document = json.loads(changed)
    except ValueError:
        return
    if document == json.loads(raw):
        return
    with contextlib.suppress(DocumentError):
        assert not verify_lot(document, PUBLIC).holds


def test_names_of_lots() -> None:
    assert lot_name("2026-W48_pallet.7") == "2026-W48_pallet.7"
    for text in ("", "a b", "../x", "-a", "ä", "a" * 65, "a\n"):
        with pytest.raises(InputError):
            lot_name(text)


def test_the_page_says_what_is_signed_and_runs_nothing(signed: SignedLot) -> None:
    page = lot_page(signed.lot, "<b>.json", KEY.public_hex)
    for word in ("pallet-7", "first_grade", "13", "Left to a person", "at most 7.4 %", "isthmus lot verify &lt;b&gt;.json", CERTIFICATE):
        assert word in page, word
    unbound = msgspec.structs.replace(signed.lot, error_bound_ppm=1_000_000)
    assert "no error among graded parts" in lot_page(unbound, "x", KEY.public_hex)
    assert "<script" not in page and "http" not in page.replace("http-equiv", "") and "<b>.json" not in page


def test_the_command_names_what_was_altered(document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lot.json").write_text(json.dumps(document))
    (tmp_path / "key").write_text(KEY.public_hex)
    words = ["lot", "verify", str(tmp_path / "lot.json"), "--public-key", str(tmp_path / "key")]
    assert main([*words, "--page", str(tmp_path / "page.html")]) == 0
    assert "The document verifies" in capsys.readouterr().out and (tmp_path / "page.html").stat().st_size > 1000
    (tmp_path / "lot.json").write_text(json.dumps(document).replace('"defect": 2', '"defect": 1', 1))
    assert main([*words, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] is False and "lot" not in told
    assert {line["part"] for line in told["lines"] if not line["holds"]} >= {"receipts", "list", "counts"}
    (tmp_path / "lot.json").write_text("{}")
    assert main(words) == 2
    assert lot_from(document).lot.lot == LOT
