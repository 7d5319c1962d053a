"""`isthmus withdrawal`: who has left, what lapsed by that, and what was made in its place."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.cli.deployment import AS_JSON, KEY, STATE, URL, operator, when
from isthmus.contracts.withdrawal import Departure, Leaver, Refit

DIGEST_CHARS = 19
WAYS = {
    "same-features": "again on the same features, the leavers' sums may be seen singly",
    "together": "again on the same features, enough left together",
    "other-features": "again on other features",
    "would-reveal": "not made again: it would reveal",
    "too-few": "not made again: too few are left",
    "not-serving": "not made again: it served nowhere",
}


@click.group()
def withdrawal() -> None:
    """Owners who have left: what descended from their records, and what stands in its place.

    An owner leaves with `isthmus node leave`, or when its agreement expires. Certificates of every model that its records are in are
    revoked at once; receipts stay and verify as before.
    """


@withdrawal.command("list")
@URL
@KEY
@STATE
@AS_JSON
def list_command(url: str | None, key: str | None, state: Path | None, as_json: bool) -> None:
    """Lists who has left, and every run that lapsed by that.

    Example:  isthmus withdrawal list --json
    """
    with operator(url, key, state) as exchange:
        document = exchange.get("/v1/withdrawals")
    if as_json:
        click.echo(json.dumps(document))
        return
    found = msgspec.convert(document["departures"], list[Departure])
    console = Console()
    told = [
        f"{w['withdrawal']['owner']} has left {', '.join(w['withdrawal']['purposes'])} ({when(w['withdrawal']['at_s'])})"
        for w in document["withdrawals"]
    ]
    for line in told:
        console.print(escape(line))
    if not told and not found:
        console.print("nobody has left")
    if found:
        console.print(_table(found))


def _table(found: list[Departure]) -> Table:
    table = Table(title=f"{len(found)} run{'' if len(found) == 1 else 's'} lapsed", title_justify="left")
    for title in ("run", "scenario", "who left", "served as", "boxes", "made again", "sites"):
        table.add_column(title, overflow="fold")
    for one in found:
        served = sorted({name for model in one.lapsed for name in model.deployments})
        table.add_row(
            one.run,
            escape(one.scenario),
            escape(", ".join(_leaver(leaver) for leaver in one.leavers)),
            escape(", ".join(served) or "–"),
            str(sum(len(model.boxes) for model in one.lapsed)),
            escape(_refit(one.refit)),
            escape(", ".join(f"{site.site}: {site.state}" for site in one.sites) or "–"),
        )
    return table


def _leaver(leaver: Leaver) -> str:
    return leaver.party if leaver.cause == "withdrawal" else f"{leaver.party} (expired)"


def _refit(refit: Refit) -> str:
    run = f": {refit.run} {refit.state}" if refit.run else ""
    return f"{WAYS[refit.way]}{run}"


@withdrawal.command()
@click.argument("run")
@URL
@KEY
@STATE
@AS_JSON
def show(run: str, url: str | None, key: str | None, state: Path | None, as_json: bool) -> int:
    """Shows what became of RUN: who left, what lapsed where, what was made again, and the digests of the sums that it rests on.

    Exit code 1 when nothing stands in its place.

    Example:  isthmus withdrawal show run_0123456789abcdef01234567
    """
    with operator(url, key, state) as exchange:
        document = exchange.get(f"/v1/withdrawals/{run}")
    found = msgspec.convert(document, Departure)
    if as_json:
        click.echo(json.dumps(document))
    else:
        _show(found, Console())
    return 0 if found.refit.state == "certified" else 1


def _show(found: Departure, console: Console) -> None:
    for leaver in found.leavers:
        how = "withdrew" if leaver.cause == "withdrawal" else "let expire"
        why = f": {leaver.why}" if leaver.why else ""
        console.print(escape(f"{leaver.party} {how} its agreement for {found.purpose}, {when(leaver.at_s)}{why}"))
    table = Table(title=f"lapsed with {escape(found.run)}", title_justify="left")
    for title in ("site", "artefact", "certificate (revoked)", "served as", "boxes"):
        table.add_column(title, overflow="fold")
    for model in found.lapsed:
        boxes = ", ".join(f"{box.box} (by {when(box.lapses_at_s)} at the latest)" for box in model.boxes)
        cells = (model.site, model.artefact[:DIGEST_CHARS], model.certificate[:DIGEST_CHARS], ", ".join(model.deployments), boxes)
        table.add_row(*(escape(cell or "–") for cell in cells))
    console.print(table)
    refit = found.refit
    console.print(escape(f"made again: {_refit(refit)}"))
    if refit.reason:
        console.print(escape(f"because {refit.reason}; next: {refit.next}" if refit.next else f"because {refit.reason}"))
    for statistic, digests in refit.sums.items():
        console.print(escape(f"  {statistic}  {' '.join(digests)}"), soft_wrap=True)
    for site in found.sites:
        console.print(escape(f"site {site.site}: {site.state} {site.run} {site.reason}".rstrip()))
