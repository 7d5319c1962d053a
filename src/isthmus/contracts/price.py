"""Usage, price versions and split rules. A version is immutable: a new price or rule is a new id."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.errors import AmountError
from isthmus.contracts.money import AMOUNT_MAX

PPM = 1_000_000
TOKENS_PER_RATE = 1_000_000
OWNERS_MAX = 10_000
"""Owners that one split rule names."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one attempt used, in whole units."""

    inferences: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def counts(self) -> dict[str, int]:
        """Counted units by kind, zeros left out."""
        all_kinds = {"inferences": self.inferences, "tokens-in": self.tokens_in, "tokens-out": self.tokens_out}
        return {kind: count for kind, count in all_kinds.items() if count}

    def within(self, most: Usage) -> bool:
        """Whether no unit exceeds that of `most`."""
        return self.inferences <= most.inferences and self.tokens_in <= most.tokens_in and self.tokens_out <= most.tokens_out

    def checked(self) -> Usage:
        """Itself; raises AmountError when a count is negative or beyond AMOUNT_MAX."""
        for count in (self.inferences, self.tokens_in, self.tokens_out):
            if not 0 <= count <= AMOUNT_MAX:
                raise AmountError(f"a usage of {count} units is not possible", "send counts from 0 to 2^53 - 1")
        return self


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price version, in micro-units of `currency`.

    id: never reused. series: the name whose versions follow each other; the latest one in effect counts.
    effective_at_s: seconds since the Unix epoch from which it applies.
    """

    id: str
    series: str
    effective_at_s: int
    currency: str
    inference_micros: int = 0
    million_tokens_in_micros: int = 0
    million_tokens_out_micros: int = 0

    def charge_micros(self, usage: Usage) -> int:
        """What the usage costs: exact, then rounded up once to a whole micro-unit. Grows with every unit of usage."""
        tokens = usage.tokens_in * self.million_tokens_in_micros + usage.tokens_out * self.million_tokens_out_micros
        charge = usage.inferences * self.inference_micros - (-tokens // TOKENS_PER_RATE)
        if charge > AMOUNT_MAX:
            raise AmountError(f"the charge of {charge} micro-units is more than one transfer may move", "send smaller requests")
        return charge


class OwnerWeight(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An owner's weight within the owners' share; for now the rows it brought."""

    party: str
    weight: int


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version of a published split rule. Shares in parts per million, at most PPM together.

    What the shares leave, and the owners' share where no owner has weight, goes to `residue`.
    compute: the provider, unless the attempt names the one that served it.
    """

    id: str
    effective_at_s: int
    compute: str
    compute_ppm: int
    vendor: str
    vendor_ppm: int
    exchange: str
    exchange_ppm: int
    owners_ppm: int
    owners: tuple[OwnerWeight, ...]
    residue: str


class ShareLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One party's share of one charge: weight of weight_total."""

    role: Literal["compute", "vendor", "owner", "exchange", "residue"]
    party: str
    weight: int
    weight_total: int
    amount_micros: int
