"""The best tuned pooled model of scikit-learn: ridge, nearest neighbours, random forest, gradient boosting, chosen inside training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Peer:
    """One setting. weighed: fitted with the records' weights (nearest neighbours take none)."""

    name: str
    setting: str
    make: Callable[[], Any]
    weighed: bool = True

    def fit(self, x: Floats, y: Floats, w: Floats) -> Any:
        model = self.make()
        if not self.weighed:
            return model.fit(x, y)
        step = {f"{model.steps[-1][0]}__sample_weight": w} if hasattr(model, "steps") else {"sample_weight": w}
        return model.fit(x, y, **step)


def peers(small: bool) -> list[Peer]:
    """Settings tried. small: for some thousand records; else for tens of thousands."""
    found = [Peer("ridge", f"alpha {a:g}", lambda a=a: make_pipeline(StandardScaler(), Ridge(alpha=a))) for a in (1.0, 30.0, 300.0)]  # type: ignore[misc]
    found += [
        Peer("nearest neighbours", f"k {k}", lambda k=k: make_pipeline(StandardScaler(), KNeighborsRegressor(k, weights="distance")), False)  # type: ignore[misc]
        for k in ((5, 30) if small else (20,))
    ]
    trees, leaves = (60, (3, 10)) if small else (40, (5,))
    found += [
        Peer(
            "random forest",
            f"leaf {leaf}",
            lambda leaf=leaf: RandomForestRegressor(trees, min_samples_leaf=leaf, max_features=0.4, random_state=0),  # type: ignore[misc]
        )
        for leaf in leaves
    ]
    found += [
        Peer(
            "gradient boosting",
            f"rate {rate}, {leaves} leaves, {rounds} rounds",
            lambda rate=rate, leaves=leaves, rounds=rounds: HistGradientBoostingRegressor(  # type: ignore[misc]
                learning_rate=rate, max_leaf_nodes=leaves, max_iter=rounds, l2_regularization=1.0, early_stopping=False, random_state=0
            ),
        )
        for rate, leaves, rounds in (((0.1, 7, 50), (0.05, 15, 100)) if small else ((0.1, 15, 100), (0.05, 31, 200)))
    ]
    return found
