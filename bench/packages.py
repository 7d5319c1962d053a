"""Measures the package's promises: are seeded faults named, and does the exported graph judge as the library does?

    .venv/bin/python bench/packages.py [--json]

Twenty-four faults that newcomers make (bench/seeded_faults.py), each put into a fresh package and given to the real command `isthmus
scenario validate`; and 1,000 records of each kind of model (bench/graphs.py), judged by the library and by the exported file.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bench_command import Say, say
from graphs import KINDS, flips_of
from seeded_faults import seeded
from solar_cells import bar, machine


def package_figures(progress: Say) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(figures, bars)."""
    progress("seeded faults")
    told = seeded()
    found = sum(one.found for one in told)
    figures: dict[str, Any] = {
        "seeded_faults": len(told),
        "found": found,
        "missed": [one.fault.name for one in told if not one.found],
        "graphs": {},
    }
    bars = [bar(f"seeded faults found, each by name, place and what to do (of {len(told)})", found, len(told), "faults")]
    for kind in KINDS:
        progress(f"graph and library: {kind}")
        row = figures["graphs"][kind] = flips_of(kind)
        bars.append(bar(f"{kind}: the exported graph flips verdicts of {row['records']}", row["flips"], 0, "verdicts", at_most=True))
    return figures, bars


def table(result: dict[str, Any]) -> str:
    """For people."""
    figures = result["figures"]
    lines = [f"faults seeded {figures['seeded_faults']}, named {figures['found']}", *(f"missed: {name}" for name in figures["missed"])]
    for kind, row in figures["graphs"].items():
        shares = f"{row['good']} good, {row['defect']} defect, {row['person']} to a person"
        gap = row["largest_difference_of_scores"]
        lines.append(f"{kind:26}{row['records']:>6} records: {row['flips']} flips ({shares}; scores differ by at most {gap:.1g})")
    held = (f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']:g} (goal {b['goal']:g} {b['unit']})" for b in result["bars"])
    return "\n".join([*lines, "", *held])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args()
    figures, bars = package_figures(say)
    say("")
    print("\r", end="", file=sys.stderr)
    result = {"bench": "packages", "machine": machine(), "figures": figures, "bars": bars}
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
