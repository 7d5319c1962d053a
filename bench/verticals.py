"""Measures the verticals on real data: are models from sums as good as the best tuned model on pooled rows?

    .venv/bin/python bench/verticals.py [--json] [--repeats 1] [--jobs 2] [--only "heart; credit"]

Tables: heart (920 patients of four real hospitals), German and Australian credit, red wine, coffee spectra, Shuttle (the package's
16,000 readings of 49,097). Ours: ridge, logistic regression and boosted trees, all from sums of the owners. Peers: scikit-learn's boosting,
forests, ridge, logistic regression and neighbours on pooled rows. Both sides are tuned and chosen by the same nested folds on the same
records (fold-out Brier score); test folds choose nothing, records that are alike stay in one fold. Heart also with each hospital left out
in turn.

Ratios are of test errors, ours over the peer's, half an error added to each; intervals are 95 % of a bootstrap over records, paired.
Owners are hospitals for heart; elsewhere they are simulated. The rows of the hospitals and lenders are as published, nothing is added.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_command import Say, say
from datasets import SOURCES, Table, fetched
from datasets import table as read_table
from numpy.typing import NDArray
from packages import package_figures
from solar_cells import bar, machine
from table_models import features, grown_trees, logistic_fit, ours, tree_edges
from table_peers import peers
from threadpoolctl import threadpool_limits
from vertical_series import series_verticals

from isthmus.contracts.head import Array, Head
from isthmus.foundry.export import build_artefact
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.runtime import session
from isthmus.foundry.tablefeatures import TableExtractor
from isthmus.foundry.trees import TreePlan, forest_of
from isthmus.kit.treewalk import head_scores

RATIO_MAX = 1.1
FOLDS, INNER = 5, 5
DRAWS = 2000
CASES = 1000
LIMIT = 0.125
RARE = ("shuttle",)
"""Where average precision is the bar: with a handful of errors on either side, their ratio is chance; it is printed with its interval."""
TABLES = ("heart", "heart, unseen hospital", "credit", "australian", "wine", "coffee", "shuttle")
SERIES, PACKAGES = "series", "packages"
"""Flood, batteries and labelled series: bench/vertical_series.py, which prints their figures for people. Seeded faults and exported graphs:
bench/packages.py."""
PARTS = (*TABLES, SERIES, PACKAGES)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """One training and test part of one table."""

    name: str
    table: str
    repeat: int
    fold: int


@dataclass(frozen=True)
class Judged:
    """Test probabilities of the chosen ones. rows: of the table. rule: of our best that keeps the dimension rule."""

    task: Task
    rows: Ints
    ours: Floats
    rule: Floats
    peer: Floats
    chosen: tuple[str, str, str]
    wall_s: tuple[float, float]


def fold_codes(groups: Ints, folds: int, seed: int) -> Ints:
    """(n,) fold of each record; groups stay whole."""
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    return np.random.default_rng(seed).permutation(int(codes.max()) + 1)[codes] % folds


def judge(task: Task) -> Judged:
    """Both sides chosen and fitted on the training part, then asked about the test part."""
    with threadpool_limits(1):
        data = read_table(task.table)
        by_owner = task.name != task.table
        outer = data.owners if by_owner else fold_codes(data.groups, FOLDS, 100 + task.repeat)
        train, test = np.flatnonzero(outer != task.fold), np.flatnonzero(outer == task.fold)
        inner = data.owners[train] if by_owner else fold_codes(data.groups[train], INNER, 200 + task.repeat)
        began = time.monotonic()
        found = ours(data, train, inner)
        between = time.monotonic()
        peer = peers(data, train, inner)[0]
        rule = next((one for one in found if one.keeps_rule), found[0])
        return Judged(
            task,
            test,
            found[0].predict(test),
            rule.predict(test),
            peer.predict(test),
            (found[0].name, rule.name, peer.name),
            (between - began, time.monotonic() - between),
        )


def average_precision(y: Ints, chance: Floats) -> float:
    """Mean precision over the positives in order of score; equal scores count as one step."""
    order = np.argsort(-chance, kind="stable")
    positive, score = (y[order] > 0).astype(np.float64), chance[order]
    ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    caught = np.cumsum(positive)[ends]
    return float((np.diff(caught, prepend=0.0) * caught / (ends + 1)).sum() / positive.sum())


def ratio(ours_wrong: Floats, peer_wrong: Floats, groups: Ints, seed: int = 0) -> dict[str, float]:
    """Ours over the peer's, with a bootstrap over groups of alike records."""
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    mine, theirs = (np.bincount(codes, weights=wrong) for wrong in (ours_wrong, peer_wrong))
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(mine), len(mine)) for _ in range(DRAWS)]
    ratios = [(mine[pick].sum() + 0.5) / (theirs[pick].sum() + 0.5) for pick in drawn]
    low, high = np.percentile(ratios, [2.5, 97.5])
    point = (mine.sum() + 0.5) / (theirs.sum() + 0.5)
    return {"value": round(float(point), 3), "low": round(float(low), 3), "high": round(float(high), 3)}


