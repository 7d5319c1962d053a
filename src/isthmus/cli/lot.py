"""`isthmus lot`: a signed document on all that was judged as one lot, and its offline check by a buyer."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.cli.caller import AS_JSON, KEY, STATE, URL, caller
from isthmus.cli.receipt import public_key_text
from isthmus.console.lot_page import lot_page
from isthmus.contracts.errors import DocumentError, InputError, StorageError
from isthmus.contracts.lot import UNBOUND_PPM, LotCertificate, lot_name
from isthmus.contracts.receipt import Verification
from isthmus.kit.ids import slug
from isthmus.ledger.lots import lot_from, verify_lot

FILE_BYTES_MAX = 256 * 1024 * 1024
"""A lot's document; a larger one is not read."""
PAGE = click.option("--page", type=click.Path(path_type=Path), default=None, help="Also write a page to print or to send, an HTML file.")


@click.group()
def lot() -> None:
    """Lots: what was judged under one name, in one signed document that a buyer checks without asking anyone.

    \b
    The grower:
      isthmus judge produce-grading pallet-7.csv --lot pallet-7 --key orchard.key
      isthmus lot certify pallet-7 --party orchard --key orchard.key --out pallet-7.lot.json --page pallet-7.html
    The buyer, offline, with the exchange's public key from a source that is trusted:
      isthmus lot verify pallet-7.lot.json --public-key exchange.pub
    """


@lot.command()
@click.argument("name", callback=lambda ctx, param, value: lot_name(value))
@click.option("--party", required=True, callback=lambda ctx, param, value: slug(value, "the party"), help="Who had it judged.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="File to write; default NAME.lot.json.")
@PAGE
@URL
@KEY
@STATE
@AS_JSON
def certify(
    name: str, party: str, out: Path | None, page: Path | None, url: str | None, key: str, state: Path | None, as_json: bool
) -> None:
    """Collects the receipts of lot NAME and has the exchange sign what they say: parts, grades, how many went to a person, and the bound.

    It counts all receipts of that lot which the log holds now, so none can be left out. Later parts need a later document.

    Example:  isthmus lot certify pallet-7 --party orchard --key orchard.key --page pallet-7.html
    """
    target = out or Path(f"{name}.lot.json")
    with caller(url, key, state) as exchange:
        raw = exchange.send("GET", f"/v1/lots/{party}/{name}").content
        public = str(exchange.get("/v1/log/key")["public_key"])
    document = _parsed(raw, "the exchange's answer")
    found = verify_lot(document, [public])
    if not found.holds:
        raise DocumentError(
            "the exchange's answer does not verify", "ask again; if it stays so, ask the operator to run isthmus book check"
        )
    _write(target, json.dumps(document, indent=1).encode() + b"\n")
    said = lot_from(document).lot
    _page(page, said, target, public)
    if as_json:
        click.echo(json.dumps({"file": str(target), "public_key": public, **msgspec.to_builtins(said)}))
        return
    _show(said)
    Console(soft_wrap=True).print(f"written: {escape(str(target))}{'' if page is None else f', {escape(str(page))}'}")


@lot.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--public-key", "public_keys", multiple=True, required=True, help="The exchange's public key: 64 hex digits, or a file.")
@PAGE
@AS_JSON
def verify(file: Path, public_keys: tuple[str, ...], page: Path | None, as_json: bool) -> int:
    """Verifies the lot's document FILE offline: the signature, each receipt, its place in the signed log, and the counts.

    Exit code 1 when anything was altered; the line of what was altered says so. Take the public key from the exchange itself or from its
    operator, not from who gave you the file.

    Example:  isthmus lot verify pallet-7.lot.json --public-key exchange.pub
    """
    document = _parsed(_read(file), str(file))
    keys = [public_key_text(value) for value in public_keys]
    found = verify_lot(document, keys)
    said = lot_from(document).lot
    if found.holds:
        _page(page, said, file, keys[0])
    if as_json:
        click.echo(json.dumps({**msgspec.to_builtins(found), **({"lot": msgspec.to_builtins(said)} if found.holds else {})}))
        return 0 if found.holds else 1
    _show_checks(found)
    if found.holds:
        _show(said)
    return 0 if found.holds else 1


def _parsed(raw: bytes, what: str) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{what} is not JSON: {error}", "give the file as isthmus lot certify wrote it") from error


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{path} has more than {FILE_BYTES_MAX} bytes", "give a lot's document")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error


def _write(path: Path, raw: bytes) -> None:
    try:
        path.write_bytes(raw)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", "check the folder and the disk") from error


def _page(page: Path | None, said: LotCertificate, file: Path, public: str) -> None:
    if page is not None:
        _write(page, lot_page(said, file.name, public).encode())


def _show_checks(found: Verification) -> None:
    console = Console()
    table = Table(title=f"lot {escape(found.receipt)}", title_justify="left")
    for column in ("checked", "", "found"):
        table.add_column(column, overflow="fold")
    for line in found.lines:
        table.add_row(escape(line.part), "[green]holds[/]" if line.holds else "[bold red]BROKEN[/]", escape(line.detail))
    console.print(table)
    broken = [line.part for line in found.lines if not line.holds]
    verdict = (
        "[green]The document verifies.[/]" if found.holds else f"[bold red]The document does not verify: {escape(', '.join(broken))}.[/]"
    )
    console.print(verdict)


def _show(said: LotCertificate) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    names = {"good": {one.classes[0] for one in said.models}, "defect": {one.classes[1] for one in said.models}}
    table.add_row("lot", f"{escape(said.lot)} of {escape(said.party)}, judged {_time(said.first_at_ms)} to {_time(said.last_at_ms)}")
    for verdict, words in names.items():
        table.add_row(escape(", ".join(sorted(words)) or verdict), str(said.counts[verdict]))
    table.add_row("left to a person", str(said.counts["person"]))
    bound = (
        f"at most {said.error_bound_ppm / 1e4:g} % at {said.confidence_ppm / 1e4:g} % confidence, for parts like those it was certified on"
    )
    table.add_row("error among graded", bound if said.error_bound_ppm < UNBOUND_PPM else "not bounded by a certificate of the lot")
    for one in said.models:
        day = _time(one.not_after_s * 1000)
        table.add_row("certificate", f"{one.certificate_digest} ({escape(one.scenario)}, {escape(one.site)}, {one.tier}, until {day})")
    table.add_row("receipts", f"{said.receipts}, in the log of {said.tree_size} signed {_time(said.issued_at_ms)}")
    Console().print(table)


def _time(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
