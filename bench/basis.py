"""Makes the public basis anew from its seed and compares it with the one that ships.

    .venv/bin/python bench/basis.py [--json] [--write]

Only drawn surfaces enter (foundry.surfaces), no picture of anybody. On the machine type that made the file, both are equal to the digit;
elsewhere the backbone rounds otherwise and the bars allow for that.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from solar_cells import area, bar, machine

import isthmus.foundry
from isthmus.foundry.basis import FILE, PICTURES, SEED, Basis, make_basis, shipped_basis
from isthmus.foundry.features import BACKBONES, StageExtractor, load_tensors
from isthmus.foundry.surfaces import KINDS, surface

BACKBONE = "efficientnet-lite0-dim"
FRESH_SEED, FRESH = 77, 300


def gap(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Largest difference over the largest entry."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def fresh_areas(basis: Basis, say: Any) -> dict[str, float]:
    """AUC of each detector at telling, on fresh surfaces, pictures with its kind of defect from those without."""
    rng = np.random.default_rng(FRESH_SEED)
    drawn = [surface(rng) for _ in range(FRESH)]
    say(f"detectors on {FRESH} fresh surfaces")
    found = StageExtractor(("defects/max",), threads=2, backbone=BACKBONE, basis=basis).quantised([one.pixels for one in drawn])
    truth = np.stack([one.covered.max(axis=(1, 2)) > 0 for one in drawn])
    return {kind: round(area(truth[:, place], found[:, place].astype(float)), 4) for place, kind in enumerate(KINDS)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--write", action="store_true", help="put the new basis in the place of the one that ships")
    given = parser.parse_args()

    def say(text: str) -> None:
        print(f"\r{text:78}", end="", file=sys.stderr, flush=True)

    began = time.monotonic()
    made = make_basis(load_tensors(), BACKBONES[BACKBONE], say=lambda done: say(f"surfaces drawn and looked at: {done} of {PICTURES}"))
    if given.write:
        target = Path(str(isthmus.foundry.__file__)).parent / FILE
        target.write_text(json.dumps(made.document(), indent=0) + "\n", encoding="utf-8")
        shipped_basis.cache_clear()
    ships = shipped_basis()
    areas = fresh_areas(ships, say)
    say("")
    print("\r", end="", file=sys.stderr)
    gaps = {
        "detectors": gap(made.detectors, ships.detectors),
        **{name: gap(made.directions[name][0], ships.directions[name][0]) for name in ships.directions},
    }
    figures = {"seed": SEED, "pictures": PICTURES, "digest": ships.digest, "made": made.digest, "gaps": gaps, "fresh_auc": areas}
    figures["wall_s"] = round(time.monotonic() - began, 1)
    bars = [
        bar("detectors made anew differ from those that ship by", gaps["detectors"], 0.01, "of the largest entry", at_most=True),
        bar("the weakest detector on fresh surfaces", min(areas.values()), 0.75, "AUC"),
    ]
    result = {"bench": "basis", "machine": machine(), "figures": figures, "bars": bars}
    if given.json:
        print(json.dumps(result))
    else:
        for kind, value in areas.items():
            print(f"{kind:16} AUC {value:.3f} on fresh surfaces")
        for name, value in gaps.items():
            print(f"{name:16} made anew: differs by {value:.2e} of the largest entry")
        print("\n".join(f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']} (goal {b['goal']} {b['unit']})" for b in bars))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
