"""`isthmus node`: the owner's side. Keeps the data where it is, signs terms, computes sums, shows what left."""

from __future__ import annotations

import datetime
import json
import signal
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from isthmus.assurance.corruptions import corrupt
from isthmus.cli import leash as leashes
from isthmus.contracts.agreement import ANY_STAGE, Agreement
from isthmus.contracts.errors import InputError, UnreachableError
from isthmus.contracts.head import Head, Stage
from isthmus.contracts.logistic import LogisticSums, logistic_sums_from, logistic_units
from isthmus.contracts.ports import SharedExtractor
from isthmus.contracts.statistic import (
    CLUSTERS,
    EVALUATE,
    FOLD_OUT,
    IRLS,
    MOMENTS,
    OWN_HEAD,
    PAIR,
    SITE_HEADS,
    FleetCurve,
    SiteHeadParams,
    SiteHeads,
)
from isthmus.contracts.sums import SCORE_BINS, Moments
from isthmus.contracts.valuesums import VALUE_STATISTICS
from isthmus.foundry.engine import Forecaster, Scorer
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.logisticsite import combine_logistic
from isthmus.foundry.ridge import head_from
from isthmus.foundry.site import LocalRows, combine, corrected
from isthmus.foundry.stages import checked_extractor
from isthmus.foundry.surfaces import spoilt
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.clock import SystemClock
from isthmus.kit.log import open_log
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import KEY_NAME, NodeSettings, init_home, only_one, open_home
from isthmus.sandbox.outlog import LOG_NAME, LogEntry, OutLog, undeclared, verify_log
from isthmus.sandbox.ports import Artefact, SiteRows, Tools
from isthmus.sandbox.statistics.foldout import score_histogram
from isthmus.sandbox.uplink import HttpUplink
from isthmus.scenarios.package import find_package, load_package

STATE = click.option("--state", type=click.Path(path_type=Path), required=True, help="The node's own state folder.")
DEFAULT_OPERATIONS = (MOMENTS, FOLD_OUT, CLUSTERS, EVALUATE, PAIR, *VALUE_STATISTICS)
DAY_S = 24 * 3600


def node_tools(threads: int = 1) -> Tools:
    """The real extractor, artefact builder and corruptions; each is made once a process."""

    @cache
    def extractor(digest: str, raw: bytes) -> SharedExtractor:
        return checked_extractor(msgspec.json.decode(raw, type=Stage), threads)

    def artefact(head: Head) -> Artefact:
        raw = build_artefact(head)
        if head.outputs:
            found = Forecaster(raw, threads)
            return Artefact(found.digest, lambda given: found.outputs(given)[:, 0, 0], found.outputs)
        return Artefact(artefact_digest(raw), Scorer(raw, threads).scores)

    return Tools(lambda stage: extractor(stage.digest, canonical_bytes(stage)), artefact, corrupt, site_heads, spoilt)


def site_heads(fleet: Moments, rows: SiteRows, stage: Stage, params: SiteHeadParams) -> SiteHeads:
    """foundry.site's three heads in the layout of site-head/1."""
    local = LocalRows(rows.q, rows.w, rows.y, rows.groups)
    grids = (params.fleet_penalty, params.factors, params.penalties)
    if params.head is not None:
        fits = corrected(fleet, local, params.head, *grids)
    elif params.logistic is not None:
        round_ = _fleet_round(params.logistic, fleet)
        fits = combine_logistic(fleet, round_, params.logistic.coefficients.array(), local, *grids)
    else:
        fits = combine(fleet, local, *grids)
    known = {"fleet": fits.fleet, "combined": fits.combined, "local": fits.local}
    d = stage.dimension
    heads, histograms = np.zeros((3, d + 1)), np.zeros((3, 2, SCORE_BINS), dtype=np.int64)
    factors, penalties, losses = np.zeros(3), np.zeros(3), np.zeros(3)
    for index, name in enumerate(SITE_HEADS):
        found = known[name]
        if found is None:
            continue
        head = head_from(found.candidate, stage, 0.0, 0.0)
        heads[index] = np.concatenate([[head.bias], head.coefficients.array()])
        factors[index] = found.factor if np.isfinite(found.factor) else -1.0
        penalties[index], losses[index] = found.candidate.lam, found.loss
        histograms[index] = score_histogram(found.scores[: rows.records], rows.y[: rows.records])
    exists = np.array([known[name] is not None for name in SITE_HEADS])
    return SiteHeads(SITE_HEADS.index("combined"), exists, factors, penalties, losses, heads, histograms)


