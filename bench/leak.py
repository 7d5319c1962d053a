"""Attacks every statistic that may leave an owner, on real solar cells: who was in it, and what can be rebuilt from it.

    .venv/bin/python bench/leak.py [--json] [--seeds 10] [--cache FOLDER] [--threads 2]

Membership AUC: 0.5 is a guess, 1 is certainty. Members and others are drawn cell by cell from the same images, so that a
difference between modules does not pass for a leak. Attackers with the sums alone are reported beside those that also hold
reference cells of the same population (half of all non-members), which are far stronger. Images: ELPV data set, CC BY-NC-SA 4.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bench_command import BarRows, Figures, Say, run_bench
from membership import Candidates, from_heads, from_histogram, from_moments
from numpy.typing import NDArray
from solar_cells import (
    LAMBDAS,
    Cells,
    Fit,
    area,
    bar,
    columns,
    fit,
    fits,
    interval,
    lone_groups,
    stacked,
)

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.job import Job, RosterMember
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.statistic import MOMENTS
from isthmus.contracts.sums import EVALUATION_BINS, Moments
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import candidates, standard
from isthmus.kit.hatmatrix import design
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.overlap import reveals
from isthmus.sandbox.statistics.foldout import score_histogram
from isthmus.sandbox.terms import check_job
from isthmus.scenarios.sample_owners import PARTIES, splits

GOAL = 0.58
DEITSCH_PARTS = ("defects/max", "defects/mean", "texture/82")
DEITSCH_CELLS = 1968
CONTROL_PARTS = ("block/4", "block/7", "block/10", "block/11")
CONTROL_CELLS = 400
OWNERS_MIN = 2
GUESSES = 8
REFERENCE = "reference cells"
FOLD_OUT = "fold-out"
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Sight:
    """What one party sees. name: who. parts: the features. records: behind what it sees. views: in the sums. heads: it sees the heads of
    all penalties, not the moments. known: share of the other cells that it holds as reference."""

    name: str
    parts: tuple[str, ...]
    records: int
    views: int = 4
    heads: bool = False
    known: float = 0.5


@dataclass(frozen=True)
class Draw:
    """Members (rows in the sums), the attacker's reference cells, and the rows that are judged, with truth."""

    members: Rows
    reference: Rows
    judged: Rows
    truth: NDArray[np.bool_]


def drawn(size: int, records: int, rng: np.random.Generator, known: float = 0.5) -> Draw:
    """A share of the others is the attacker's; the rest and as many members are judged."""
    order = rng.permutation(size)
    members, others = order[:records], order[records:]
    cut = int(known * len(others))
    reference, rest = others[:cut], others[cut:]
    tested = members[: len(rest)]
    judged = np.concatenate([tested, rest])
    return Draw(members, reference, judged, np.concatenate([np.ones(len(tested), bool), np.zeros(len(rest), bool)]))


def sums(data: Cells, rows: Rows, parts: Sequence[str], count: int = 4) -> Moments:
    """moments/1 of these rows, over the first `count` views."""
    labels, weights, groups = (np.tile(part[rows], count) for part in (data.y, data.w, data.groups))
    return moments_of(stacked(data, rows, parts, count), weights, labels, groups, records=len(rows))


def moments_attacks(data: Cells, sight: Sight, seed: int) -> dict[str, float]:
    """AUC of each attack on one draw."""
    draw = drawn(data.size, sight.records, np.random.default_rng(seed), sight.known)
    total, known = (sums(data, rows, sight.parts, sight.views) for rows in (draw.members, draw.reference))
    norm = standard(total)
    chosen = columns(sight.parts)

    def cells(rows: Rows, truth: NDArray[np.bool_]) -> Candidates:
        return Candidates(tuple(v[rows][:, chosen] for v in data.views[: sight.views]), data.y[rows], data.w[rows], truth)

    who = cells(draw.judged, draw.truth)
    if sight.heads:
        seen = [candidate.raw() for candidate in candidates(total, LAMBDAS)]
        scores = from_heads(seen, list(LAMBDAS), known, who, cells(draw.reference, np.zeros(len(draw.reference), bool)))
        return {name: area(who.member, score) for name, score in scores.items()}
    return {name: area(who.member, score) for name, score in from_moments(total, known, norm.mean, norm.scale, who).items()}


