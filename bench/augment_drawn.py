"""Drawn defects on good cells as rows of the defect class: do they stand in for real defects where an owner has few?

A section of bench/augment.py. The training part of one owner is all good cells of some modules and few of its defects. With each good cell
comes the same picture with a defect drawn into it (foundry.surfaces), once, as a defect. Weight and penalty are chosen by fold-out loss
over the real records, both classes counted alike. Without any real defect there is nothing to choose by: the least weight and the middle
penalty are taken, and the comparison is the distance from the good cells (Mahalanobis), which needs no defect either.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from bench_command import Say
from numpy.typing import NDArray
from solar_cells import BACKBONE, Cells, area, columns, interval

from isthmus.contracts.scenario import Scenario
from isthmus.foundry.features import StageExtractor
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates
from isthmus.foundry.surfaces import spoilt
from isthmus.kit.hatmatrix import design, leave_group_out
from isthmus.kit.pictures import read_picture

DEFECTS = (0, 5, 10, 20, 40)
WEIGHTS = (1, 4)
"""Of a drawn defect's row; a real row weighs REAL_WEIGHT."""
REAL_WEIGHT = 4
TRAIN_MODULES, TEST_MODULES = 15, 11
BATCH = 64
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def spoilt_cells(data: Cells, parts: tuple[str, ...], cache: Path, threads: int, say: Say) -> NDArray[np.int16]:
    """(n, d) features of every cell with drawn defects; cached."""
    extractor = StageExtractor(parts, threads=threads, backbone=BACKBONE)
    kept = cache / f"{extractor.digest.removeprefix('sha256:')[:16]}-drawn.npy"
    if not kept.exists():
        say(f"features of {data.size} cells with drawn defects")
        rows = [
            extractor.quantised([spoilt(read_picture(cell.path)) for cell in data.cells[start : start + BATCH]])
            for start in range(0, data.size, BATCH)
        ]
        written = kept.with_suffix(f".{os.getpid()}.npy")
        np.save(written, np.concatenate(rows))
        written.replace(kept)
    return np.asarray(np.load(kept))


def head_score(
    q: NDArray[np.int16], w: Ints, y: Ints, groups: Ints, real: int, lambdas: tuple[float, ...], test: NDArray[np.int16]
) -> tuple[float, Floats]:
    """(fold-out loss, test scores) of the best penalty; the middle one where the first `real` rows have one class."""
    found: list[tuple[float, Floats]] = []
    for candidate in candidates(moments_of(q, w, y, groups), lambdas):
        out = leave_group_out(design(q, candidate.mean, candidate.scale), w, y, groups, candidate.inverse, candidate.coefficients)[:real]
        missed = (y[:real] - out) ** 2
        sides = [float(missed[y[:real] == side].mean()) for side in (-1, 1) if (y[:real] == side).any()]
        score = design(test, candidate.mean, candidate.scale) @ candidate.coefficients
        found.append((sum(sides) if len(sides) > 1 else np.inf, score))
    return min(found, key=lambda one: one[0]) if np.isfinite(found[0][0]) else found[len(found) // 2]


def distance(good: NDArray[np.int16], test: NDArray[np.int16]) -> Floats:
    """Mahalanobis distance from the good rows."""
    mean, scale = good.mean(axis=0), np.maximum(good.std(axis=0), 1.0)
    z, x = (good - mean) / scale, (test - mean) / scale
    return np.asarray(np.einsum("ij,jk,ik->i", x, np.linalg.inv(z.T @ z / len(z) + 0.1 * np.eye(z.shape[1])), x))


def draw(data: Cells, spoilt_rows: NDArray[np.int16], scenario: Scenario, seed: int) -> dict[int, tuple[float, float]]:
    """Real defects -> (AUC without, with) on modules left out."""
    rng = np.random.default_rng(seed)
    order, chosen = rng.permutation(int(data.groups.max()) + 1), columns(scenario.recipe.parts)
    test = np.isin(data.groups, order[:TEST_MODULES])
    mine = np.isin(data.groups, order[TEST_MODULES : TEST_MODULES + TRAIN_MODULES])
    good, bad = np.flatnonzero(mine & (data.y < 0)), rng.permutation(np.flatnonzero(mine & (data.y > 0)))
    views = [view[:, chosen] for view in data.views]
    found = {}
    for count in DEFECTS:
        rows = np.concatenate([good, bad[:count]])
        order_of = np.concatenate([rows] * len(views))
        real_q = np.concatenate([view[rows] for view in views])
        real_y, real_g = data.y[order_of], data.groups[order_of]
        given = (scenario.recipe.lambdas, views[0][test])
        if count:
            plain = head_score(real_q, np.full(len(real_q), REAL_WEIGHT), real_y, real_g, len(rows), *given)[1]
        else:
            plain = distance(views[0][good], views[0][test])
        tried = []
        for weight in WEIGHTS:
            q = np.concatenate([real_q, spoilt_rows[good]])
            w = np.concatenate([np.full(len(real_q), REAL_WEIGHT), np.full(len(good), weight)])
            y, g = np.concatenate([real_y, np.ones(len(good), np.int64)]), np.concatenate([real_g, data.groups[good]])
            tried.append(head_score(q, w, y, g, len(rows), *given))
        best = min(tried, key=lambda one: one[0])[1] if count else tried[0][1]
        found[count] = (area(data.y[test], plain), area(data.y[test], best))
    return found


def drawn_section(data: Cells, scenario: Scenario, cache: Path, threads: int, seeds: int, say: Say) -> list[dict[str, Any]]:
    """One row a number of real defects."""
    rows = spoilt_cells(data, scenario.recipe.parts, cache, threads, say)
    runs = []
    for seed in range(seeds):
        say(f"drawn defects, {seed + 1} of {seeds}")
        runs.append(draw(data, rows, scenario, seed))
    return [
        {
            "defects": count,
            "without": round(float(np.mean([run[count][0] for run in runs])), 4),
            "with": round(float(np.mean([run[count][1] for run in runs])), 4),
            "gain": interval([run[count][1] - run[count][0] for run in runs]),
        }
        for count in DEFECTS
    ]


def drawn_table(rows: list[dict[str, Any]]) -> list[str]:
    """For people."""
    lines = ["drawn defects as rows of the defect class, modules left out; without any real defect: distance from the good"]
    for row in rows:
        gain = row["gain"]
        spread = f"{gain['mean']:+.4f} ({gain['low']:+.4f} {gain['high']:+.4f})"
        lines.append(f"  {row['defects']:>3} real defects: AUC {row['without']:.4f}, with drawn ones {row['with']:.4f}, gain {spread}")
    return lines
