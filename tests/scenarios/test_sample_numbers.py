"""The sample rivers and cells are laid out so that what is held out was never seen, by made-up gauges and cells."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path

import numpy as np

from isthmus.contracts.scenario import Scenario
from isthmus.sandbox.folder import read_folder
from isthmus.scenarios import sample_batteries, sample_discharge
from isthmus.scenarios.package import load_package
from isthmus.scenarios.sample_floods import STEPS, Gauge, series_csv

SHIPPED = Path(__file__).parents[2] / "scenarios"
DAYS = 3000


def gauge() -> Gauge:
    rng = np.random.default_rng(3)
    flow = np.exp(rng.normal(0, 0.5, DAYS))
    return Gauge("weir", date(2000, 1, 1), flow, rng.exponential(3, DAYS), np.full(DAYS, np.nan))


def shipped(name: str) -> Scenario:
    return load_package(SHIPPED / name)


def test_no_day_of_a_river_is_in_windows_of_both_splits(tmp_path: Path) -> None:
    river = gauge()
    text = sample_discharge.outcomes_csv([river])
    rows = list(csv.DictReader(io.StringIO(text)))
    share = river.discharge / river.level
    ends: dict[str, list[tuple[int, int]]] = {"train": [], "holdout": []}
    for row in rows:
        first, last = (int(part) for part in row["path"].split("#")[1].split("-"))
        assert last - first == STEPS - 1
        later = [float(row[f"level_share_{lead}d"]) for lead in (1, 2, 3)]
        assert np.allclose(later, share[last : last + 3], rtol=1e-4)
        ends[row["split"]].append((first, last))
    assert max(last for _, last in ends["train"]) < min(first for first, _ in ends["holdout"])
    assert max(last + 3 for _, last in ends["train"]) < DAYS - sample_discharge.HELD_OUT_DAYS
    assert min(last for _, last in ends["holdout"]) > DAYS - sample_discharge.HELD_OUT_DAYS
    (tmp_path / "weir.csv").write_text(series_csv(river))
    (tmp_path / "labels.csv").write_text(text)
    folder = read_folder(tmp_path, shipped("discharge-forecast").interface.foretold)
    assert len(folder.files) == len(rows) and folder.groups("holdout") >= 60 and all(len(file.values) == 3 for file in folder.files)


def test_a_cells_windows_stand_in_one_split(tmp_path: Path) -> None:
    own = {f"B{k}": [{"capacity": "1.8", "voltage": "3.5", "temperature": "24", "rul": str(30 - c)} for c in range(30)] for k in range(4)}
    (tmp_path / "labels.csv").write_text(sample_batteries.outcomes_csv(own))
    for name, rows in own.items():
        (tmp_path / f"{name}.csv").write_text(sample_batteries.cycles_csv(rows))
    folder = read_folder(tmp_path, shipped("remaining-life").interface.foretold)
    splits = {file.group: {other.split for other in folder.files if other.group == file.group} for file in folder.files}
    assert splits == {"B0": {"train"}, "B1": {"holdout"}, "B2": {"train"}, "B3": {"train"}}
    assert len(folder.files) == 4 * 21 and folder.files[0].values == (21.0,)
