"""A small exchange's book to test with: one price, one split, three owners, one caller with credit."""

from __future__ import annotations

from pathlib import Path

from isthmus.contracts.money import AccountName, Entry
from isthmus.contracts.ports import Clock
from isthmus.contracts.price import OwnerWeight, Price, Split, Usage
from isthmus.kit.clock import SetClock
from isthmus.kit.signing import SigningKey
from isthmus.ledger.book import open_book
from isthmus.ledger.meter import Meter

KEY = SigningKey.from_seed(b"\x07" * 32)
TRUSTED = {KEY.key_id: KEY.public_hex}
ARTEFACT = "sha256:" + "ab" * 32
CERTIFICATE = "sha256:" + "cd" * 32
PRICE = Price(
    id="cells-1",
    series="cells",
    effective_at_s=1_700_000_000,
    currency="EUR",
    inference_micros=997,
    million_tokens_in_micros=150_000,
    million_tokens_out_micros=600_000,
)
SPLIT = Split(
    id="cells-split-1",
    effective_at_s=1_700_000_000,
    compute="edge",
    compute_ppm=300_000,
    vendor="lab",
    vendor_ppm=200_000,
    exchange="exchange",
    exchange_ppm=20_000,
    owners_ppm=450_000,
    owners=(
        OwnerWeight(party="north", weight=700),
        OwnerWeight(party="south", weight=501),
        OwnerWeight(party="west", weight=310),
    ),
    residue="exchange",
)
ONE = Usage(inferences=1)


def money(party: str, role: str = "balance", unit: str = "EUR") -> AccountName:
    return AccountName(party=party, role=role, unit=unit)  # type: ignore[arg-type]


def credit(meter: Meter, party: str, amount: int, credit_id: str = "first") -> None:
    entries = (Entry(account=money("exchange", "issued"), amount=-amount), Entry(account=money(party), amount=amount))
    meter.book.post(f"credit:{party}:{credit_id}", entries, "credit")


def new_meter(folder: Path, clock: Clock | None = None, amount: int = 1_000_000) -> Meter:
    """The book in folder, opened or made; `line` has `amount` of credit."""
    meter = Meter(open_book(folder / "book.db"), clock or SetClock(), KEY)
    meter.prices.add_price(PRICE)
    meter.prices.add_split(SPLIT)
    if amount:
        credit(meter, "line", amount)
    return meter


def opened(meter: Meter, request_id: str, caller: str = "line", worst_case: Usage = ONE) -> None:
    meter.open(
        request_id,
        caller,
        "cells",
        ARTEFACT,
        PRICE.id,
        SPLIT.id,
        worst_case,
        {"rule": "cheapest", "tier": "T2"},
        certificate_digest=CERTIFICATE,
    )
