"""`isthmus try DIR`: what can be promised about one folder of images, within a minute or so."""

from __future__ import annotations

import json
import sys
import webbrowser
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from isthmus.contracts.head import Array, Head
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import build_artefact
from isthmus.foundry.features import StageExtractor, load_tensors, stage
from isthmus.foundry.patches import PatchStages
from isthmus.kit.clock import SystemClock
from isthmus.kit.pictures import DECODER
from isthmus.scenarios.folder import survey_good
from isthmus.scenarios.trial import STATES, Trial, run_trial
from isthmus.scenarios.trial_gallery import Gallery, Look, gallery
from isthmus.scenarios.trial_good import BACKBONE, GoodTrial, run_good_trial
from isthmus.scenarios.trial_good import PARTS as GOOD_PARTS
from isthmus.scenarios.trial_good_page import good_about, good_cautions, good_headline, good_lines, good_page, good_summary
from isthmus.scenarios.trial_images import Pixels
from isthmus.scenarios.trial_material import TrialSettings
from isthmus.scenarios.trial_page import check_writable, rendered, write_page
from isthmus.scenarios.trial_words import (
    bound_percent,
    cautions,
    class_rows,
    headline,
    missing_line,
    next_step,
    percent,
    say,
)

PARTS = ("block/4", "block/7", "block/10", "block/14")
OUT_DEFAULT = "isthmus-try.html"
LIMIT_DEFAULT = 2000
LIMIT_MIN, LIMIT_MAX = 20, 50_000
NAMES_SHOWN = 5


class Share(click.ParamType[float]):
    """A share such as `5%`, `5 %` or `0.05`, above `low` and below `high`."""

    name = "share"

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
        except ValueError:
            self.fail(f"{text!r} is not a share; write it like 5% or 0.05", param, ctx)
        if not self._low <= number <= self._high:
            self.fail(f"{text} is not between {percent(self._low)} and {percent(self._high)}; write it like 5% or 0.05", param, ctx)
        return number


