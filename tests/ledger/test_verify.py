"""Offline verification: whatever digit is altered, the line of its section says so."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.contracts.errors import DocumentError, InputError, SignatureError
from isthmus.contracts.price import ShareLine, Usage
from isthmus.contracts.receipt import Section
from isthmus.kit.signing import SigningKey
from isthmus.ledger.receipts import salted, section_digest
from isthmus.ledger.statements import sealed, statement
from isthmus.ledger.verify import verify_receipt, verify_statement
from tests.ledger.world import KEY, money, new_meter, opened

PUBLIC = [KEY.public_hex]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Any:
    meter = new_meter(tmp_path_factory.mktemp("book"))
    for number in range(5):
        opened(meter, f"r{number}", worst_case=Usage(inferences=2, tokens_in=1000))
        meter.close(f"r{number}", Usage(inferences=2, tokens_in=333), "reported")
    return json.loads(msgspec.json.encode(meter.receipts.shown("r2", None)))


def broken(document: Any) -> set[str]:
    return {line.part for line in verify_receipt(document, PUBLIC).lines if not line.holds}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from leaves(inner, (*path, place))
    else:
        yield path


def altered(document: Any, path: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(document)
    at = changed
    for step in path[:-1]:
        at = at[step]
    value = at[path[-1]]
    if isinstance(value, int):
        at[path[-1]] = value + 1
    elif isinstance(value, str):
        at[path[-1]] = ("0" if not value.startswith("0") else "1") + value[1:]
    else:
        at[path[-1]] = "not what it was"
    return changed


def test_an_untouched_receipt_verifies(full: Any) -> None:
    found = verify_receipt(full, PUBLIC)
    assert found.holds, found.lines
    parts = {line.part for line in found.lines}
    assert parts >= {"usage", "price", "split", "arithmetic", "charge", "hold", "shares", "share-0", "head", "inclusion", "time"}
    assert found.hidden == ()


def test_every_altered_value_in_a_section_names_that_section(full: Any) -> None:
    for path in leaves(full["sections"]):
        assert path[0] in broken(altered(full, ("sections", *path))), path


def test_every_altered_value_elsewhere_is_found(full: Any) -> None:
    rest = {key: value for key, value in full.items() if key != "sections"}
    found = 0
    for path in leaves(rest):
        if path[-1] == "keyid":
            expected = {"head"}
        elif path[0] == "digests":
            expected = {path[1], "inclusion"}
        elif path[:2] in (("proof", "head"), ("proof", "tree_size")):
            expected = {"head"}
        elif path[0] == "format":
            expected = {"format"}
        elif path == ("at_ms",):
            expected = {"time", "inclusion"}
        else:
            expected = {"inclusion"}
        assert expected & broken(altered(full, path)), path
        found += 1
    assert found > 20


@pytest.mark.parametrize("value", [2**60, 1.5, None, "\ud800", [], {"a": 1}, float("nan"), True])
def test_odd_values_name_their_section_too(full: Any, value: Any) -> None:
    for path in (("usage", "body", "usage", "inferences"), ("price", "body", "held_micros"), ("policy", "body", "decision")):
        changed = copy.deepcopy(full)
        at = changed["sections"]
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        assert path[0] in broken(changed)


def test_shown_sections_verify_alone(tmp_path: Path) -> None:
    meter = new_meter(tmp_path)
    opened(meter, "r")
    meter.close("r", Usage(inferences=1), "reported")
    for party in ("line", "edge", "north", "exchange"):
        found = verify_receipt(json.loads(msgspec.json.encode(meter.receipts.shown("r", party))), PUBLIC)
        assert found.holds and found.hidden


def test_a_wrong_key_a_missing_proof_and_no_receipt_are_told(full: Any) -> None:
    assert "head" in {line.part for line in verify_receipt(full, [SigningKey.generate().public_hex]).lines if not line.holds}
    assert broken({**full, "proof": None}) == {"inclusion"}
    for document in ({}, [], "x", {**full, "more": 1}, {**full, "sections": 3}):
        with pytest.raises(DocumentError):
            verify_receipt(document, PUBLIC)
    with pytest.raises(InputError):
        verify_receipt(full, ["abc"])


def resealed(full: Any, section: str, change: dict[str, Any]) -> Any:
    """What an exchange that lies could issue: the section altered and its digest with it."""
    changed = copy.deepcopy(full)
    changed["sections"][section]["body"].update(change)
    changed["digests"][section] = section_digest(section, msgspec.convert(changed["sections"][section], Section))
    return changed


@pytest.mark.parametrize(
    ("section", "change", "part"),
    [
        ("price", {"priced_micros": 1}, "arithmetic"),
        ("price", {"charge_micros": 1}, "charge"),
        ("price", {"overrun_micros": 1}, "charge"),
        ("price", {"held_micros": 5_000}, "hold"),
        ("usage", {"usage": {"inferences": 3}}, "arithmetic"),
        ("usage", {"usage": {"inferences": -3}}, "arithmetic"),
        ("split", {"charge_micros": 7}, "shares"),
        ("split", {"lines": []}, "shares"),
        ("outcome", {"outcome": "zero"}, "charge"),
        ("outcome", {"ended_at_ms": 5}, "time"),
        ("share-2", {"charge_micros": 9_999_999}, "share-2"),
    ],
)
def test_a_lying_exchange_is_caught_by_arithmetic(full: Any, section: str, change: dict[str, Any], part: str) -> None:
    found = broken(resealed(full, section, change))
    assert part in found and "inclusion" in found and section not in found - {part}


def test_a_share_beyond_the_rule_is_caught_without_the_rule(full: Any) -> None:
    changed = copy.deepcopy(full)
    body = changed["sections"]["share-2"]["body"]
    line = msgspec.convert(body["line"], ShareLine)
    body["line"] = msgspec.to_builtins(msgspec.structs.replace(line, amount_micros=line.amount_micros - 1))
    section = salted({"share-2": body}, lambda count: b"\0" * count)["share-2"]
    changed["sections"] = {"share-2": msgspec.to_builtins(section)}
    changed["digests"]["share-2"] = section_digest("share-2", section)
    assert broken(changed) == {"share-2", "inclusion"}


def test_statements_sum_to_the_book_and_are_signed(tmp_path: Path) -> None:
    meter = new_meter(tmp_path)
    for number in range(3):
        opened(meter, f"r{number}")
        meter.close(f"r{number}", Usage(inferences=1), "reported")
    opened(meter, "v")
    meter.void("v", "engine failed")
    now = meter.book.now_ms()
    for party, role, amount in (("line", "balance", 1_000_000 - 3 * 997), ("north", "earned", 3 * 208)):
        document = statement(meter, party, 0, now + 1)
        total = next(total for total in document.totals if (total.role, total.unit) == (role, "EUR"))
        assert total.closing == amount == meter.book.balance(money(party, role)).balance
        assert total.from_receipts == sum(line.amount for line in document.lines if line.kind == "receipt" and line.role == role)
    assert {line.role for line in statement(meter, "north", 0, now + 1).lines} == {"earned"}
    envelope = msgspec.to_builtins(sealed(document, KEY))
    assert verify_statement(envelope, PUBLIC) == document
    envelope["payload"] = ("A" if envelope["payload"][0] != "A" else "B") + envelope["payload"][1:]
    with pytest.raises(SignatureError):
        verify_statement(envelope, PUBLIC)
    later = statement(meter, "line", now + 1, now + 2)
    assert later.lines == () and all(total.opening == total.closing for total in later.totals)
    with pytest.raises(InputError):
        statement(meter, "line", 5, 5)
