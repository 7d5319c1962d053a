"""Divides a charge by a published rule: largest remainder, exact, independent of the order in which owners are named."""

from __future__ import annotations

from typing import Literal

from isthmus.contracts.price import PPM, ShareLine, Split

ShareRole = Literal["compute", "vendor", "owner", "exchange", "residue"]
_ORDER: dict[str, int] = {"compute": 0, "vendor": 1, "owner": 2, "exchange": 3, "residue": 4}


def claims(rule: Split, compute: str) -> tuple[list[tuple[ShareRole, str, int]], int]:
    """Who claims which weight of a charge, in the one order, and the total of the weights.

    Owners share owners_ppm by weight; without any weight it goes to the residue, as does what the shares leave of PPM.
    """
    owned = sum(owner.weight for owner in rule.owners)
    scale = owned or 1
    owners_ppm = rule.owners_ppm if owned else 0
    fixed: list[tuple[ShareRole, str, int]] = [
        ("compute", compute, rule.compute_ppm * scale),
        ("vendor", rule.vendor, rule.vendor_ppm * scale),
        ("exchange", rule.exchange, rule.exchange_ppm * scale),
        ("residue", rule.residue, (PPM - rule.compute_ppm - rule.vendor_ppm - rule.exchange_ppm - owners_ppm) * scale),
    ]
    owners: list[tuple[ShareRole, str, int]] = [("owner", owner.party, owners_ppm * owner.weight) for owner in rule.owners]
    named = [claim for claim in fixed + owners if claim[2]]
    return sorted(named, key=lambda claim: (_ORDER[claim[0]], claim[1])), PPM * scale


def divide(rule: Split, charge_micros: int, compute: str | None = None) -> tuple[ShareLine, ...]:
    """Splits charge_micros among the rule's parties; the lines sum to it exactly.

    Each gets its share rounded down; the micro-units left go one each to the largest remainders, equal remainders in the
    lines' order (compute, vendor, owners by name, exchange, residue). compute: the provider that served, if not the rule's.
    """
    named, total = claims(rule, compute or rule.compute)
    exact = [divmod(charge_micros * weight, total) for _, _, weight in named]
    left = charge_micros - sum(whole for whole, _ in exact)
    first = sorted(range(len(named)), key=lambda place: -exact[place][1])[:left]
    extra = frozenset(first)
    return tuple(
        ShareLine(role=role, party=party, weight=weight, weight_total=total, amount_micros=exact[place][0] + (place in extra))
        for place, (role, party, weight) in enumerate(named)
    )