def _fleet_round(curve: FleetCurve, fleet: Moments) -> LogisticSums:
    """Raises InputError when it is no round of that fleet."""
    try:
        return logistic_sums_from(curve.sums.array().astype(np.int64), fleet.dimension, logistic_units(fleet.sum_w))
    except ValueError as error:
        raise InputError(f"the fleet's round does not fit its moments: {error}", "send both of one run") from error


@click.group()
def node() -> None:
    """The owner's node: it stays beside the data, and only sums that its owner agreed to leave it."""


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
@click.option("--purpose", "purposes", multiple=True, required=True, help="What the sums may be used for; repeat for more.")
@click.option("--operation", "operations", multiple=True, help=f"Allowed statistics; default {', '.join(DEFAULT_OPERATIONS)}.")
@click.option("--participant", "participants", multiple=True, help="id=PUBLIC_KEY of another owner that may take part; repeat.")
@click.option("--exchange-key", default="", help="The exchange's public key (hex).")
@click.option("--exchange", default="", help="The exchange's address, to ask it for its key when --exchange-key is left out.")
@click.option("--stage", "stages", multiple=True, help="Digests of allowed feature extractors; default any.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="Days until it expires.")
@click.option("--runs-max", default=20, show_default=True, help="How many runs it allows.")
@click.option("--least-group-size", default=20, show_default=True, help="Fewest own records behind a number that leaves.")
@click.option("--least-participants", default=3, show_default=True, help="Fewest owners in a roster.")
@click.option("--visibility", type=click.Choice(["aggregate", "individual"]), default="aggregate", show_default=True)
@click.option("--records-per-feature", default=4, show_default=True, help="Records behind what becomes visible, for each feature.")
@click.option("--allow-own-head", is_flag=True, help="Lets this owner's own fitted head leave, seen singly.")
@click.option("--logistic", is_flag=True, help=f"Also lets {IRLS} be asked for: the rounds of a logistic fit.")
@click.option("--contribution", is_flag=True, help="Lets this owner be scored by its own sums; only with individual visibility.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def agree(state: Path, as_json: bool, **terms: Any) -> None:
    """Signs an agreement: what this owner lets one purpose do with its data."""
    exchange_key = terms["exchange_key"] or _key_of(terms["exchange"])
    with only_one(state):
        home = open_home(state)
        now_s = int(SystemClock().now_s())
        agreement = Agreement(
            owner=home.settings.id,
            asset=home.asset_digest,
            exchange=exchange_key,
            purposes=terms["purposes"],
            operations=_operations(terms),
            participants={home.settings.id: home.key.public_hex, **_participants(terms["participants"])},
            issued_at_s=now_s,
            expires_at_s=now_s + terms["days"] * DAY_S,
            runs_max=terms["runs_max"],
            least_group_size=terms["least_group_size"],
            least_participants=terms["least_participants"],
            visibility=terms["visibility"],
            stages=terms["stages"] or (ANY_STAGE,),
            dimension_records_min_ratio=terms["records_per_feature"],
            allow_own_head=terms["allow_own_head"],
            contribution=terms["contribution"],
            sample=home.settings.sample,
        )
        digest = home.agree(agreement)
        home.store.close()
    shown = {"agreement": digest, "owner": agreement.owner, "exchange": exchange_key}
    click.echo(json.dumps(shown) if as_json else f"{agreement.owner} agreed: {digest}\nexchange key {exchange_key}")


def _operations(terms: dict[str, Any]) -> tuple[str, ...]:
    """Those that were named; else the usual ones, and what the flags add."""
    flags = ((OWN_HEAD, terms["allow_own_head"]), (IRLS, terms["logistic"]))
    return terms["operations"] or (*DEFAULT_OPERATIONS, *(name for name, allowed in flags if allowed))


def _participants(given: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in given:
        party, equals, public_key = text.partition("=")
        if not equals or not party or party in pairs:
            raise InputError(f"--participant {text!r} cannot be used", "write id=PUBLIC_KEY, once for each party")
        pairs[party] = public_key
    return pairs


def _key_of(address: str) -> str:
    """The exchange's public key as it tells it: trust on first use, shown to the owner."""
    if not address:
        raise InputError("the agreement needs the exchange's public key", "give --exchange-key, or --exchange to ask it")
    try:
        answer = httpx.get(f"{address.rstrip('/')}/v1/exchange", timeout=10.0, trust_env=False)
        return str(answer.raise_for_status().json()["public_key"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise UnreachableError(f"the exchange at {address} did not tell its key: {error}", "start it, or give --exchange-key") from error


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
