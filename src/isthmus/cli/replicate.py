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
from isthmus.scenarios.rollout import Outcome, read_sites, rollout


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


def roll_out(scenario: str, sites: Path, state: Path, seed: int, values: Path | None, as_json: bool) -> int:
    """All sites of a CSV, with one progress display and one table."""
    lines, found = read_sites(sites), []
    with Teller() as tell:
        found = list(rollout(scenario, lines, state, seed, SystemClock(), tell, values))
    counts = {name: sum(one.state == name for one in found) for name in ("certified", "refused", "failed")}
    if as_json:
        click.echo(json.dumps({**counts, "sites": [outcome_json(one) for one in found]}))
    else:
        show_all(found, counts)
    return 0 if counts["certified"] == len(found) else 1


def outcome_json(one: Outcome) -> dict[str, Any]:
    """One site of --all --json."""
    result = one.result or {}
    names = ("best", "fit", "proof", "audit", "candidates", "arithmetic", "failures", "claims")
    certificate = result.get("certificate")
    shown = {name: result.get(name) for name in names}
    digest = None if certificate is None else certificate["digest"]
    return {"site": one.site, "state": one.state, "wall_s": one.wall_s, **shown, "certificate": digest, "error": one.error}


def show_all(found: list[Outcome], counts: dict[str, int]) -> None:
    """A line a site, then how many of each."""
    table = Table()
    for name in ("site", "labels", "answered", "proven error", "labels needed", "outcome"):
        table.add_column(name, justify="left" if name in ("site", "outcome") else "right")
    for one in found:
        result, claims = one.result or {}, (one.result or {}).get("claims")
        arithmetic = result.get("arithmetic") or {}
        said = one.error["message"] if one.error else "; ".join([one.state, *result.get("failures", ())])
        table.add_row(
            one.site,
            f"{result['fit']} + {result['proof']}" if result else "–",
            f"{claims['answered_ppm'] / 10_000:.0f} %" if claims else "–",
            f"≤ {claims['error_bound_ppm'] / 10_000:.1f} %" if claims and claims["answered"] else "–",
            str(arithmetic["labels_needed"]) if arithmetic.get("labels_needed") else "–",
            said,
        )
    console = Console()
    console.print(table)
    console.print(", ".join(f"{count} {name}" for name, count in counts.items()))


@click.command()
@click.argument("scenario")
@click.option("--site", default=None, help="The site's name: lower-case letters, digits, hyphens.")
@click.option(
    "--samples", type=Samples(), default=None, help="A folder of labelled images; or, for the sample's line-4, how many labels to fit on."
)
@click.option(
    "--all", "every", type=click.Path(path_type=Path), default=None, help="A CSV of sites instead: site,samples and perhaps fit,proof."
)
@click.option("--fit", type=click.IntRange(8), default=None, help="Of a folder: labels to fit on; default up to 40, at most half.")
@click.option(
    "--proof", type=click.IntRange(0), default=None, help="Labels kept to prove the model; default none of line-4, the rest of a folder."
)
@click.option(
    "--values",
    type=click.Path(path_type=Path),
    default=None,
    help="A YAML file of this site's values: price, shares, weightings, validity. Others stay as they were certified.",
)
@click.option("--candidate", is_flag=True, help="Only propose what is certified; isthmus deployment upgrade puts it into service.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the samples.")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder of the run; default from ISTHMUS_STATE.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output instead of the table.")
def replicate(
    scenario: str,
    site: str | None,
    samples: Path | int | None,
    every: Path | None,
    fit: int | None,
    proof: int | None,
    values: Path | None,
    candidate: bool,
    seed: int,
    state: Path | None,
    as_json: bool,
) -> int:
    """Carries SCENARIO, certified by an earlier run, to another site: the fleet's sums and a few local labels.

    \b
    Examples:
      isthmus replicate solar-cell-inspection --site line-4 --samples 40
      isthmus replicate my-scenario --site hall-2 --samples photos/hall-2
      isthmus replicate my-scenario --all sites.csv

    sites.csv has a line a site, folders relative to the file: `hall-2,photos/hall-2`. Exit code 0: every site's model is certified. 1: one
    is not; what is still missing is said.
    """
    settings = read_settings(state=state)
    if every is not None:
        if (site, samples, fit, proof) != (None, None, None, None) or candidate:
            raise click.UsageError(
                "--all goes without --site, --samples, --fit, --proof and --candidate: write the first four into the CSV"
            )
        return roll_out(scenario, every, settings.state, seed, values, as_json)
    if site is None or samples is None:
        raise click.UsageError("give --site and --samples together, or --all with a CSV of sites")
    wanted = SiteSettings(
        scenario=scenario,
        state=settings.state,
        site=site,
        samples=samples,
        fit=fit,
        proof=proof,
        seed=seed,
        clock=SystemClock(),
        values=values,
        candidate=candidate,
    )
    with Teller() as tell:
        view = replicated(wanted, tell)
    if as_json:
        click.echo(json.dumps(site_json(view)))
    else:
        show(view)
    return 0 if view.state == "certified" else 1
