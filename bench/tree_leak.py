"""How well the sums that trees grow from tell who is in them, beside the moments that a ridge head is solved from.

    .venv/bin/python bench/tree_leak.py [--json] [--draws 3]

The attacker is the exchange: it sees every total of every round, knows all trees and cuts, and holds records of the same population that
are not in the sums (reference records). It asks of a record, label included, whether it is in the sums. What a record adds to all the
sums of all rounds is a long vector; under a Gaussian model the best test is the product of that vector with the sums' deviation from what
the reference records give, in the metric of their covariance (Homer et al. 2008; Dwork et al. 2015; as in bench/membership.py), here
solved in the space of the reference records and with several ridges, the best of which counts. Groups of like records stay together.

Three tables: Shuttle with the package's own recipe (trees that go on from the ridge head; for the left-out scores, the head's own are
taken), wine and heart with trees alone. Owners are three, dealt by group. Trees that keep no rule (deep, many cuts, no least records) are
attacked in the same way, to show that the attack finds members where they can be found.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_command import Say, say
from datasets import fetched
from datasets import table as read_table
from membership import Candidates, from_moments
from numpy.typing import NDArray
from solar_cells import area, bar, interval, machine
from table_models import features

from isthmus.app.grown import OWNERS_MIN, steepness
from isthmus.contracts.sums import SCORE_BINS, score_bins
from isthmus.contracts.treesums import GRADIENT_UNIT
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates, standard
from isthmus.foundry.trees import Growth, Rows, TreePlan, cuts_of, drawn_edges, grown, histograms, numbers_told, start
from isthmus.kit.treewalk import gradients, walked

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
OWNERS, LEAST_GROUP = 3, 20
FREE_TREES = 20
RECORDS_MAX = 1200
"""Reference records, and members and others asked about, at most."""
MORE_MAX, LESS_MIN = 0.05, 0.01
"""What the best attack on the trees' sums may gain over that on the moments; and what the rule must take from it where records are few:
among thousands of records neither finds anybody."""
FEW_RECORDS = 1000
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """parts: features of the ridge head's moments. asked: how many of them, from the first, trees ask about. linear: whether trees go on
    from the head. ratio: records for each feature."""

    parts: tuple[str, ...]
    asked: int
    linear: bool
    ratio: int
    trees: int
    depth: int
    rate: float
    features: int
    cuts: int


RECIPES = {
    "shuttle": Recipe(("columns", "bins/6", "fourier/64/0.7"), 9, True, 20, 60, 3, 0.4, 9, 1),
    "wine": Recipe(("columns", "bins/4"), 11, False, 4, 60, 3, 0.2, 5, 1),
    "heart": Recipe(("columns",), 24, False, 4, 60, 3, 0.2, 5, 1),
}


@dataclass(frozen=True)
class Game:
    """Rows of a table by their part: in the sums, the attacker's own, and asked about (members among them)."""

    members: Ints
    reference: Ints
    asked: Ints
    truth: NDArray[np.bool_]


def game(groups: Ints, seed: int) -> Game:
    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(int(codes.max()) + 1)
    half, three = len(order) // 2, 3 * len(order) // 4
    members, reference, others = (np.flatnonzero(np.isin(codes, part)) for part in (order[:half], order[half:three], order[three:]))
    inside = np.flatnonzero(np.isin(codes, order[: len(order) - three]))
    inside, others, reference = (np.sort(rng.permutation(part)[:RECORDS_MAX]) for part in (inside, others, reference))
    asked = np.concatenate([inside, others])
    return Game(members, reference, asked, np.arange(len(asked)) < len(inside))


def added(growth: Growth, rows: Rows) -> Floats:
    """(n, 2 open (1 + cuts)) what each record adds to the sums of a round."""
    place = np.full(growth.tree.size, -1, dtype=np.int64)
    place[list(growth.open)] = np.arange(len(growth.open))
    at = place[walked(growth.tree, rows.q)]
    found = gradients(growth.plan.loss, rows.scores(growth), rows.y, rows.w) / GRADIENT_UNIT
    inside = np.stack([at == node for node in range(len(growth.open))], axis=1)
    left = np.concatenate([np.ones((len(at), 1)), rows.q[:, growth.cuts[:, 0]] < growth.cuts[:, 1]], axis=1)
    whole = inside[:, :, None, None] * left[:, None, :, None] * found[:, None, None, :]
    return np.asarray(whole.reshape(len(at), -1))


