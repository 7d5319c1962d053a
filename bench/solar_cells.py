"""The sample cells as features, cached; fits and fold-out scores on any part of them. Shared by the benches.

Everything that is measured comes from the product's own functions: the extractor, exact sums, the solver, the hat-matrix
identity, thresholds and bounds.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.sums import FoldOut
from isthmus.foundry.features import StageExtractor
from isthmus.foundry.foldout import ThresholdPlan, choose_lambda, choose_thresholds, moments_of
from isthmus.foundry.ridge import Candidate, candidates
from isthmus.foundry.stageparts import checked_parts, part_columns, part_size
from isthmus.kit.hatmatrix import design
from isthmus.kit.pictures import read_picture
from isthmus.sandbox.statistics.foldout import fold_out_scores, score_histogram, weighted_loss
from isthmus.sandbox.statistics.records import Records, TrainingRecords, group_codes
from isthmus.scenarios.sample_owners import Cell, cells, dataset_root

BACKBONE = "efficientnet-lite0-dim"
PARTS = (
    "defects/max",
    "defects/mean",
    "defects/share",
    "defects/spread",
    "texture/86",
    "deep/24",
    "block/4",
    "block/7",
    "block/10",
    "block/11",
    "block/13",
)
OWNERS = 3
LAMBDAS = (0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 1.0)
LONE_FOLDS = 100
BATCH = 64
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
VIEWS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "identity": lambda image: image,
    "flip-left-right": lambda image: image[:, ::-1],
    "flip-up-down": lambda image: image[::-1],
    "rotate-180": lambda image: image[::-1, ::-1],
}


@dataclass(frozen=True)
class Cells:
    """All cells in the data set's order. views: one (n, d) int16 array a view over PARTS, identity first. y: (n,) in {-1, +1}. w: (n,)
    training weights 2 (sure) and 1. groups: (n,) codes of inferred modules."""

    cells: tuple[Cell, ...]
    views: tuple[NDArray[np.int16], ...]
    y: NDArray[np.int64]
    w: NDArray[np.int64]
    groups: NDArray[np.int64]

    @property
    def size(self) -> int:
        return int(self.y.shape[0])


@dataclass(frozen=True)
class Fit:
    """A head. loss: fold-out, in units of 1 / LOSS_UNIT. scores: fold-out scores of the training cells. histogram: of them, by class."""

    parts: tuple[str, ...]
    candidate: Candidate
    loss: int
    scores: Floats
    histogram: NDArray[np.int64]


def columns(parts: Sequence[str]) -> NDArray[np.int64]:
    """Columns of the cached features that belong to these parts; `texture/12` is the first twelve of `texture/86`."""
    starts = part_columns(checked_parts(PARTS))
    chosen = checked_parts(tuple(parts))
    return np.concatenate([np.arange(starts[part.shelf], starts[part.shelf] + part_size(part)) for part in chosen])


def default_cache() -> Path:
    return Path.home() / ".cache" / "isthmus" / "bench"


def load_cells(cache: Path, threads: int, say: Any) -> Cells:
    """Reads labels and features; extracts and caches what is not there yet."""
    listed = cells(dataset_root())
    extractor = StageExtractor(PARTS, threads=threads, backbone=BACKBONE)
    cache.mkdir(parents=True, exist_ok=True)
    views = []
    for name, turn in VIEWS.items():
        kept = cache / f"{extractor.digest.removeprefix('sha256:')[:16]}-{name}.npy"
        if not kept.exists():
            say(f"features of {len(listed)} cells, {name}")
            parts = []
            for start in range(0, len(listed), BATCH):
                images = [np.ascontiguousarray(turn(read_picture(cell.path))) for cell in listed[start : start + BATCH]]
                parts.append(extractor.quantised(images))
            part = kept.with_suffix(f".{os.getpid()}.npy")
            np.save(part, np.concatenate(parts))
            part.replace(kept)
        views.append(np.load(kept))
    y = np.array([1 if cell.label == "defect" else -1 for cell in listed], dtype=np.int64)
    w = np.array([1 if cell.certainty == "unsure" else 2 for cell in listed], dtype=np.int64)
    return Cells(tuple(listed), tuple(views), y, w, group_codes([cell.group for cell in listed]))


def lone_groups(size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Folds for a protocol that ignores modules: LONE_FOLDS random parts."""
    return rng.permutation(size) % LONE_FOLDS


def stacked(data: Cells, rows: NDArray[np.int64], parts: Sequence[str], views: int | None = None) -> NDArray[np.int16]:
    """(views * rows, d) features, view after view."""
    chosen = columns(parts)
    return np.concatenate([view[rows][:, chosen] for view in data.views[:views]])


