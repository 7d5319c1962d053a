"""Poison and mistakes among owners: found, named, left out, and whether anybody honest is accused.

    python bench/poison.py --json

Real sets with simulated owners (whole groups drawn at random, or skewed by label and by a column), and the four real hospitals. One owner
is attacked. Clean runs come first: every accusation there is a false alarm. Seeds below TUNE_FROM are what is reported; the allowances
were chosen on others (--tune shows those). Accuracy is measured on records that no owner sent. Goals are set for attacks at full strength;
weaker ones are told without a goal.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from bench_command import say
from datasets import table
from numpy.typing import NDArray
from solar_cells import area, bar, columns, default_cache, interval, load_cells, machine

from isthmus.contracts.sums import FEATURE_MAX, Moments
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.possible import Declared, broken_rules
from isthmus.foundry.ridge import candidates
from isthmus.foundry.suspects import NumberFeature, flag_places, number_features, screened
from isthmus.foundry.tablefeatures import TableExtractor
from isthmus.kit.units import CONVERSIONS
from isthmus.scenarios.sample_owners import PARTIES

OWNERS, SEEDS, TUNE_FROM, TEST_SHARE, PENALTY = 5, 20, 1000, 0.25, 0.03
PARTS = ("columns",)
PICTURE_PARTS = ("defects/max", "defects/mean", "texture/24")
RECORDS_MAX = 4000
FOUND_GOAL, ALARM_GOAL = 0.9, 0.02
WEAKER = ("25 %", "50 %", "90 %", "another order")
"""Attacks that are told without a goal end so."""


@dataclass(frozen=True)
class Set:
    """q: (n, d). values: (n, columns) raw, or None. owners: (n,) of the data itself, or None."""

    name: str
    q: NDArray[np.int16]
    y: NDArray[np.int64]
    groups: NDArray[np.int64]
    values: NDArray[np.float32] | None = None
    extractor: TableExtractor | None = None
    owners: NDArray[np.int64] | None = None
    numbers: tuple[NumberFeature, ...] = ()
    flags: tuple[int, ...] = ()


def sets() -> list[Set]:
    """heart with its hospitals, and with simulated owners; credit, australian, wine, shuttle; solar cells with their makers."""
    found = []
    for name in ("heart", "credit", "australian", "wine", "shuttle"):
        data = table(name)
        made = TableExtractor(data.schema, PARTS)
        rows = np.random.default_rng(7).permutation(len(data.y))[:RECORDS_MAX]
        q = made.quantised(data.records[rows])
        one = Set(name, q, data.y[rows], data.groups[rows], data.records[rows], made)
        one = replace(one, numbers=number_features(made.names, data.schema.columns), flags=flag_places(made.names))
        if name == "heart":
            found.append(replace(one, name="heart, four hospitals", owners=data.owners[rows]))
        found.append(one)
    cells = load_cells(default_cache(), 1, say)
    owners = np.full(cells.size, -1, dtype=np.int64)
    for place, party in enumerate(PARTIES):
        for part in party.cells:
            owners[list(part)] = place
    solar = Set("solar cells", cells.views[0][:, columns(PICTURE_PARTS)], cells.y, cells.groups)
    return [*found, replace(solar, name="solar cells, makers", owners=owners), solar]


def shares(data: Set, seed: int, skewed: bool) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(owner of each record, whether it is kept for the test). Of real owners, nine tenths of the records are drawn anew each time."""
    rng = np.random.default_rng(seed)
    names = np.unique(data.groups)
    test_groups = rng.permutation(names)[: int(TEST_SHARE * len(names))]
    test = np.isin(data.groups, test_groups)
    if data.owners is not None:
        owners = np.where(rng.random(len(data.y)) < 0.9, data.owners, -1)
        return owners, test
    if not skewed:
        place = dict(zip(names.tolist(), rng.integers(0, OWNERS, len(names)).tolist(), strict=True))
        return np.array([place[g] for g in data.groups.tolist()]), test
    tilt = data.y * rng.uniform(0.3, 0.9) + (data.q[:, rng.integers(data.q.shape[1])] / FEATURE_MAX) * rng.uniform(0.5, 1.5)
    mean = {g: float(tilt[data.groups == g].mean()) for g in names.tolist()} if len(names) < len(tilt) / 2 else None
    score = (np.array([mean[g] for g in data.groups.tolist()]) if mean else tilt) + rng.normal(0, 0.6, len(tilt))
    edges = np.quantile(score, np.linspace(0, 1, OWNERS + 1)[1:-1])
    return np.searchsorted(edges, score), test