def kinds(names: list[str]) -> dict[str, int]:
    """How often each kind of model was chosen."""
    return dict(Counter(name.split()[0] for name in names).most_common())


def summed_equals_pooled(data: Table) -> bool:
    """Whether sums, logistic coefficients and trees of the owners are, digit for digit, those of one owner of all rows."""
    q, y, lone = features(data.name, ("columns",)), data.y, np.zeros(len(data.y), np.int64)
    weights = np.ones(len(y), np.int64)
    parts = [np.flatnonzero(data.owners == owner) for owner in np.unique(data.owners)]
    one = moments_of(q, weights, y, data.groups).gram
    many = np.sum([moments_of(q[p], weights[p], y[p], data.groups[p]).gram for p in parts], axis=0)
    plan = TreePlan(edges=tree_edges(q, False), trees=10, depth=3)
    forests = [forest_of(grown_trees(q, y, owners, plan)) for owners in (data.owners, lone)]
    fits = [logistic_fit(q, y, owners, 0.01).coefficients for owners in (data.owners, lone)]
    return bool((one == many).all() and (fits[0] == fits[1]).all() and forests[0] == forests[1])


def flips(data: Table) -> int:
    """Verdicts on up to CASES records in which the trees' ONNX graph, from raw records, differs from the library."""
    q = features(data.name, ("columns",))
    plan = TreePlan(edges=tree_edges(q, False), trees=60, depth=3)
    forest = forest_of(grown_trees(q, data.y, data.owners, plan))
    stage = TableExtractor(data.schema, ("columns",)).stage()
    zeros = Array.of(np.zeros(stage.dimension))
    head = Head(stage=stage, coefficients=zeros, bias=0.0, lo=-LIMIT, hi=LIMIT, decoder="table/1", forest=forest)
    (verdict,) = session(build_artefact(head), 1).run(["verdict"], {"records": data.records[:CASES]})
    score = head_scores(head, q[:CASES])
    wanted = np.where(score >= LIMIT, 1, np.where(score <= -LIMIT, 0, 2))
    return int((verdict != wanted).sum())


def figures_of(name: str, found: list[Judged], repeats: int) -> dict[str, Any]:
    """Of one vertical, over all its test parts."""
    source, data = SOURCES[found[0].task.table], read_table(found[0].task.table)
    sides = {side: np.zeros(len(data.y)) for side in ("ours", "rule", "peer")}
    precision: dict[str, list[float]] = {side: [] for side in sides}
    for repeat in range(repeats):
        chance = {side: np.zeros(len(data.y)) for side in sides}
        for one in (one for one in found if one.task.repeat == repeat):
            for side in sides:
                chance[side][one.rows] = getattr(one, side)
        for side, values in chance.items():
            sides[side] += ((values >= 0.5) != (data.y > 0)) / repeats
            precision[side].append(average_precision(data.y, values))
    errors = {f"{side}_error": round(float(wrong.mean()), 5) for side, wrong in sides.items()}
    precisions = {f"{side}_average_precision": round(float(np.mean(values)), 4) for side, values in precision.items()}
    return {
        "records": len(data.y),
        "positive": source.positive,
        "positive_share": round(float((data.y > 0).mean()), 4),
        "owners": list(data.owner_names),
        "owners_are": "real" if source.real_owners else "simulated",
        "licence": source.licence,
        **errors,
        **precisions,
        "error_ratio": ratio(sides["ours"], sides["peer"], data.groups),
        "rule_keeping_error_ratio": ratio(sides["rule"], sides["peer"], data.groups),
        "ours_chosen": kinds([one.chosen[0] for one in found]),
        "rule_keeping_chosen": kinds([one.chosen[1] for one in found]),
        "peer_chosen": kinds([one.chosen[2] for one in found]),
        "ours_s": round(sum(one.wall_s[0] for one in found), 1),
        "peer_s": round(sum(one.wall_s[1] for one in found), 1),
        "sums_equal_pooled": summed_equals_pooled(data),
        "verdict_flips": flips(data),
    }


