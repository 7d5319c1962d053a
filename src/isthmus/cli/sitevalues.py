"""How the commands tell what becomes of a site's values under the next version of a package."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from isthmus.contracts.errors import StorageError
from isthmus.scenarios.valuemerge import Merge, refuse_conflicts, values_text


def merge_json(merge: Merge) -> dict[str, Any]:
    """The merge as one JSON object."""
    return {"values": merge.values, **{name: [asdict(note) for note in getattr(merge, name)] for name in ("kept", "dropped", "conflicts")}}


def show_merge(merge: Merge) -> None:
    """A line a value; then the values for the new package."""
    console = Console()
    table = Table(title="the site's values", title_justify="left")
    for name in ("knob", "", "why"):
        table.add_column(name, overflow="fold")
    for mark, notes in (("kept", merge.kept), ("follows the default", merge.dropped), ("[bold red]conflict[/]", merge.conflicts)):
        for note in notes:
            table.add_row(escape(note.knob), mark, escape(note.sentence))
    console.print(table)
    if not merge.conflicts:
        console.print("values for the new package: " + escape(json.dumps(merge.values)))


def write_values(merge: Merge, out: Path) -> None:
    """Writes a file of site values. Raises ConflictError while one is in conflict, StorageError."""
    refuse_conflicts(merge)
    try:
        out.write_text(values_text(merge.values), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror}", "check the path and its permissions") from error
