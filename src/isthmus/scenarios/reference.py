"""An independent reference on pooled sample files: scikit-learn's ridge or logistic regression, or its boosting where trees were grown.

Beside it, how well the sums give members away.

It reads the owners' files directly, so it exists only for sample data on one machine. Nothing here takes part in a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from isthmus.contracts.head import Head, Link, Stage
from isthmus.contracts.statistic import TrainingParams
from isthmus.sandbox.folder import HOLDOUT
from isthmus.sandbox.held import Data
from isthmus.sandbox.nodehome import open_home
from isthmus.sandbox.ports import Tools
from isthmus.scenarios.facts import Reference
from isthmus.scenarios.local import Owner

JITTER = 1e-9
POOLED_TOLERANCE, POOLED_STEPS_MAX = 1e-12, 200
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pool:
    """One owner's rows. q: (n, d) training rows of the identity view; all_q, y, w: rows of all views; held, held_y: held-out rows."""

    q: Floats
    all_q: Floats
    y: Floats
    w: Floats
    held: Floats
    held_y: Floats


def _pool(owner: Owner, stage: Stage, params: TrainingParams, tools: Tools) -> Pool:
    home = open_home(owner.state)
    try:
        data: Data = home.owner_data(tools)
        q, y, w, _ = data.training(stage, params).whole().stacked()
        held = data.features(stage, HOLDOUT).astype(np.float64)
        count = data.records("train").size
        return Pool(
            q=q[:count].astype(np.float64),
            all_q=q.astype(np.float64),
            y=y.astype(np.float64),
            w=w.astype(np.float64),
            held=held,
            held_y=data.records(HOLDOUT).y.astype(np.float64),
        )
    finally:
        home.store.close()


def pooled_sklearn() -> Any:
    """scikit-learn, with what is fitted here; None where it is not installed."""
    try:
        import sklearn.ensemble
        import sklearn.linear_model
    except ImportError:
        return None
    return sklearn


def pooled_fit(x: Floats, y: Floats, w: Floats, penalty: float, link: Link = "linear") -> tuple[Floats, float] | None:
    """(coefficients on raw features, bias) of scikit-learn's Ridge or LogisticRegression on weighted, standardised features; None where it
    is not installed."""
    known = pooled_sklearn()
    if known is None:
        return None
    mean = np.average(x, axis=0, weights=w)
    scale = np.maximum(np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w)), 1.0)
    if link == "logistic":
        limits = {"tol": POOLED_TOLERANCE, "max_iter": POOLED_STEPS_MAX}
        model = known.linear_model.LogisticRegression(C=1.0 / (penalty * w.sum()), solver="newton-cholesky", **limits)
    else:
        model = known.linear_model.Ridge(alpha=penalty * w.sum(), solver="cholesky")
    model.fit((x - mean) / scale, y, sample_weight=w)
    coefficients = np.ravel(np.asarray(model.coef_, dtype=np.float64)) / scale
    return coefficients, float(np.ravel(model.intercept_)[0] - coefficients @ mean)


def _against_linear(x: Floats, y: Floats, w: Floats, held: Floats, head: Head, penalty: float) -> tuple[Floats | None, float | None]:
    """(scores of held-out rows by `pooled_fit`, how far the head's coefficients are from its)."""
    fitted = pooled_fit(x, y, w, penalty, head.link)
    if fitted is None:
        return None, None
    coefficients, bias = fitted
    difference = np.max(np.abs(head.coefficients.array() - coefficients)) / np.max(np.abs(coefficients))
    return held @ coefficients + bias, float(difference)


def pooled_boosting(x: Floats, y: Floats, w: Floats, held: Floats) -> Floats | None:
    """Scores of held-out rows by scikit-learn's gradient boosting on the pooled rows, as it comes; None where it is not installed."""
    known = pooled_sklearn()
    if known is None:
        return None
    model = known.ensemble.HistGradientBoostingClassifier(random_state=0).fit(x, y, sample_weight=w)
    return np.asarray(model.decision_function(held), dtype=np.float64)


def rank_auc(higher: Floats, lower: Floats) -> float:
    """Chance that one of `higher` is above one of `lower`, ties half (Mann and Whitney 1947)."""
    ranks = rankdata(np.concatenate([higher, lower]))
    return float((ranks[: len(higher)].sum() - len(higher) * (len(higher) + 1) / 2) / (len(higher) * len(lower)))


def leverage_auc(rows: Floats, weights: Floats, views: int) -> float:
    """How well low leverage in the visible second moments tells whether a record is in them; 0.5: not at all.

    The game: the same records, once in the sums and once left out with all their views, so that no difference between modules is
    taken for a leak. rows: (views * n, d), view after view, identity first; weights: of the same shape. A stronger attacker with records of
    the same kind to compare with is in bench/leak.py.
    """
    mean = np.average(rows, axis=0, weights=weights)
    scaled = (rows - mean) * np.sqrt(weights)[:, None]
    gram = scaled.T @ scaled
    inverse = np.linalg.inv(gram + JITTER * np.trace(gram) / len(gram) * np.eye(len(gram)))
    count = len(rows) // views
    inside, outside = np.empty(count), np.empty(count)
    for place in range(count):
        own = scaled[place::count]
        hat = own @ inverse @ own.T
        inside[place] = hat[0, 0] / weights[place]
        outside[place] = (hat + hat @ np.linalg.solve(np.eye(views) - hat, hat))[0, 0] / weights[place]
    return rank_auc(-inside, -outside)


def _view_major(pools: Sequence[Pool], views: int) -> tuple[Floats, Floats]:
    """(rows, weights) of several owners, view after view; without drawn defects, which are one row of some records."""
    rows = [np.split(p.all_q[: views * len(p.q)], views) for p in pools]
    weights = [np.split(p.w[: views * len(p.q)], views) for p in pools]
    order = [(owner, view) for view in range(views) for owner in range(len(pools))]
    return np.concatenate([rows[o][v] for o, v in order]), np.concatenate([weights[o][v] for o, v in order])


def reference(owners: Sequence[Owner], head: Head, penalty: float, params: TrainingParams, tools: Tools) -> Reference | None:
    """The reference, or None where scikit-learn is not installed.

    membership: attack -> AUC, for what the exchange sees (the total) and what each owner sees (the total less its own share).
    """
    pools = [_pool(owner, head.stage, params, tools) for owner in owners]
    x, y, w = (np.concatenate([getattr(p, name) for p in pools]) for name in ("all_q", "y", "w"))
    held, held_y = np.concatenate([p.held for p in pools]), np.concatenate([p.held_y for p in pools])
    if head.forest is None:
        scores, difference = _against_linear(x, y, w, held, head, penalty)
    else:
        scores, difference = pooled_boosting(x, y, w, held), None
    if scores is None:
        return None
    views = params.rows_per_record
    membership = {"exchange, leverage": leverage_auc(*_view_major(pools, views), views)}
    for place, owner in enumerate(owners):
        rest = [p for other, p in enumerate(pools) if other != place]
        membership[f"{owner.party} (total less its own), leverage"] = leverage_auc(*_view_major(rest, views), views)
    return Reference(
        auc_pooled=rank_auc(scores[held_y > 0], scores[held_y < 0]),
        weights_max_rel_diff=difference,
        membership_auc=max(membership.values()),
        membership=membership,
    )
