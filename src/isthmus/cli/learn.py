"""`isthmus scenario learn`: what persons judged teaches the next version."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from isthmus.cli.comparison import compared
from isthmus.cli.deployment import an_id
from isthmus.cli.run import Teller
from isthmus.client.http import ExchangeClient
from isthmus.contracts.build import RunView
from isthmus.contracts.errors import InputError
from isthmus.contracts.life import ComparisonOrder, UpgradeOrder
from isthmus.contracts.ports import Json
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.scenarios.learn import Learned, LearnSettings
from isthmus.scenarios.learn import learn as learned


def upgraded(operator: ExchangeClient, before: RunView, after: RunView) -> Json:
    """Puts the new version into service where it is shown not to be inferior on the same held-out records: {comparison, step}; step None
    where the old one stands."""
    found = compared(operator, after.scenario, ComparisonOrder()).result or {}
    if not found.get("passed"):
        return {"comparison": found, "step": None}
    order = UpgradeOrder(id=an_id(None), why=f"learned from reviews after {before.id}", to=found["new"], comparison=found["run"])
    return {"comparison": found, "step": operator.post(f"/v1/deployments/{after.scenario}/upgrade", msgspec.to_builtins(order))}


def reviews_of(given: tuple[str, ...]) -> dict[str, Path]:
    """OWNER=DIR pairs. Raises InputError."""
    found: dict[str, Path] = {}
    for text in given:
        party, equals, folder = text.partition("=")
        if not equals or not party or not folder or party in found:
            raise InputError(f"--reviews {text!r} cannot be used", "write OWNER=DIR, once for each owner")
        found[party] = Path(folder)
    return found


@click.command()
@click.argument("scenario")
@click.option(
    "--reviews", multiple=True, required=True, metavar="OWNER=DIR", help="Judged pictures of an owner; repeat, two owners or more."
)
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder of the run; default from ISTHMUS_STATE.")
@click.option("--values", type=click.Path(path_type=Path), default=None, help="The YAML file of site values that the certified run had.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output instead of the table.")
def learn(scenario: str, reviews: tuple[str, ...], state: Path | None, values: Path | None, as_json: bool) -> int:
    """Learns from judged doubtful cases: they teach, a new version is fitted and certified, old and new are compared.

    DIR holds pictures that the model left to a person and a person judged, in sub-folders good and defect, or listed in labels.csv. They
    are copied into the owner's folder as training records, never held out. Held-out records stay, so both are measured on the same.

    The new version takes the place of the old one where it is shown not to be inferior on the same held-out records.

    Exit code 0: the new version is certified. 1: it missed the bars; the old one stands.

    Example:  isthmus scenario learn bottle-caps --reviews alder=judged/alder --reviews birch=judged/birch
    """
    settings = LearnSettings(
        scenario=scenario, state=read_settings(state=state).state, reviews=reviews_of(reviews), clock=SystemClock(), values=values
    )
    with Teller() as tell:
        found = learned(settings, tell, upgraded)
    if as_json:
        click.echo(json.dumps(summary(found)))
    else:
        show(found)
    return 0 if found.after.state == "certified" else 1


def summary(found: Learned) -> dict[str, Any]:
    """The one JSON object of --json."""
    gain = found.gain
    return {
        "before": found.before.id,
        "after": found.after.id,
        "state": found.after.state,
        "added": {party: asdict(one) for party, one in found.added.items()},
        "gain": {
            **asdict(gain),
            "auc_ppm_per_hundred": gain.auc_ppm_per_hundred,
            "answered_ppm_per_hundred": {str(p.error_ppm_max): gain.answered_ppm_per_hundred(p) for p in gain.promises},
        },
        "failures": list((found.after.result or {}).get("failures") or ()),
        "upgrade": found.upgrade,
    }


def show(found: Learned) -> None:
    """What was added, old beside new, the gain for each hundred reviews."""
    console, gain = Console(highlight=False), found.gain
    for party, one in found.added.items():
        more = f", {one.here_before} were in the folder before" * bool(one.here_before)
        more += f", {one.held_back} are of held-out groups and stay out" * bool(one.held_back)
        console.print(f"{party}: {one.reviews} reviews, {one.added} new training records{more}")
    table = Table(title=f"On the same {gain.records} held-out records", title_justify="left")
    for name in ("", "before", "after", "for each 100 reviews"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("training records", str(gain.training[0]), str(gain.training[1]), "")
    table.add_row("AUC", *(f"{ppm / 1e6:.3f}" for ppm in gain.auc_ppm), _each(gain.auc_ppm_per_hundred, 1e6, "+.3f"))
    for promise in gain.promises:
        cells = [
            f"{ppm / 10_000:.0f} %{'' if proven else ', not proven'}"
            for ppm, proven in zip(promise.answered_ppm, promise.proven, strict=True)
        ]
        per_hundred = _each(gain.answered_ppm_per_hundred(promise), 10_000, "+.1f", " points")
        table.add_row(f"answered at ≤ {promise.error_ppm_max / 10_000:g} % error", *cells, per_hundred)
    console.print(table)
    if found.after.state == "certified":
        console.print(f"certified: {(found.after.result or {})['certificate']['digest']}")
        step, against = ((found.upgrade or {}).get(name) for name in ("step", "comparison"))
        if step is not None:
            console.print(f"it serves now, as version {step['after']}: not inferior to what served before")
        else:
            console.print("the old version serves on: " + "; ".join((against or {}).get("failures", ())))
    else:
        console.print("not certified, the old version stands: " + "; ".join((found.after.result or {}).get("failures") or ("see the run",)))
    console.print("One comparison is one draw: bench/learn.py measures the gain over many.")


def _each(ppm: int | None, per: float, form: str, unit: str = "") -> str:
    return "" if ppm is None else f"{ppm / per:{form}}{unit}"
