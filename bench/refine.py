"""What data refining finds, and what the cleaning gains.

    python bench/refine.py --json

Real sets; faults are seeded into the training records only: labels turned, records doubled, a column's unit, held-out rows copied into
training. Counted: how many faults are on the list of work, how many of the list are faults, and what is listed where nothing was seeded
(real sets have faults of their own, so such an item is not surely wrong). Gain: error and area under the ROC curve on clean records that
neither the check nor the fit has seen, with the labels as seeded; with doubtful labels removed; turned as the list says; or looked at by a
person who puts right what is wrong and leaves the rest. Seeds from TUNE_FROM on chose the settings and are not reported.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_command import say
from datasets import SOURCES, fetched, table
from numpy.typing import NDArray
from solar_cells import area, bar, columns, default_cache, interval, load_cells, machine

from isthmus.app.refining import Refining
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates
from isthmus.foundry.tablefeatures import TableExtractor
from isthmus.kit.units import CONVERSIONS
from isthmus.sandbox.quality.check import Checked
from isthmus.sandbox.quality.doubts import label_doubts

SEEDS, TUNE_FROM, TEST_SHARE, ROWS_MAX = 20, 1000, 0.3, 2000
RATES = (0.05, 0.1)
PARTS = {"heart": ("columns", "bins/6", "pairs"), "australian": ("columns", "bins/6", "pairs"), "wine": ("columns", "bins/6", "pairs")}
PARTS |= {"credit": ("columns", "bins/6", "pairs"), "shuttle": ("columns", "bins/6")}
PICTURE_PARTS = ("defects/max", "defects/mean", "texture/24")
PENALTY = 0.03
FOLDERS = {"heart": "thalch", "australian": "a2", "wine": "alcohol"}
"""Sets that are written as folders, and the column whose unit is spoilt there."""
PLANTED = 12
CONVERSION = "10 times too small"


@dataclass(frozen=True)
class Set:
    name: str
    q: NDArray[np.int16]
    y: NDArray[np.int64]
    groups: NDArray[np.int64]


def sets() -> list[Set]:
    found = []
    for name, parts in PARTS.items():
        data = table(name)
        rows = np.random.default_rng(7).permutation(len(data.y))[:ROWS_MAX]
        found.append(Set(name, TableExtractor(data.schema, parts).quantised(data.records[rows]), data.y[rows], data.groups[rows]))
    cells = load_cells(default_cache(), 1, say)
    return [*found, Set("solar cells", cells.views[0][:, columns(PICTURE_PARTS)], cells.y, cells.groups)]


def fitted(data: Set, rows: NDArray[np.int64], y: NDArray[np.int64], test: NDArray[np.int64]) -> tuple[float, float]:
    """(error, area) on the test's clean labels, of the ridge head of these rows, with the threshold of the least error on them."""
    raw = candidates(moments_of(data.q[rows], np.ones(len(rows), np.int64), y, data.groups[rows]), [PENALTY])[0].raw()
    own = raw[0] + data.q[rows] @ raw[1:]
    cuts = np.quantile(own, np.linspace(0.02, 0.98, 97))
    cut = cuts[int(np.argmin([np.mean((own > c) != (y > 0)) for c in cuts]))]
    score = raw[0] + data.q[test] @ raw[1:]
    return float(np.mean((score > cut) != (data.y[test] > 0))), area(data.y[test], score)


def labels(data: Set, rate: float, seeds: range) -> dict[str, Any]:
    """Labels turned in training: what is found, and what each way of cleaning gains."""
    told: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        rng = np.random.default_rng([seed, round(1000 * rate)])
        names = rng.permutation(np.unique(data.groups))
        held = np.isin(data.groups, names[: int(TEST_SHARE * len(names))])
        train, test = np.flatnonzero(~held), np.flatnonzero(held)
        turned = rng.random(len(train)) < rate
        y = np.where(turned, -data.y[train], data.y[train])
        doubts = label_doubts(data.q[train], y, data.groups[train])
        listed = doubts.listed
        told["listed"].append(float(listed.sum()))
        told["listed_share"].append(float(listed.mean()))
        told["estimated_share"].append(doubts.share)
        if rate:
            told["recall"].append(float((turned & listed).sum() / max(1, turned.sum())))
            told["precision"].append(float((turned & listed).sum() / listed.sum()) if listed.any() else 1.0)
            first = np.argsort(-doubts.wrong, kind="stable")[: int(turned.sum())]
            told["precision_first"].append(float(turned[first].mean()))
        ways = {
            "as seeded": (train, y),
            "doubtful removed": (train[~listed], y[~listed]),
            "turned as listed": (train, np.where(listed, -y, y)),
            "a person looked": (train, np.where(listed, data.y[train], y)),
            "no label wrong": (train, data.y[train]),
        }
        for way, (rows, own) in ways.items():
            error, auc = fitted(data, rows, own, test)
            told[f"error, {way}"].append(error)
            told[f"auc, {way}"].append(auc)
        told["error gained by a person"].append(told["error, as seeded"][-1] - told["error, a person looked"][-1])
        told["auc gained by a person"].append(told["auc, a person looked"][-1] - told["auc, as seeded"][-1])
    return {name: interval(values) for name, values in told.items()}


def written(root: Path, header: list[str], rows: list[dict[str, str]]) -> Checked:
    root.mkdir(parents=True)
    text = "\n".join([",".join(header), *(",".join(row[name] for name in header) for row in rows)])
    (root / "records.csv").write_text(text + "\n", encoding="utf-8")
    return Refining().check(root)