class Sight:
    """What the attack needs of all rounds, added up: the rounds' vectors themselves would not fit into memory. In standardised columns, X
    of reference records and A of those asked about: kernel X X^T, cross A X^T, and X and A times the sums' deviation."""

    def __init__(self, known: int, asked: int) -> None:
        self.kernel, self.cross = np.zeros((known, known)), np.zeros((asked, known))
        self.known_away, self.asked_away = np.zeros(known), np.zeros(asked)

    def see(self, known: Floats, asked: Floats, seen: Floats) -> None:
        """One round."""
        spread, middle = known.std(axis=0), known.mean(axis=0)
        used = spread > 1e-12
        x, a = ((part[:, used] - middle[used]) / spread[used] for part in (known, asked))
        away = (seen - middle)[used] / spread[used]
        self.kernel += x @ x.T
        self.cross += a @ x.T
        self.known_away += x @ away
        self.asked_away += a @ away

    def attacked(self, truth: NDArray[np.bool_]) -> dict[str, float]:
        """AUC by ridge of the likelihood-ratio attack: (C + r I)^-1 by the reference records' Gram matrix."""
        n = len(self.kernel)
        found = {"trace": area(truth, self.asked_away)}
        for ridge in RIDGES:
            r = ridge * float(np.trace(self.kernel)) / n**2
            turned = self.asked_away - self.cross @ np.linalg.solve(self.kernel / n + r * np.eye(n), self.known_away) / n
            found[f"likelihood ratio, ridge {ridge:g}"] = area(truth, turned)
        return found


def grown_with(
    q: NDArray[np.int16], y: Ints, groups: Ints, first: Floats | None, recipe: Recipe, of: Game, ruled: bool
) -> tuple[dict[str, float], int]:
    """(AUC by attack, numbers told). ruled: by the recipe; else without a least number of records."""
    ones = np.ones(len(y), dtype=np.int64)
    norm = standard(moments_of(q[of.members], ones[of.members], y[of.members], groups[of.members]))
    rest = ((),) * (q.shape[1] - recipe.asked)
    mean, scale = norm.mean[: recipe.asked], norm.scale[: recipe.asked]
    drawn = tuple(drawn_edges(mean, scale, tree, recipe.features, recipe.cuts) + rest for tree in range(recipe.trees))
    least = recipe.ratio * max(len(cuts_of(edges)) for edges in drawn)
    plan = TreePlan(trees=recipe.trees, depth=recipe.depth, drawn=drawn, rate=recipe.rate, owners_min=OWNERS_MIN, owner_records_min=least)
    if not ruled:
        many = tuple(drawn_edges(mean, scale, tree, recipe.asked, 8) + rest for tree in range(FREE_TREES))
        plan = TreePlan(trees=FREE_TREES, depth=5, drawn=many, rate=recipe.rate, child_weight_min=1e-6)

    def rows(part: Ints) -> Rows:
        return Rows(q[part], y[part].astype(np.float64), ones[part], LEAST_GROUP, None if first is None else first[part])

    codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
    owners = [rows(of.members[codes[of.members] % OWNERS == owner]) for owner in range(OWNERS)]
    known, asked = rows(of.reference), rows(of.asked)
    growth = start(plan, len(of.members), float(y[of.members].sum()) if first is None else 0.0)
    sight = Sight(len(of.reference), len(of.asked))
    while not growth.done:
        total = np.sum([histograms(growth, owner) for owner in owners], axis=0)
        sight.see(added(growth, known), added(growth, asked), total[..., :2].reshape(-1) / GRADIENT_UNIT / len(of.members))
        growth = grown(growth, total)
    return sight.attacked(of.truth), numbers_told(growth)


