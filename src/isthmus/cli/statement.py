"""`isthmus statement`: a party's receipts over a period, summed and signed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.cli.receipt import URL_DEFAULT, public_key_text
from isthmus.client.http import ExchangeClient
from isthmus.contracts.receipt import Statement
from isthmus.ledger.book import micro_text
from isthmus.ledger.verify import verify_statement

LINES_SHOWN_MAX = 20
"""Lines of a statement that the table shows; --json has all."""


@click.command()
@click.argument("party")
@click.option("--from", "from_text", help="Beginning, ISO 8601, UTC (2027-01-01).")
@click.option("--to", "to_text", help="End, excluded.")
@click.option("--url", default=URL_DEFAULT, show_default=True, help="Where the exchange answers.")
@click.option("--key", required=True, help="The party's API key, or the operator's.")
@click.option("--public-key", help="The exchange's public key (64 hex digits, or a file): checks the signature and the sums.")
@click.option("--json", "as_json", is_flag=True, help="The signed statement as one JSON object.")
def statement(party: str, from_text: str | None, to_text: str | None, url: str, key: str, public_key: str | None, as_json: bool) -> None:
    """Show PARTY's statement over a period: what each receipt and transfer moved, and the totals."""
    query = "&".join(f"{name}={quote(text)}" for name, text in (("from", from_text), ("to", to_text)) if text)
    with ExchangeClient(url, key) as exchange:
        answer = exchange.get(f"/v1/statements/{quote(party, safe='')}" + (f"?{query}" if query else ""))
    shown = msgspec.convert(answer["statement"], Statement)
    if public_key is not None:
        shown = verify_statement(answer["envelope"], [public_key_text(public_key)])
    if as_json:
        click.echo(json.dumps(answer))
        return
    _show(shown, verified=public_key is not None)


def _amount(amount: int, unit: str) -> str:
    return f"{micro_text(amount)} {unit}" if "@" not in unit else f"{amount} {unit.partition('@')[0]}"


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _show(found: Statement, verified: bool) -> None:
    console = Console()
    lines = Table(title=f"{escape(found.party)}: {found.receipts} receipts, {_day(found.from_ms)} to {_day(found.to_ms)} UTC")
    for column in ("time", "kind", "id", "account"):
        lines.add_column(column)
    lines.add_column("amount", justify="right")
    for line in found.lines[-LINES_SHOWN_MAX:]:
        lines.add_row(_day(line.at_ms), line.kind, escape(line.id), line.role, _amount(line.amount, line.unit))
    console.print(lines)
    if len(found.lines) > LINES_SHOWN_MAX:
        console.print(f"the last {LINES_SHOWN_MAX} of {len(found.lines)} lines; --json shows all")
    totals = Table(title="totals")
    totals.add_column("account")
    for column in ("opening", "moved", "closing", "by receipts"):
        totals.add_column(column, justify="right")
    for total in found.totals:
        amounts = (total.opening, total.moved, total.closing, total.from_receipts)
        totals.add_row(total.role, *(_amount(amount, total.unit) for amount in amounts))
    console.print(totals)
    console.print("[green]signature and sums verified[/]" if verified else "not verified: give --public-key")
