"""Verifies boosted trees from sums tree for tree against XGBoost's `hist` on the pooled bins, and counts what the sums tell.

    .venv/bin/python bench/trees.py [--json] [--trees 100]

XGBoost is installed into an environment of its own. Both get the same bins; ours are divided among owners. For each node: the same
feature, the same records to the left, the same leaf to 1e-5. Where two features divide a node's records in the same way, gains are equal
and either name is right; such nodes are counted. Splits that differ are told with the difference of their gains.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_command import say
from datasets import default_packages
from datasets import table as read_table
from environments import environment_python
from numpy.typing import NDArray
from solar_cells import bar, machine
from table_models import features, grown_trees, tree_edges

from isthmus.foundry.trees import Growth, TreePlan, binned_rows, node_dimension, numbers_told
from isthmus.kit.treewalk import Nodes

XGBOOST = "xgboost-cpu==3.2.0"
TABLES = ("heart", "credit", "wine", "shuttle")
LEAF_MAX = 1e-5
SETTINGS: tuple[dict[str, Any], ...] = (
    {"depth": 3, "rate": 0.1, "child_weight_min": 1.0},
    {"depth": 6, "rate": 0.3, "child_weight_min": 2.0},
)
PEER = """
import json, sys, time
import numpy as np, xgboost
given = np.load(sys.argv[1])
options = json.loads(sys.argv[2])
rounds = options.pop("rounds")
rows = xgboost.DMatrix(given["bins"].astype(np.float32), label=given["y"])
began = time.monotonic()
model = xgboost.train(options, rows, rounds)
wall_s = time.monotonic() - began
trees = [json.loads(text) for text in model.get_dump(dump_format="json", with_stats=True)]
margins = model.predict(rows, output_margin=True)
print(json.dumps({"version": xgboost.__version__, "trees": trees, "margins": margins.tolist(), "wall_s": wall_s}))
"""


def peer_python(cache: Path) -> Path:
    """The interpreter of the peer's own environment."""
    return environment_python(XGBOOST.replace("==", "-"), (XGBOOST,), cache)


def grown_by_peer(python: Path, bins: NDArray[np.uint8], y: NDArray[np.int64], plan: TreePlan, base: float) -> dict[str, Any]:
    """XGBoost's trees over bin numbers."""
    options = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "max_bin": 256,
        "max_depth": plan.depth,
        "eta": plan.rate,
        "reg_lambda": plan.l2,
        "min_child_weight": plan.child_weight_min,
        "base_score": 1.0 / (1.0 + float(np.exp(-base))),
        "nthread": 1,
        "rounds": plan.trees,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(path, bins=bins, y=(y > 0).astype(np.float32))
        ran = subprocess.run([str(python), "-c", PEER, str(path), json.dumps(options)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def compared(tree: Nodes, peer: dict[str, Any], q: NDArray[np.int16], bins: NDArray[np.uint8], told: dict[str, Any]) -> None:
    """Adds one tree's nodes to `told`."""
    waiting: list[tuple[int, dict[str, Any], NDArray[np.bool_]]] = [(0, peer, np.ones(len(bins), dtype=bool))]
    while waiting:
        node, other, inside = waiting.pop()
        told["nodes"] += 1
        if (tree.feature[node] < 0) != ("leaf" in other):
            told["different"] += 1
            continue
        if "leaf" in other:
            told["leaf_difference"] = max(told["leaf_difference"], abs(float(tree.value[node]) - float(other["leaf"])))
            continue
        mine = inside & (q[:, tree.feature[node]] < tree.edge[node])
        feature = int(other["split"].removeprefix("f"))
        theirs = inside & (bins[:, feature] < other["split_condition"])
        if (mine != theirs).any():
            told["different"] += 1
            continue
        told["same_records_other_feature"] += int(feature != tree.feature[node])
        children = {child["nodeid"]: child for child in other["children"]}
        waiting.append((int(tree.left[node]), children[other["yes"]], mine))
        waiting.append((int(tree.left[node]) + 1, children[other["no"]], inside & ~mine))


def verified(name: str, python: Path, trees: int, settings: dict[str, Any]) -> dict[str, Any]:
    data = read_table(name)
    q = features(name, ("columns",))
    plan = TreePlan(edges=tree_edges(q, name == "shuttle"), trees=trees, **settings)
    bins = binned_rows(q, plan.edges)
    began = time.monotonic()
    growth: Growth = grown_trees(q, data.y, data.owners, plan)
    wall_s = time.monotonic() - began
    peer = grown_by_peer(python, bins, data.y, plan, growth.base)
    told: dict[str, Any] = {"nodes": 0, "different": 0, "same_records_other_feature": 0, "leaf_difference": 0.0}
    first_different = -1
    for place, (tree, other) in enumerate(zip(growth.grown, peer["trees"], strict=True)):
        before = told["different"]
        compared(tree, other, q, bins, told)
        if told["different"] > before and first_different < 0:
            first_different = place
    return {
        "records": len(data.y),
        "owners": len(np.unique(data.owners)),
        "trees": trees,
        **settings,
        **told,
        "first_tree_that_differs": first_different,
        "numbers_told": numbers_told(growth),
        "records_for_the_dimension_rule": 4 * node_dimension(plan),
        "ours_s": round(wall_s, 3),
        "peer_s": round(peer["wall_s"], 3),
        "peer": f"xgboost {peer['version']}",
    }


def bars_of(figures: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, row in figures.items():
        found.append(bar(f"{name}: nodes that are not XGBoost's, of {row['nodes']}", row["different"], 0, "nodes", at_most=True))
        units = row["leaf_difference"] / LEAF_MAX
        found.append(bar(f"{name}: largest difference of a leaf", units, 1.0, f"x {LEAF_MAX:g}", at_most=True))
    return found


def table(result: dict[str, Any]) -> str:
    """For people."""
    titles = "".join(f"{word:>9}" for word in ("records", "trees", "nodes", "differ", "ties", "leaf"))
    lines = [f"{'':18}{titles}{'numbers told':>14}{'records by rule':>17}{'ours s':>8}{'peer s':>8}"]
    for name, row in result["figures"].items():
        lines.append(
            f"{name:18}{row['records']:>9}{row['trees']:>9}{row['nodes']:>9}{row['different']:>9}{row['same_records_other_feature']:>9}"
            f"{row['leaf_difference']:>9.0e}{row['numbers_told']:>14,}{row['records_for_the_dimension_rule']:>17}"
            f"{row['ours_s']:>8.2f}{row['peer_s']:>8.2f}"
        )
    lines += [
        "",
        *(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--trees", type=int, default=100, help="trees of each forest")
    given = parser.parse_args()
    python = peer_python(default_packages())
    figures = {}
    for name in TABLES:
        for settings in SETTINGS:
            say(f"{name}, depth {settings['depth']}")
            figures[f"{name}, depth {settings['depth']}"] = verified(name, python, given.trees, settings)
    say("")
    print("\r", end="", file=sys.stderr)
    result = {"bench": "trees", "machine": machine(), "figures": figures, "bars": bars_of(figures)}
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