def faults(name: str, seeds: range, root: Path) -> dict[str, Any]:
    """Doubled, leaked and mis-scaled rows planted in a folder of records: found by record, and what is listed beside them."""
    source = SOURCES[name].rows(fetched(name))
    told: dict[str, list[float]] = defaultdict(list)
    used = list({key.lower(): key for key in source[0].fields}.values())
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rows = [
            {**{k: v.replace(",", ";") for k, v in r.fields.items() if k in used}, "label": "defect" if r.positive else "good"}
            for r in source
        ]
        drop = {"label", "group", "kind", "split", "path", "certainty"}
        header = [k for k in rows[0] if k not in drop]
        for place, row in enumerate(rows):
            row |= {"group": f"g{place}", "split": "holdout" if place % 4 == 3 else "train"}
        header = [*header, "label", "group", "split"]
        clean = written(root / f"{name}-{seed}-clean", header, rows)
        train = [place for place, row in enumerate(rows) if row["split"] == "train" and row[FOLDERS[name]].strip() not in ("", "NA", "nan")]
        train = [place for place in train if float(rows[place][FOLDERS[name]]) != 0]
        chosen = rng.permutation(train)[: 2 * PLANTED].tolist()
        held = rng.permutation([place for place, row in enumerate(rows) if row["split"] == "holdout"])[:PLANTED].tolist()
        conversion = next(c for c in CONVERSIONS if c.name == CONVERSION)
        for place in chosen[:PLANTED]:
            rows[place][FOLDERS[name]] = f"{conversion.undone(np.array([float(rows[place][FOLDERS[name]])]))[0]:.6g}"
        added = {"duplicates": [], "leakage": []}
        for place in chosen[PLANTED:]:
            added["duplicates"].append(len(rows))
            rows.append({**rows[place], "group": f"g{len(rows)}"})
        for place in held:
            added["leakage"].append(len(rows))
            rows.append({**rows[place], "group": f"g{len(rows)}", "split": "train"})
        found = written(root / f"{name}-{seed}", header, rows)
        planted = {"units": set(chosen[:PLANTED]), **{check: set(places) for check, places in added.items()}}
        doubled = {int(i.path.split("#")[1]) - 1 for i in found.work if i.check in ("duplicates", "leakage")}
        for check, places in planted.items():
            ours = {int(item.path.split("#")[1]) - 1 for item in found.work if item.check == check}
            before = {int(item.path.split("#")[1]) - 1 for item in clean.work if item.check == check}
            twins = {int(item.twin.split("#")[1]) - 1 for item in found.work if item.check == check and item.twin}
            hit = len(places & (ours | twins | (doubled if check != "units" else set()))) / len(places)
            told[f"{check}: found"].append(hit)
            told[f"{check}: listed where nothing was planted"].append(float(len(before)))
            new = ours - before
            told[f"{check}: of the new ones planted"].append(len(new & (places | set(chosen))) / max(1, len(new)))
        told["score, clean"].append(float(clean.report.score))
        told["score, planted"].append(float(found.report.score))
    return {key: interval(values) for key, values in told.items()}


def measure(seeds: range) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    by_label: dict[str, Any] = {}
    for data in sets():
        for rate in (0.0, *RATES):
            say(f"{data.name}: {100 * rate:g} % of the labels turned")
            by_label.setdefault(data.name, {})[f"{100 * rate:g} %"] = labels(data, rate, seeds)
    by_fault = {}
    with tempfile.TemporaryDirectory() as root:
        for name in FOLDERS:
            say(f"{name}: planted rows")
            by_fault[name] = faults(name, seeds[: max(2, len(seeds) // 4)], Path(root))
    rows = []
    for check, goal in (("units", 0.9), ("duplicates", 0.99), ("leakage", 0.99)):
        value = float(np.mean([one[f"{check}: found"]["mean"] for one in by_fault.values()]))
        rows.append(bar(f"planted found: {check}", value, goal, "share"))
    for name, one in by_label.items():
        gained = one["10 %"]["auc gained by a person"]
        rows.append(bar(f"{name}: area gained where a person looks, 10 % turned", gained["mean"], 0.0, "area"))
    return {"labels": by_label, "rows": by_fault}, rows


def shown(result: dict[str, Any]) -> str:
    figures = result["figures"]
    lines = [
        f"{'labels turned':24} {'listed':>7} {'recall':>7} {'precis.':>8} {'first':>6}   error: seeded, removed, turned, person, none wrong"
    ]
    for name, by in figures["labels"].items():
        for rate, one in by.items():
            ways = ("as seeded", "doubtful removed", "turned as listed", "a person looked", "no label wrong")
            errors = "  ".join(f"{one[f'error, {way}']['mean']:.3f}" for way in ways)
            rates = "  ".join(f"{one[key]['mean']:6.2f}" if key in one else "     -" for key in ("recall", "precision", "precision_first"))
            lines.append(f"{name:16} {rate:>6} {one['listed']['mean']:8.1f}  {rates}   {errors}")
    for name, one in figures["rows"].items():
        lines += ["", name, *(f"  {key:52} {v['mean']:7.2f}  [{v['low']}, {v['high']}]" for key, v in one.items())]
    lines += [
        "",
        *(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tune", action="store_true", help="seeds that the settings were chosen on")
    given = parser.parse_args()
    first = TUNE_FROM if given.tune else 0
    figures, bars = measure(range(first, first + given.seeds))
    say("")
    result = {"bench": "refine", "machine": machine(), "figures": {**figures, "seeds": given.seeds, "first_seed": first}, "bars": bars}
    print(json.dumps(result) if given.json else shown(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
