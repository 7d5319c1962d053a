"""`isthmus node budget`: what noisy answers about an owner's data have cost, and what is left."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from isthmus.contracts.agreement import Agreement
from isthmus.kit.clock import SystemClock
from isthmus.sandbox.accounting import NANOS
from isthmus.sandbox.agreements import read_terms
from isthmus.sandbox.budget import PrivacyLedger, Release, epsilon_spent
from isthmus.sandbox.nodehome import STORE_NAME, settings_of
from isthmus.sandbox.nodestore import NodeStore

DELTA_SHOWN = 1e-5
"""Where no agreement names one."""
PLACES = 4


@click.command()
@click.option("--state", type=click.Path(path_type=Path), required=True, help="The node's own state folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def budget(state: Path, as_json: bool) -> None:
    """Shows the privacy budget: every noisy answer that left, what it cost, and what each agreement leaves."""
    owner = settings_of(state).id
    store = NodeStore(state / STORE_NAME)
    try:
        releases = store.privacy.releases(owner)
        paid = {release.content for release in releases}
        terms = [(digest, read_terms(envelope)) for digest, envelope in store.agreements()]
        budgets = [_budget(digest, agreement, store.privacy) for digest, agreement in terms if agreement.privacy is not None]
        found: dict[str, Any] = {
            "owner": owner,
            "rho": store.privacy.spent_nanos(owner) / NANOS,
            "budgets": budgets,
            "answers": [_answer(release, budgets) for release in releases],
            "exact_answers": sum(past.content not in paid for past in store.past_jobs()),
        }
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps(found))
        return
    _show(found)


def _budget(digest: str, agreement: Agreement, ledger: PrivacyLedger) -> dict[str, Any]:
    terms = agreement.privacy
    assert terms is not None
    spent = epsilon_spent(ledger.spent_nanos(agreement.owner), terms.delta)
    return {
        "agreement": digest,
        "purposes": list(agreement.purposes),
        "in_force": agreement.issued_at_s <= SystemClock().now_s() < agreement.expires_at_s,
        "epsilon": terms.epsilon,
        "delta": terms.delta,
        "unit": terms.unit,
        "unit_records_max": terms.unit_records_max,
        "epsilon_spent": round(spent, PLACES),
        "rho_left": ledger.left_nanos(agreement.owner, terms) / NANOS,
    }


def _answer(release: Release, budgets: list[dict[str, Any]]) -> dict[str, Any]:
    delta = budgets[0]["delta"] if budgets else DELTA_SHOWN
    return {
        "at": datetime.datetime.fromtimestamp(release.at_s, datetime.UTC).isoformat(timespec="seconds"),
        "statistic": release.statistic,
        "split": release.part,
        "purpose": release.purpose,
        "run": release.run_id,
        "exchange": release.exchange,
        "agreement": release.agreement,
        "asset": release.asset,
        "rho": release.rho_nanos / NANOS,
        "epsilon_alone": round(epsilon_spent(release.rho_nanos, delta), PLACES),
    }


def _show(found: dict[str, Any]) -> None:
    console = Console()
    table = Table("When", "Statistic", "Split", "Purpose", "Run", "rho", "epsilon, alone")
    for row in found["answers"]:
        named = (row[name] for name in ("at", "statistic", "split", "purpose", "run"))
        table.add_row(*named, f"{row['rho']:.3g}", f"{row['epsilon_alone']:g}")
    console.print(table)
    for row in found["budgets"]:
        unit = row["unit"] if row["unit"] == "record" else f"group of at most {row['unit_records_max']} records"
        text = f"epsilon {row['epsilon_spent']:g} of {row['epsilon']:g} is spent at delta {row['delta']:g}, for each {unit}"
        console.print(f"{', '.join(row['purposes'])}: {text}; rho {row['rho_left']:.3g} is left")
    if not found["budgets"]:
        console.print("no agreement names a budget: answers are exact")
    if found["exact_answers"]:
        console.print(f"{found['exact_answers']} answers left without noise; no epsilon stands for those")
