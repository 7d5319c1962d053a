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
from isthmus.cli.budget import budget
from isthmus.cli.leave import leave
from isthmus.cli.nodepage import node_page, shown_page
from isthmus.cli.vouch import vouch, vouched
from isthmus.contracts.errors import InputError
from isthmus.kit.clock import SystemClock
from isthmus.kit.log import open_log
from isthmus.kit.pinning import Address, address_of, check_private
from isthmus.kit.signing import SigningKey
from isthmus.sandbox import nodestate
from isthmus.sandbox.columnlayout import ColumnLayout
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import KEY_NAME, NodeSettings, init_home, only_one, open_home
from isthmus.sandbox.nodestate import joined_exchange
from isthmus.sandbox.outlog import LOG_NAME, LogEntry, OutLog, undeclared, verify_log
from isthmus.sandbox.uplink import HttpUplink
from isthmus.scenarios.package import find_package, load_package


@click.group()
def node() -> None:
    """The owner's node: it stays beside the data, and only sums that its owner agreed to leave it."""


node.add_command(agree)
node.add_command(budget)
node.add_command(leave)
node.add_command(vouch)
node.add_command(vouched)


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
@click.option("--label-column", default="", help="Of a table in columns: its column of labels, when it is not called label.")
@click.option("--good", multiple=True, help="What that column says of a good record; repeat. All else is a defect. Default: good.")
@click.option("--group-column", default="", help="Its column of groups (modules, lots, patients); their rows stand together.")
@click.option("--split-column", default="", help="Its column that says train, holdout or audit.")
@click.option("--kind-column", default="", help="Its column of slices, such as mono.")
@click.option("--certainty-column", default="", help="Its column that says sure or unsure.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def init(
    data: Path,
    state: Path,
    party: str,
    name: str,
    kind: str,
    licence: str,
    sample: bool,
    scenario: str,
    as_json: bool,
    good: tuple[str, ...],
    **columns: str,
) -> None:
    """Makes a key, reads and checks DATA, and describes it as an asset, without sending anything.

    DATA is a folder of labelled records, or a table in columns: a Parquet, Arrow or CSV file, or a folder of such files.
    """
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
        layout=msgspec.convert({"good": good, **{n.removesuffix("_column"): c for n, c in columns.items()}}, ColumnLayout),
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
    inferred = " (inferred from the order of records)" if asset.groups_inferred else ""
    click.echo(f"{party}: {asset.records_train} records to learn from, {asset.records_holdout} held out")
    click.echo(f"groups: {asset.groups_train} and {asset.groups_holdout}{inferred}")
    click.echo(f"public key {home.key.public_hex}\nasset {home.asset_digest}")


@node.command()
@STATE
@click.option("--exchange", default="", help="The exchange's address, as it was printed; the one that was joined when left out.")
@click.option("--plain-http", is_flag=True, help="Allows an exchange without TLS on another machine.")
@click.option(
    "--page", type=click.IntRange(0, 65535), default=None, help="Shows the owner's page on this port of 127.0.0.1; 0: any free one."
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 64), help="Processor threads for the backbone.")
@leashes.OPTION
def start(state: Path, exchange: str, plain_http: bool, page: int | None, threads: int, leash: bool) -> None:
    """Works for the exchange until stopped: fetches jobs, checks them against the agreement, computes, sends sums.

    It calls out, and nothing connects to it. An https:// address with a pin (after the #) is connected to only if it shows that key.
    """
    address = _address(state, exchange, plain_http)
    if leash:
        leashes.hold()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with only_one(state), shown_page(state, page):
        _work(state, str(address), threads, stop)


def _address(state: Path, exchange: str, plain_http: bool) -> Address:
    """Where the exchange is. Raises InputError."""
    joined = None if exchange else joined_exchange(state)
    if not exchange and joined is None:
        raise InputError("the node does not know its exchange", "give --exchange, or join by an invitation: isthmus party join")
    found = address_of(exchange or (joined.address if joined is not None else ""))
    check_private(found, plain_http)
    return found


def _work(state: Path, exchange: str, threads: int, stop: threading.Event) -> None:
    clock = SystemClock()
    home = open_home(state)
    lines = open_log("", sys.stderr, clock, "info").bind(party=home.settings.id)
    uplink = HttpUplink(exchange, home.settings.id, home.key, clock)

    def report(event: str, fields: dict[str, Any]) -> None:
        lines.info(event, **fields)

    identity = Identity(home.settings.id, home.key, home.party_envelope, home.asset_envelope, home.rotations)
    worker = Node(identity, home.owner_data(node_tools(threads)), home.store, OutLog(home.log_path, home.key, clock), uplink, clock, report)
    try:
        report("started", {"asset": home.asset_digest, "exchange": uplink.address, "pinned": "#" in exchange})
        worker.run(stop, wait_s=2.0)
        report("stopped", {})
    finally:
        uplink.close()
        home.store.close()


@node.command()
@STATE
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def pause(state: Path, as_json: bool) -> None:
    """Lets the node answer no job, running or not, until it is resumed.

    Jobs go on without it where enough others remain, and else wait until they expire; the exchange is told that it is paused.
    """
    found = nodestate.pause(state, SystemClock())
    shown = {"paused": True, "since_s": found.since_s}
    click.echo(json.dumps(shown) if as_json else f"paused since {_utc(found.since_s * 1000)} UTC; go on with: isthmus node resume")


@node.command()
@STATE
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def resume(state: Path, as_json: bool) -> None:
    """Lets a paused node answer again."""
    was = nodestate.resume(state)
    click.echo(json.dumps({"paused": False, "was_paused": was}) if as_json else "it answers again" if was else "it was not paused")


@node.command()
@STATE
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port on 127.0.0.1; 0 takes any free one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with the page's address, once it listens.")
@leashes.OPTION
def page(state: Path, port: int, as_json: bool, leash: bool) -> None:
    """Shows the owner's page beside a node, running or not: what was asked, answered, refused, and every byte that left.

    It answers on this machine only, until you stop the command.
    """
    if leash:
        leashes.hold()
    served, listener = node_page(state, port)
    click.echo(json.dumps({"url": served.url}) if as_json else f"Your node's page: {served.url}\n(this machine only · stop: Ctrl-C)")
    sys.stdout.flush()
    served.server.run(sockets=[listener])


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
