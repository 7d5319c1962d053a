"""`isthmus asset check`: what is wrong with an owner's records, as a score with reasons and a list of work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from isthmus.app.refining import Refining, kept_report
from isthmus.cli.try_folder import Bars
from isthmus.console.quality_page import quality_page
from isthmus.contracts.errors import InputError
from isthmus.contracts.quality import QualityReport
from isthmus.kit.config import read_settings
from isthmus.sandbox.nodehome import data_folder, only_one
from isthmus.sandbox.quality.check import Checked
from isthmus.sandbox.quality.worklist import apply_worklist, listed, read_worklist
from isthmus.scenarios.package import find_package, load_package
from isthmus.scenarios.trial_page import check_writable, write_page

SHOWN = 12
COLOURS = {"stop": "bold red", "care": "yellow", "note": "", "unavailable": "dim", "good": "green"}


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option("--scenario", default=None, help="A package: its columns, ranges and features are used.")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="A node's state folder: its data is checked, the report kept.")
@click.option("--worklist", type=click.Path(path_type=Path), default=None, help="Where to write the list of work, .csv or .json.")
@click.option("--html", "page", type=click.Path(path_type=Path), default=None, help="Where to write a page to look at; it shows records.")
@click.option("--apply", "done", type=click.Path(path_type=Path), default=None, help="A work list, as written or as a person changed it.")
@click.option("--to", "target", type=click.Path(path_type=Path), default=None, help="With --apply: where the mended copy goes.")
@click.option("--threads", type=click.IntRange(1, 64), default=2, show_default=True, help="Processor threads for looking at pictures.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def check(
    folder: Path | None,
    scenario: str | None,
    state: Path | None,
    worklist: Path | None,
    page: Path | None,
    done: Path | None,
    target: Path | None,
    threads: int,
    as_json: bool,
) -> None:
    """Check the records in DIR: missing, odd and doubled ones, wrong units, doubtful labels, leaks, personal data.

    Nothing leaves this machine, and nothing in DIR is changed. The report names no record, so that an asset may be described with it; the
    list of work and the page do, and stay with the owner.

    \b
    Examples:
      isthmus asset check photos --worklist work.csv --html check.html
      isthmus asset check ward --scenario heart-screening --json
      isthmus asset check ward --apply work.csv --to ward-mended
    """
    if (folder is None) == (state is None):
        raise InputError("one of DIR and --state is needed, not both", "give the folder, or the state folder of its node")
    if (done is None) != (target is None) or (done is not None and state is not None):
        raise InputError("--apply, --to and DIR belong together", "give a work list, and where the mended copy goes")
    for place in (worklist, page):
        if place is not None:
            check_writable(place.absolute(), "--worklist" if place is worklist else "--html")
    package = None if scenario is None else load_package(find_package(scenario, read_settings().state))
    with Bars(Console(stderr=True)) as bars:
        refining = Refining(package, threads, bars)
        found = _checked(refining, folder, state)
        mended = None
        if done is not None and target is not None:
            apply_worklist(found.material.folder, read_worklist(done), target)
            mended = refining.check(target)
    if worklist is not None:
        write_page(listed(found.work, worklist.suffix.lower() == ".json"), worklist.absolute(), "--worklist")
    if page is not None:
        write_page(quality_page(found), page.absolute(), "--html")
    if as_json:
        click.echo(json.dumps(_summary(found, mended), ensure_ascii=False))
        return
    _show(found.report, len(found.work))
    if mended is not None:
        click.echo(f"\nmended copy {target}: score {mended.report.score} of 100, {mended.report.records} records, was {found.report.score}")
    for what, place in (("work list", worklist), ("page", page)):
        if place is not None:
            click.echo(f"{what}: {place}")


def _checked(refining: Refining, folder: Path | None, state: Path | None) -> Checked:
    if state is not None:
        with only_one(state):
            _ = data_folder(state)
            return kept_report(state, refining)
    assert folder is not None
    return refining.check(folder)


def _summary(found: Checked, mended: Checked | None) -> dict[str, object]:
    """The report, which isthmus asset describe takes as it is, and how much work there is."""
    shown: dict[str, object] = {
        **msgspec.to_builtins(found.report),
        "work": len(found.work),
        "work_by_check": {name: sum(i.check == name for i in found.work) for name in sorted({i.check for i in found.work})},
    }
    if mended is not None:
        shown["mended"] = msgspec.to_builtins(mended.report)
    return shown


def _show(report: QualityReport, work: int) -> None:
    console = Console(file=sys.stdout, highlight=False)
    console.print(Text(f"score {report.score} of 100: {report.records} records in {report.groups} groups", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column, side in (("off", "right"), ("what", "left"), ("found", "left")):
        table.add_column(column, justify="right" if side == "right" else "left", overflow="fold")
    notable = [finding for finding in report.findings if finding.level != "good"]
    for finding in notable[:SHOWN]:
        points = f"-{finding.points:g}" if finding.points else ""
        table.add_row(points, Text(finding.check, style=COLOURS[finding.level]), Text(finding.says))
    console.print(table)
    if len(notable) > SHOWN:
        console.print(Text(f"and {len(notable) - SHOWN} more, see --json", style="dim"))
    fine = sorted({finding.check for finding in report.findings if finding.level == "good"})
    if fine:
        console.print(Text.assemble(("nothing found: ", "dim"), ", ".join(fine)))
    for line in report.not_checked:
        console.print(Text(line, style="dim"))
    console.print(Text(f"{work} records to look at" + ("; write them with --worklist" if work else "")))
