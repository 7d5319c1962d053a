"""Measures whether augmentations as extra training sums help on real held-out records, and whether drawn defects replace real ones.

    .venv/bin/python bench/augment.py [--json] [--seeds 20] [--cache FOLDER] [--threads 2]

Pictures: solar cells, whole modules left out (11 of 44), the shipped recipe with and without each set. Rows: heart patients, a
quarter left out, the shipped recipe. All sides see the same splits and are judged on the same records, clean and at severities 1 to 3
of each family, also of families that nothing was learned of. Thresholds come from clean fold-out scores, for at most 5 % error among
answered there. Differences are paired by split; the range is the one that 95 % of splits fall in, and a gain counts as real where all
of it is above nothing.

Drawn defects: an owner of good cells with few real defects gets one drawn defect on each good cell, as a row of the defect class.
Images: ELPV data set, CC BY-NC-SA 4.0, for evaluation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from augment_drawn import drawn_section, drawn_table
from bench_command import BarRows, Figures, Say, run_bench
from datasets import table as read_table
from elpv_tried import MEMBERSHIP_MAX, membership
from numpy.typing import NDArray
from solar_cells import BACKBONE, PARTS, Cells, area, bar, columns, fit, interval, scores, share_thresholds

from isthmus.assurance.corruptions import FAMILIES, corrupt
from isthmus.assurance.record_corruptions import RECORD_FAMILIES
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.schema import Schema
from isthmus.foundry.features import StageExtractor
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates
from isthmus.foundry.stageparts import checked_parts, part_size
from isthmus.foundry.tablefeatures import TableExtractor
from isthmus.kit.hatmatrix import design, leave_group_out
from isthmus.kit.pictures import read_picture
from isthmus.sandbox.statistics.foldout import score_histogram, verdicts
from isthmus.scenarios.package import find_package, load_package

SETS: dict[str, tuple[tuple[str, int], ...]] = {
    "light": (("brightness", 2), ("glare", 2)),
    "noise": (("noise", 2),),
    "pose": (("shift", 2), ("turn", 2)),
    "light, noise, pose": (("brightness", 2), ("glare", 2), ("noise", 2), ("shift", 2), ("turn", 2)),
}
ROW_SETS: dict[str, tuple[tuple[str, int], ...]] = {
    "noise": (("noise", 2),),
    "drift": (("drift", 2),),
    "missing": (("missing", 2),),
    "noise, drift, missing": (("noise", 2), ("drift", 2), ("missing", 2)),
}
PICTURE_FAMILIES = tuple(family for family in FAMILIES if family != "contrast")
SEVERITIES_TRIED = (1, 2, 3)
CLEAN = ("clean", 0)
TEST_MODULES, TEST_SHARE = 11, 4
BATCH = 64
LEAK_SEEDS = 6
NAMES = ("auc", "answered", "error")
Condition = tuple[str, int]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """One head on held-out records under one condition. error: among answered; 0 where nothing is answered."""

    auc: float
    answered: float
    error: float


def judged(score: Floats, y: Ints, cut: tuple[float, float]) -> Judged:
    said = verdicts(score, *cut)
    answered = said != 0
    return Judged(area(y, score), float(answered.mean()), float(np.mean(said[answered] != y[answered])) if answered.any() else 0.0)


def conditions(families: Sequence[str]) -> list[Condition]:
    return [CLEAN, *((family, severity) for family in families for severity in SEVERITIES_TRIED)]


def changed_cells(data: Cells, parts: tuple[str, ...], cache: Path, threads: int, say: Say) -> dict[Condition, NDArray[np.int16]]:
    """Features of every cell under every condition, on the columns of `solar_cells.columns`; other columns are zero. Cached."""
    extractor = StageExtractor(parts, threads=threads, backbone=BACKBONE)
    width = sum(part_size(part) for part in checked_parts(PARTS))
    found: dict[Condition, NDArray[np.int16]] = {CLEAN: data.views[0]}
    for family, severity in conditions(PICTURE_FAMILIES)[1:]:
        kept = cache / f"{extractor.digest.removeprefix('sha256:')[:16]}-{family}-{severity}.npy"
        if not kept.exists():
            say(f"features of {data.size} cells, {family} {severity}")
            rows = []
            for start in range(0, data.size, BATCH):
                images = [corrupt(read_picture(cell.path), family, severity) for cell in data.cells[start : start + BATCH]]
                rows.append(extractor.quantised(images))
            written = kept.with_suffix(f".{os.getpid()}.npy")
            np.save(written, np.concatenate(rows))
            written.replace(kept)
        wide = np.zeros((data.size, width), dtype=np.int16)
        wide[:, columns(parts)] = np.load(kept)
        found[family, severity] = wide
    return found


def cell_split(
    data: Cells, seen: dict[Condition, NDArray[np.int16]], scenario: Scenario, learned: Sequence[Condition], seed: int
) -> dict[Condition, Judged]:
    """One split by modules, with these augmentations in the training sums."""
    test = np.isin(data.groups, np.random.default_rng(seed).permutation(int(data.groups.max()) + 1)[:TEST_MODULES])
    more = Cells(data.cells, (*data.views, *(seen[one] for one in learned)), data.y, data.w, data.groups)
    found = fit(more, ~test, scenario.recipe.parts, data.groups, scenario.recipe.lambdas)
    cut = share_thresholds(found.histogram)
    given = {one: Cells(data.cells, (rows,), data.y, data.w, data.groups) for one, rows in seen.items()}
    return {one: judged(scores(given[one], found, test), data.y[test], cut) for one in seen}


def changed_rows(
    schema: Schema, records: NDArray[np.float32], parts: tuple[str, ...], families: Sequence[str]
) -> dict[Condition, NDArray[np.int16]]:
    """Features of every row under every condition."""
    extractor = TableExtractor(schema, parts)
    found = {CLEAN: extractor.quantised(records)}
    for family, severity in conditions(families)[1:]:
        found[family, severity] = extractor.quantised(np.stack([corrupt(row, family, severity, schema) for row in records]))
    return found


def row_split(
    y: Ints, groups: Ints, seen: dict[Condition, NDArray[np.int16]], lambdas: Sequence[float], learned: Sequence[Condition], seed: int
) -> dict[Condition, Judged]:
    """One split by groups of alike records."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    test = np.isin(groups, names[: len(names) // TEST_SHARE])
    rows, times = np.flatnonzero(~test), 1 + len(learned)
    q = np.concatenate([seen[one][rows] for one in (CLEAN, *learned)])
    everywhere, sides, weights = np.tile(groups[rows], times), np.tile(y[rows], times), np.ones(len(q), dtype=np.int64)
    best: tuple[float, Any, Floats] | None = None
    for candidate in candidates(moments_of(q, weights, sides, everywhere, records=len(rows)), lambdas):
        z = design(q, candidate.mean, candidate.scale)
        out = leave_group_out(z, weights, sides, everywhere, candidate.inverse, candidate.coefficients)[: len(rows)]
        loss = float(((y[rows] - out) ** 2).mean())
        best = (loss, candidate, out) if best is None or loss < best[0] else best
    assert best is not None
    _, chosen, out = best
    cut = share_thresholds(score_histogram(out, y[rows]))
    return {one: judged(design(found[test], chosen.mean, chosen.scale) @ chosen.coefficients, y[test], cut) for one, found in seen.items()}


