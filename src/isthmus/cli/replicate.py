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
from isthmus.contracts.ports import Json
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.scenarios.replicate import SiteSettings
from isthmus.scenarios.replicate import replicate as replicated
from isthmus.scenarios.rollout import PARALLEL_MAX, Outcome, Rollout, read_sites, rollout

SHOWN = (
    "best",
    "fit",
    "proof",
    "audit",
    "candidates",
    "exchangeability",
    "thresholds",
    "promises",
    "arithmetic",
    "passed",
    "failures",
    "notes",
    "claims",
)
PROSPECTS = {
    "answered": ("error among answered", "answered"),
    "good": ("false alarms", "good"),
    "defect": ("recall", "caught defects"),
}


class Samples(click.ParamType[Any]):
    """A number of labels, or a folder of labelled images."""

    name = "samples"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | int:
        if isinstance(value, int | Path):
            return value
        return int(value) if str(value).isdecimal() else Path(str(value))


def site_json(view: RunView, plan: Json) -> dict[str, Any]:
    """The one JSON object of --json."""
    result = view.result or {}
    certificate = result.get("certificate")
    found = {name: result.get(name) for name in ("site", *SHOWN)}
    return {
        "run": view.id,
        "state": view.state,
        "plan": plan,
        **found,
        "certificate": None if certificate is None else certificate["digest"],
    }


def show_plan(plan: Json) -> None:
    """The sample arithmetic, before any work."""
    console = Console()
    console.print(
        f"{plan['site']}: {plan['fit']} labels to fit, {plan['proof']} kept for proof"
        f" ({plan['proof_good']} good, {plan['proof_defects']} defects). At best, with every record answered and none wrong:"
    )
    table = Table()
    for name in ("what is promised", "needs", "kept", "missing", "now at best"):
        table.add_column(name, justify="left" if name == "what is promised" else "right")
    for line in plan["prospects"]:
        what, of = PROSPECTS[line["of"]]
        recall = line["of"] == "defect"
        bar, now = (1 - line["bar"], 1 - line["now"]) if recall else (line["bar"], line["now"])
        name = f"{what} {'≥' if recall else '≤'} {bar * 100:.3g} %" + (", expected only: no promise" if line["kind"] == "expected" else "")
        best = f"{now * 100:.3g} %" if line["have"] else "–"
        table.add_row(name, f"{line['needed']} {of}", str(line["have"]), str(line["missing"]) if line["missing"] else "–", best)
    console.print(table)


def show(view: RunView) -> None:
    """What the labels say, the candidates before and after, the promises, then the verdict."""
    console, result = Console(), view.result or {}
    console.print(result["arithmetic"]["sentence"])
    console.print("Calibration: " + result["exchangeability"]["sentence"] + ".")
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
    console.print(_promises(result))
    if result["passed"]:
        console.print(f"certified: {result['certificate']['digest']}")
    else:
        console.print("not certified: " + "; ".join(result["failures"]))


def _bound_ppm(claims: Json) -> int:
    """What is proven of the error that was promised: of answers, or of good ones that are not called good."""
    return int(claims["alarms"]["alarms_bound_ppm"] if "alarms" in claims else claims["error_bound_ppm"])


def _promises(result: Json) -> Table:
    """A line a promise that was tried."""
    table = Table()
    alarms = any("alarms" in (one["claims"] or {}) for one in result["promises"])
    wrong = ("false alarms", "proven alarms") if alarms else ("errors", "proven error")
    for name in ("promise", "expected to answer", "answered", *wrong, "holds"):
        table.add_column(name, justify="right" if name != "holds" else "left")
    for one in result["promises"]:
        claims, planned = one["claims"], one["thresholds"]["share"]
        cells = (
            ("–", "–", "–")
            if claims is None
            else (
                f"{claims['answered']} of {claims['records']}",
                str(claims["alarms"]["alarms"] if "alarms" in claims else claims["errors"]),
                f"≤ {_bound_ppm(claims) / 10_000:.1f} %" if claims["answered"] else "–",
            )
        )
        holds = "yes" if one["passed"] else "not tried: no labels for proof" if claims is None else "no"
        table.add_row(f"≤ {one['error_ppm_max'] / 10_000:g} %", f"{planned:.0%}", *cells, holds)
    return table


