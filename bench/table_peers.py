"""The pooled peers: scikit-learn's own models on the raw columns, in one place, tuned and chosen as ours are."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Table
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from table_models import MANY_RECORDS, Found, brier

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pooled_rows(data: Table) -> Any:
    """Preprocessing: medians for what is missing and a column that says so, logarithms where declared, unit variance, one-hot."""
    places = list(enumerate(data.schema.columns))
    number = [place for place, column in places if column.kind == "number" and not column.log]
    log = [place for place, column in places if column.kind == "number" and column.log]
    category = [place for place, column in places if column.kind == "category"]
    fill = [("fill", SimpleImputer(strategy="median", add_indicator=True)), ("scale", StandardScaler())]
    return ColumnTransformer(
        [
            ("number", Pipeline(fill), number),
            ("log", Pipeline([("log", FunctionTransformer(np.log)), *fill]), log),
            ("category", OneHotEncoder(handle_unknown="ignore"), category),
        ],
        sparse_threshold=0.0,
    )


def grid(records: int) -> list[tuple[str, Any, bool]]:
    """(name, model, whether it takes the prepared columns)."""
    if records >= MANY_RECORDS:
        return [
            ("boosting 0.1", HistGradientBoostingClassifier(max_iter=150, random_state=0), False),
            ("forest", RandomForestClassifier(100, random_state=0), True),
            ("knn 1", KNeighborsClassifier(1), True),
            ("knn 5", KNeighborsClassifier(5), True),
            ("logistic 10", LogisticRegression(C=10.0, max_iter=500), True),
        ]
    boosting = [
        (rate, leaves, leaf)
        for rate, leaves, leaf in ((0.1, 31, 20), (0.05, 31, 20), (0.05, 8, 20), (0.1, 8, 5), (0.1, 3, 20), (0.05, 4, 10))
    ]
    return [
        *((f"logistic {c:g}", LogisticRegression(C=c, max_iter=1000), True) for c in (0.01, 0.03, 0.1, 0.3, 1.0, 10.0)),
        *((f"ridge {a:g}", RidgeClassifier(alpha=a), True) for a in (1.0, 10.0, 100.0)),
        *((f"knn {k}", KNeighborsClassifier(k), True) for k in (1, 5, 11, 21, 41) if 2 * k < records),
        *(
            (f"forest {share} {leaf}", RandomForestClassifier(200, min_samples_leaf=leaf, max_features=share, random_state=0), True)
            for share, leaf in (("sqrt", 1), ("sqrt", 3), (0.5, 1))
        ),
        *(
            (
                f"boosting {rate:g} {leaves} {leaf}",
                HistGradientBoostingClassifier(
                    learning_rate=rate, max_leaf_nodes=leaves, min_samples_leaf=leaf, max_iter=100, random_state=0
                ),
                False,
            )
            for rate, leaves, leaf in boosting
        ),
    ]


def chances(model: Any, rows: Any) -> Floats:
    """Probabilities of the positive class; a ridge's score s counts as (1 + s) / 2."""
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(rows)[:, 1])
    return np.asarray(np.clip((model.decision_function(rows) + 1.0) / 2.0, 0.0, 1.0))


def fitted(model: Any, prepared: bool, data: Table, rows: Ints) -> Any:
    boosting = data.records.astype(np.float64)
    whole = Pipeline([("rows", pooled_rows(data)), ("model", model)]) if prepared else model
    return whole.fit(boosting[rows], data.y[rows])


def peers(data: Table, rows: Ints, folds: Ints) -> list[Found]:
    """All of the grid by fold-out Brier score, best first; only the best is fitted on all rows."""
    table = data.records.astype(np.float64)
    scored = []
    for place, (name, model, prepared) in enumerate(grid(len(rows))):
        chance = np.empty(len(rows))
        for fold in np.unique(folds):
            kept, out = rows[folds != fold], rows[folds == fold]
            chance[folds == fold] = chances(fitted(model, prepared, data, kept), table[out])
        scored.append((brier(chance, data.y[rows]), place, name, model, prepared))
    score, _, name, model, prepared = min(scored)
    whole = fitted(model, prepared, data, rows)
    return [Found(name, score, lambda asked: chances(whole, table[asked]), False)]
