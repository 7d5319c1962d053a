"""Asks one question of three hospitals on ours, on NVIDIA FLARE and on Flower, in turns: a logistic model to the same loss, and sums.

    .venv/bin/python bench/sandbox.py [--json] [--repeats 3] [--only ours,flare,flower]

Peers are installed into environments of their own. Each is run as its tutorial has it (fixed rounds) and as fast as its settings
allow, with Newton's method where the tutorial averages weights: as `simulator` or `simulation` (one machine, no wire), and as real
processes. Ours is always real: an exchange and a node process an owner over HTTP, with signatures, masks and logs.

`start`: until owners can be asked. `job`: from asking to the answer, on a system that stands. `rounds`: from the first owner's first
computation to the last one's last. Bytes are those of the owner with most, counted by a TCP relay before each owner while the job runs
(FLARE's are under TLS, the others' are not). Memory: all processes together, peak. `loss`: penalised loss above the pooled optimum; `gap`:
largest difference from the pooled coefficients, over the largest of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import peer_flare
import peer_flower
from bench_command import say
from federation import Federation
from numpy.typing import NDArray
from peer_problem import LAMBDA, PURPOSE, Problem, problem, steps_needed, written
from peer_times import Told
from solar_cells import bar, machine
from threadpoolctl import threadpool_limits

from isthmus.contracts.head import Array
from isthmus.contracts.logistic import LogisticSums, logistic_sums_from, logistic_units
from isthmus.contracts.statistic import IRLS, MOMENTS, IrlsParams, MomentsParams
from isthmus.contracts.sums import Moments, moments_from
from isthmus.foundry.logistic import fit_logistic

LOSS_WITHIN = 1e-6
GAP_MAX = 1e-6
SOONER_GOAL = 5.0
TUTORIAL_ROUNDS = 5
Floats = NDArray[np.float64]
Ask = Callable[[Problem, Path], Told]


def moments_asked(federation: Federation, given: Problem, run: str) -> Moments:
    return moments_from(federation.total(run, MOMENTS, given.stage, MomentsParams(sure_weight=1)), given.stage.dimension)


def logistic_asked(federation: Federation, given: Problem, run: str) -> tuple[Floats, int]:
    """((d + 1,) coefficients on (1, z), jobs): moments, then Newton's rounds, each a signed, masked job at all nodes."""
    moments, jobs = moments_asked(federation, given, run), 1
    units = logistic_units(moments.sum_w)

    def ask(at: Floats) -> LogisticSums:
        nonlocal jobs
        jobs += 1
        params = IrlsParams(sure_weight=1, coefficients=Array.of(at), total_weight=moments.sum_w)
        return logistic_sums_from(federation.total(run, IRLS, given.stage, params), given.stage.dimension, units)

    raw = fit_logistic(ask, moments, LAMBDA).raw()
    return np.concatenate([[raw[0] + raw[1:] @ given.mean], raw[1:] * given.scale]), jobs


def sums_from(moments: Moments, given: Problem) -> Floats:
    """What peers sum too: count, sums and products of (1, z, y), upper triangle."""
    d, n = moments.dimension, float(moments.sum_w)
    raw = np.zeros((d + 2, d + 2))
    y = (moments.sum_wy + n) / 2.0
    raw[0, 0], raw[0, 1:-1], raw[0, -1], raw[-1, -1] = n, moments.sum_wx, y, y
    raw[1:-1, -1] = (moments.sum_wyx + moments.sum_wx) / 2.0
    raw[1:-1, 1:-1] = moments.gram
    whole = np.triu(raw) + np.triu(raw, 1).T
    turn = np.eye(d + 2)
    turn[0, 1:-1], turn[1:-1, 1:-1] = -given.mean / given.scale, np.diag(1.0 / given.scale)
    return np.asarray((turn.T @ whole @ turn)[np.triu_indices(d + 2)])


def ours(given: Problem, root: Path, kind: str, times: dict[str, float]) -> Told:
    """A federation of its own, started, asked, stopped. times: what parts of starting took."""
    folders = {}
    for party, text in given.csv.items():
        folders[party] = root / "data" / party
        folders[party].mkdir(parents=True, exist_ok=True)
        (folders[party] / "records.csv").write_text(text, encoding="utf-8")
    with Federation(Path(tempfile.mkdtemp(dir=root)), folders, PURPOSE, ("--logistic",)) as federation:
        before, began = federation.sent(), time.monotonic()
        if kind == "sums":
            found, jobs = sums_from(moments_asked(federation, given, "bench"), given), 1
        else:
            found, jobs = logistic_asked(federation, given, "bench")
        job_s = time.monotonic() - began
        sent = [(up - before[p][0], down - before[p][1]) for p, (up, down) in federation.sent().items()]
        times.update(federation.times)
    return Told(
        system="Isthmus",
        way="processes",
        kind=kind,
        quick=True,
        started_s=sum(federation.times.values()),
        job_s=job_s,
        rounds=jobs,
        rounds_s=job_s,
        later_round_s=job_s / jobs,
        up_bytes=max(up for up, _ in sent),
        down_bytes=max(down for _, down in sent),
        peak_bytes=federation.watch.peak_whole,
        found=found.tolist(),
    )