def head_attacks(data: Cells, parts: tuple[str, ...], records: int, seed: int) -> dict[str, float]:
    """Attacks on an owner's own head and on the fold-out histogram of the chosen penalty, by the cells that they were made of.

    The fold-out attacker is the exchange: it has the fit, so it knows where a member's fold-out score would fall, were the
    cell left out alone (it does not know who else is in its group). Reference cells say how full each bin should be.
    """
    rng = np.random.default_rng(seed)
    draw = drawn(data.size, records, rng)
    train = np.zeros(data.size, dtype=bool)
    train[draw.members] = True
    one_owner = np.zeros(data.size, dtype=np.int64)
    found = min(fits(data, train, parts, lone_groups(data.size, rng), owners=one_owner), key=lambda one: one.loss)
    y, w = data.y[draw.judged].astype(float), data.w[draw.judged].astype(float)
    c, chosen = found.candidate, columns(parts)
    rows = design(data.views[0][draw.judged][:, chosen], c.mean, c.scale)
    score = rows @ c.coefficients
    pull = np.minimum(0.99, w * len(data.views) * np.einsum("ij,jk,ik->i", rows, c.inverse, rows))
    known = design(data.views[0][draw.reference][:, chosen], c.mean, c.scale) @ c.coefficients
    expected = score_histogram(known, data.y[draw.reference]) * (records / len(draw.reference))
    bins = from_histogram(found.histogram, expected, y - (y - score) / (1.0 - pull), data.y[draw.judged])
    return {
        "own head, residual": area(draw.truth, -np.abs(y - score)),
        "own head, margin": area(draw.truth, y * score),
        f"{FOLD_OUT} histogram, reference cells": area(draw.truth, bins),
    }


def scores_of(data: Cells, found: Fit, rows: Rows, view: int) -> NDArray[np.float64]:
    """Scores of rows seen in one view."""
    c = found.candidate
    return np.asarray(design(data.views[view][rows][:, columns(found.parts)], c.mean, c.scale) @ c.coefficients)


def evaluation_attacks(data: Cells, scenario: Scenario, records: int, seed: int) -> dict[str, float]:
    """Attacks on evaluation histograms by the held-out cells that they count: one histogram, and as many as there are views.

    The views stand for the other heads that are ranked on the same cells: the owners' own.
    """
    rng = np.random.default_rng(seed)
    draw = drawn(data.size, records, rng)
    train = np.zeros(data.size, dtype=bool)
    train[draw.reference] = True
    found = fit(data, train, scenario.recipe.parts, lone_groups(data.size, rng))
    sides, bins = data.y[draw.judged], []
    for view in range(len(data.views)):
        counted = score_histogram(scores_of(data, found, draw.members, view), data.y[draw.members], EVALUATION_BINS)
        known = score_histogram(scores_of(data, found, draw.reference, view), data.y[draw.reference], EVALUATION_BINS)
        bins.append(from_histogram(counted, known * (records / len(draw.reference)), scores_of(data, found, draw.judged, view), sides))
    return {
        "evaluation histogram, one head, reference cells": area(draw.truth, bins[0]),
        f"evaluation histograms, {len(bins)} heads, reference cells": area(draw.truth, np.sum(bins, axis=0)),
    }


def rebuilt(data: Cells, parts: tuple[str, ...], records: int, seed: int) -> dict[str, float]:
    """Tries to recover a record's features from the sums: class means and main axes. Best correlation with any member, and with any
    of equally many others, in whitened features; chance is where both are alike."""
    draw = drawn(data.size, records, np.random.default_rng(seed))
    total = sums(data, draw.members, parts)
    norm = standard(total)
    values, vectors = np.linalg.eigh(norm.correlation)
    spread = 1.0 / np.sqrt(np.maximum(values, 1e-6 * values[-1]))
    guesses = [norm.target @ vectors * spread, *(sign * np.eye(len(values))[-1 - k] for k in range(GUESSES) for sign in (1.0, -1.0))]
    asked = np.stack([g / np.linalg.norm(g) for g in guesses])

    def best(rows: Rows) -> float:
        z = (data.views[0][rows][:, columns(parts)] - norm.mean) / norm.scale @ vectors * spread
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        return float(np.mean((asked @ z.T).max(axis=1)))

    others = draw.judged[~draw.truth]
    return {"members": best(draw.members[: len(others)]), "others": best(others)}


