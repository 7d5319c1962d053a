"""`isthmus asset notices`: what exchanges told an owner about its own sums."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import click
import msgspec

from isthmus.sandbox.nodehome import node_store
from isthmus.sandbox.nodestore import NodeStore
from isthmus.sandbox.notices import notices_of


@click.command()
@click.option("--state", type=click.Path(path_type=Path), required=True, help="The node's own state folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def notices(state: Path, as_json: bool) -> None:
    """What exchanges told this owner about its own sums: what was found, and whether a run went on without it."""
    store = NodeStore(node_store(state))
    try:
        found = notices_of(store)
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps({"notices": msgspec.to_builtins(found)}, ensure_ascii=False))
        return
    if not found:
        click.echo("no exchange has told this owner anything of its sums")
    for notice in found:
        day = datetime.datetime.fromtimestamp(notice.at_s, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M")
        out = "the run went on without this owner" if notice.left_out else "this owner stayed in the run"
        click.echo(f"{day} UTC  {notice.scenario}  {notice.kind}: {notice.says}; {out}\n    next: {notice.next}")
