"""`isthmus warn`: a served forecast as CAP 1.2 alerts that other systems read."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.app.catalogue import write_whole
from isthmus.cli.receipt import URL_DEFAULT, public_key_text
from isthmus.client.http import ExchangeClient
from isthmus.contracts.errors import InputError
from isthmus.contracts.inference import RECORDS
from isthmus.gateway.wire import HEADER_LENGTH, Answer, format_request, parse_answer
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.clock import SystemClock
from isthmus.kit.records import RECORD_BYTES_MAX
from isthmus.scenarios.cap import STATUSES
from isthmus.scenarios.warnings import Decided, Served, decide, issued_alerts, proven_model, read_warnings, served_answer


def moment_of(text: str | None) -> datetime.datetime:
    """When the forecast is made; now where it is left out. Raises InputError for a time without a zone."""
    if text is None:
        return datetime.datetime.fromtimestamp(int(SystemClock().now_s()), datetime.UTC)
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--at {text!r} is no time", "write it as 2026-01-31T18:00:00+01:00") from error
    if found.utcoffset() is None:
        raise InputError(f"--at {text!r} has no zone", "write it as 2026-01-31T18:00:00+01:00")
    return found


def record_of(path: Path) -> bytes:
    """One record's JSON. Raises InputError."""
    try:
        if path.stat().st_size > RECORD_BYTES_MAX:
            raise InputError(f"{path} has more than {RECORD_BYTES_MAX} bytes", "give one record")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "give a file with one record as JSON") from error


def asked(exchange: ExchangeClient, model: str, record: bytes, at: datetime.datetime) -> Answer:
    """The model's answer on one record; asked again for the same time, it is the same answer and one charge."""
    request_id = f"warn-{sha256_hex(record + at.isoformat().encode() + model.encode())[:24]}"
    body, header_bytes = format_request([record], request_id=request_id, name=RECORDS)
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(header_bytes)}
    response = exchange.send("POST", f"/v2/models/{model}/infer", content=body, headers=headers)
    length = response.headers.get(HEADER_LENGTH)
    return parse_answer(response.content, None if length is None else int(length))


def shown(one: Decided, folder: Path) -> dict[str, Any]:
    """One level's outcome as plain data."""
    return {
        "lead_days": one.lead_days,
        "kind": one.kind,
        "why": one.why,
        "file": str(folder / one.name) if one.kind else None,
        "replaces": [before.identifier for before in one.before],
    }


def tell(found: tuple[Decided, ...], served: Served, folder: Path, as_json: bool) -> None:
    rows = [shown(one, folder) for one in found]
    if as_json:
        proof = {"certificate": served.proven.certificate, "receipt": served.receipt, "tier": served.proven.predicate.tier}
        click.echo(json.dumps({"model": served.answer.model, **proof, "levels": rows}))
        return
    table = Table("days ahead", "message", "why", "file")
    for one, row in zip(found, rows, strict=True):
        table.add_row(str(one.lead_days), one.kind or "none", escape(one.why), escape(row["file"] or ""))
    console = Console()
    console.print(table)
    console.print(f"certificate {served.proven.certificate[:19]}..., tier {served.proven.predicate.tier}, receipt {served.receipt}")


@click.command()
@click.argument("model")
@click.option("--record", required=True, type=click.Path(path_type=Path), help="One record as JSON: what the model is asked.")
@click.option("--levels", required=True, type=click.Path(path_type=Path), help="A YAML file: sender, gauge, area, and a level a lead time.")
@click.option(
    "--out", "folder", required=True, type=click.Path(path_type=Path), help="Folder of this gauge's alerts; earlier ones are in it."
)
@click.option("--url", default=URL_DEFAULT, show_default=True, help="Where the exchange answers.")
@click.option("--key", required=True, help="The caller's key, who is charged for the answer.")
@click.option("--public-key", default="", help="The exchange's public key, 64 hex digits or a file; the default asks the exchange.")
@click.option("--at", default=None, help="When the forecast is made, with a zone; the default is now.")
@click.option(
    "--status", type=click.Choice(STATUSES), default="Exercise", show_default=True, help="Actual only when people are to act on it."
)
@click.option("--doubtful", is_flag=True, help="Write an alert, that says so, also where the model leaves the answer to a person.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
def warn(
    model: str,
    record: Path,
    levels: Path,
    folder: Path,
    url: str,
    key: str,
    public_key: str,
    at: str | None,
    status: str,
    doubtful: bool,
    as_json: bool,
) -> None:
    """Asks MODEL for a forecast and writes what is to be warned of as CAP 1.2 alerts.

    One file for each lead time whose level is reached by the forecast or by its band. An earlier alert in the folder for the same day is
    updated, or cancelled where the forecast stays below the level now. Each alert names certificate and receipt. Nothing is written
    without a valid certificate. An alert is an exercise unless --status says otherwise.

    Example:  isthmus warn discharge-forecast --record today.json --levels marburg.yaml --out alerts --key KEY
    """
    wanted, moment, body = read_warnings(levels), moment_of(at), record_of(record)
    issued = issued_alerts(folder, wanted)
    with ExchangeClient(url, key) as exchange:
        pinned = public_key_text(public_key) if public_key else str(exchange.get("/v1/exchange")["public_key"])
        proven = proven_model(exchange, model, pinned, SystemClock().now_s())
        served = served_answer(asked(exchange, model, body, moment), proven)
    found = decide(served, wanted, issued, moment, status, doubtful)
    for one in found:
        if one.kind:
            write_whole(folder / one.name, one.text)
    tell(found, served, folder, as_json)