def contenders(given: Problem, only: set[str], times: dict[str, float]) -> dict[str, tuple[str, Ask]]:
    """name -> (a: model or b: sums, how it is asked)."""
    steps = steps_needed(given.pooled, given.best_loss, LOSS_WITHIN)
    flare, flower = peer_flare.asked, peer_flower.asked
    found: dict[str, tuple[str, str, Ask]] = {
        "Isthmus, processes": ("ours", "a", lambda p, r: ours(p, r, "logistic", times)),
        "FLARE, tutorial of Newton-Raphson, simulator": (
            "flare",
            "a",
            lambda p, r: flare(p, r, "simulator", "tutorial", TUTORIAL_ROUNDS, False),
        ),
        "FLARE, tutorial of FedAvg, simulator": ("flare", "a", lambda p, r: flare(p, r, "simulator", "fedavg", TUTORIAL_ROUNDS, False)),
        "FLARE, Newton made quick, simulator": ("flare", "a", lambda p, r: flare(p, r, "simulator", "newton", steps, True)),
        "FLARE, Newton made quick, processes": ("flare", "a", lambda p, r: flare(p, r, "poc", "newton", steps, True)),
        "Flower, quickstart of FedAvg, simulation": (
            "flower",
            "a",
            lambda p, r: flower(p, r, "simulation", "fedavg", TUTORIAL_ROUNDS, False),
        ),
        "Flower, quickstart of FedAvg, processes": (
            "flower",
            "a",
            lambda p, r: flower(p, r, "processes", "fedavg", TUTORIAL_ROUNDS, False),
        ),
        "Flower, Newton made quick, simulation": ("flower", "a", lambda p, r: flower(p, r, "simulation", "newton", steps, True)),
        "Flower, Newton made quick, processes": ("flower", "a", lambda p, r: flower(p, r, "processes", "newton", steps, True)),
        "Isthmus, sums, processes": ("ours", "b", lambda p, r: ours(p, r, "sums", times)),
        "FLARE, federated statistics, simulator": ("flare", "b", lambda p, r: flare(p, r, "simulator", "stats", 1, False)),
        "FLARE, sums made quick, simulator": ("flare", "b", lambda p, r: flare(p, r, "simulator", "sums", 1, True)),
        "FLARE, sums made quick, processes": ("flare", "b", lambda p, r: flare(p, r, "poc", "sums", 1, True)),
        "Flower, federated analytics, simulation": ("flower", "b", lambda p, r: flower(p, r, "simulation", "sums", 1, True)),
        "Flower, federated analytics, processes": ("flower", "b", lambda p, r: flower(p, r, "processes", "sums", 1, True)),
    }
    return {name: (part, ask) for name, (system, part, ask) in found.items() if system in only}


def row_of(given: Problem, part: str, told: list[Told]) -> dict[str, Any]:
    """Medians over repeats, and how right the answer was."""
    first = told[0]
    names = ("started_s", "job_s", "rounds_s", "later_round_s")
    row: dict[str, Any] = {name: round(median(getattr(one, name) for one in told), 3) for name in names}
    row |= {"system": first.system, "way": first.way, "part": part, "rounds": first.rounds}
    row |= {"up_bytes": first.up_bytes, "down_bytes": first.down_bytes, "peak_mib": round(first.peak_bytes / 2**20)}
    row["job_s_each"] = [round(one.job_s, 3) for one in told]
    if part == "a":
        at = np.array(first.found)
        row |= {"loss_above": given.loss(at) - given.best_loss, "gap": given.gap(at), "accuracy": round(given.accuracy(at), 4)}
    elif isinstance(first.found, dict):
        row["sums_differ"] = stats_differ(given, first.found)
    else:
        rows = np.column_stack([np.ones(len(given.pooled.y)), given.pooled.z, given.pooled.y])
        exact = (rows.T @ rows)[np.triu_indices(rows.shape[1])]
        got = np.array(first.found) * (len(given.train) if first.system == "NVIDIA FLARE" else 1)
        row["sums_differ"] = float(np.abs(got - exact).max() / np.abs(exact).max())
    return row


def stats_differ(given: Problem, found: dict[str, Any]) -> float:
    """FLARE's federated statistics: the largest difference of a sum, over the largest sum of squares."""
    exact = np.concatenate([given.pooled.z.sum(axis=0), [given.pooled.y.sum()]])
    got = np.array([found[f"f{place}"]["sum"]["Global"]["train"] for place in range(len(exact))])
    return float(np.abs(got - exact).max() / len(given.pooled.y))


