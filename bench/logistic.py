"""Measures the logistic fit from owners' rounds: is it the pooled fit, in how many rounds, are its penalties chosen well, are its
probabilities right?

    .venv/bin/python bench/logistic.py [--json] [--repeats 2] [--only "heart; credit"]

`gap`: largest difference from scikit-learn's LogisticRegression on pooled rows at the same penalty, over the largest coefficient.
`effective`: the owners' records that the last round's weights leave, as a share. `estimate`: fold-out Brier score as the nodes estimate it
without each other's sums, over the exact one, at its farthest over the penalties; `regret`: how much worse the penalty chosen by estimates
is than the best, in the exact fold-out score. Brier scores of test folds (five, repeated; test folds choose nothing): logistic, ridge with
its score taken as a probability, and scikit-learn's logistic regression on pooled rows with the same penalties, chosen by five-fold
cross-validation of the Brier score. `error`: expected calibration error of the test folds in ten bins.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_command import Say, say
from datasets import Table, fetched
from datasets import table as read_table
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from solar_cells import bar, interval, machine
from table_models import features
from threadpoolctl import threadpool_limits

from isthmus.app.rounds import as_candidate
from isthmus.contracts.logistic import LogisticSums, logistic_sums_from, logistic_units
from isthmus.foundry.foldout import leave_one_group_out, moments_of
from isthmus.foundry.logistic import ROUNDS_MAX, LogisticFit, Rounds, fold_out_logits, path, settled
from isthmus.foundry.ridge import candidates
from isthmus.kit.logits import curvature, effective_share, logistic_sums, probability
from isthmus.sandbox.statistics.foldout import candidate_scores
from isthmus.sandbox.statistics.records import Records, TrainingRecords

TABLES = ("heart", "credit", "australian", "wine", "shuttle")
LAMBDAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
GAP_MAX, ESTIMATE_MAX, BRIER_MAX = 1e-6, 1.05, 1.02
FOLDS, BINS = 5, 10
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """A fit of rows: all penalties one step from a common point, the chosen one walked to its end; asked: rounds."""

    fits: list[LogisticFit]
    chosen: LogisticFit
    asked: int
    estimated: list[float]
    exact: list[float]


def brier(chance: Floats, y: Ints) -> float:
    return float(np.mean((np.clip(chance, 0.0, 1.0) - (y > 0)) ** 2))


def fitted(q: NDArray[np.int16], y: Ints, owners: Ints, groups: Ints) -> Fitted:
    """As a run does it: rounds of the owners' sums, penalties by the nodes' own estimates."""
    ones, parts = np.ones(len(y), np.int64), [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
    moments = moments_of(q, ones, y, groups)
    units = logistic_units(moments.sum_w)

    def ask(at: Floats) -> LogisticSums:
        packed = [logistic_sums(q[part], ones[part], y[part], at, units).packed() for part in parts]
        return logistic_sums_from(np.sum(packed, axis=0), q.shape[1], units)

    rounds = Rounds(ask, moments)
    fits = path(rounds, LAMBDAS)
    held = [TrainingRecords(Records(y[p], groups[p], ("",) * len(p)), (q[p],), ones[p]) for p in parts]
    estimated, exact = [], []
    for fit in fits:
        scores = np.empty(len(y))
        for part, rows in zip(parts, held, strict=True):
            scores[part] = candidate_scores(rows, as_candidate(fit), moments.sum_w)
        estimated.append(brier((scores + 2) / 4, y))
        exact.append(brier(probability(fold_out_logits(fit, q, ones, y, groups)), y))
    chosen = settled(rounds, fits[int(np.argmin(estimated))])
    return Fitted(fits, chosen, rounds.asked, estimated, exact)


def gap(found: LogisticFit, q: NDArray[np.int16], y: Ints) -> float:
    z = (q - found.mean) / found.scale
    peer = LogisticRegression(C=1.0 / (found.lam * len(y)), tol=1e-14, solver="newton-cholesky", max_iter=500).fit(z, y)
    return float(np.abs(peer.coef_[0] - found.coefficients[1:]).max() / np.abs(peer.coef_).max())


def calibration_error(chance: Floats, y: Ints) -> float:
    places = np.minimum((np.clip(chance, 0, 1) * BINS).astype(int), BINS - 1)
    return float(sum((places == b).mean() * abs(chance[places == b].mean() - (y[places == b] > 0).mean()) for b in np.unique(places)))


def tested(data: Table, repeats: int) -> dict[str, Any]:
    """Brier score and calibration error of test folds, by model."""
    q = features(data.name, ("columns",))
    rows: dict[str, dict[str, list[float]]] = {name: {"brier": [], "error": []} for name in ("logistic", "ridge", "pooled peer")}
    for repeat in range(repeats):
        codes = np.unique(data.groups, return_inverse=True)[1].reshape(-1)
        folds = np.random.default_rng(300 + repeat).permutation(int(codes.max()) + 1)[codes] % FOLDS
        chances = {name: np.empty(len(data.y)) for name in rows}
        for fold in range(FOLDS):
            train, test = np.flatnonzero(folds != fold), folds == fold
            y, ones = data.y[train], np.ones(len(train), np.int64)
            ours = fitted(q[train], y, data.owners[train], data.groups[train]).chosen
            chances["logistic"][test] = probability(ours.logits(q[test]))
            losses = leave_one_group_out(q[train], ones, y, data.groups[train], LAMBDAS).sums.loss
            raw = candidates(moments_of(q[train], ones, y, data.groups[train]), [LAMBDAS[int(np.argmin(losses))]])[0].raw()
            chances["ridge"][test] = np.clip((raw[0] + q[test].astype(float) @ raw[1:] + 1) / 2, 0, 1)
            z = (q - ours.mean) / ours.scale
            grid = [1.0 / (lam * len(train)) for lam in LAMBDAS]
            peer = LogisticRegressionCV(Cs=grid, cv=FOLDS, scoring="neg_brier_score", max_iter=2000, use_legacy_attributes=False)
            chances["pooled peer"][test] = peer.fit(z[train], y).predict_proba(z[test])[:, 1]
        for name, chance in chances.items():
            rows[name]["brier"].append(brier(chance, data.y))
            rows[name]["error"].append(calibration_error(chance, data.y))
    return {name: {key: interval(values) for key, values in row.items()} for name, row in rows.items()}


def measured(name: str, repeats: int) -> dict[str, Any]:
    data = read_table(name)
    q, began = features(name, ("columns",)), time.monotonic()
    found = fitted(q, data.y, data.owners, data.groups)
    wall_s = time.monotonic() - began
    weights = curvature(probability(found.chosen.at[0] + q.astype(np.float64) @ found.chosen.at[1:]))
    ratios = [a / b for a, b in zip(found.estimated, found.exact, strict=True)]
    best = int(np.argmin(found.estimated))
    return {
        "records": len(data.y),
        "features": int(q.shape[1]),
        "owners": len(np.unique(data.owners)),
        "rounds": found.asked,
        "penalty": found.chosen.lam,
        "gap": gap(found.chosen, q, data.y),
        "effective": round(effective_share(weights), 3),
        "estimate": round(max(ratios, key=lambda ratio: abs(np.log(ratio))), 4),
        "regret": round(found.exact[best] / min(found.exact) - 1.0, 5),
        "fit_s": round(wall_s, 2),
        **tested(data, repeats),
    }


def bars_of(name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    over = row["logistic"]["brier"]["mean"] / row["pooled peer"]["brier"]["mean"]
    return [
        {
            **bar(f"{name}: gap to the pooled fit", 0.0, GAP_MAX, "of the largest coefficient", True),
            "value": row["gap"],
            "holds": row["gap"] <= GAP_MAX,
        },
        bar(f"{name}: rounds", row["rounds"], ROUNDS_MAX, "rounds", at_most=True),
        bar(
            f"{name}: nodes' estimate over the exact fold-out score",
            max(row["estimate"], 1 / row["estimate"]),
            ESTIMATE_MAX,
            "x",
            at_most=True,
        ),
        bar(f"{name}: Brier score over the pooled peer's", round(over, 4), BRIER_MAX, "x", at_most=True),
    ]


def table(result: dict[str, Any]) -> str:
    """For people."""
    titles = ("records", "features", "rounds", "gap", "effective", "estimate", "regret")
    lines = [f"{'':12}" + "".join(f"{t:>10}" for t in titles) + "".join(f"{t:>20}" for t in ("logistic", "ridge", "pooled peer"))]
    for name, row in result["figures"].items():
        cells = [f"{row['gap']:>10.1e}" if t == "gap" else f"{row[t]:>10}" for t in titles]
        briers = [f"{row[m]['brier']['mean']:>12.4f} ({row[m]['error']['mean']:.3f})" for m in ("logistic", "ridge", "pooled peer")]
        lines.append(f"{name:12}" + "".join(cells) + "".join(f"{b:>20}" for b in briers))
    lines += ["", "the last three: Brier score of test folds (calibration error)", ""]
    return "\n".join(
        [
            *lines,
            *(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]),
        ]
    )


def run(names: list[str], repeats: int, progress: Say) -> dict[str, Any]:
    figures = {}
    with threadpool_limits(1):
        for name in names:
            progress(name)
            fetched(name)
            figures[name] = measured(name, repeats)
    return {
        "bench": "logistic",
        "machine": machine(),
        "figures": figures,
        "bars": [one for name, row in figures.items() for one in bars_of(name, row)],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--repeats", type=int, default=2, help="times that the five folds are drawn")
    parser.add_argument("--only", default="", help="some of " + "; ".join(TABLES) + ", with ; between")
    given = parser.parse_args()
    names = [name.strip() for name in given.only.split(";") if name.strip()] or list(TABLES)
    if unknown := [name for name in names if name not in TABLES]:
        parser.error(f"there is no table {unknown[0]!r}; use {'; '.join(TABLES)}")
    result = run(names, given.repeats, say)
    say("")
    print("\r", end="", file=sys.stderr)
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
