"""A hundred sites' models on one machine: memory, start and first answer, when at most a few engines run and the others sleep.

    .venv/bin/python bench/deployments.py [--json] [--sites 100]

Every site has an artefact of its own (the shipped recipe's stage, a head drawn per site), loaded and asked through the data path's registry
with real engine processes. `all awake` is told for as many engines as run at once: memory is proportional to them, and that is measured.
Certificates are not part of this bench: the gate passes everything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from solar_cells import bar, machine

from isthmus.contracts.deployment import Certified, Deployment
from isthmus.contracts.head import Array, Head
from isthmus.foundry.engine import Scorer
from isthmus.foundry.engine_process import EngineProcess
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.features import load_tensors, stage
from isthmus.gateway.limits import ENGINES_AWAKE_MAX
from isthmus.gateway.registry import Registry
from isthmus.gateway.service import DECODERS
from isthmus.kit.clock import SystemClock
from isthmus.kit.pictures import DECODER
from isthmus.scenarios.package import find_package, load_package

WAKE_S_MAX = 5.0
MIB = 2**20


class Passing:
    """A gate that passes every deployment with its own digests."""

    def check(self, deployment: Deployment, tier: str, now_s: float) -> Certified:
        return Certified(
            certificate_digest=deployment.certificate_digest,
            artefact_digest=deployment.artefact_digest,
            decoder=deployment.decoder,
            expires_s=now_s + 1000,
        )


def say(text: str) -> None:
    print(f"\r{text:70}", end="", file=sys.stderr, flush=True)


def site_models(folder: Path, sites: int) -> list[tuple[Deployment, Path]]:
    """An artefact and a deployment a site."""
    recipe = load_package(find_package("solar-cell-inspection")).recipe
    tensors = load_tensors()
    made = stage(recipe.parts, tensors, recipe.backbone)
    found = []
    for number in range(sites):
        drawn = np.random.default_rng(number).normal(0, 1e-5, made.dimension)
        head = Head(stage=made, coefficients=Array.of(drawn), bias=0.0, lo=-0.1, hi=0.1, decoder=DECODER)
        raw = build_artefact(head, tensors)
        path = folder / f"{number}.onnx"
        path.write_bytes(raw)
        certificate = "sha256:" + f"{number:064x}"
        deployment = Deployment(
            name=f"line-{number}",
            version="1",
            artefact_digest=artefact_digest(raw),
            certificate_digest=certificate,
            site=f"line-{number}",
            tier="T2",
            price_id="p",
            split_id="s",
            provider="c",
            decoder=DECODER,
            lo=-0.1,
            hi=0.1,
        )
        found.append((deployment, path))
        say(f"artefact {number + 1} of {sites}")
    return found


def _pss_bytes(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def engines_of(registry: Registry) -> list[int]:
    """Process ids of the engines that run."""
    return [pid for entry in registry.all() if isinstance(entry.engine, EngineProcess) and (pid := entry.engine.pid) is not None]


def asked(registry: Registry, name: str, picture: np.ndarray[Any, Any]) -> tuple[float, float]:
    """(score, seconds)."""
    began = time.perf_counter()
    with registry.leased(name) as entry:
        score = float(registry.engine(entry).judged([picture])[0][0])
    return score, time.perf_counter() - began


def measured(sites: int) -> dict[str, Any]:
    picture = np.random.default_rng(7).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        models = site_models(Path(folder), sites)
        registry = Registry(Passing(), EngineProcess, SystemClock(), DECODERS)
        began = time.perf_counter()
        for number, (deployment, path) in enumerate(models):
            registry.load(deployment, path, proven=True)
            say(f"loaded {number + 1} of {sites}")
        start_s = time.perf_counter() - began
        wrong, waking, awake, most = 0, [], [], 0
        try:
            for number, (deployment, path) in enumerate(models):
                score, wake_s = asked(registry, deployment.name, picture)
                again, again_s = asked(registry, deployment.name, picture)
                known = Scorer(path.read_bytes()).scores([picture])[0]
                wrong += int(score != known or again != known)
                most = max(most, len(engines_of(registry)))
                if number >= ENGINES_AWAKE_MAX:  # the first were awake since the start
                    waking.append(wake_s)
                awake.append(again_s)
                say(f"asked {number + 1} of {sites}")
            running = engines_of(registry)
            each = [_pss_bytes(pid) for pid in running]
        finally:
            registry.close()
        return {
            "sites": sites,
            "artefact_mib": round(models[0][1].stat().st_size / MIB, 2),
            "start_s": round(start_s, 2),
            "engines_most": most,
            "engine_mib": round(float(np.mean(each)) / MIB, 1),
            "engines_mib": round(sum(each) / MIB, 1),
            "all_awake_mib": round(float(np.mean(each)) * sites / MIB, 1),
            "exchange_mib": round(_pss_bytes(os.getpid()) / MIB, 1),
            "wake_s_median": round(float(np.median(waking)), 3) if waking else None,
            "wake_s_worst": round(max(waking), 3) if waking else None,
            "awake_s_median": round(float(np.median(awake)), 4),
            "wrong": wrong,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--sites", type=int, default=100, help="deployments in one exchange")
    given = parser.parse_args()
    figures = measured(given.sites)
    say("")
    print("\r", end="", file=sys.stderr)
    bars = [
        bar("answers that differ from the artefact's own", figures["wrong"], 0, "answers", at_most=True),
        bar("engines that ran at once", figures["engines_most"], ENGINES_AWAKE_MAX, "processes", at_most=True),
        bar("first answer of a model that slept, at worst", figures["wake_s_worst"] or 0.0, WAKE_S_MAX, "s", at_most=True),
    ]
    result = {"bench": "deployments", "machine": machine(), "figures": figures, "bars": bars}
    if given.json:
        print(json.dumps(result))
        return 0
    for name, value in figures.items():
        print(f"{name:18} {value}")
    for row in bars:
        print(f"{'holds ' if row['holds'] else 'MISSED'}  {row['name']}: {row['value']} {row['unit']} (goal {row['goal']})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
