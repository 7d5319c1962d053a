"""What every bench on the sample cells is as a command: its options, its progress, its one object."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from solar_cells import Cells, default_cache, load_cells, machine

from isthmus.contracts.scenario import Scenario
from isthmus.scenarios.package import find_package, load_package

Say = Callable[[str], None]
Figures = dict[str, Any]
BarRows = list[dict[str, Any]]


def say(text: str) -> None:
    """One line of progress on standard error, over the last one."""
    print(f"\r{text:78}", end="", file=sys.stderr, flush=True)


def run_bench(
    name: str,
    doc: str,
    times: tuple[str, int, str],
    measure: Callable[[Cells, Scenario, int, Say], tuple[Figures, BarRows]],
    table: Callable[[dict[str, Any]], str],
    more: Callable[[Cells, Scenario, Path, int, Say], tuple[Figures, BarRows]] | None = None,
) -> int:
    """times: an option's name, default and help, of how often to draw. measure: (cells, shipped scenario, times, progress) -> (figures,
    bars). table: the result for people. more: further sections, with the cache's folder and the processor threads."""
    parser = argparse.ArgumentParser(description=doc.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(f"--{times[0]}", dest="times", type=int, default=times[1], help=times[2])
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder that keeps extracted features")
    parser.add_argument("--threads", type=int, default=2, help="processor threads for extraction")
    given = parser.parse_args()
    data = load_cells(given.cache, given.threads, say)
    figures, bars = measure(data, load_package(find_package("solar-cell-inspection")), given.times, say)
    if more is not None:
        sections, rows = more(data, load_package(find_package("solar-cell-inspection")), given.cache, given.threads, say)
        figures, bars = {**figures, **sections}, [*bars, *rows]
    say("")
    print("\r", end="", file=sys.stderr)
    result = {"bench": name, "machine": machine(), "figures": figures, "bars": bars}
    print(json.dumps(result) if given.json else table(result))
    return 0
