"""`isthmus node`: the owner's side. Keeps the data where it is, signs terms, computes sums, shows what left."""

from __future__ import annotations

import datetime
import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from isthmus.app.nodetools import node_tools
from isthmus.cli import leash as leashes
from isthmus.cli.agree import STATE, agree
from isthmus.cli.leave import leave
from isthmus.contracts.errors import InputError
from isthmus.kit.clock import SystemClock
from isthmus.kit.log import open_log
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import KEY_NAME, NodeSettings, init_home, only_one, open_home
from isthmus.sandbox.outlog import LOG_NAME, LogEntry, OutLog, undeclared, verify_log
from isthmus.sandbox.uplink import HttpUplink
from isthmus.scenarios.package import find_package, load_package


@click.group()
def node() -> None:
    """The owner's node: it stays beside the data, and only sums that its owner agreed to leave it."""


node.add_command(agree)
node.add_command(leave)


@node.command()
@click.argument("data", type=click.Path(path_type=Path))
@STATE
@click.option("--id", "party", required=True, help="The party's id: lower-case letters, digits, hyphens.")
@click.option("--name", default="", help="The party's name for people; the id when left out.")
@click.option("--kind", type=click.Choice(["owner", "site"]), default="owner", show_default=True)
@click.option("--licence", default="proprietary", show_default=True, help="Licence of the data.")
@click.option("--sample", is_flag=True, help="Marks party and data as made up for demonstration.")
@click.option(
    "--scenario",
    default="",
    help="A package whose columns and outcomes the rows must fit, so that a bad value is told now and not in a run.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def init(data: Path, state: Path, party: str, name: str, kind: str, licence: str, sample: bool, scenario: str, as_json: bool) -> None:
    """Makes a key, reads and checks the folder DATA, and describes it as an asset, without sending anything."""
    interface = load_package(find_package(scenario)).interface if scenario else None
    schema = None if interface is None else interface.schema
    settings = NodeSettings(
        id=party,
        name=name or party,
        kind="site" if kind == "site" else "owner",
        data=str(data.absolute()),
        licence=licence,
        sample=sample,
        targets=() if interface is None else interface.foretold,
    )
    with only_one(state, make=True):
        home = init_home(state, settings, schema=schema)
        asset = home.asset
        home.store.close()
    shown = {"party": party, "public_key": home.key.public_hex, "asset": home.asset_digest}
    counts = {name: getattr(asset, name) for name in ("records_train", "records_holdout", "groups_train", "groups_holdout")}
    if as_json:
        click.echo(json.dumps({**shown, **counts, "groups_inferred": asset.groups_inferred, "splits_inferred": asset.splits_inferred}))
        return
    inferred = " (inferred from the order of names)" if asset.groups_inferred else ""
    click.echo(f"{party}: {asset.records_train} records to learn from, {asset.records_holdout} held out")
    click.echo(f"groups: {asset.groups_train} and {asset.groups_holdout}{inferred}")
    click.echo(f"public key {home.key.public_hex}\nasset {home.asset_digest}")


@node.command()
@STATE
@click.option("--exchange", required=True, help="The exchange's address, such as http://127.0.0.1:8470.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Processor threads for the backbone.")
@leashes.OPTION
def start(state: Path, exchange: str, threads: int, leash: bool) -> None:
    """Works for the exchange until stopped: fetches jobs, checks them against the agreement, computes, sends sums."""
    if not exchange.startswith(("http://", "https://")):
        raise InputError(f"{exchange!r} is no address of an exchange", "give it as http://HOST:PORT")
    if leash:
        leashes.hold()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with only_one(state):
        _work(state, exchange, threads, stop)


def _work(state: Path, exchange: str, threads: int, stop: threading.Event) -> None:
    clock = SystemClock()
    home = open_home(state)
    lines = open_log("", sys.stderr, clock, "info").bind(party=home.settings.id)
    uplink = HttpUplink(exchange, home.settings.id, home.key, clock)

    def report(event: str, fields: dict[str, Any]) -> None:
        lines.info(event, **fields)

    identity = Identity(home.settings.id, home.key, home.party_envelope, home.asset_envelope)
    worker = Node(identity, home.owner_data(node_tools(threads)), home.store, OutLog(home.log_path, home.key, clock), uplink, clock, report)
    try:
        report("started", {"asset": home.asset_digest, "exchange": exchange})
        worker.run(stop, wait_s=2.0)
        report("stopped", {})
    finally:
        uplink.close()
        home.store.close()


@node.command("log")
@STATE
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show_log(state: Path, as_json: bool) -> None:
    """Shows every message that left this node, after checking that not one line was edited, removed or moved."""
    if not (state / KEY_NAME).is_file():
        raise InputError(f"{state} is no node's state folder", "run: isthmus node init")
    public_key = SigningKey.load_or_create(state / KEY_NAME).public_hex
    entries = verify_log(state / LOG_NAME, public_key)
    if as_json:
        click.echo(json.dumps(log_summary(entries, public_key)))
        return
    table = Table("line", "time (UTC)", "what", "statistic", "numbers", "bytes", "sha256")
    for entry in entries:
        numbers = f"{'x'.join(map(str, entry.shape))} {entry.dtype}" if entry.dtype else ""
        table.add_row(str(entry.seq), _utc(entry.at_ms), entry.kind, entry.statistic, numbers, f"{entry.bytes:,}", entry.sha256[:16])
    Console().print(table)
    total = sum(entry.bytes for entry in entries)
    click.echo(f"{len(entries)} messages, {total:,} bytes, {len(undeclared(entries))} images left; each line signed, none missing.")


def log_summary(entries: list[LogEntry], public_key: str) -> dict[str, Any]:
    """The verified log as one object. bytes_by_kind: kind -> bytes. images_left: messages of no declared kind."""
    kinds: dict[str, int] = {}
    for entry in entries:
        kinds[entry.kind] = kinds.get(entry.kind, 0) + entry.bytes
    return {
        "public_key": public_key,
        "messages": len(entries),
        "bytes_left": sum(kinds.values()),
        "bytes_by_kind": kinds,
        "images_left": len(undeclared(entries)),
        "entries": msgspec.to_builtins(entries),
    }


def _utc(at_ms: int) -> str:
    return datetime.datetime.fromtimestamp(at_ms / 1000, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
