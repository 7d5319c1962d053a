"""Tables that are written both as a folder of records and in columns, and what every statistic makes of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.app.nodetools import node_tools
from isthmus.contracts.head import Array, Head
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.statistic import (
    CLUSTERS,
    EVALUATE,
    FOLD_OUT,
    IRLS,
    MOMENTS,
    OWN_HEAD,
    PAIR,
    Corruption,
    Working,
)
from isthmus.contracts.treesums import ASIDE_CLUSTERS, ASIDE_SCORES, HISTOGRAMS
from isthmus.foundry.stages import stage_of
from isthmus.kit.records import RECORD_DECODER
from isthmus.kit.treewalk import Nodes, forest_doc, packed
from isthmus.sandbox.columndata import ColumnData
from isthmus.sandbox.nodehome import NodeHome, NodeSettings, init_home
from isthmus.sandbox.ownerdata import OwnerData
from isthmus.sandbox.statistics.registry import computed, parsed_params

SCHEMA = Schema(
    columns=(
        Column(name="age", unit="a", low=0, high=100),
        Column(name="dose", low=0.1, high=1000, log=True, missing=True),
        Column(name="site", kind="category", levels=("North", "South", "East"), missing=True),
        Column(name="smokes", kind="category", levels=("FALSE", "TRUE")),
    )
)
STAGE = stage_of("table", ("columns", "bins/3"), SCHEMA)
D = STAGE.dimension
TOOLS = node_tools()
Table = dict[str, list[Any]]


def table(seed: int, rows: int, group_max: int = 12, **extra: bool) -> Table:
    """Columns of rows whose groups stand together. split, kind, certainty: whether there is such a column; all by default."""
    rng = np.random.default_rng(seed)
    sizes: list[int] = []
    while sum(sizes) < rows:
        sizes.append(int(rng.integers(1, group_max + 1)))
    names = [f"lot-{place}" for place in rng.permutation(len(sizes))]
    split_of = rng.choice(["train", "train", "holdout"], len(sizes))
    split_of[: min(2, len(sizes))] = ["train", "holdout"][: min(2, len(sizes))]
    of_row = np.repeat(np.arange(len(sizes)), sizes)[:rows]
    defect = rng.random(rows) < 0.4
    defect[:2] = [False, True][: min(2, rows)]
    found: Table = {
        "age": [float(v) for v in np.round(rng.normal(50 + 10 * defect, 15, rows), 2)],
        "dose": [None if rng.random() < 0.1 else float(v) for v in np.exp(rng.normal(2, 1, rows))],
        "site": [None if rng.random() < 0.1 else str(v) for v in rng.choice(["North", "South", "east"], rows)],
        "smokes": [bool(v) for v in rng.random(rows) < 0.5],
        "label": ["defect" if v else "good" for v in defect],
        "group": [names[g] for g in of_row],
    }
    if extra.get("split", True):
        found["split"] = [str(split_of[g]) for g in of_row]
    if extra.get("kind", True):
        found["kind"] = [str(v) for v in rng.choice(["women", "men; old", ""], rows)]
    if extra.get("certainty", True):
        found["certainty"] = [str(v) for v in rng.choice(["sure", "unsure"], rows)]
    if not extra.get("group", True):
        del found["group"]
    return found


def write_csv(path: Path, columns: Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        rows = zip(*columns.values(), strict=True)
        writer.writerows([["" if v is None else repr(v) if isinstance(v, float) else v for v in row] for row in rows])
    return path


def write_parquet(path: Path, columns: Table, row_group: int = 100) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group)
    return path


def home_settings(data: Path, **more: Any) -> NodeSettings:
    return NodeSettings(id="alder", name="alder", kind="owner", data=str(data), licence="own", sample=True, **more)


def home_of(state: Path, data: Path, **more: Any) -> NodeHome:
    return init_home(state, home_settings(data, **more), schema=SCHEMA)


def data_of(home: NodeHome, whole_bytes_max: int | None = None) -> OwnerData | ColumnData:
    data = home.owner_data(TOOLS)
    if whole_bytes_max is not None:
        data.whole_bytes_max = whole_bytes_max
    return data


def a_head(seed: int, lo: float = -0.2, hi: float = 0.2) -> Head:
    coefficients = np.round(np.random.default_rng(seed).normal(0, 3e-5, D) * 2.0**40) * 2.0**-40
    return Head(stage=STAGE, coefficients=Array.of(coefficients), bias=0.125, lo=lo, hi=hi, decoder=RECORD_DECODER)


def all_params(weight: int) -> dict[str, dict[str, Any]]:
    """Parameters of each statistic that is computed in chunks, as a job brings them."""
    rng = np.random.default_rng(5)
    small = Array.of(rng.normal(0, 1e-5, D))
    views: dict[str, Any] = {"views": ("identity",), "sure_weight": 3, "unsure_weight": 1}
    at = Array.of(np.append(0.1, rng.normal(0, 1e-5, D)))
    logistic = {"penalty": 0.03, "bias": 0.1, "coefficients": small, "working": Working(coefficients=at, weight=weight / 5, freedom=6.0)}
    ridge = {"penalty": 0.1, "bias": -0.1, "coefficients": small}
    root = Nodes(np.array([-1]), np.array([-1]), np.array([-1]), np.array([0.0]))
    tree = Nodes(np.array([0, -1, -1]), np.array([100, -1, -1]), np.array([1, -1, -1]), np.array([0.0, -0.25, 0.5]))
    forest = forest_doc("logistic", -0.5, [tree])
    cuts = np.array([[0, -9000], [0, 9000], [1, 0]], dtype=np.int64)
    begin = {"candidate": logistic, "total_weight": weight, "steepness": 1.0}
    grown = {**views, "forest": forest, "aside": 3}
    head, other = a_head(1), a_head(2)
    corruptions = tuple(Corruption(family=f, severity=v) for f, v in (("noise", 2), ("missing", 1), ("drift", 4)))
    return {
        MOMENTS: {**views, "augmentations": corruptions[:1]},
        IRLS: {**views, "coefficients": at, "total_weight": weight},
        FOLD_OUT: {**views, "candidates": (ridge, logistic, {**ridge, "penalty": 1.0}), "total_weight": weight, "histograms": False},
        CLUSTERS: {**views, "candidate": logistic, "total_weight": weight, "lo": -0.1, "hi": 0.3},
        OWN_HEAD: {**views, "penalties": (0.1, 1.0)},
        HISTOGRAMS: {
            **grown,
            "beginning": begin,
            "growing": Array.of(packed(root)),
            "open": (0,),
            "cuts": Array.of(cuts),
            "owner_records_min": 5,
        },
        ASIDE_SCORES: {**grown, "prefixes": (1,), "histograms": True},
        ASIDE_CLUSTERS: {**grown, "lo": -0.1, "hi": 0.1},
        EVALUATE: {
            "artefact": TOOLS.artefact(head).digest,
            "head": head,
            "others": ({"name": "other", "head": other},),
            "slices": ("women", "old"),
            "corruptions": corruptions,
        },
        PAIR: {"old": other, "new": head},
    }


def packed_sums(data: OwnerData | ColumnData, weight: int = 1 << 20) -> dict[str, list[int]]:
    """statistic -> the share as it would leave, before masks."""
    found = {}
    for name, params in all_params(weight).items():
        statistic, checked = parsed_params(name, _plain(params), STAGE)
        found[name] = computed(statistic, checked, STAGE, data, least=1).tolist()
    return found


def _plain(params: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(params)