def fits(
    data: Cells,
    train: Mask,
    parts: tuple[str, ...],
    groups: NDArray[np.int64],
    lambdas: Sequence[float] = LAMBDAS,
    owners: NDArray[np.int64] | None = None,
) -> list[Fit]:
    """One head for each penalty, from sums over all views, with the fold-out scores that the owners would find.

    groups: (n,) over all cells. owners: (n,) who holds each cell; default OWNERS owners of whole groups.
    """
    rows = np.flatnonzero(train)
    count = len(data.views)
    held = groups % OWNERS if owners is None else owners
    q, y, w, g = stacked(data, rows, parts), np.tile(data.y[rows], count), np.tile(data.w[rows], count), np.tile(groups[rows], count)
    total = moments_of(q, w, y, g, records=len(rows))
    views = [part.reshape(len(rows), -1) for part in np.split(q, count)]
    found = []
    for candidate in candidates(total, lambdas):
        raw = candidate.raw()
        score = np.empty(len(rows))
        for owner in np.unique(held[rows]):
            own = held[rows] == owner
            records = Records(data.y[rows][own], groups[rows][own], ())
            training = TrainingRecords(records, tuple(view[own] for view in views), data.w[rows][own])
            score[own] = fold_out_scores(training, candidate.lam, float(raw[0]), raw[1:], total.sum_w)
        loss = weighted_loss(score, data.y[rows], data.w[rows])
        found.append(Fit(parts, candidate, loss, score, score_histogram(score, data.y[rows])))
    return found


def fit(
    data: Cells,
    train: Mask,
    parts: tuple[str, ...],
    groups: NDArray[np.int64],
    lambdas: Sequence[float] = LAMBDAS,
    owners: NDArray[np.int64] | None = None,
) -> Fit:
    """The head that the exchange would choose: the penalty of the least fold-out loss."""
    found = fits(data, train, parts, groups, lambdas, owners)
    loss = np.array([one.loss for one in found], dtype=np.int64)
    sums = FoldOut(int(data.w[train].sum()), loss, np.stack([one.histogram for one in found]))
    return found[choose_lambda(sums, list(lambdas))]


def best_fit(data: Cells, train: Mask, recipes: Sequence[tuple[str, ...]], groups: NDArray[np.int64]) -> Fit:
    """Nested choice: recipe and penalty by fold-out loss inside training."""
    return min((fit(data, train, parts, groups) for parts in recipes), key=lambda found: found.loss)


def scores(data: Cells, found: Fit, rows: Mask) -> Floats:
    """(n,) scores of single, unflipped images."""
    q = data.views[0][rows][:, columns(found.parts)]
    return np.asarray(design(q, found.candidate.mean, found.candidate.scale) @ found.candidate.coefficients)


def accuracy_cut(fold_out: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """The threshold of the best fold-out accuracy."""
    order = np.argsort(fold_out)
    positive = (y[order] > 0).astype(np.int64)
    right = np.concatenate([[0], np.cumsum(1 - positive)]) + (positive.sum() - np.concatenate([[0], np.cumsum(positive)]))
    place = int(np.argmax(right))
    ends = np.concatenate([[-np.inf], fold_out[order], [np.inf]])
    return float((ends[place] + ends[place + 1]) / 2) if 0 < place < len(order) else float(ends[-1 if place else 0])


def share_thresholds(histogram: NDArray[np.int64], error: float = 0.05) -> tuple[float, float]:
    """(lo, hi) that answer most of the fold-out scores at no more than this share of errors among those answered: the plain share, without
    the room for chance that the product's own plans leave. histogram: (2, SCORE_BINS) by class."""
    plan = ThresholdPlan(
        bar=error,
        records=int(histogram.sum()),
        groups=1,
        design_effect=1.0,
        bound=lambda errors, answered, effect, groups: errors / np.maximum(answered, 1.0),
        power=0.5,
        recall_min=0.0,
        specificity_min=0.0,
    )
    found = choose_thresholds(histogram, plan)
    return found.lo, found.hi


def area(y: NDArray[Any], score: Floats) -> float:
    """Area under the ROC curve, ties counted half. y: truth, positive where > 0. 0.5 when one class is missing."""
    positive = np.asarray(y) > 0
    many = int(positive.sum())
    if many in (0, len(positive)):
        return 0.5
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * (len(positive) - many)))


def machine() -> dict[str, Any]:
    return {"python": platform.python_version(), "system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()}


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over seeds, and the range that 95 % of seeds fall in."""
    low, high = np.quantile(values, [0.025, 0.975])
    return {"mean": round(float(np.mean(values)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def bar(name: str, value: float, goal: float, unit: str, at_most: bool = False) -> dict[str, Any]:
    """One row of the verdict."""
    return {
        "name": name,
        "value": round(value, 4),
        "goal": goal,
        "unit": unit,
        "holds": bool(value <= goal if at_most else value >= goal),
    }
