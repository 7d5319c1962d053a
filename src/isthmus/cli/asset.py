"""`isthmus asset`: what an owner says of its data in public, and how good it is."""

from __future__ import annotations

import datetime
import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from isthmus.app.catalogue import write_whole
from isthmus.app.refining import QUALITY_FACT, report_of
from isthmus.contracts.croissant import PublishedQuality, description_of, published
from isthmus.contracts.errors import DocumentError, InputError, StorageError
from isthmus.contracts.schema import Schema
from isthmus.contracts.targets import Target
from isthmus.kit.clock import SystemClock
from isthmus.sandbox.columnasset import ColumnAsset, read_columns
from isthmus.sandbox.columndescription import described_columns
from isthmus.sandbox.columnlayout import column_place
from isthmus.sandbox.commitment import commitment
from isthmus.sandbox.description import described
from isthmus.sandbox.folder import read_folder
from isthmus.sandbox.nodehome import SALT_BYTES, only_one, open_home
from isthmus.sandbox.ownerdata import file_digests, silent
from isthmus.scenarios.package import find_package, load_package

FILE = click.Path(path_type=Path)
COMMANDS = {
    "describe": "isthmus.cli.asset:describe",
    "check": "isthmus.cli.asset_check:check",
    "notices": "isthmus.cli.asset_notices:notices",
}
"""name -> module:attribute; a command's file is imported when it is asked for."""


class AssetGroup(click.Group):
    """Its commands stand in COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found


@click.group(cls=AssetGroup)
def asset() -> None:
    """Data at its owner's: described in public, checked before anything is trained on it. Nothing is sent."""


@click.command()
@click.argument("data", type=click.Path(path_type=Path), required=False)
@click.option("--state", type=click.Path(path_type=Path), default=None, help="The node's state folder: its data, name, licence and salt.")
@click.option("--scenario", default="", help="A package whose declared columns and outcomes the records have.")
@click.option("--name", default="", help="What the data set is called; the party's id, or asset.")
@click.option("--licence", default="", help="Licence of the data; the node's, or proprietary. An SPDX id becomes its page.")
@click.option(
    "--quality",
    type=FILE,
    default=None,
    help="A report of isthmus asset check, as JSON: its score and shares are told. With --state: the node's own.",
)
@click.option("--salt", type=FILE, default=None, help="Without --state: a file that keeps the salt of the commitment.")
@click.option("--out", type=FILE, default=None, help="File for the description; standard output without it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the description.")
def describe(data: Path | None, state: Path | None, scenario: str, as_json: bool, **given: Any) -> None:
    """Describes the data in folder DATA (or a node's) as Croissant 1.1 in JSON-LD, without a single record in it.

    It says the schema, a band of how many records, the licence, what looks personal, a salted commitment, and a made-up sample.
    """
    interface = load_package(find_package(scenario)).interface if scenario else None
    schema, targets = (None, ()) if interface is None else (interface.schema, interface.foretold)
    if state is None and data is None:
        raise InputError("no data is named", "give a folder, or --state")
    source = _node(state, data) if state is not None else _folder(data or Path(), given["salt"], schema, targets)
    date = datetime.datetime.fromtimestamp(SystemClock().now_s(), tz=datetime.UTC).date().isoformat()
    name, licence, out = given["name"] or source.owner, given["licence"] or source.licence, given["out"]
    quality = source.quality if given["quality"] is None else _quality(given["quality"])
    more = (schema, targets, source.commitment, quality, source.sample)
    if source.columns is None:
        facts = described(source.root, name, source.owner, licence, date, *more)
    else:
        facts = described_columns(source.columns, name, source.owner, licence, date, *more)
    document = description_of(facts)
    text = json.dumps(document, indent=None if as_json else 2, ensure_ascii=False)
    if out is not None:
        write_whole(out, (text + "\n").encode())
    if out is None or as_json:
        click.echo(text)
        return
    click.echo(f"{out}: {facts.band} records, {len(facts.fields)} fields, {len(facts.personal)} signs of personal data; no record is in it")


@dataclass(frozen=True)
class Source:
    """What is described. columns: where it is a table in columns. commitment: empty where no salt is kept. quality: what a node keeps."""

    root: Path
    owner: str = "asset"
    licence: str = "proprietary"
    commitment: str = ""
    sample: bool = False
    columns: ColumnAsset | None = None
    quality: PublishedQuality | None = None


def _node(state: Path, data: Path | None) -> Source:
    """A node's asset."""
    with only_one(state):
        home = open_home(state)
        kept = report_of(home.store.fact(QUALITY_FACT))
        home.store.close()
    if data is not None and data.absolute() != Path(home.settings.data):
        raise InputError(f"the node in {state} keeps {home.settings.data}, not {data}", "leave the folder out, or name that one")
    # A report on what the data were before says nothing of this asset.
    quality = published(msgspec.to_builtins(kept)) if kept is not None and kept.asset == home.asset_digest else None
    settings, asset = home.settings, home.asset
    return Source(Path(settings.data), settings.id, settings.licence, asset.commitment, settings.sample, home.columns, quality)


def _folder(data: Path, salt: Path | None, schema: Schema | None, targets: tuple[Target, ...]) -> Source:
    """Data that no node keeps, or not yet."""
    place = column_place(data)
    if place is not None:
        columns, _ = read_columns(*place, silent, schema)
        return Source(data, commitment="" if salt is None else columns.commitment(_salt(salt)), columns=columns)
    if salt is None:
        return Source(data)
    folder = read_folder(data, targets)
    return Source(data, commitment=commitment(folder, file_digests(folder, check=False), _salt(salt)))


def _salt(path: Path) -> bytes:
    """The secret that the commitment is salted with: read, or made once and kept where only its owner may read."""
    try:
        if not path.exists():
            write_whole(path, os.urandom(SALT_BYTES), mode=0o600)
        raw = path.read_bytes()
    except OSError as error:
        raise StorageError(f"the salt {path} cannot be read: {error.strerror}", "check its permissions") from error
    if len(raw) != SALT_BYTES:
        raise InputError(f"{path} is no salt: it has {len(raw)} bytes, not {SALT_BYTES}", "name another file")
    return raw


def _quality(path: Path) -> PublishedQuality:
    try:
        return published(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    except msgspec.DecodeError as error:
        raise DocumentError(f"{path} is no quality report: {error}", "give what isthmus asset check --json wrote") from error
