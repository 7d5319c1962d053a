"""Reads what a run found out of its facts: one place that knows the results' JSON, for figures, tables and the report.

What was not measured is None. Shares come from the certificate's own claims, so that every telling has the same rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.build import RunView
from isthmus.contracts.certificate import AlarmClaim, Certificate, Claims
from isthmus.contracts.head import Head
from isthmus.contracts.money import CURRENCY
from isthmus.contracts.ports import Json
from isthmus.contracts.receipt import PriceSection, Receipt
from isthmus.contracts.statistic import CLEAN, JOINT, OWN_HEAD
from isthmus.contracts.sums import GroupSums
from isthmus.kit.signing import Envelope, payload_of
from isthmus.scenarios.facts import OwnerFacts, RunFacts

VISIBILITY_TOTAL = "aggregate"
VISIBILITY_OWN_HEADS = "aggregate; own heads singly"
VISIBILITY_SINGLY = "each owner's own sums singly, to score it"
"""What the exchange sees of the owners: totals of all of them, and, where they allow it, each one's own fitted head."""
HEAD_KIND = "head"
SITE_MODELS = ("fleet", "local", "combined")
"""The three models of a next line, as they are shown side by side."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One promise that was tried. Shares are fractions; None where nothing was answered. missing: why it is not proven, in sentences.
    alarms: the error is that of good records, of not being called good."""

    error_goal: float
    answered_share: float
    error_share: float | None
    error_bound: float | None
    proven: bool
    missing: tuple[str, ...]
    alarms: bool = False


def result_of(view: RunView | None) -> Json | None:
    """What a run's steps found; None when it was not reached or did not end."""
    return None if view is None else view.result


def share(ppm: int) -> float:
    """Parts per million as a fraction."""
    return ppm / PPM


def claims_of(result: Json) -> Claims | None:
    found = result.get("claims")
    return None if found is None else msgspec.convert(found, Claims)


def alarms_of(result: Json) -> AlarmClaim | None:
    """What is claimed of false alarms, where that was promised."""
    claims = claims_of(result)
    return None if claims is None or claims.alarms is msgspec.UNSET else claims.alarms


def bars_of(result: Json) -> Bars:
    return msgspec.convert(result["bars"], Bars)


def head_of(result: Json) -> Head:
    return msgspec.convert(result["head"], Head)


def evaluation(result: Json, head: str = JOINT, condition: str = CLEAN, part: str = "all") -> Json | None:
    """The held-out counts of one head under one condition in one slice: {counts, clusters, histogram, ...}."""
    for row in result.get("evaluations", ()):
        if (row["head"], row["condition"], row["slice"]) == (head, condition, part):
            return dict(row)
    return None


def histogram_of(row: Json) -> NDArray[np.int64]:
    """(2, bins) scores by class."""
    return np.asarray(row["histogram"], dtype=np.int64)


def clusters_of(row: Json) -> GroupSums:
    return GroupSums(**{name: int(row["clusters"][name]) for name in GroupSums.FIELDS})


def ratio(part: int, whole: int) -> float | None:
    """part / whole; None when there is nothing to divide by."""
    return part / whole if whole else None


def promises_of(result: Json) -> tuple[Promise, ...]:
    """Every promise that was tried, easiest first."""
    found = []
    for row in result.get("promises", ()):
        claims, alarms = msgspec.convert(row["claims"], Claims), alarms_of(row)
        rate, bound = (claims.error_ppm, claims.error_bound_ppm) if alarms is None else (alarms.alarms_ppm, alarms.alarms_bound_ppm)
        known = claims.answered if alarms is None else alarms.good
        found.append(
            Promise(
                error_goal=share(bars_of(row).error_ppm_max),
                answered_share=share(claims.answered_ppm),
                error_share=share(rate) if known else None,
                error_bound=share(bound) if known else None,
                proven=bool(row["passed"]),
                missing=tuple(row["failures"]),
                alarms=alarms is not None,
            )
        )
    return tuple(found)


def promise_of(result: Json) -> Promise | None:
    """The promise that the run's own figures are about: the strictest proven one, else the easiest."""
    tried = promises_of(result)
    proven = [promise for promise in tried if promise.proven]
    return proven[-1] if proven else tried[0] if tried else None


def next_promise(result: Json) -> Promise | None:
    """The first promise that is not proven, where another is."""
    tried = promises_of(result)
    return next((p for p in tried if not p.proven), None) if any(p.proven for p in tried) else None


def remedy(sentence: str) -> str:
    """What would help, from a judge's sentence `what is missing; what would help`."""
    return sentence.split("; ", 1)[-1]


def statement_of(certificate: Json) -> Certificate:
    """The in-toto statement in a result's certificate {digest, envelope}, unverified: the exchange verified it."""
    return msgspec.json.decode(payload_of(msgspec.convert(certificate["envelope"], Envelope)), type=Certificate)


def time_text(at_s: float) -> str:
    """ISO 8601 in UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")


def visibility_of(owners: Sequence[OwnerFacts], scored: bool = False) -> str | None:
    """What the owners' logs say left singly; None without logs. scored: their own sums did, so that they could be scored."""
    if not owners:
        return None
    if scored:
        return VISIBILITY_SINGLY
    single = any(entry.kind == HEAD_KIND and entry.statistic == OWN_HEAD for owner in owners for entry in owner.entries)
    return VISIBILITY_OWN_HEADS if single else VISIBILITY_TOTAL


def receipts_of(facts: RunFacts) -> tuple[Receipt, ...]:
    """Each receipt once."""
    given = () if facts.serving is None else facts.serving.receipts
    return tuple({receipt.id: receipt for receipt in given}.values())


def price_of(receipt: Receipt) -> PriceSection:
    return msgspec.convert(receipt.sections["price"].body, PriceSection)


def split_of(receipts: Sequence[Receipt]) -> dict[tuple[str, str], int]:
    """(role, party) -> micro-units, over all receipts, in the receipts' order of roles."""
    total: dict[tuple[str, str], int] = {}
    for receipt in receipts:
        for line in receipt.lines:
            total[line.role, line.party] = total.get((line.role, line.party), 0) + line.amount_micros
    return total


def entries_sum(book: Json) -> int | None:
    """The sum of all entries in the currency where it is farthest from zero; it must be 0. None when the check has no currency."""
    sums = [int(total) for unit, total in book.get("sums", {}).items() if CURRENCY.fullmatch(unit)]
    return max(sums, key=abs) if sums else None


def units_sum(book: Json) -> int | None:
    """The sum of all entries in counted units, farthest from zero."""
    sums = [int(total) for unit, total in book.get("sums", {}).items() if not CURRENCY.fullmatch(unit)]
    return max(sums, key=abs) if sums else None


def parties_of(facts: RunFacts) -> list[OwnerFacts]:
    """Those who brought data: the owners, then the next line."""
    return [*facts.owners, facts.line] if facts.line is not None else list(facts.owners)


def names_of(facts: RunFacts) -> dict[str, str]:
    """party -> name, of those who brought data."""
    return {item.owner.party: item.owner.name for item in parties_of(facts)}


def finite(value: Any) -> Any:
    """The same JSON with numbers that are not finite as null."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
