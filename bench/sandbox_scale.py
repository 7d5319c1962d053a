"""Measures how a job of ours grows: 2 to 50 owners, a thousand to ten million rows; real nodes, counted bytes, as a plot.

    .venv/bin/python bench/sandbox_scale.py [--json] [--owners 2,3,5,10,20,50] [--rows 1000,10000,100000,1000000,10000000] [--svg FILE]

Rows are drawn: eight numbers and a label that follows from them, as a Parquet file an owner (CSV without pyarrow). Each number is one
feature, so a job's sums have 49 to 57 numbers whatever the rows. `cold`: a node's first job, which reads the table and keeps its features;
`warm`: the same statistic again, for another run; `irls`: one round of a logistic fit. Bytes: all that one owner sends while one job runs,
with headers and questions for tasks (one more or less is some 350 bytes), and `body`: its messages for the job as its signed log has them.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_command import Say, say
from federation import Federation
from scale_plot import plotted
from solar_cells import bar, machine

from isthmus.contracts.head import Array
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.statistic import IRLS, MOMENTS, IrlsParams, MomentsParams
from isthmus.contracts.sums import moments_from
from isthmus.foundry.stages import stage_of
from isthmus.sandbox.outlog import LOG_NAME

COLUMNS = 8
CHUNK_ROWS = 500_000
OWNERS, ROWS_OF_OWNERS = 3, 1000
PURPOSE = "scale"
SCHEMA = Schema(columns=tuple(Column(name=f"m{place}", unit="1", low=-5, high=5) for place in range(COLUMNS)))


def drawn(rows: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, COLUMNS)).astype(np.float32)
    return values, values @ np.linspace(-1, 1, COLUMNS) + rng.logistic(size=rows) > 0


def table_file(root: Path, rows: int, seed: int) -> Path:
    """One owner's table, written in chunks."""
    root.mkdir(parents=True)
    if importlib.util.find_spec("pyarrow") is None:
        path = root / "rows.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(column.name for column in SCHEMA.columns), "label", "split"])
            for start in range(0, rows, CHUNK_ROWS):
                values, bad = drawn(min(CHUNK_ROWS, rows - start), seed + start)
                writer.writerows(
                    [*(f"{v:.4f}" for v in row), "defect" if b else "good", "train"] for row, b in zip(values, bad, strict=True)
                )
        return path
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    path, writer = root / "rows.parquet", None
    for start in range(0, rows, CHUNK_ROWS):
        values, bad = drawn(min(CHUNK_ROWS, rows - start), seed + start)
        fields = {column.name: values[:, place] for place, column in enumerate(SCHEMA.columns)}
        part = arrow.table({**fields, "label": np.where(bad, "defect", "good"), "split": np.full(len(bad), "train")})
        writer = writer or parquet.ParquetWriter(path, part.schema)
        writer.write_table(part)
    assert writer is not None
    writer.close()
    return path


def body_bytes(home: Path) -> list[int]:
    """By job, what a node's signed log says that it sent for it: countersignature and sums. The same bytes once more, because an answer was
    slow to come, count once; what was counted on the wire has them."""
    found: dict[str, int] = {}
    seen = set()
    for line in (home / LOG_NAME).read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["kind"] in ("countersign", "vector") and entry["sha256"] not in seen:
            seen.add(entry["sha256"])
            found[entry["job"]] = found.get(entry["job"], 0) + entry["bytes"]
    return list(found.values())


