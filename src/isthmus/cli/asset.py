"""`isthmus asset`: what an owner says of its data in public, and how good it is."""

from __future__ import annotations

import datetime
import importlib
import json
import os
from pathlib import Path
from typing import Any

import click
import msgspec

from isthmus.app.catalogue import write_whole
from isthmus.contracts.croissant import PublishedQuality, description_of, published
from isthmus.contracts.errors import DocumentError, InputError, StorageError
from isthmus.kit.clock import SystemClock
from isthmus.sandbox.commitment import commitment
from isthmus.sandbox.description import described
from isthmus.sandbox.folder import read_folder
from isthmus.sandbox.nodehome import SALT_BYTES, only_one, open_home
from isthmus.sandbox.ownerdata import file_digests
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
@click.option("--quality", type=FILE, default=None, help="A report of isthmus asset check, as JSON; its score and shares are told.")
@click.option("--salt", type=FILE, default=None, help="Without --state: a file that keeps the salt of the commitment.")
@click.option("--out", type=FILE, default=None, help="File for the description; standard output without it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the description.")
def describe(data: Path | None, state: Path | None, scenario: str, as_json: bool, **given: Any) -> None:
    """Describes the data in folder DATA (or a node's) as Croissant 1.1 in JSON-LD, without a single record in it.

    It says the schema, a band of how many records, the licence, what looks personal, a salted commitment, and a made-up sample.
    """
    interface = load_package(find_package(scenario)).interface if scenario else None
    schema, targets = (None, ()) if interface is None else (interface.schema, interface.foretold)
    root, owner, sample, bound, default = _source(data, state, given["salt"], targets)
    date = datetime.datetime.fromtimestamp(SystemClock().now_s(), tz=datetime.UTC).date().isoformat()
    name, licence, out = given["name"] or owner, given["licence"] or default, given["out"]
    facts = described(root, name, owner, licence, date, schema, targets, bound, _quality(given["quality"]), sample)
    document = description_of(facts)
    text = json.dumps(document, indent=None if as_json else 2, ensure_ascii=False)
    if out is not None:
        write_whole(out, (text + "\n").encode())
    if out is None or as_json:
        click.echo(text)
        return
    click.echo(f"{out}: {facts.band} records, {len(facts.fields)} fields, {len(facts.personal)} signs of personal data; no record is in it")


def _source(data: Path | None, state: Path | None, salt: Path | None, targets: tuple[Any, ...]) -> tuple[Path, str, bool, str, str]:
    """(folder, owner, whether it is made up, commitment, licence)."""
    if state is not None:
        with only_one(state):
            home = open_home(state)
            home.store.close()
        if home.columns is not None:
            raise InputError(f"the node in {state} keeps a table in columns, of which no description is made yet", "describe it by hand")
        if data is not None and data.absolute() != Path(home.settings.data):
            raise InputError(f"the node in {state} keeps {home.settings.data}, not {data}", "leave the folder out, or name that one")
        return Path(home.settings.data), home.settings.id, home.settings.sample, home.asset.commitment, home.settings.licence
    if data is None:
        raise InputError("no data is named", "give a folder, or --state")
    bound = ""
    if salt is not None:
        folder = read_folder(data, targets)
        bound = commitment(folder, file_digests(folder, check=False), _salt(salt))
    return data, "asset", False, bound, "proprietary"


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


def _quality(path: Path | None) -> PublishedQuality | None:
    if path is None:
        return None
    try:
        return published(msgspec.json.decode(path.read_bytes(), type=dict[str, Any]))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", "check the path") from error
    except msgspec.DecodeError as error:
        raise DocumentError(f"{path} is no quality report: {error}", "give what isthmus asset check --json wrote") from error
