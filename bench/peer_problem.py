"""One question for all systems: a logistic model, and sums, of three hospitals' patients. Same rows, same features, same penalty.

Features are the product's public ones (foundry.tablefeatures): they follow from declared columns, so no system spends a round on them.
Peers are also given means and scales of the pooled training rows, which ours finds from its own sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import default_packages
from numpy.typing import NDArray

from isthmus.contracts.head import Stage
from isthmus.contracts.schema import row_of
from isthmus.foundry.stages import stage_of
from isthmus.foundry.tablefeatures import TableExtractor
from isthmus.kit.logits import probability
from isthmus.scenarios.package import find_package, load_package
from isthmus.scenarios.sample_packages import package_file
from isthmus.scenarios.sample_tables import DEFECT, LABEL, SPLIT, TABLES, records_csv, with_splits

Floats = NDArray[np.float64]
PARTIES = ("budapest", "cleveland", "zurich-basel")
PURPOSE = "heart-screening"
LAMBDA = 0.01
NEWTON_STEPS_MAX = 60


@dataclass(frozen=True)
class Part:
    """Rows of one owner. z: (n, d) standardised. y: (n,) of 0 and 1."""

    z: Floats
    y: Floats


@dataclass(frozen=True)
class Problem:
    """train: party -> rows. holdout: rows of all. q: party -> (n, d) int16 training features. mean, scale: (d,) of pooled training rows.
    best: (d + 1,) the pooled optimum on (1, z); best_loss: its penalised mean loss."""

    train: dict[str, Part]
    holdout: Part
    q: dict[str, NDArray[np.int16]]
    mean: Floats
    scale: Floats
    stage: Stage
    csv: dict[str, str]
    best: Floats
    best_loss: float
    lam: float = LAMBDA

    @property
    def pooled(self) -> Part:
        return Part(np.concatenate([p.z for p in self.train.values()]), np.concatenate([p.y for p in self.train.values()]))

    def loss(self, found: Floats) -> float:
        """Penalised mean loss on pooled training rows."""
        return penalised_loss(self.pooled, found)

    def accuracy(self, found: Floats) -> float:
        """Of held-out rows."""
        return float(np.mean((found[0] + self.holdout.z @ found[1:] > 0) == (self.holdout.y > 0)))

    def gap(self, found: Floats) -> float:
        """Largest difference from the pooled coefficients, over the largest of those."""
        return float(np.abs(found - self.best).max() / np.abs(self.best).max())


def penalised_loss(part: Part, at: Floats) -> float:
    logits = at[0] + part.z @ at[1:]
    return float(np.mean(np.logaddexp(0.0, logits) - part.y * logits) + 0.5 * LAMBDA * at[1:] @ at[1:])


def newton(part: Part, steps: int = NEWTON_STEPS_MAX, tolerance: float = 1e-13) -> tuple[Floats, int]:
    """(the optimum, how many steps from zero). A reference that shares no code with the product."""
    rows = np.column_stack([np.ones(len(part.y)), part.z])
    penalty = np.full(rows.shape[1], LAMBDA)
    penalty[0] = 0.0
    at = np.zeros(rows.shape[1])
    for step in range(1, steps + 1):
        chance = probability(rows @ at)
        slope = rows.T @ (part.y - chance) / len(rows) - penalty * at
        curve = rows.T @ (rows * (chance * (1 - chance))[:, None]) / len(rows) + np.diag(penalty)
        move = np.linalg.solve(curve, slope)
        at = at + move
        if np.abs(move).max() < tolerance:
            return at, step
    return at, steps


def steps_needed(part: Part, best_loss: float, within: float) -> int:
    """Steps of Newton's method from zero until the loss is the optimum's within so much."""
    for steps in range(1, NEWTON_STEPS_MAX):
        if penalised_loss(part, newton(part, steps)[0]) - best_loss <= within:
            return steps
    return NEWTON_STEPS_MAX


def problem() -> Problem:
    """The sample's three hospitals that learn; the middle of every three patients is held out."""
    sample = TABLES["heart"]
    schema = load_package(find_package("heart-screening")).interface.schema
    if schema is None:
        raise SystemExit("the package heart-screening declares no columns")
    extractor, stage = TableExtractor(schema, ("columns",)), stage_of("table", ("columns",), schema)
    q, y, held, csv = {}, {}, [], {}
    rows_of = sample.rows(package_file(sample.package, default_packages()))
    for party in PARTIES:
        rows = with_splits(rows_of[party], False)
        csv[party] = records_csv(rows)
        values = extractor.quantised(np.stack([row_of(schema, row) for row in rows]))
        labels = np.array([row[LABEL] == DEFECT for row in rows], dtype=float)
        out = np.array([row[SPLIT] == "holdout" for row in rows])
        q[party], y[party] = values[~out], labels[~out]
        held.append((values[out], labels[out]))
    pooled = np.concatenate(list(q.values())).astype(float)
    mean, scale = pooled.mean(axis=0), pooled.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    train = {party: Part((q[party] - mean) / scale, y[party]) for party in PARTIES}
    holdout = Part((np.concatenate([h[0] for h in held]) - mean) / scale, np.concatenate([h[1] for h in held]))
    whole = Part(np.concatenate([p.z for p in train.values()]), np.concatenate([p.y for p in train.values()]))
    best, _ = newton(whole)
    return Problem(train, holdout, q, mean, scale, stage, csv, best, penalised_loss(whole, best))


def written(given: Problem, root: Path) -> None:
    """Each peer's client finds PARTY.npz with z and y."""
    root.mkdir(parents=True, exist_ok=True)
    for place, part in enumerate(given.train.values(), start=1):
        np.savez(root / f"site-{place}.npz", z=part.z, y=part.y)