def lone_leaver(data: Cells, parts: tuple[str, ...], records: int, seed: int) -> float:
    """Two runs whose rosters differ by an owner of one record: correlation of the difference of sums with that record."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(data.size)[:records]
    more, less = sums(data, rows, parts), sums(data, rows[1:], parts)
    weight = more.sum_w - less.sum_w
    guess = (more.sum_wx - less.sum_wx) / weight
    truth = np.mean([view[rows[0], columns(parts)].astype(float) for view in data.views], axis=0)
    return float(np.corrcoef(guess, truth)[0, 1])


def puppet_refusal() -> str:
    """The clause by which a node refuses a roster of itself and two owners that its agreement does not name."""
    owner, exchange, puppets = SigningKey.from_seed(b"\1" * 32), SigningKey.from_seed(b"\2" * 32), ("puppet-a", "puppet-b")
    terms = Agreement(
        owner="victim",
        asset="sha256:0",
        exchange=exchange.public_hex,
        purposes=("bench",),
        operations=(MOMENTS,),
        participants={"victim": owner.public_hex},
        issued_at_s=0,
        expires_at_s=100,
        runs_max=1,
        least_group_size=1,
        least_participants=3,
    )
    members = tuple(RosterMember(party=p, public_key=owner.public_hex, asset={}) for p in sorted(("victim", *puppets)))
    stage = Stage(backbone="none", parts=("texture/12",), dimension=12, digest="sha256:0")
    params = {"views": ["identity"], "sure_weight": 2, "unsure_weight": 1}
    job = Job(
        id="j",
        run_id="r",
        round=1,
        purpose="bench",
        scenario="bench",
        statistic=MOMENTS,
        stage=stage,
        params=params,
        roster=members,
        attempt=1,
        created_at_s=1,
        expires_at_s=50,
    )
    try:
        check_job(terms, owner.public_hex, job, [], 2.0)
    except RefusedError as refused:
        return str(refused.clause)
    return ""


def leaver_refusal() -> str:
    """The node's reason against a roster that lost one owner."""
    first = frozenset({("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")})
    return reveals([first], first - {("d", "1")}, OWNERS_MIN) or ""


def cell_counts(data: Cells, split: str) -> list[int]:
    """Cells of each sample owner in one split, as they ship."""
    counts = []
    for party in PARTIES:
        if party.kind == "owner":
            groups = [data.cells[index].group for part in party.cells for index in part]
            split_of = splits(groups)
            counts.append(sum(split_of[group] == split for group in groups))
    return counts