def by_moments(q: NDArray[np.int16], y: Ints, groups: Ints, of: Game) -> dict[str, float]:
    ones = np.ones(len(y), dtype=np.int64)
    total, reference = (moments_of(q[part], ones[part], y[part], groups[part]) for part in (of.members, of.reference))
    norm = standard(total)
    who = Candidates((q[of.asked],), y[of.asked], ones[of.asked], of.truth)
    return {name: area(of.truth, score) for name, score in from_moments(total, reference, norm.mean, norm.scale, who).items()}


def linear_scores(q: NDArray[np.int16], y: Ints, groups: Ints, of: Game) -> Floats:
    """(n,) scores that trees go on from, of a ridge head of the members, at the steepness that their scores ask for."""
    ones = np.ones(len(y), dtype=np.int64)
    raw = candidates(moments_of(q[of.members], ones[of.members], y[of.members], groups[of.members]), (0.001,))[0].raw()
    score = raw[0] + q.astype(np.float64) @ raw[1:]
    own, label = score[of.members], y[of.members]
    histogram = np.stack([np.bincount(score_bins(own[label == side]), minlength=SCORE_BINS) for side in (-1, 1)])
    return np.asarray(steepness(histogram) * score)


def leak(name: str, draws: int, progress: Say) -> dict[str, Any]:
    fetched(name)
    data, recipe = read_table(name), RECIPES[name]
    q = features(name, recipe.parts)
    found: dict[str, list[dict[str, float]]] = {"trees": [], "moments": [], "trees without the rule": []}
    told = {"moments": 4 + 2 * q.shape[1] + q.shape[1] * (q.shape[1] + 1) // 2}
    for seed in range(draws):
        progress(f"{name}, draw {seed + 1} of {draws}")
        of = game(data.groups, seed)
        first = linear_scores(q, data.y, data.groups, of) if recipe.linear else None
        for kind in ("trees", "trees without the rule"):
            aucs, told[kind] = grown_with(q, data.y, data.groups, first, recipe, of, kind == "trees")
            found[kind].append(aucs)
        found["moments"].append(by_moments(q, data.y, data.groups, of))
    row: dict[str, Any] = {"records_in_the_sums": len(of.members), "reference_records": len(of.reference)}
    for kind, drawn in found.items():
        means = {attack: float(np.mean([one[attack] for one in drawn])) for attack in drawn[0]}
        worst = max(means, key=lambda attack: means[attack])
        row[kind] = {"worst_attack": worst, "auc": interval([one[worst] for one in drawn]), "numbers_told": told[kind]}
    return row


KINDS = ("trees", "moments", "trees without the rule")


def bars_of(figures: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for name, row in figures.items():
        ruled, moments, free = (row[kind]["auc"]["mean"] for kind in KINDS)
        found.append(bar(f"{name}: AUC of the best attack, trees over moments", ruled - moments, MORE_MAX, "AUC", at_most=True))
        if row["records_in_the_sums"] < FEW_RECORDS:
            found.append(bar(f"{name}: AUC that the rule takes from the best attack on trees", free - ruled, LESS_MIN, "AUC"))
    return found


def table(result: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'':10}{'in sums':>9}{'reference':>11}   numbers told, best attack's AUC"]
    for name, row in result["figures"].items():
        told = "".join(f"   {kind} {row[kind]['numbers_told']:,}, {row[kind]['auc']['mean']:.3f}" for kind in KINDS)
        lines.append(f"{name:10}{row['records_in_the_sums']:>9,}{row['reference_records']:>11,}{told}")
    lines += [
        "",
        *(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--draws", type=int, default=3, help="times that members are drawn")
    parser.add_argument("--only", default="", help="some of " + ", ".join(RECIPES))
    given = parser.parse_args()
    names = [name.strip() for name in given.only.split(",") if name.strip()] or list(RECIPES)
    if unknown := [name for name in names if name not in RECIPES]:
        parser.error(f"there is no table {unknown[0]!r}; use {', '.join(RECIPES)}")
    figures = {name: leak(name, given.draws, say) for name in names}
    say("")
    print("\r", end="", file=sys.stderr)
    result = {"bench": "tree_leak", "machine": machine(), "figures": figures, "bars": bars_of(figures)}
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