@click.command("try")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path(OUT_DEFAULT), show_default=True, help="Where to write the page.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output instead of the table.")
@click.option("--error", type=Share(0.001, 0.5), default="5%", show_default=True, help="Most errors allowed among the answers.")
@click.option("--confidence", type=Share(0.5, 0.999), default="95%", show_default=True, help="How sure the promise must be.")
@click.option(
    "--limit", type=click.IntRange(LIMIT_MIN, LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True, help="Most images to look at."
)
@click.option("--open/--no-open", "open_page", default=False, show_default=True, help="Open the page in the browser.")
def try_folder(folder: Path, out: Path, as_json: bool, error: float, confidence: float, limit: int, open_page: bool) -> None:
    """Say what could be promised about the images in DIR.

    DIR has two or more sub-folders of images, one per class, such as good/ and defect/. With good/ alone the question is what looks unlike
    good ones, and where; images beside it, or in unlabelled/, are asked about. Nothing else is needed, nothing leaves this
    machine, and nothing in DIR is changed. The result is a short table and one HTML page.

    \b
    Examples:
      isthmus try photos
      isthmus try photos --error 1% --open
      isthmus try photos --json
    """
    target = out.absolute()
    check_writable(target)
    settings = TrialSettings(error=error, confidence=confidence, images_max=limit)
    clock = SystemClock()
    started_s = clock.monotonic_s()
    good = survey_good(folder)
    if good is not None:
        with Bars(Console(stderr=True)) as bars:
            found = run_good_trial(good, lambda: PatchStages(BACKBONE, GOOD_PARTS), settings, clock, bars)
            write_page(good_page(found), target)
        _tell_good(found, target, clock.monotonic_s() - started_s, as_json)
        if open_page:
            webbrowser.open(target.as_uri())
        return
    with Bars(Console(stderr=True)) as bars:
        trial = run_trial(folder, lambda: StageExtractor(PARTS), settings, clock, bars)
        shelves = gallery(trial, heater, bars)
        write_page(rendered(trial, shelves), target)
    wall_s = clock.monotonic_s() - started_s
    if as_json:
        click.echo(json.dumps(summary(trial, shelves, target, wall_s), ensure_ascii=False))
    else:
        show(trial, shelves, target, wall_s)
    if open_page:
        webbrowser.open(target.as_uri())


def _tell_good(trial: GoodTrial, target: Path, wall_s: float, as_json: bool) -> None:
    """The trial of good images on standard output."""
    if as_json:
        click.echo(json.dumps(good_summary(trial, target, wall_s), ensure_ascii=False))
        return
    console = Console(file=sys.stdout, highlight=False)
    console.print(Text(good_headline(trial), style="bold"))
    for line in (*good_lines(trial), good_about(trial)):
        console.print(Text(line))
    console.print()
    for caution in good_cautions(trial):
        colour = {"stop": "bold red", "care": "yellow"}.get(caution.level, "dim")
        console.print(Text.assemble((f"{caution.title}. ", colour), caution.text))
    names = [one.name for one in trial.shelves["unlabelled"][:NAMES_SHOWN]]
    if names:
        console.print(Text.assemble(("Most unlike the good ones: ", "dim"), ", ".join(names)))
    seconds = f"{len(trial.outcomes)} images in {wall_s:.0f} s"
    console.print(Text.assemble(("Page: ", "dim"), str(target), (f"  ({seconds})", "dim")), soft_wrap=True)
    console.print(Text.assemble(("Next: ", "dim"), say("good.next")))


def heater(coefficients: NDArray[np.float64], bias: float, typical: NDArray[np.float64]) -> Look:
    """Contributions to the score over space, exact, by the engine that serves certified models."""
    tensors = load_tensors()
    head = Head(stage=stage(PARTS, tensors), coefficients=Array.of(coefficients), bias=bias, lo=0.0, hi=0.0, decoder=DECODER)
    scorer = Scorer(build_artefact(head, tensors))

    def look(pixels: Pixels) -> NDArray[np.float64]:
        return scorer.heat(pixels, typical).picture

    return look


class Bars:
    """Progress with time left, on standard error; quiet when that is not a terminal."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, done: int, total: int, label: str) -> None:
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(label, total=total)
        self._progress.update(self._tasks[label], completed=done, total=total)


def show(trial: Trial, shelves: Gallery, target: Path, wall_s: float) -> None:
    console = Console(file=sys.stdout, highlight=False)
    console.print(Text(headline(trial), style="bold"))
    for missing in trial.missing:
        console.print(Text(missing_line(missing)))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("folder", "tested", "right", "wrong", "to a person", "wrong at most"):
        table.add_column(column, justify="left" if column == "folder" else "right", overflow="fold")
    for row in class_rows(trial):
        table.add_row(Text(row.name), str(row.tested), str(row.right), str(row.wrong), str(row.person), bound_percent(row.wrong_bound))
    console.print()
    console.print(table)
    console.print()
    for caution in cautions(trial):
        colour = {"stop": "bold red", "care": "yellow"}.get(caution.level, "dim")
        console.print(Text.assemble((f"{caution.title}. ", colour), caution.text))
    names = [trial.outcomes[e.row].reading.file.name for e in shelves.doubtful[:NAMES_SHOWN]]
    if names:
        console.print(Text.assemble(("Most doubtful: ", "dim"), ", ".join(names)))
    seconds = f"{len(trial.gathered.readings)} images in {wall_s:.0f} s"
    console.print(Text.assemble(("Page: ", "dim"), str(target), (f"  ({seconds})", "dim")), soft_wrap=True)
    console.print(Text.assemble(("Next: ", "dim"), next_step(trial)))


def summary(trial: Trial, shelves: Gallery, target: Path, wall_s: float) -> dict[str, Any]:
    """The trial as one JSON object."""
    gathered, promise = trial.gathered, trial.promise
    step = promise.chosen
    return {
        "folder": str(gathered.survey.folder),
        "headline": headline(trial),
        "answers": list(gathered.answers),
        "good": gathered.survey.good,
        "images": {
            "found": len(gathered.survey.files),
            "used": len(gathered.readings),
            "learned": len(gathered.readings) - step.records,
            "tested": step.records,
            "unreadable": len(gathered.unread),
            "copies": len(gathered.copies),
            "conflicts": len(gathered.conflicts),
            "over_limit": gathered.skipped,
            "not_images": gathered.survey.others,
        },
        "error": promise.error,
        "confidence": promise.confidence,
        "proven": promise.proven,
        "answered_share": step.share,
        "answered": step.answered,
        "answered_errors": step.errors,
        "answered_error_bound": step.bound,
        "design_effect": step.design_effect,
        "threshold": step.threshold,
        "grouped_by": gathered.grouped_by or None,
        "groups": len(set(gathered.groups.tolist())),
        "missing": [{"error": m.error, "more": m.more, "in_reach": m.in_reach} for m in trial.missing],
        "ladder": [{"error": p.error, "proven": p.proven, "answered_share": p.chosen.share, "bound": p.chosen.bound} for p in trial.ladder],
        "classes": [
            {"name": r.name, "tested": r.tested, "right": r.right, "wrong": r.wrong, "person": r.person, "wrong_bound": r.wrong_bound}
            for r in class_rows(trial)
        ],
        "light": [
            {"stops": stops, **{name: int((trial.light.states[:, i] == n).sum()) for n, name in enumerate(STATES)}}
            for i, stops in enumerate(trial.light.stops)
        ],
        "shortcuts": [{"aspect": s.aspect, "class": s.class_name, "accuracy": s.accuracy} for s in trial.shortcuts],
        "cautions": [{"level": c.level, "title": c.title, "text": c.text} for c in cautions(trial)],
        "doubtful": [trial.outcomes[e.row].reading.file.name for e in shelves.doubtful],
        "page": str(target),
        "next": next_step(trial),
        "wall_s": round(wall_s, 2),
    }