def members(data: Cells, seen: dict[Condition, NDArray[np.int16]], parts: tuple[str, ...], learned: Sequence[Condition]) -> float:
    """AUC of the best attack on sums over all views and these copies, see bench/elpv_tried.py."""
    views = (*data.views, *(seen[one] for one in learned))
    return round(membership(data, tuple(view[:, columns(parts)] for view in views), LEAK_SEEDS), 4)


def compared(
    split: Callable[[Sequence[Condition], int], dict[Condition, Judged]],
    sets: dict[str, tuple[Condition, ...]],
    seeds: int,
    told: Callable[[str], None],
) -> dict[str, Any]:
    """For each set and condition: figures without, with, and the paired difference."""
    told("without")
    plain = [split((), seed) for seed in range(seeds)]
    result: dict[str, Any] = {}
    for name, learned in sets.items():
        told(name)
        runs = [split(learned, seed) for seed in range(seeds)]
        result[name] = {"learned": [f"{family}/{severity}" for family, severity in learned], "conditions": {}}
        for one in plain[0]:
            row: dict[str, Any] = {}
            for figure in NAMES:
                before, after = ([getattr(run[one], figure) for run in side] for side in (plain, runs))
                row[figure] = {
                    "without": round(float(np.mean(before)), 4),
                    "with": round(float(np.mean(after)), 4),
                    "gain": interval([b - a for a, b in zip(before, after, strict=True)]),
                }
            result[name]["conditions"][one[0] if one == CLEAN else f"{one[0]}/{one[1]}"] = row
    return result


