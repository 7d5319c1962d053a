"""Sample owners of series: daily discharge, rain and temperature of real catchments, laid out as river authorities' private folders.

Lahn: two headwater gauges (Dill at Aßlar, Lahn at Marburg) out of the package hydpy; Au Saumon, Baskatong (Québec) and Leaf (Mississippi)
out of holmes-hydro. The authorities' taking part is made up. A record is a window of STEPS days that ends on a day on which somebody
watches the river: discharge from WATCH_SHARE of the warning level, or WATCH_RAIN_MM of rain. Defect: the level is met on the next day. The
warning level stands in for the authority's own: what is exceeded on one day of fifty.

Days of one event are alike, so an event is one group, for all gauges of a basin: watched days that no QUIET_DAYS quiet ones part. An
event is held out if its first day lies in every third hydrological year.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import FolderError, StorageError
from isthmus.kit.config import package_cache
from isthmus.scenarios.sample_packages import Package, member, package_file

STEPS = 30
LEVEL_QUANTILE = 0.98
WATCH_SHARE, WATCH_RAIN_MM = 0.2, 10.0
QUIET_DAYS = 7
HOLD_OUT_EVERY, HELD_OUT = 3, 1
LAST_MONTH_OF_YEAR = 10
MM_A_DAY = 86.4
"""From m3/s over km2 to mm a day."""

COLUMNS = ("level_share", "level_share_linear", "rain", "temperature", "season_sine", "season_cosine")
LICENCE = "hydpy: LGPL-3.0; holmes-hydro: MIT"
NOTE = (
    "Gauges: the Lahn in the package hydpy 6.4.0 (LGPL-3.0), Au Saumon, Baskatong and Leaf in holmes-hydro 3.5.0 (MIT), read and not passed"
    " on; the authorities' taking part is made up, and so are their warning levels."
)
HYDPY = Package(
    name="hydpy",
    version="6.4.0",
    file="hydpy-6.4.0-cp313-cp313-win_amd64.whl",
    sha256="8f68b2f2966b8136e29fc6803d9cf8f5e3807be89de4636291c3d09c2f4e44c5",
    licence="LGPL-3.0",
    platform="win_amd64",
    python="3.13",
)
HOLMES = Package(
    name="holmes-hydro",
    version="3.5.0",
    file="holmes_hydro-3.5.0-py3-none-any.whl",
    sha256="0112dfbc2edd950bce6f0c2991b6daed9b9c06ddc8c5b03cc0823ba1e415eb3d",
    licence="MIT",
)
LAHN = "hydpy/data/HydPy-H-Lahn/series/default/"
LAHN_BEGIN = date(1989, 11, 1)
LAHN_AREAS_KM2 = {"dill_assl": 692.3, "lahn_marb": 1660.2}
PARTIES = (
    ("dill-and-lahn", "Dill and upper Lahn", "owner"),
    ("au-saumon", "Au Saumon", "owner"),
    ("baskatong", "Baskatong", "owner"),
    ("leaf", "Leaf River", "site"),
)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gauge:
    """Days in order. discharge: mm a day over the catchment; rain: mm; temperature: degC, NaN where it was not measured."""

    name: str
    begin: date
    discharge: Floats
    rain: Floats
    temperature: Floats

    def day(self, place: int) -> date:
        return self.begin + timedelta(days=place)

    @property
    def level(self) -> float:
        """The warning level, mm a day."""
        return float(np.quantile(self.discharge, LEVEL_QUANTILE))

    @property
    def watched(self) -> NDArray[np.bool_]:
        return (self.discharge >= WATCH_SHARE * self.level) | (self.rain >= WATCH_RAIN_MM)


def lahn_gauges(archive: Path) -> list[Gauge]:
    """The two headwaters, which do not drain into each other."""

    def column(name: str) -> Floats:
        lines = member(archive, LAHN + name).decode("ascii").splitlines()[3:]
        return np.array([float(line) for line in lines if line.strip()])

    return [
        Gauge(
            name,
            LAHN_BEGIN,
            column(f"{name}_obs_q.asc") * MM_A_DAY / area,
            column(f"land_{name}_hland_96_input_p.asc"),
            column(f"land_{name}_hland_96_input_t.asc"),
        )
        for name, area in LAHN_AREAS_KM2.items()
    ]


def holmes_gauge(archive: Path, name: str) -> Gauge:
    """One catchment. Raises FolderError when days are missing."""
    text = member(archive, f"holmes/data/{name}_Observations.csv").decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    values = [np.array([float(row.get(key) or "nan") for row in rows]) for key in ("Qo", "P", "T")]
    begin = date.fromisoformat(rows[0]["Date"])
    if date.fromisoformat(rows[-1]["Date"]) != begin + timedelta(days=len(rows) - 1):
        raise FolderError(f"{archive.name} lacks days of {name}", "remove it, then run again")
    return Gauge(name.lower().replace(" ", "_"), begin, *values)


def event_codes(watched: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(days,) number of the event that each watched day belongs to; -1 on other days."""
    days = np.flatnonzero(watched)
    codes = np.full(watched.shape[0], -1, dtype=np.int64)
    if days.size:
        codes[days] = np.cumsum(np.diff(days, prepend=days[0]) > QUIET_DAYS)
    return codes


