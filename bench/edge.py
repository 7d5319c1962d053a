"""A small machine's figures: 8-bit integers against 32-bit floats, as certified artefacts would be, one picture at a time on one thread.

    .venv/bin/python bench/edge.py [--json] [--pictures 1000]

Both are whole artefacts of the shipped recipe, from picture to verdict. Modules (inferred) are parted: heads and thresholds come from
one half, all that is told from the other. `own` is the integer target as it ships: features, sums and head of its own. `lent` lends it
the head that was fitted on floats. Times take turns picture by picture; memory is that of a process with onnxruntime and numpy alone.
Images: ELPV data set, CC BY-NC-SA 4.0, for evaluation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from elpv import planned
from numpy.typing import NDArray
from solar_cells import area, bar, machine

from isthmus.assurance.bounds import clopper_pearson_upper
from isthmus.contracts.head import Head
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import build_artefact
from isthmus.foundry.features import StageExtractor, load_tensors
from isthmus.foundry.foldout import choose_lambda, choose_thresholds, leave_one_group_out
from isthmus.foundry.ridge import head_from
from isthmus.kit.pictures import read_picture
from isthmus.sandbox.statistics.records import group_codes
from isthmus.scenarios.package import find_package, load_package
from isthmus.scenarios.sample_owners import Cell, cells, dataset_root

FLOATS, INTEGERS = "efficientnet-lite0-dim", "efficientnet-lite0-dim-int8"
PROMISE_PPM = 100_000
CONFIDENCE = 0.95
TIMED, WARM = 150, 10
MEMORY_PICTURES = 30
ALONE = """
import re, sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for seed in range(int(sys.argv[2])):
    picture = numpy.random.default_rng(seed).integers(0, 256, (1, 300, 300, 3), dtype=numpy.uint8)
    session.run(["score", "verdict"], {"image": picture})
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
"""
Images = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Sample:
    """Pictures with truth (-1, +1), training weights and modules."""

    pictures: Images
    y: NDArray[np.int64]
    w: NDArray[np.int64]
    groups: NDArray[np.int64]


def sample(chosen: list[Cell]) -> Sample:
    y = np.array([1 if cell.label == "defect" else -1 for cell in chosen], dtype=np.int64)
    w = np.array([1 if cell.certainty == "unsure" else 2 for cell in chosen], dtype=np.int64)
    return Sample([read_picture(cell.path) for cell in chosen], y, w, group_codes([cell.group for cell in chosen]))


def parted(count: int) -> tuple[Sample, Sample]:
    """(to fit on, to tell of): modules in turn, at most count pictures told of."""
    listed = cells(dataset_root())
    codes = group_codes([cell.group for cell in listed])
    halves = [[cell for cell, code in zip(listed, codes, strict=True) if code % 2 == side] for side in (0, 1)]
    return sample(halves[0]), sample(halves[1][:count])


def fitted(train: Sample, extractor: StageExtractor, plan: Any) -> Head:
    """As the exchange would: penalty by fold-out loss, thresholds by the plan."""
    run = leave_one_group_out(extractor.quantised(train.pictures), train.w, train.y, train.groups)
    best = choose_lambda(run.sums, [one.lam for one in run.candidates])
    cut = choose_thresholds(run.sums.histogram[best], plan)
    return head_from(run.candidates[best], extractor.stage(), cut.lo, cut.hi)


def milliseconds(artefacts: dict[str, bytes], pictures: Images) -> dict[str, list[float]]:
    """Of each picture, taking turns."""
    sessions = {}
    for name, raw in artefacts.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        sessions[name] = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for place, picture in enumerate(pictures[: TIMED + WARM]):
        for name, session in sessions.items():
            began_s = time.perf_counter()
            session.run(["score", "verdict"], {"image": picture[None]})
            if place >= WARM:
                found[name].append((time.perf_counter() - began_s) * 1000)
    return found


def peak_bytes(artefact: bytes) -> int | None:
    """Of a process of its own that judges MEMORY_PICTURES pictures; None where the system does not tell."""
    if not Path("/proc/self/status").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(artefact)
        done = subprocess.run([sys.executable, "-c", ALONE, str(path), str(MEMORY_PICTURES)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def told(test: Sample, artefact: bytes) -> tuple[dict[str, float], NDArray[np.int64]]:
    """(AUC, answered, errors among answered), verdicts."""
    found, verdicts = Scorer(artefact).judged(test.pictures)
    answered = verdicts != 2
    wrong = answered & ((verdicts == 1) != (test.y > 0))
    share = {"answered": float(answered.mean()), "errors_among_answered": float(wrong.sum() / max(1, answered.sum()))}
    return {"auc": area(test.y, found), **share, "bytes": len(artefact)}, verdicts


def measured(count: int, say: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    scenario, tensors = load_package(find_package("solar-cell-inspection")), load_tensors()
    train, test = parted(count)
    plan = planned(scenario, PROMISE_PPM, len(test.pictures), len(np.unique(test.groups)))
    heads = {}
    for name in (FLOATS, INTEGERS):
        say(f"{name}: {len(train.pictures)} pictures to fit on")
        heads[name] = fitted(train, StageExtractor(scenario.recipe.parts, 1, tensors, name), plan)
    stage = heads[INTEGERS].stage
    lent = Head(**{field: getattr(heads[FLOATS], field) for field in Head.__struct_fields__ if field != "stage"}, stage=stage)
    artefacts = {
        name: build_artefact(head, tensors) for name, head in (("floats", heads[FLOATS]), ("own", heads[INTEGERS]), ("lent", lent))
    }
    say(f"{len(test.pictures)} pictures judged three times")
    results = {name: told(test, raw) for name, raw in artefacts.items()}
    figures: dict[str, Any] = {"pictures": len(test.pictures), "fitted_on": len(train.pictures), **{n: r[0] for n, r in results.items()}}
    for name in ("own", "lent"):
        flips = int((results[name][1] != results["floats"][1]).sum())
        crossed = int((np.abs(results[name][1] - results["floats"][1]) == 1)[(results[name][1] != 2) & (results["floats"][1] != 2)].sum())
        bound = clopper_pearson_upper(flips, len(test.pictures), CONFIDENCE)
        figures[name] |= {"flips": flips, "flips_bound": bound, "good_to_defect_or_back": crossed}
    say("time and memory")
    ms = milliseconds({name: artefacts[name] for name in ("floats", "own")}, test.pictures)
    for name in ms:
        figures[name] |= {"ms_median": float(np.median(ms[name])), "ms_p95": float(np.quantile(ms[name], 0.95))}
        figures[name]["peak_bytes"] = peak_bytes(artefacts[name])
    figures["time_ratio"] = figures["own"]["ms_median"] / figures["floats"]["ms_median"]
    figures["size_ratio"] = figures["own"]["bytes"] / figures["floats"]["bytes"]
    bars = [
        bar(
            "AUC that 8-bit integers cost, with a head of their own",
            figures["floats"]["auc"] - figures["own"]["auc"],
            0.01,
            "AUC",
            at_most=True,
        ),
        bar("time of integers over floats", figures["time_ratio"], 0.8, "of the median", at_most=True),
        bar("size of integers over floats", figures["size_ratio"], 0.5, "of the file", at_most=True),
    ]
    return figures, bars


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--pictures", type=int, default=1000, help="pictures to count flips on")
    given = parser.parse_args()
    figures, bars = measured(given.pictures, lambda text: print(f"\r{text:78}", end="", file=sys.stderr, flush=True))
    print(f"\r{'':78}\r", end="", file=sys.stderr)
    if given.json:
        print(json.dumps({"bench": "edge", "machine": machine(), "figures": figures, "bars": bars}))
        return 0
    print(f"{figures['pictures']} pictures of modules that nothing was fitted on")
    for name in ("floats", "own", "lent"):
        print(f"{name:8}" + ", ".join(f"{key} {value:.4g}" for key, value in figures[name].items() if value is not None))
    print("\n".join(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in bars))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