def best_peer(rows: dict[str, dict[str, Any]], part: str, key: str, real_only: bool = False) -> float | None:
    """The better peer's time, whichever way it was run. Of (a), only those that reached the loss, or tutorials that did not wait for it."""
    found = [
        r[key]
        for r in rows.values()
        if r["part"] == part and r["system"] != "Isthmus" and (not real_only or r["way"] in ("processes", "poc"))
    ]
    return min(found) if found else None


def bars_of(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for part, own, what in (("a", "Isthmus, processes", "model"), ("b", "Isthmus, sums, processes", "sums")):
        if own not in rows:
            continue
        for real_only, key, words in (
            (False, "job_s", "sooner than the better peer by any way, from asking to the answer"),
            (True, "rounds_s", "sooner than the better peer's rounds alone, real processes"),
        ):
            peer = best_peer(rows, part, key, real_only)
            if peer is not None and (part == "a" or key == "job_s"):
                found.append(bar(f"({part}) {what}: {words}", peer / rows[own]["job_s"], SOONER_GOAL, "x"))
    if "Isthmus, processes" in rows:
        row = rows["Isthmus, processes"]
        found.append(small("(a) ours: gap to pooled", row["gap"], GAP_MAX))
        found.append(small("(a) ours: loss above the pooled optimum", row["loss_above"], LOSS_WITHIN))
        found.append(
            small("(b) ours: largest difference of a sum, over the largest", rows["Isthmus, sums, processes"]["sums_differ"], GAP_MAX)
        )
    return found


def small(name: str, value: float, goal: float) -> dict[str, Any]:
    return {**bar(name, 0.0, goal, "of the largest", at_most=True), "value": value, "holds": bool(value <= goal)}


def table(result: dict[str, Any]) -> str:
    """For people."""
    titles = ("start s", "job s", "rounds", "rounds s", "a later one")
    head = f"{'':46}" + "".join(f"{t:>12}" for t in titles) + f"{'owner sent':>12}{'owner got':>12}{'MiB':>7}"
    lines = []
    for part, title in (("a", f"{'loss above':>12}{'gap':>10}{'accuracy':>10}"), ("b", f"{'sums differ':>12}")):
        lines += ["", f"({part})" + head[3:] + title]
        for name, row in result["figures"]["systems"].items():
            if row["part"] != part:
                continue
            text = "".join(f"{row[key]:>12}" for key in ("started_s", "job_s", "rounds", "rounds_s", "later_round_s"))
            sizes = "".join(f"{'-' if row[key] is None else format(row[key], ','):>12}" for key in ("up_bytes", "down_bytes"))
            end = (
                f"{row['loss_above']:>12.1e}{row['gap']:>10.1e}{row['accuracy']:>10.4f}" if part == "a" else f"{row['sums_differ']:>12.1e}"
            )
            lines.append(f"{name:46}{text}{sizes}{row['peak_mib']:>7}{end}")
    starts = ", ".join(f"{name} {value:.1f} s" for name, value in result["figures"]["our_start"].items())
    held = (
        f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']:.4g} (goal {b['goal']:g} {b['unit']})" for b in result["bars"]
    )
    return "\n".join([*lines[1:], "", f"our start: {starts}", "", *held])


def measured(only: set[str], repeats: int) -> dict[str, Any]:
    """In turns: every contender once, then every one again."""
    given, times = problem(), dict[str, float]()
    told: dict[str, list[Told]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        written(given, root)
        chosen = contenders(given, only, times)
        for repeat in range(repeats):
            for name, (_, ask) in chosen.items():
                say(f"{repeat + 1} of {repeats}: {name}")
                one = ask(given, root)
                told.setdefault(name, []).append(one if repeat == 0 else replace(one, found=None))
    rows = {name: row_of(given, chosen[name][0], found) for name, found in told.items()}
    facts = {
        "records": len(given.pooled.y),
        "held_out": len(given.holdout.y),
        "features": given.stage.dimension,
        "owners": len(given.train),
    }
    figures = {"question": {**facts, "penalty": LAMBDA, "accuracy_pooled": round(given.accuracy(given.best), 4)}, "systems": rows}
    return {"bench": "sandbox", "machine": machine(), "figures": {**figures, "our_start": times}, "bars": bars_of(rows)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--repeats", type=int, default=3, help="turns of every system")
    parser.add_argument("--only", default="ours,flare,flower", help="some of ours, flare, flower, with commas between")
    given = parser.parse_args()
    with threadpool_limits(1):
        result = measured({name.strip() for name in given.only.split(",")}, given.repeats)
    say("")
    print("\r", end="", file=sys.stderr)
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