def series_csv(gauge: Gauge) -> str:
    """date and COLUMNS, a row a day. The discharge stands twice, to be seen on a logarithmic scale and on a straight one."""
    share, out = gauge.discharge / gauge.level, io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["date", *COLUMNS])
    for place in range(len(share)):
        day = gauge.day(place)
        turn = 2.0 * np.pi * day.timetuple().tm_yday / 365.25
        values = (share[place], share[place], gauge.rain[place], gauge.temperature[place], np.sin(turn), np.cos(turn))
        writer.writerow([day.isoformat(), *("" if np.isnan(value) else f"{value:.6g}" for value in values)])
    return out.getvalue()


def labels_csv(basin: list[Gauge], site: bool) -> str:
    """The basin's windows with labels. A site's are only measured until it draws."""
    codes = event_codes(np.any([gauge.watched for gauge in basin], axis=0))
    first = {int(code): int(np.argmax(codes == code)) for code in np.unique(codes) if code >= 0}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "label", "group", "kind", "split"])
    for gauge in basin:
        for place in np.flatnonzero(gauge.watched):
            if place < STEPS - 1 or place + 1 >= len(gauge.discharge):
                continue
            begin = gauge.day(first[int(codes[place])])
            year = begin.year + (begin.month > LAST_MONTH_OF_YEAR)
            split = "audit" if site else "holdout" if year % HOLD_OUT_EVERY == HELD_OUT else "train"
            label = "defect" if gauge.discharge[place + 1] >= gauge.level else "good"
            path = f"{gauge.name}.csv#{place - STEPS + 2}-{place + 1}"
            writer.writerow([path, label, f"event-{begin.isoformat()}", gauge.name if len(basin) > 1 else "", split])
    return out.getvalue()


def flood_folders(root: Path) -> dict[str, Path]:
    """party -> its folder under root. Raises FolderError, StorageError."""
    packages = package_cache()
    holmes = package_file(HOLMES, packages)
    basins = {
        "dill-and-lahn": lahn_gauges(package_file(HYDPY, packages)),
        **{
            party: [holmes_gauge(holmes, name)]
            for party, name in (("au-saumon", "Au Saumon"), ("baskatong", "Baskatong"), ("leaf", "Leaf"))
        },
    }
    folders = {}
    for party, _, kind in PARTIES:
        folders[party] = root / party
        files = {f"{gauge.name}.csv": series_csv(gauge) for gauge in basins[party]}
        write_texts(folders[party], {**files, "labels.csv": labels_csv(basins[party], kind == "site"), "LICENCE.txt": NOTE + "\n"})
    return folders


def write_texts(target: Path, texts: dict[str, str]) -> None:
    """A folder of texts, in full or not at all; one that fits is left as it is. Raises StorageError."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if all((target / name).is_file() and (target / name).read_text(encoding="utf-8") == text for name, text in texts.items()):
            return
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, text in texts.items():
            (part / name).write_text(text, encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise StorageError(f"the sample folder {target} cannot be written: {error.strerror}", "check the folder and the disk") from error
