"""Sample owners of rivers whose discharge is foretold: the gauges of sample_floods, laid out with outcomes one to three days ahead.

A record is a window of STEPS days that ends on every third day; its outcomes are the discharge over the gauge's warning level one, two and
three days later. A group is a calendar month, for all gauges of a basin: days of one month are alike. The last five years of each river are
held out, as forecasts are used: on days that come after those learned from. The month before them is left out, so that no window
that was learned from shares a day with a held-out one.

Baskatong is not among the owners: in the years to learn from, the joint model was worse there than the newest value, one day ahead. It is a
large, regulated basin, whose days are alike, and a fleet should not be asked to serve it.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from isthmus.kit.config import package_cache
from isthmus.scenarios.sample_floods import HOLMES, HYDPY, NOTE, STEPS, Gauge, holmes_gauge, lahn_gauges, series_csv, write_texts
from isthmus.scenarios.sample_packages import package_file

LEADS_DAYS = (1, 2, 3)
EVERY_DAYS = 3
HELD_OUT_DAYS, GAP_DAYS = 5 * 365, 31
PARTIES = (
    ("dill-and-lahn", "Dill and upper Lahn", "owner"),
    ("au-saumon", "Au Saumon", "owner"),
    ("leaf", "Leaf River", "owner"),
)


def outcomes_csv(basin: list[Gauge]) -> str:
    """The basin's windows with their outcomes."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", *(f"level_share_{lead}d" for lead in LEADS_DAYS), "group", "kind", "split"])
    for gauge in basin:
        share, days = gauge.discharge / gauge.level, len(gauge.discharge)
        held_from = days - HELD_OUT_DAYS
        for place in range(STEPS - 1, days - max(LEADS_DAYS), EVERY_DAYS):
            if held_from - GAP_DAYS <= place < held_from:
                continue
            later = [f"{share[place + lead]:.6g}" for lead in LEADS_DAYS]
            split = "train" if place < held_from else "holdout"
            path = f"{gauge.name}.csv#{place - STEPS + 2}-{place + 1}"
            writer.writerow([path, *later, f"month-{gauge.day(place):%Y-%m}", gauge.name, split])
    return out.getvalue()


def discharge_folders(root: Path) -> dict[str, Path]:
    """party -> its folder under root. Raises FolderError, StorageError."""
    packages = package_cache()
    holmes = package_file(HOLMES, packages)
    basins = {
        "dill-and-lahn": lahn_gauges(package_file(HYDPY, packages)),
        "au-saumon": [holmes_gauge(holmes, "Au Saumon")],
        "leaf": [holmes_gauge(holmes, "Leaf")],
    }
    folders = {}
    for party, _, _ in PARTIES:
        folders[party] = root / party
        files = {f"{gauge.name}.csv": series_csv(gauge) for gauge in basins[party]}
        write_texts(folders[party], {**files, "labels.csv": outcomes_csv(basins[party]), "LICENCE.txt": NOTE + "\n"})
    return folders
