"""`isthmus book`: proves that the book balances."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.cli.deployment import AS_JSON, KEY, STATE, URL, operator
from isthmus.contracts.money import BookCheck


@click.group()
def book() -> None:
    """The exchange's book: double entry, in whole micro-units."""


@book.command()
@URL
@KEY
@STATE
@AS_JSON
def check(url: str | None, key: str | None, state: Path | None, as_json: bool) -> int:
    """Rebuild all balances from the entries and prove every invariant. Exit code 1 when one is broken."""
    with operator(url, key, state) as exchange:
        document = exchange.get("/v1/book/check")
    found = msgspec.convert(document, BookCheck)
    if as_json:
        click.echo(json.dumps(document))
    else:
        _show(found)
    return 0 if found.holds else 1


def _show(found: BookCheck) -> None:
    console = Console()
    table = Table(title=f"{found.receipts} receipts, {found.entries} entries, {found.open_holds} open holds")
    table.add_column("rule")
    table.add_column("checked", justify="right")
    table.add_column("")
    for line in found.lines:
        mark = "[green]holds[/]" if line.holds else f"[bold red]BROKEN[/] {escape(', '.join(line.broken))}"
        table.add_row(line.rule, str(line.checked), mark)
    console.print(table)
    console.print("sums: " + ", ".join(f"{escape(unit.partition('@')[0])} {total}" for unit, total in found.sums.items()))