def measured(owners: int, rows: int, at_once: int) -> dict[str, Any]:
    """rows: of all owners together."""
    stage = stage_of("table", ("columns",), SCHEMA)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = {f"owner-{place:02d}": table_file(root / f"data-{place}", rows // owners, 1000 * place) for place in range(owners)}
        terms = ("--logistic", "--least-participants", str(min(3, owners)), "--operation", MOMENTS, "--operation", IRLS)
        if owners < 3:
            terms = (*terms, "--visibility", "individual")
        times: dict[str, float] = {}
        sizes: dict[str, int] = {}
        with Federation(root / "federation", files, PURPOSE, terms, at_once=at_once) as federation:
            moments = None
            for name, run in (("cold_s", "one"), ("warm_s", "two"), ("irls_s", "two")):
                before, began = federation.sent(), time.monotonic()
                if name == "irls_s" and moments is not None:
                    at = Array.of(np.zeros(stage.dimension + 1))
                    federation.total(run, IRLS, stage, IrlsParams(sure_weight=1, coefficients=at, total_weight=moments.sum_w))
                else:
                    moments = moments_from(federation.total(run, MOMENTS, stage, MomentsParams(sure_weight=1)), stage.dimension)
                times[name] = round(time.monotonic() - began, 3)
                up = {party: now[0] - before[party][0] for party, now in federation.sent().items()}
                sizes[name.replace("_s", "_bytes")] = max(up.values())
            assert moments is not None
            bodies = [body_bytes(federation.home(party)) for party in files]
            peaks = [federation.watch.peaks[party] for party in files]
            start = dict(federation.times)
        sizes["body_bytes"] = max(max(one) for one in bodies)
        assert len({tuple(one) for one in bodies}) == 1, bodies
        found = {"owners": owners, "rows": moments.records, "features": stage.dimension, **times, **sizes, "start": start}
        return {**found, "node_mib": round(max(peaks) / 2**20), "all_mib": round(federation.watch.peak_whole / 2**20)}


def bars_of(by_rows: list[dict[str, Any]], by_owners: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    if len(by_rows) > 1:
        sent = [row["body_bytes"] for row in by_rows]
        name = f"bytes of an owner's messages for a job, most over least, {by_rows[0]['rows']:,} to {by_rows[-1]['rows']:,} rows"
        found.append(bar(name, max(sent) / min(sent), 1.0, "x", at_most=True))
    if by_rows:
        found.append(bar("memory of a node, beside the data, most", max(row["node_mib"] for row in by_rows), 300, "MiB", at_most=True))
    if len(by_owners) > 1:
        found.append(bar("every roster answered", len(by_owners), len(by_owners), "rosters"))
    return found


def table(result: dict[str, Any]) -> str:
    """For people."""
    keys = ("owners", "rows", "cold_s", "warm_s", "irls_s", "cold_bytes", "warm_bytes", "irls_bytes", "body_bytes", "node_mib", "all_mib")
    lines = ["".join(f"{key:>12}" for key in keys) + f"{'start s':>10}"]
    for part in ("by_rows", "by_owners"):
        for row in result["figures"][part]:
            lines.append("".join(f"{format(row[key], ','):>12}" for key in keys) + f"{sum(row['start'].values()):>10.1f}")
        lines.append("")
    held = (f"{'holds' if b['holds'] else 'FAILS':6} {b['name']}: {b['value']:g} (goal {b['goal']:g} {b['unit']})" for b in result["bars"])
    return "\n".join([*lines, *held])


def run(owners: list[int], rows: list[int], at_once: int, progress: Say) -> dict[str, Any]:
    by_rows, by_owners = [], []
    for count in rows:
        progress(f"{OWNERS} owners, {count:,} rows")
        by_rows.append(measured(OWNERS, count, at_once))
    for count in owners:
        progress(f"{count} owners")
        by_owners.append(measured(count, ROWS_OF_OWNERS * count, at_once))
    form = "parquet" if importlib.util.find_spec("pyarrow") else "csv"
    figures = {"form": form, "by_rows": by_rows, "by_owners": by_owners}
    return {"bench": "sandbox_scale", "machine": machine(), "figures": figures, "bars": bars_of(by_rows, by_owners)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--owners", default="2,3,5,10,20,50", help="rosters, with commas between")
    parser.add_argument("--rows", default="1000,10000,100000,1000000,10000000", help="rows of three owners together")
    parser.add_argument("--at-once", type=int, default=2, help="owners' commands run side by side")
    parser.add_argument("--svg", type=Path, default=None, help="where to write the plot")
    given = parser.parse_args()
    numbers = [[int(text) for text in words.split(",") if text] for words in (given.owners, given.rows)]
    result = run(numbers[0], numbers[1], given.at_once, say)
    say("")
    print("\r", end="", file=sys.stderr)
    if given.svg is not None:
        given.svg.write_text(plotted(result["figures"]), encoding="utf-8")
    print(json.dumps(result) if given.json else table(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
