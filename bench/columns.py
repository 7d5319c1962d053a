"""Big tables: what a real node needs for moments/1 and a round of irls/1 over 1e3 to 1e7 rows of a Parquet file, in memory, time and bytes.

    .venv/bin/python bench/columns.py --json              # 1e3 to 1e7 rows of 30 features; 2 GB of temporary files
    .venv/bin/python bench/columns.py --rows 1000 100000  # fewer

An exchange (`isthmus up`) and one node (`isthmus node init`, `agree`, `start`) run as processes, and the exchange is asked for jobs through
its API. Memory is the node process's own peak, as the system counts it. Times are processor time of the node process, so that others on
the machine do not count. Limits of the same call, each in a process of its own: numpy's X.T @ X of the same rows as doubles, all in memory,
and pyarrow's plain read of the same columns. Needs the extra `columns`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from solar_cells import bar, machine

from isthmus.contracts.head import Array
from isthmus.contracts.schema import Column, Schema
from isthmus.foundry.stages import stage_of

FEATURES, CHUNK_ROWS, GROUP = 30, 100_000, 60
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
MEMORY_MB_MAX = 300
NAMES = [f"x{place}" for place in range(FEATURES)]
SCHEMA = Schema(columns=tuple(Column(name=name, low=-5, high=5) for name in NAMES))
STAGE = stage_of("table", ("columns",), SCHEMA)
VIEWS = {"views": ["identity"], "sure_weight": 1, "unsure_weight": 1}
TICKS = os.sysconf("SC_CLK_TCK")


def say(text: str) -> None:
    print(f"\r{text:78}", end="", file=sys.stderr, flush=True)


def drawn(rows: int) -> Iterator[tuple[Any, Any, Any]]:
    """(values, labels, groups) of a made-up table, in chunks."""
    rng = np.random.default_rng(7)
    slopes = rng.normal(size=FEATURES)
    for start in range(0, rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, rows - start)
        x = rng.normal(size=(count, FEATURES)).astype(np.float32)
        yield x, x @ slopes + rng.logistic(size=count) * 3 > 0, (start + np.arange(count)) // GROUP


def write(path: Path, rows: int) -> None:
    columns = [*((name, pa.float32()) for name in NAMES), ("label", pa.string()), ("lot", pa.int64())]
    with pq.ParquetWriter(path, pa.schema(columns)) as writer:
        for x, defect, lots in drawn(rows):
            labels = np.where(defect, "defect", "good")
            writer.write_table(pa.table({**dict(zip(NAMES, x.T, strict=True)), "label": labels, "lot": lots}))


# Limits, in processes of their own.


def limit(kind: str, path: Path) -> dict[str, float]:
    """cpu_s of the work alone, and memory_mb of the whole process."""
    if kind == "products":
        x = np.concatenate([np.stack([b.column(n).to_numpy() for n in NAMES], axis=1) for b in _read(path)]).astype(np.float64)
        began = time.process_time()
        product = x.T @ x
        assert product.shape == (FEATURES, FEATURES)
    else:
        began, rows = time.process_time(), 0
        for batch in _read(path):
            rows += batch.num_rows
        assert rows
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_s": time.process_time() - began, "memory_mb": memory_mb}


def _read(path: Path) -> Any:
    return pq.ParquetFile(path).iter_batches(columns=NAMES, use_threads=False)


# An exchange and a node.


def command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "isthmus", *map(str, words)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def ended(process: subprocess.Popen[Any]) -> dict[str, float]:
    """Waits for a process: its processor time and peak memory."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {"cpu_s": used.ru_utime + used.ru_stime, "memory_mb": used.ru_maxrss / 1024, "code": process.returncode}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Exchange:
    """`isthmus up` on a free port."""

    def __init__(self, state: Path) -> None:
        self._process = subprocess.Popen(
            command("up", "--state", state, "--port", "0"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
        )
        address, until = state / "exchange" / "address.json", time.monotonic() + 120
        while not address.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the exchange did not start")
            time.sleep(0.1)
        self.url = json.loads(address.read_text())["url"]
        token = (state / "exchange" / "operator.token").read_text().strip()
        self.client = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {token}"}, timeout=60)

    def job(self, party: str, statistic: str, params: dict[str, Any], run: str, node: subprocess.Popen[Any]) -> dict[str, Any]:
        """One job by one node: its answer, and the node's processor time for it."""
        wanted = {"run_id": run, "round": 1, "purpose": "bench", "scenario": "bench", "statistic": statistic, "roster": [party]}
        body = {**wanted, "stage": msgspec.to_builtins(STAGE), "params": params, "ttl_s": 3600}
        before, began = cpu_s(node.pid), time.monotonic()
        found = self.client.post("/v1/jobs", json=body).raise_for_status().json()
        while found["phase"] not in ("done", "failed"):
            time.sleep(0.05)
            found = self.client.get(f"/v1/jobs/{found['id']}").raise_for_status().json()
        if found["phase"] != "done":
            raise SystemExit(f"the job {statistic} failed: {found['refusals']}")
        return {
            "total": msgspec.convert(found["total"], Array).array(),
            "cpu_s": cpu_s(node.pid) - before,
            "wall_s": time.monotonic() - began,
        }

    def stop(self) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait(30)


def measured(rows: int, folder: Path, exchange: Exchange) -> dict[str, Any]:
    """One size."""
    party, path, state = f"owner-{rows}", folder / f"{rows}.parquet", folder / f"node-{rows}"
    say(f"{rows} rows: writing")
    write(path, rows)
    init = command("node", "init", path, "--state", state, "--id", party, "--group-column", "lot", "--sample", "--json")
    say(f"{rows} rows: becoming an asset")
    begun = ended(subprocess.Popen(init, stdout=subprocess.DEVNULL, env=environment()))
    operations = [word for name in ("moments/1", "irls/1") for word in ("--operation", name)]
    terms = ["--visibility", "individual", "--least-participants", 1, "--exchange", exchange.url, *operations]
    subprocess.run(
        command("node", "agree", "--state", state, "--purpose", "bench", *terms), check=True, stdout=subprocess.DEVNULL, env=environment()
    )
    node = subprocess.Popen(
        command("node", "start", "--state", state, "--exchange", exchange.url), stderr=subprocess.DEVNULL, env=environment()
    )
    while party not in [one["party"] for one in exchange.client.get("/v1/nodes").json()] or not any(
        one["owner"] == party for one in exchange.client.get("/v1/agreements").json()
    ):
        time.sleep(0.1)
        if node.poll() is not None:
            raise SystemExit("the node did not start")
    say(f"{rows} rows: moments/1")
    first = exchange.job(party, "moments/1", VIEWS, f"first-{rows}", node)
    again = exchange.job(party, "moments/1", VIEWS, f"again-{rows}", node)
    at = msgspec.to_builtins(Array.of(np.append(0.0, np.full(FEATURES, 1e-5))))
    say(f"{rows} rows: irls/1")
    irls = exchange.job(party, "irls/1", {**VIEWS, "coefficients": at, "total_weight": int(first["total"][2])}, f"first-{rows}", node)
    node.terminate()
    used = ended(node)
    assert (first["total"] == again["total"]).all()
    log = json.loads(
        subprocess.run(command("node", "log", "--state", state, "--json"), check=True, capture_output=True, env=environment()).stdout
    )
    sums = [entry["bytes"] for entry in log["entries"] if entry["kind"] == "vector"]
    limits = {kind: _limit(kind, path) for kind in ("products", "read")}
    file_mb, trained = path.stat().st_size / 1e6, int(first["total"][0])
    shutil.rmtree(state)
    path.unlink()
    return {
        "rows": rows,
        "training_rows": trained,
        "file_mb": round(file_mb, 1),
        "init_cpu_s": round(begun["cpu_s"], 2),
        "init_memory_mb": round(begun["memory_mb"]),
        "node_memory_mb": round(used["memory_mb"]),
        "moments_first_cpu_s": round(first["cpu_s"], 2),
        "moments_cpu_s": round(again["cpu_s"], 2),
        "irls_cpu_s": round(irls["cpu_s"], 2),
        "moments_first_rows_per_s": round(trained / max(first["cpu_s"], 1 / TICKS)),
        "moments_rows_per_s": round(trained / max(again["cpu_s"], 1 / TICKS)),
        "irls_rows_per_s": round(trained / max(irls["cpu_s"], 1 / TICKS)),
        "moments_to_products": round(again["cpu_s"] / trained * rows / max(limits["products"]["cpu_s"], 1e-9), 2),
        "moments_first_to_read": round(first["cpu_s"] / max(limits["read"]["cpu_s"], 1e-9), 2),
        "products_memory_mb": round(limits["products"]["memory_mb"]),
        "sum_bytes": sums,
        "images_left": log["images_left"],
    }


def _limit(kind: str, path: Path) -> dict[str, float]:
    made = subprocess.run([sys.executable, __file__, "--limit", kind, str(path)], check=True, capture_output=True, env=environment())
    found: dict[str, float] = json.loads(made.stdout)
    return found


def table(figures: list[dict[str, Any]]) -> str:
    lines = ["rows        node MB  init s  moments/1 first s  again s   irls/1 s   rows/s again   to X'X   first to read   bytes of sums"]
    for f in figures:
        lines.append(
            f"{f['rows']:<11,} {f['node_memory_mb']:>7} {f['init_cpu_s']:>7} {f['moments_first_cpu_s']:>18} {f['moments_cpu_s']:>8}"
            f" {f['irls_cpu_s']:>10} {f['moments_rows_per_s']:>14,} {f['moments_to_products']:>8} {f['moments_first_to_read']:>15}"
            f"   {' '.join(map(str, f['sum_bytes']))}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--rows", type=int, nargs="+", default=list(SIZES), help="sizes to measure")
    parser.add_argument("--limit", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.limit:
        print(json.dumps(limit(given.limit[0], Path(given.limit[1]))))
        return 0
    with tempfile.TemporaryDirectory(prefix="isthmus-columns-") as name:
        exchange = Exchange(Path(name) / "exchange-state")
        try:
            figures = [measured(rows, Path(name), exchange) for rows in given.rows]
        finally:
            exchange.stop()
    say("")
    print("\r", end="", file=sys.stderr)
    last, sizes = figures[-1], {tuple(f["sum_bytes"]) for f in figures}
    bars = [
        bar(f"memory of the node at {last['rows']:,} rows", last["node_memory_mb"], MEMORY_MB_MAX, "MB", at_most=True),
        bar("different counts of bytes of sums over all sizes", len(sizes), 1, "counts", at_most=True),
        bar("moments/1 again, to numpy's X.T @ X in memory, a row", last["moments_to_products"], 10, "times", at_most=True),
        bar("moments/1 the first time, to pyarrow's plain read", last["moments_first_to_read"], 20, "times", at_most=True),
    ]
    result = {"bench": "columns", "machine": machine(), "figures": figures, "bars": bars}
    print(json.dumps(result) if given.json else table(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