def roll_out(wanted: Rollout, as_json: bool) -> int:
    """All sites of a CSV, with one progress display and one table in the order of the file."""
    with Teller() as tell:
        ended = {one.site: one for one in rollout(wanted, tell)}
    found = [ended[line.site] for line in wanted.sites]
    counts = {name: sum(one.state == name for one in found) for name in ("certified", "refused", "failed")}
    if as_json:
        click.echo(json.dumps({**counts, "sites": [outcome_json(one) for one in found]}))
    else:
        show_all(found, counts)
    return 0 if counts["certified"] == len(found) else 1


def outcome_json(one: Outcome) -> dict[str, Any]:
    """One site of --all --json."""
    result = one.result or {}
    certificate = result.get("certificate")
    shown = {name: result.get(name) for name in SHOWN}
    digest = None if certificate is None else certificate["digest"]
    head = {"site": one.site, "state": one.state, "wall_s": one.wall_s, "plan": one.plan}
    return {**head, **shown, "certificate": digest, "error": one.error}


def show_all(found: list[Outcome], counts: dict[str, int]) -> None:
    """A line a site, then how many of each."""
    table = Table()
    for name in ("site", "labels", "calibration", "answered", "proven error", "labels needed", "outcome"):
        table.add_column(name, justify="left" if name in ("site", "calibration", "outcome") else "right")
    for one in found:
        result, claims = one.result or {}, (one.result or {}).get("claims")
        arithmetic = result.get("arithmetic") or {}
        said = one.error["message"] if one.error else "; ".join([one.state, *result.get("failures", ())])
        table.add_row(
            one.site,
            f"{result['fit']} + {result['proof']}" if result else "–",
            ("fleet's and own" if result["exchangeability"]["trusted"] else "own") if result else "–",
            f"{claims['answered_ppm'] / 10_000:.0f} %" if claims else "–",
            f"≤ {_bound_ppm(claims) / 10_000:.1f} %" if claims and claims["answered"] else "–",
            str(arithmetic["labels_needed"]) if arithmetic.get("labels_needed") else "–",
            said,
        )
    console = Console()
    console.print(table)
    console.print(", ".join(f"{count} {name}" for name, count in counts.items()))


def one_site(wanted: SiteSettings, as_json: bool) -> int:
    """One site: the sample arithmetic before the work, the result after it."""
    plans: list[Json] = []

    def before(plan: Json) -> None:
        plans.append(plan)
        if not as_json:
            show_plan(plan)

    with Teller() as tell:
        view = replicated(wanted, tell, before)
    if as_json:
        click.echo(json.dumps(site_json(view, plans[0])))
    else:
        show(view)
    return 0 if view.state == "certified" else 1


@click.command()
@click.argument("scenario")
@click.option("--site", default=None, help="The site's name: lower-case letters, digits, hyphens.")
@click.option(
    "--samples", type=Samples(), default=None, help="A folder of labelled images; or, for the sample's line-4, how many labels to fit on."
)
@click.option(
    "--all",
    "every",
    type=click.Path(path_type=Path),
    default=None,
    help="A CSV of sites instead: site,samples and perhaps fit, proof, values (a file), values.KNOB.",
)
@click.option(
    "--parallel", type=click.IntRange(1, PARALLEL_MAX), default=None, help="With --all: sites at a time; default one a processor core."
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
    parallel: int | None,
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

    Says first what so many labels can show at best. sites.csv has a line a site, folders relative to the file: `hall-2,photos/hall-2`. Exit
    code 0: every site's model is certified. 1: one is not; what is still missing is said.
    """
    settings = read_settings(state=state)
    if every is not None:
        if (site, samples, fit, proof) != (None, None, None, None) or candidate:
            raise click.UsageError("--all goes without --site, --samples, --fit, --proof, --candidate: write the first four into the CSV")
        wanted_all = Rollout(
            scenario=scenario,
            sites=read_sites(every),
            state=settings.state,
            seed=seed,
            clock=SystemClock(),
            values=values,
            parallel=parallel or 0,
        )
        return roll_out(wanted_all, as_json)
    if parallel is not None:
        raise click.UsageError("--parallel goes with --all: one site is carried at a time")
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
    return one_site(wanted, as_json)
