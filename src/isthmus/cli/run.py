"""`isthmus run`: a scenario's whole loop on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from isthmus.app.nodetools import node_tools
from isthmus.console.report import render
from isthmus.kit.clock import SystemClock
from isthmus.kit.config import read_settings
from isthmus.scenarios.facts import RunFacts
from isthmus.scenarios.figures import figures
from isthmus.scenarios.local import Tell
from isthmus.scenarios.run import RunSettings, ScenarioRun
from isthmus.scenarios.story import story
from isthmus.scenarios.tables import tables
from isthmus.scenarios.trial_page import check_writable, write_page

REPORT_DEFAULT = "isthmus-report.html"


class Teller:
    """A progress line on standard error: what is done now, how much of it, time left. What follows ` | ` in a text may change without
    the times beginning anew."""

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("start", total=None)
        self._label = ""

    def __enter__(self) -> Tell:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        label = what.partition(" | ")[0]
        if label != self._label:
            self._label = label
            self._progress.reset(self._task, description=what, total=total or None)
        self._progress.update(self._task, description=what, completed=done, total=total or None)


def tell_result(facts: RunFacts, report: Path, as_json: bool, candidate: bool = False) -> None:
    """Closing table or JSON object, and where the report is."""
    if as_json:
        click.echo(json.dumps(figures(facts)))
        return
    console = Console()
    for part in tables(facts):
        console.print(part)
    console.print(f"report: {report.absolute()}")
    if facts.fleet is not None and facts.fleet.state == "certified":
        console.print(f"next: {escape(next_step(facts.scenario.id, candidate))}")


def next_step(name: str, candidate: bool) -> str:
    """What to do with what was certified."""
    if candidate:
        return f"{name} serves as before, and this is proposed: isthmus deployment upgrade {name} --dry-run"
    return f"isthmus up serves it as {name}; isthmus account open PARTY makes a key, isthmus judge {name} FILES asks"


@click.command()
@click.argument("scenario")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder; default from ISTHMUS_STATE.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An owner's own folder of labelled images; repeat, one an owner (three or more).",
)
@click.option("--values", type=click.Path(path_type=Path), default=None, help="A YAML file of site values; see isthmus scenario show.")
@click.option("--samples", type=click.IntRange(8), default=None, help="Labels of the sample's next line to fit on.")
@click.option(
    "--proof", type=click.IntRange(0), default=0, show_default=True, help="Further labels of the next line, kept to prove its model."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the next line's samples.")
@click.option(
    "--contribution", is_flag=True, help="Score the owners and pay them by it; their sums are then seen singly, not in aggregate only."
)
@click.option(
    "--own-records-per-feature",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="With --contribution: each owner's own records behind each feature. Fewer tell more of who is in them.",
)
@click.option("--candidate", is_flag=True, help="Only propose what is certified; isthmus deployment upgrade puts it into service.")
@click.option("--report", type=click.Path(path_type=Path), default=Path(REPORT_DEFAULT), show_default=True, help="Where to write the page.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output instead of the tables.")
def run(
    scenario: str,
    state: Path | None,
    data: tuple[Path, ...],
    values: Path | None,
    samples: int | None,
    proof: int,
    seed: int,
    contribution: bool,
    own_records_per_feature: int,
    candidate: bool,
    report: Path,
    as_json: bool,
) -> int:
    """Walks SCENARIO from private images to a certified, metered service, and on to the next line.

    Without --data it uses the sample owners: real solar-cell images (CC BY-NC-SA 4.0, for evaluation), made-up companies.
    Everything runs on this machine: an exchange and one process for each owner, on loopback. A second run uses again
    what has not changed.

    Exit code 0: certified. 1: the bars were not met (the report says what is missing).
    """
    settings = read_settings(state=state)
    wanted = RunSettings(
        scenario=scenario,
        state=settings.state,
        data=data,
        samples=samples,
        proof=proof,
        seed=seed,
        tools=node_tools(),
        clock=SystemClock(),
        values=values,
        candidate=candidate,
        contribution=contribution,
        own_records_per_feature=own_records_per_feature,
    )
    check_writable(report, "--report")
    with Teller() as tell:
        facts = ScenarioRun(wanted, tell).walk()
        tell("report", 0, 0)
        write_page(render(story(facts)), report, "--report")
    tell_result(facts, report, as_json, candidate)
    sys.stdout.flush()
    return 0 if facts.fleet is not None and facts.fleet.state == "certified" else 1