def sums_of(data: Set, rows: NDArray[np.int64], y: NDArray[np.int64] | None = None, q: NDArray[np.int16] | None = None) -> Moments:
    own = data.q[rows] if q is None else q
    return moments_of(own, np.ones(len(own)), data.y[rows] if y is None else y, data.groups[rows] if len(own) == len(rows) else own[:, 0])


Attack = Callable[[Set, dict[int, NDArray[np.int64]], int, np.random.Generator], tuple[Moments, int, int] | None]
"""(set, rows of each owner, who, chance) -> (its sums, its asset's records and groups)."""


def _told(sums: Moments) -> tuple[Moments, int, int]:
    return sums, sums.records, sums.groups


def turned(share: float, shuffle: bool) -> Attack:
    def attack(data: Set, rows: dict[int, NDArray[np.int64]], who: int, rng: np.random.Generator) -> tuple[Moments, int, int]:
        y = data.y[rows[who]].copy()
        hit = rng.permutation(len(y))[: round(share * len(y))]
        y[hit] = rng.permutation(y[hit]) if shuffle else -y[hit]
        return _told(sums_of(data, rows[who], y))

    return attack


def scaled(factor: int, only: str = "") -> Attack:
    def attack(data: Set, rows: dict[int, NDArray[np.int64]], who: int, rng: np.random.Generator) -> tuple[Moments, int, int]:
        own = sums_of(data, rows[who])
        names = (only,) if only else ("sum_w", "sum_wy", "sum_wx", "sum_wyx", "gram")
        return replace(own, **{name: getattr(own, name) * factor for name in names}), own.records, own.groups

    return attack


def pushed(data: Set, rows: dict[int, NDArray[np.int64]], who: int, rng: np.random.Generator) -> tuple[Moments, int, int]:
    """Sums made up so that they break no rule: real features, with the labels' sums turned round as far as the rules allow."""
    own = sums_of(data, rows[who])
    mean = own.sum_wx * own.sum_wy // own.sum_w
    for push in (3.0, 2.0, 1.5, 1.0):
        moved = mean - np.rint(push * (own.sum_wyx - mean)).astype(np.int64)
        moved += (moved - own.sum_wx) % 2
        made = replace(own, sum_wyx=moved)
        if not broken_rules(made, Declared(own.records, own.groups)):
            return made, own.records, own.groups
    return replace(own, sum_wyx=-own.sum_wyx), own.records, own.groups


def copied(share: float) -> Attack:
    def attack(data: Set, rows: dict[int, NDArray[np.int64]], who: int, rng: np.random.Generator) -> tuple[Moments, int, int]:
        other = min(place for place in rows if place != who)
        many = round(share * len(rows[other]))
        taken = np.concatenate([rng.permutation(rows[other])[:many], rng.permutation(rows[who])[: len(rows[other]) - many]])
        return _told(sums_of(data, taken))

    return attack


def repeated(times: int) -> Attack:
    def attack(data: Set, rows: dict[int, NDArray[np.int64]], who: int, rng: np.random.Generator) -> tuple[Moments, int, int]:
        return _told(sums_of(data, np.tile(rows[who], times)))

    return attack


def in_unit(name: str) -> Attack:
    """The number's column whose values the conversion moves furthest among those that it does not throw out of sight by itself."""

    def attack(data: Set, rows: dict[int, NDArray[np.int64]], who: int, rng: np.random.Generator) -> tuple[Moments, int, int] | None:
        if data.values is None or data.extractor is None or not data.numbers:
            return None
        conversion = next(c for c in CONVERSIONS if c.name == name)
        number = data.numbers[int(rng.integers(len(data.numbers)))]
        place = data.extractor.schema.columns.index(number.column)
        values = data.values[rows[who]].copy()
        values[:, place] = conversion.undone(values[:, place].astype(np.float64)).astype(np.float32)
        q = data.extractor.quantised(values)
        moved = np.abs(q[:, number.place].astype(int) - data.q[rows[who]][:, number.place]).mean() / FEATURE_MAX
        return None if moved < 0.2 else _told(sums_of(data, rows[who], q=q))

    return attack