def real(row: dict[str, Any]) -> bool:
    """A gain that is above nothing in nearly every split: in AUC, or in errors among answered without fewer answers."""
    fewer_errors = row["error"]["gain"]["high"] < 0 and row["answered"]["gain"]["mean"] >= 0
    return bool(row["auc"]["gain"]["low"] > 0 or fewer_errors)


def shipped_gain(found: dict[str, Any], scenario: Scenario) -> float:
    """1 where a shipped recipe learns from nothing, or from a set whose gain is real on a condition and whose clean AUC is not lower."""
    learned = [f"{one.family}/{one.severity}" for one in scenario.recipe.training.augmentations]
    if not learned:
        return 1.0
    rows = next((one["conditions"] for one in found.values() if one["learned"] == learned), None)
    return float(rows is not None and any(real(row) for row in rows.values()) and rows["clean"]["auc"]["gain"]["mean"] >= 0)


class Bench:
    """The command's two steps; the second, which has the cache's folder, needs what the first was told."""

    def __init__(self) -> None:
        self._seeds = 0

    def measure(self, data: Cells, scenario: Scenario, seeds: int, say: Say) -> tuple[Figures, BarRows]:
        self._seeds = seeds
        return {"seeds": seeds}, []

    def sections(self, data: Cells, scenario: Scenario, cache: Path, threads: int, say: Say) -> tuple[Figures, BarRows]:
        seen = changed_cells(data, scenario.recipe.parts, cache, threads, say)
        cells = compared(
            lambda learned, seed: cell_split(data, seen, scenario, learned, seed),
            SETS,
            self._seeds,
            lambda name: say(f"solar cells: {name}"),
        )
        hearts, heart = read_table("heart"), load_package(find_package("heart-screening"))
        rows = changed_rows(hearts.schema, hearts.records, heart.recipe.parts, RECORD_FAMILIES)
        patients = compared(
            lambda learned, seed: row_split(hearts.y, hearts.groups, rows, heart.recipe.lambdas, learned, seed),
            ROW_SETS,
            self._seeds,
            lambda name: say(f"heart patients: {name}"),
        )
        say("who is in sums with copies")
        told = {name: members(data, seen, scenario.recipe.parts, learned) for name, learned in (("none", ()), *SETS.items())}
        figures = {
            scenario.id: cells,
            heart.id: patients,
            "membership": told,
            "drawn": drawn_section(data, scenario, cache, threads, self._seeds, say),
        }
        bars = [
            bar(f"{one.id}: what ships as augmentations gains on held-out records", shipped_gain(figures[one.id], one), 1.0, "yes")
            for one in (scenario, heart)
        ]
        return figures, [*bars, bar("who is in sums with copies", max(told.values()), MEMBERSHIP_MAX, "membership AUC", at_most=True)]


def table(result: dict[str, Any]) -> str:
    """For people: the mean without and with, and what 95 % of splits gained."""
    figures = result["figures"]
    lines = []
    for scenario in ("solar-cell-inspection", "heart-screening"):
        for name, found in figures[scenario].items():
            lines.append(f"{scenario}, learned also from {', '.join(found['learned'])} ({name})")
            lines.append(
                f"  {'held-out records':16}{'AUC':>8}{'with':>8}{'gain':>26}{'errors':>9}{'with':>8}{'gain':>26}{'answered':>10}{'with':>8}"
            )
            for condition, row in found["conditions"].items():
                cells = []
                for figure in ("auc", "error"):
                    gain = row[figure]["gain"]
                    spread = f"{gain['mean']:+.4f} ({gain['low']:+.4f} {gain['high']:+.4f})"
                    cells.append(f"{row[figure]['without']:>8.4f}{row[figure]['with']:>8.4f}{spread:>26}")
                answers = f"{row['answered']['without']:>10.3f}{row['answered']['with']:>8.3f}"
                lines.append(f"  {condition:16}{cells[0]} {cells[1]}{answers}{'  real' if real(row) else ''}")
    told = ", ".join(f"{name} {value:.3f}" for name, value in figures["membership"].items())
    lines.append(f"who is in sums over solar cells with copies, membership AUC: {told}")
    lines += drawn_table(figures["drawn"])
    return "\n".join(
        [*lines, "", *(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']})" for b in result["bars"])]
    )


if __name__ == "__main__":
    bench = Bench()
    raise SystemExit(
        run_bench("augment", __doc__ or "", ("seeds", 20, "splits, the same for every set"), bench.measure, table, bench.sections)
    )
