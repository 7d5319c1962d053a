"""A few rows of a table in columns as a folder with records.csv, for whoever wants single records of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from isthmus.contracts.errors import StorageError
from isthmus.sandbox.checkedfile import hashed
from isthmus.sandbox.columnfiles import ColumnFiles
from isthmus.sandbox.columnlayout import ROLES, column_place
from isthmus.sandbox.columnvalues import mapped, texts_of
from isthmus.sandbox.folder import RECORDS_NAME


def sampled(data: Path, into: Path, count: int) -> Path:
    """The folder itself; of a table in columns, `into`, with about `count` of its rows, spread over each batch, under the usual names.

    Raises FolderError, StorageError.
    """
    place = column_place(data)
    if place is None:
        return data
    root, names, layout = place
    files = ColumnFiles(root, [hashed(root, name) for name in names])
    layout = layout.settled(files.names(), str(data))
    roles = {column: role for role in ("label", *ROLES) if (column := getattr(layout, role))}
    header = [roles.get(name, name) for name in files.names()]
    rows: list[list[str]] = []
    for batch in files.batches(files.names()):
        size = len(batch[layout.label])
        chosen = np.arange(0, size, max(1, size // count))
        columns = []
        for name in files.names():
            texts, places = texts_of(batch[name][chosen])
            columns.append([texts[place] for place in places.tolist()])
        if layout.good:
            good = mapped(batch[layout.label][chosen], lambda text: float(text in layout.good))
            columns[files.names().index(layout.label)] = ["good" if one else "defect" for one in good.tolist()]
        rows += [list(row) for row in zip(*columns, strict=True)]
    try:
        into.mkdir(parents=True, exist_ok=True)
        with (into / RECORDS_NAME).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(header)
            writer.writerows(rows[:: max(1, len(rows) // count)][:count])
    except OSError as error:
        raise StorageError(f"{into} cannot be written: {error.strerror}", "make room, then try again") from error
    return into