def swapped(data: Set, rows: dict[int, NDArray[np.int64]], who: int, rng: np.random.Generator) -> tuple[Moments, int, int]:
    """Half of the features in another order."""
    q = data.q[rows[who]].copy()
    chosen = rng.permutation(q.shape[1])[: max(2, q.shape[1] // 2)]
    q[:, chosen] = q[:, np.roll(chosen, 1)]
    return _told(sums_of(data, rows[who], q=q))


ATTACKS: dict[str, tuple[Attack, tuple[str, ...]]] = {
    "labels turned, all": (turned(1.0, False), ("turned",)),
    "labels turned, 50 %": (turned(0.5, False), ("shuffled", "noisy", "turned", "contrary")),
    "labels turned, 25 %": (turned(0.25, False), ("noisy", "shuffled")),
    "labels shuffled, all": (turned(1.0, True), ("shuffled",)),
    "labels shuffled, 50 %": (turned(0.5, True), ("noisy", "shuffled")),
    "labels shuffled, 25 %": (turned(0.25, True), ("noisy",)),
    "sums times 10": (scaled(10), ("impossible",)),
    "label sums times 2": (scaled(2, "sum_wyx"), ("impossible",)),
    "sums pushed within the rules": (pushed, ("turned",)),
    "own records three times": (repeated(3), ("repeated",)),
    "another's records, all": (copied(1.0), ("copied",)),
    "another's records, 90 %": (copied(0.9), ("copied",)),
    "another's records, 50 %": (copied(0.5), ("copied",)),
    "column 1000 times too small": (in_unit("1000 times too small"), ("units",)),
    "column 10 times too large": (in_unit("10 times too large"), ("units",)),
    "column in inch, not cm": (in_unit("inch, not cm"), ("units",)),
    "column in pounds, not kg": (in_unit("pounds, not kg"), ("units",)),
    "features in another order": (swapped, ("impossible", "contrary", "shuffled", "noisy", "turned", "units")),
}


def judged(data: Set, sums: dict[str, Moments], assets: dict[str, tuple[int, int]]) -> Any:
    declared = {party: Declared(records, groups, flags=data.flags) for party, (records, groups) in assets.items()}
    return screened(sums, declared, data.numbers)


def tested(data: Set, parts: list[Moments], rows: NDArray[np.bool_]) -> float:
    """Area under the ROC curve on the test's records of the head of these owners' sums."""
    total = parts[0]
    for part in parts[1:]:
        names = ("records", "groups", "sum_w", "sum_wy", "sum_wx", "sum_wyx", "gram")
        total = replace(total, **{name: getattr(total, name) + getattr(part, name) for name in names})
    try:
        raw = candidates(total, [PENALTY])[0].raw()
    except Exception:  # noqa: BLE001  sums that cannot be solved are a finding, not an end
        return 0.5
    return area(data.y[rows], raw[0] + data.q[rows] @ raw[1:])


def one_run(data: Set, seed: int, skewed: bool) -> tuple[dict[int, NDArray[np.int64]], dict[str, Moments], NDArray[np.bool_]]:
    owners, test = shares(data, seed, skewed)
    rows = {place: np.flatnonzero((owners == place) & ~test) for place in np.unique(owners[owners >= 0]).tolist()}
    return rows, {f"owner-{place}": sums_of(data, own) for place, own in rows.items()}, test


def clean(data: Set, seeds: range, skewed: bool) -> dict[str, Any]:
    """Owners accused, and left out, where nobody is at fault."""
    owners = accused = out = 0
    kinds: dict[str, int] = defaultdict(int)
    for seed in seeds:
        _, sums, _ = one_run(data, seed, skewed)
        found = judged(data, sums, {party: (m.records, m.groups) for party, m in sums.items()})
        owners += len(sums)
        accused += len({s.party for s in found.suspicions})
        out += len(found.out)
        for suspicion in found.suspicions:
            kinds[suspicion.kind] += 1
    return {"owners": owners, "accused": accused, "left_out": out, "rate": round(out / owners, 4), "kinds": dict(kinds)}


def attacked(data: Set, name: str, seeds: range) -> dict[str, Any] | None:
    attack, kinds = ATTACKS[name]
    tried = found = right = accused_others = named = 0
    aucs: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        rows, sums, test = one_run(data, seed, False)
        rng = np.random.default_rng([seed, 99])
        who = int(rng.choice([place for place in rows if place != min(rows)]))
        made = attack(data, rows, who, rng)
        if made is None:
            continue
        tried += 1
        party = f"owner-{who}"
        honest = dict(sums)
        sums[party] = made[0]
        assets = {p: (m.records, m.groups) for p, m in sums.items()} | {party: made[1:]}
        screening = judged(data, sums, assets)
        said = [s for s in screening.suspicions if s.party == party]
        named += bool(said)
        found += party in screening.out
        right += any(s.kind in kinds for s in said)
        accused_others += len(set(screening.out) - {party})
        aucs["honest"].append(tested(data, list(honest.values()), test))
        aucs["poisoned"].append(tested(data, list(sums.values()), test))
        aucs["left out"].append(tested(data, [m for p, m in sums.items() if p not in screening.out], test))
    if not tried:
        return None
    rates = {"runs": tried, "named": named / tried, "found": found / tried, "right": right / max(1, named)}
    rates = {key: round(value, 3) for key, value in rates.items()}
    return {**rates, "others_left_out": accused_others, "auc": {key: interval(values) for key, values in aucs.items()}}


def measure(seeds: range) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    every = sets()
    alarms, hits = {}, {}
    for data in every:
        for skewed in (False, True) if data.owners is None else (False,):
            say(f"clean {data.name}")
            alarms[data.name + (", skewed" if skewed else "")] = clean(data, seeds, skewed)
        for name in ATTACKS:
            say(f"{data.name}: {name}")
            result = attacked(data, name, seeds)
            if result is not None:
                hits.setdefault(name, {})[data.name] = result
    owners = sum(one["owners"] for one in alarms.values())
    rate = sum(one["left_out"] for one in alarms.values()) / owners
    hospitals = alarms["heart, four hospitals"]["rate"]
    mean = {name: float(np.mean([r["found"] for r in by.values()])) for name, by in hits.items()}
    rows = [
        bar("honest owners left out, all sets", rate, ALARM_GOAL, "share of owners", at_most=True),
        bar("honest hospitals left out", hospitals, ALARM_GOAL, "share of owners", at_most=True),
        *(bar(f"found: {name}", value, FOUND_GOAL, "share of runs") for name, value in mean.items() if not name.endswith(WEAKER)),
    ]
    return {"clean": alarms, "attacks": hits, "found": {k: round(v, 3) for k, v in mean.items()}, "owners": owners}, rows


def shown(result: dict[str, Any]) -> str:
    figures = result["figures"]
    lines = [f"{'nobody at fault':34} {'owners':>7} {'accused':>8} {'left out':>9}"]
    lines += [f"{name:34} {r['owners']:7} {r['accused']:8} {r['left_out']:9}  {r['kinds'] or ''}" for name, r in figures["clean"].items()]
    lines += ["", f"{'attack':32} {'set':22} {'runs':>4} {'named':>6} {'out':>6} {'kind':>6} {'others':>6}  AUC honest, poisoned, left out"]
    for name, by in figures["attacks"].items():
        for where, r in by.items():
            aucs = "  ".join(f"{r['auc'][k]['mean']:.3f}" for k in ("honest", "poisoned", "left out"))
            rates = f"{r['runs']:4} {r['named']:6.2f} {r['found']:6.2f} {r['right']:6.2f} {r['others_left_out']:6}"
            lines.append(f"{name:32} {where:22} {rates}  {aucs}")
    lines += [
        "",
        *(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in result["bars"]),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tune", action="store_true", help="seeds that the allowances were chosen on")
    given = parser.parse_args()
    first = TUNE_FROM if given.tune else 0
    figures, bars = measure(range(first, first + given.seeds))
    say("")
    result = {"bench": "poison", "machine": machine(), "figures": {**figures, "seeds": given.seeds, "first_seed": first}, "bars": bars}
    print(json.dumps(result) if given.json else shown(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
