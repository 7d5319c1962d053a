"""`isthmus replicate`: a certified scenario at the next site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from isthmus.cli.run import Teller
from isthmus.contracts.build import RunView
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.scenarios.replicate import SiteSettings
from isthmus.scenarios.replicate import replicate as replicated


class Samples(click.ParamType[Any]):
    """A number of labels, or a folder of labelled images."""

    name = "samples"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | int:
        if isinstance(value, int | Path):
            return value
        return int(value) if str(value).isdecimal() else Path(str(value))


def site_json(view: RunView) -> dict[str, Any]:
    """The one JSON object of --json."""
    result = view.result or {}
    names = ("site", "best", "fit", "proof", "audit", "candidates", "arithmetic", "passed", "failures", "claims")
    certificate = result.get("certificate")
    found = {name: result.get(name) for name in names}
    return {"run": view.id, "state": view.state, **found, "certificate": None if certificate is None else certificate["digest"]}


def show(view: RunView) -> None:
    """Arithmetic first, then the candidates, then the verdict."""
    console, result = Console(), view.result or {}
    console.print(result["arithmetic"]["sentence"])
    table = Table(title=f"{result['site']}: fitted on {result['fit']} labels, measured on {result['audit']} others")
    for name in ("model", "AUC", "answered", "errors among answered"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for name, found in result["candidates"].items():
        counts = found["counts"]
        cells = ["–"] * 3
        if counts is not None and counts["records"]:
            answered = counts["answered"]
            cells = [
                f"{found['auc']:.3f}",
                f"{answered / counts['records']:.0%}",
                f"{counts['errors'] / answered:.1%}" if answered else "–",
            ]
        table.add_row(name + (" (chosen)" if name == result["best"] else ""), *cells)
    console.print(table)
    if result["passed"]:
        console.print(f"certified: {result['certificate']['digest']}")
    else:
        console.print("not certified: " + "; ".join(result["failures"]))


@click.command()
@click.argument("scenario")
@click.option("--site", required=True, help="The site's name: lower-case letters, digits, hyphens.")
@click.option(
    "--samples", type=Samples(), required=True, help="A folder of labelled images; or, for the sample's line-4, how many labels to fit on."
)
@click.option("--fit", type=click.IntRange(8), default=None, help="Of a folder: labels to fit on; default up to 40, at most half.")
@click.option(
    "--proof", type=click.IntRange(0), default=None, help="Labels kept to prove the model; default none of line-4, the rest of a folder."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the samples.")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder of the run; default from ISTHMUS_STATE.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output instead of the table.")
def replicate(
    scenario: str, site: str, samples: Path | int, fit: int | None, proof: int | None, seed: int, state: Path | None, as_json: bool
) -> int:
    """Carries SCENARIO, certified by an earlier run, to another site: the fleet's sums and a few local labels.

    Exit code 0: the site's model is certified. 1: it is not; what is still missing is said.
    """
    settings = read_settings(state=state)
    wanted = SiteSettings(
        scenario=scenario, state=settings.state, site=site, samples=samples, fit=fit, proof=proof, seed=seed, clock=SystemClock()
    )
    with Teller() as tell:
        view = replicated(wanted, tell)
    if as_json:
        click.echo(json.dumps(site_json(view)))
    else:
        show(view)
    return 0 if view.state == "certified" else 1
