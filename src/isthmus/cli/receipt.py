"""`isthmus receipt`: verify a receipt offline, or fetch one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.client.address import standing
from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import DocumentError, InputError
from isthmus.contracts.receipt import Verification
from isthmus.kit.config import read_settings
from isthmus.ledger.verify import verify_receipt

FILE_BYTES_MAX = 16 * 1024 * 1024
"""A receipt's file."""
URL_DEFAULT = "http://127.0.0.1:8470"


def public_key_text(value: str) -> str:
    """A public key given as 64 hex digits or as a file that holds them. Raises InputError."""
    if len(value) == 64 and not Path(value).exists():
        return value
    try:
        return Path(value).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the public key {value!r} is neither 64 hex digits nor a file that can be read", "check the path") from error


def read_json(path: Path) -> Any:
    """A JSON file's content. Raises InputError, DocumentError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{path} has more than {FILE_BYTES_MAX} bytes", "give a receipt")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path} is not JSON: {error}", "give the file as the exchange sent it") from error


@click.group()
def receipt() -> None:
    """Receipts: one for each request, which anyone can verify offline."""


@receipt.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--public-key", "public_keys", multiple=True, required=True, help="The exchange's public key: 64 hex digits, or a file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def verify(file: Path, public_keys: tuple[str, ...], as_json: bool) -> int:
    """Verify a receipt FILE offline: sections, arithmetic, split, place in the log, signature.

    Exit code 1 when anything was altered; the line of what was altered says so. Give --public-key several times after
    the exchange has changed its key.
    """
    found = verify_receipt(read_json(file), [public_key_text(value) for value in public_keys])
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found)))
    else:
        _show(found)
    return 0 if found.holds else 1


def _show(found: Verification) -> None:
    console = Console()
    table = Table(title=f"receipt {escape(found.receipt)}")
    for column in ("checked", "", "found"):
        table.add_column(column)
    for line in found.lines:
        mark = "[green]holds[/]" if line.holds else "[bold red]BROKEN[/]"
        table.add_row(escape(line.part), mark, escape(line.detail))
    console.print(table)
    if found.hidden:
        console.print(f"not disclosed here, so not checked: {escape(', '.join(found.hidden))}")
    broken = [line.part for line in found.lines if not line.holds]
    console.print(
        "[green]The receipt verifies.[/]" if found.holds else f"[bold red]The receipt does not verify: {escape(', '.join(broken))}.[/]"
    )


@receipt.command("key")
@click.option("--url", default=None, help=f"Where the exchange answers; default: where the one on the state folder does, or {URL_DEFAULT}.")
@click.option("--state", type=click.Path(path_type=Path), default=None, help="State folder; default from ISTHMUS_STATE.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write it to this file, for --public-key.")
def key_command(url: str | None, state: Path | None, out: Path | None) -> None:
    """Tells the exchange's public key: what receipts, statements, lots and certificates are checked with. Pin it.

    Example:  isthmus receipt key --out exchange.pub
    """
    found = standing(read_settings(state=state).state / "exchange") if url is None else None
    with ExchangeClient(url or (URL_DEFAULT if found is None else found[0])) as exchange:
        public = str(exchange.get("/v1/log/key")["public_key"])
    if out is None:
        click.echo(public)
        return
    try:
        out.write_text(public + "\n", encoding="ascii")
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}", "check the path and its permissions") from error
    click.echo(f"wrote {out}")


@receipt.command()
@click.argument("receipt_id")
@click.option("--url", default=URL_DEFAULT, show_default=True, help="Where the exchange answers.")
@click.option("--key", required=True, help="Your API key; only your own sections are sent.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the receipt to this file, for `receipt verify`.")
def show(receipt_id: str, url: str, key: str, out: Path | None) -> None:
    """Fetch the receipt RECEIPT_ID with its proof, as JSON."""
    with ExchangeClient(url, key) as exchange:
        document = exchange.get(f"/v1/receipts/{receipt_id}")
    text = json.dumps(document, indent=2)
    if out is None:
        click.echo(text)
        return
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}", "check the path and its permissions") from error
    click.echo(f"wrote {out}")