def bars_of(name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    low, value, high = (row["error_ratio"][part] for part in ("low", "value", "high"))
    over = round(row["peer_average_precision"] / row["ours_average_precision"], 4)
    if name in RARE:
        found = [bar(f"{name}: the best pooled peer's average precision over ours", over, RATIO_MAX, "x", at_most=True)]
    else:
        found = [bar(f"{name}: error over the best pooled peer's (95 %: {low} to {high})", value, RATIO_MAX, "x", at_most=True)]
    found.append(bar(f"{name}: the trees' graph flips verdicts", row["verdict_flips"], 0, "verdicts", at_most=True))
    found.append(bar(f"{name}: sums of owners give the digits of pooled rows", int(row["sums_equal_pooled"]), 1, "yes"))
    return found


def tasks(names: list[str], repeats: int) -> list[Task]:
    found = []
    for name in names:
        source = name.split(",")[0]
        if source != name:
            found += [Task(name, source, 0, owner) for owner in range(len(np.unique(read_table(source).owners)))]
        else:
            found += [Task(name, source, repeat, fold) for repeat in range(repeats) for fold in range(FOLDS)]
    return found


def table_verticals(names: list[str], repeats: int, jobs: int, progress: Say) -> list[dict[str, Any]]:
    """A row a vertical: vertical, figures, bars."""
    for name in names:
        fetched(name.split(",")[0])
    asked = tasks(names, repeats)
    judged = []
    with ProcessPoolExecutor(jobs) as pool:
        for done, one in enumerate(pool.map(judge, asked), start=1):
            progress(f"{done} of {len(asked)} parts: {one.task.name}")
            judged.append(one)
    rows = []
    for name in names:
        found = [one for one in judged if one.task.name == name]
        figures = figures_of(name, found, 1 if "," in name else repeats)
        rows.append({"vertical": name, "figures": figures, "bars": bars_of(name, figures)})
    return rows


def table(result: dict[str, Any]) -> str:
    """For people."""
    titles = "".join(f"{word:>9}" for word in ("records", "ours", "by rule", "peer", "ratio"))
    lines = [f"{'':25}{titles}{'95 %':>16}{'AP ours':>9}{'AP peer':>9}  chosen (ours / peer)"]
    for name, row in result["figures"].items():
        if "error_ratio" not in row:
            continue
        between = f"{row['error_ratio']['low']:.2f} to {row['error_ratio']['high']:.2f}"
        errors = "".join(f"{100 * row[f'{side}_error']:>8.2f}%" for side in ("ours", "rule", "peer"))
        precision = f"{row['ours_average_precision']:>9.4f}{row['peer_average_precision']:>9.4f}"
        chose = " / ".join(" ".join(f"{kind} {count}" for kind, count in row[f"{side}_chosen"].items()) for side in ("ours", "peer"))
        lines.append(f"{name:25}{row['records']:>9}{errors}{row['error_ratio']['value']:>9.2f}{between:>16}{precision}  {chose}")
    lines += [
        "",
        *(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--repeats", type=int, default=1, help="times that the five folds are drawn")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", help="some of " + "; ".join(PARTS) + ", with ; between")
    given = parser.parse_args()
    names = [name.strip() for name in given.only.split(";") if name.strip()] or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"there is no vertical {unknown[0]!r}; use {'; '.join(PARTS)}")
    rows = table_verticals([name for name in names if name in TABLES], given.repeats, given.jobs, say)
    if SERIES in names:
        rows += series_verticals(say, given.jobs)
    if PACKAGES in names:
        figures, bars = package_figures(say)
        rows.append({"vertical": PACKAGES, "figures": figures, "bars": bars})
    say("")
    print("\r", end="", file=sys.stderr)
    result = {
        "bench": "verticals",
        "machine": machine(),
        "figures": {row["vertical"]: row["figures"] for row in rows},
        "bars": [one for row in rows for one in row["bars"]],
    }
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
