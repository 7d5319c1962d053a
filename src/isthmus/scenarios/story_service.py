"""The served requests, the money and its parties, as the report shows them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np

from isthmus.contracts import report as r
from isthmus.contracts.money import CURRENCY
from isthmus.contracts.price import ShareLine
from isthmus.contracts.receipt import PartiesSection, Receipt
from isthmus.ledger.splits import divide
from isthmus.scenarios.facts import RunFacts
from isthmus.scenarios.findings import entries_sum, names_of, price_of, receipts_of, split_of, units_sum

PERSON = "person"
SAMPLE_PREFIX = "sample-"
VERSION_CHARS = 12


def party_name(party: str) -> str:
    """sample-model-vendor -> 'Sample model vendor'."""
    return party.replace("-", " ").capitalize()


def _sections(receipt: Receipt) -> PartiesSection | None:
    found = receipt.sections.get("parties")
    return None if found is None else msgspec.convert(found.body, PartiesSection)


def service_parties(facts: RunFacts) -> tuple[r.ReportParty, ...]:
    """Those that receipts name and who brought no data: their sample mark is in their id."""
    roles: dict[str, str] = {}
    for role, party in split_of(receipts_of(facts)):
        roles.setdefault(party, role)
    if facts.serving is not None:
        roles.setdefault(facts.serving.caller, "user")
    known = names_of(facts)
    return tuple(
        r.ReportParty(id=party, name=party_name(party), role=role, sample=party.startswith(SAMPLE_PREFIX))
        for party, role in roles.items()
        if party not in known
    )


def serving_part(facts: RunFacts) -> r.ServingPart | None:
    """Requests and latencies at the client; refusals that were really given, equal ones counted."""
    serving = facts.serving
    given = [*(() if serving is None else serving.refusals)]
    if facts.artefact_edit_refusal is not None and facts.artefact_edit_refusal not in given:
        given.append(facts.artefact_edit_refusal)
    shown = tuple(r.RefusalShown(code=c, message=m, next=n, count=count) for (c, m, n), count in Counter(given).items())
    if serving is None:
        return r.ServingPart(refusals=shown) if shown else None
    waits_ms = [1000 * one.latency_s for one in serving.served]
    to_person = sum(one.verdict == PERSON for one in serving.served)
    return r.ServingPart(
        requests=len(serving.served),
        receipts=len(receipts_of(facts)),
        answered=len(serving.served) - to_person,
        to_person=to_person,
        latency_p50_ms=float(np.percentile(waits_ms, 50)) if waits_ms else None,
        latency_p95_ms=float(np.percentile(waits_ms, 95)) if waits_ms else None,
        refusals=shown,
    )


def split_rows(amounts: dict[tuple[str, str], int], rules: dict[str, str]) -> tuple[r.SplitRow, ...]:
    return tuple(
        r.SplitRow(party=party, role=role, amount_micros=amount, rule=rules.get(party, "")) for (role, party), amount in amounts.items()
    )


def charged_without(facts: RunFacts, leaver: str) -> dict[tuple[str, str], int]:
    """(role, party) -> micro-units that the same charges would pay by the same rule without one owner."""
    total: dict[tuple[str, str], int] = {}
    for receipt in receipts_of(facts):
        split = receipt.split
        rule = msgspec.structs.replace(split.rule, owners=tuple(o for o in split.rule.owners if o.party != leaver))
        for line in divide(rule, split.charge_micros, split.compute):
            total[line.role, line.party] = total.get((line.role, line.party), 0) + line.amount_micros
    return total


def _rules(lines: tuple[ShareLine, ...]) -> dict[str, str]:
    """Each party's part of the charge as the rule has it."""
    return {line.party: f"{line.weight / line.weight_total:.2%} of each charge" for line in lines if line.weight_total}


def money_part(facts: RunFacts) -> r.MoneyPart | None:
    """The charges of this run's receipts and the book's own check; None when nothing was served."""
    serving, receipts = facts.serving, receipts_of(facts)
    if serving is None:
        return None
    prices = {(p.price.id, p.price.inference_micros, p.price.currency) for p in map(price_of, receipts)}
    version, price_micros, currency = next(iter(prices)) if len(prices) == 1 else (None, None, facts.scenario.serve.currency)
    payers = {found.caller for found in map(_sections, receipts) if found is not None}
    return r.MoneyPart(
        currency=currency,
        charge_micros=sum(receipt.charge_micros for receipt in receipts) if receipts else None,
        price_micros=price_micros,
        price_unit="inference" if price_micros is not None else "",
        price_version=version,
        payer=next(iter(payers)) if len(payers) == 1 else None,
        split=split_rows(split_of(receipts), _rules(receipts[0].lines) if receipts else {}),
        entries=serving.book.get("entries"),
        entries_sum_micros=entries_sum(serving.book),
        units=unit_rows(facts),
        units_sum=units_sum(serving.book),
    )


def unit_rows(facts: RunFacts) -> tuple[r.UnitRow, ...]:
    """Balances in counted units, of the accounts that were asked for."""
    rows = []
    for account in ({} if facts.serving is None else facts.serving.accounts).values():
        for balance in account["balances"]:
            name: dict[str, Any] = balance["account"]
            if not CURRENCY.fullmatch(name["unit"]):
                rows.append(r.UnitRow(account=f"{name['party']} {name['role']}", unit=_unit(name["unit"]), amount=balance["balance"]))
    return tuple(rows)


def _unit(unit: str) -> str:
    """inferences@sha256:<64 digits> -> 'inferences of <12 digits>'."""
    kind, _, version = unit.partition("@")
    return f"{kind} of {version.removeprefix('sha256:')[:VERSION_CHARS]}" if version else kind


def example_receipt(facts: RunFacts) -> Receipt | None:
    """The first receipt that has a proof, one with a charge if there is any."""
    proven = [receipt for receipt in receipts_of(facts) if receipt.proof is not None]
    return next((receipt for receipt in proven if receipt.charge_micros), proven[0] if proven else None)