def sights(scenario: Scenario, counts: list[int]) -> list[Sight]:
    """Who sees what. `benchmark`: the model of bench/elpv.py. `scenario`: the shipped one. `beyond`: more than the terms guard against (who
    makes common cause with the exchange, or holds most of all other cells), for information. `refused`: what nodes do not answer."""
    parts, total = scenario.recipe.parts, sum(counts)
    others = DEITSCH_CELLS - -(-DEITSCH_CELLS // 3)
    left = total - max(counts)
    return [
        Sight("benchmark: exchange, total", DEITSCH_PARTS, DEITSCH_CELLS),
        Sight("benchmark: an owner, heads", DEITSCH_PARTS, others, heads=True),
        Sight("scenario: exchange, total", parts, total),
        Sight("scenario: largest owner, heads", parts, left, heads=True),
        Sight("scenario: an owner's own head", parts, min(counts), heads=True),
        Sight("beyond: exchange and largest owner together", parts, left),
        Sight("beyond: exchange and who stayed, after a leaver", scenario.recipe.parts_after_leaving, min(counts)),
        Sight("scenario: exchange, total after a leaver", scenario.recipe.parts_after_leaving, left),
        Sight("beyond: exchange, total, more reference cells", parts, total, known=0.8),
        Sight("beyond: both together, more reference cells", parts, left, known=0.8),
        Sight("beyond: benchmark's exchange and an owner together", DEITSCH_PARTS, others),
        Sight("refused: one leaver, or puppets beside one victim", parts, min(counts)),
        Sight("control: more features than rows", CONTROL_PARTS, CONTROL_CELLS, views=1),
    ]


def membership(data: Cells, seen: list[Sight], seeds: int, say: Say) -> list[dict[str, Any]]:
    """One row for each sight and attack."""
    rows = []
    for sight in seen:
        runs = []
        for seed in range(seeds):
            say(f"membership: {sight.name}, {seed + 1} of {seeds}")
            runs.append(moments_attacks(data, sight, seed))
        for attack in runs[0]:
            spread = interval([run[attack] for run in runs])
            rows.append(
                {"sight": sight.name, "features": len(columns(sight.parts)), "records": sight.records, "attack": attack, "auc": spread}
            )
    return rows


def measured(data: Cells, scenario: Scenario, seeds: int, say: Say) -> dict[str, Any]:
    counts = cell_counts(data, "train")
    parts, total = scenario.recipe.parts, sum(counts)
    own = {
        "an owner's own head": (scenario.recipe.parts, min(counts)),
        "exchange, total": (parts, total),
        "exchange and largest owner together": (parts, total - max(counts)),
    }
    heads: dict[str, Any] = {}
    for name, (stages, records) in own.items():
        say(f"membership by heads and histograms: {name}")
        runs = [head_attacks(data, stages, records, seed) for seed in range(seeds)]
        seen = [attack for attack in runs[0] if attack.startswith(FOLD_OUT) != (records == min(counts))]
        heads[name] = {attack: interval([run[attack] for run in runs]) for attack in seen}
    say("membership by evaluation")
    runs = [evaluation_attacks(data, scenario, sum(cell_counts(data, "holdout")), seed) for seed in range(seeds)]
    heads["evaluation"] = {attack: interval([run[attack] for run in runs]) for attack in runs[0]}
    say("reconstruction")
    rebuilds = [rebuilt(data, parts, total, seed) for seed in range(seeds)]
    return {
        "seeds": seeds,
        "membership": membership(data, sights(scenario, counts), seeds, say),
        "heads_and_histograms": heads,
        "reconstruction": {side: interval([run[side] for run in rebuilds]) for side in ("members", "others")},
        "difference": {
            "one_record_leaves_correlation": interval([lone_leaver(data, parts, total, seed) for seed in range(seeds)]),
            "node_refuses_because": leaver_refusal(),
        },
        "puppets": {"node_refuses_by_clause": puppet_refusal()},
    }


def worst(rows: list[dict[str, Any]], prefix: str, with_reference: bool) -> float:
    """The highest mean AUC of attacks under sights that begin with `prefix`."""
    return float(max(r["auc"]["mean"] for r in rows if r["sight"].startswith(prefix) and (REFERENCE in r["attack"]) == with_reference))


def bars_of(figures: dict[str, Any]) -> list[dict[str, Any]]:
    rows, heads, rebuilds = figures["membership"], figures["heads_and_histograms"], figures["reconstruction"]

    def highest(known: bool) -> float:
        return float(max(spread["mean"] for found in heads.values() for name, spread in found.items() if (REFERENCE in name) == known))

    found = [
        bar(f"{prefix}: moments, {title}", worst(rows, prefix, known), GOAL, "membership AUC", at_most=True)
        for known, title in ((False, "attacker has the sums alone"), (True, "attacker also has reference cells"))
        for prefix in ("benchmark", "scenario")
    ]
    return [
        *found,
        bar("own heads", highest(False), GOAL, "membership AUC", at_most=True),
        bar("fold-out and evaluation histograms, attacker has reference cells", highest(True), GOAL, "membership AUC", at_most=True),
        bar(
            "reconstruction: members better than others by",
            rebuilds["members"]["mean"] - rebuilds["others"]["mean"],
            0.02,
            "r",
            at_most=True,
        ),
        bar("a roster that lost one owner is refused", float(bool(figures["difference"]["node_refuses_because"])), 1.0, "refused"),
        bar(
            "puppets that the agreement does not name are refused",
            float(bool(figures["puppets"]["node_refuses_by_clause"])),
            1.0,
            "refused",
        ),
        bar("control: the bench finds a leak where there is one", worst(rows, "control", False), 0.9, "membership AUC"),
    ]


def table(result: dict[str, Any]) -> str:
    """For people."""
    figures = result["figures"]
    lines = [f"{'who sees what':52}{'features':>9}{'records':>9}  {'attack':46}{'AUC':>7}"]
    for row in figures["membership"]:
        lines.append(f"{row['sight']:52}{row['features']:>9}{row['records']:>9}  {row['attack']:46}{row['auc']['mean']:>7.3f}")
    for name, found in figures["heads_and_histograms"].items():
        lines += [f"{name:70}  {attack:46}{spread['mean']:>7.3f}" for attack, spread in found.items()]
    members, others = (figures["reconstruction"][side]["mean"] for side in ("members", "others"))
    difference = figures["difference"]
    leaver = difference["one_record_leaves_correlation"]["mean"]
    lines += [
        f"reconstruction: best guess correlates {members:.3f} with members, {others:.3f} with others",
        f"one record leaves: two totals' difference gives its features at r = {leaver:.3f}; refused: {difference['node_refuses_because']}",
        f"puppets: refused by the clause {figures['puppets']['node_refuses_by_clause']!r}",
        "",
    ]
    lines += [f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]]
    return "\n".join(lines)


def measure(data: Cells, scenario: Scenario, seeds: int, say: Say) -> tuple[Figures, BarRows]:
    figures = measured(data, scenario, seeds, say)
    return figures, bars_of(figures)


if __name__ == "__main__":
    raise SystemExit(run_bench("leak", __doc__ or "", ("seeds", 10, "random draws of members"), measure, table))
