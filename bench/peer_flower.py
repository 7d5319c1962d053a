"""Flower on the same question, as its documentation says, in an environment of its own; see peers/flower_app."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from datasets import default_packages
from environments import environment_python
from peer_problem import Problem
from peer_times import PEERS, Told, rounds_of
from wire import Counter, Watch, free_port, waited

REQUIREMENTS = ("flwr[simulation]==1.42.0", "scikit-learn==1.9.1", "numpy==2.4.6")
RUN_S, READY_S = 400, 90


def python() -> Path:
    return environment_python("flwr", REQUIREMENTS, default_packages())


class _Running:
    """Flower's processes: a SuperLink, and for real owners a SuperNode each, behind a byte counter."""

    def __init__(self, root: Path, owners: int, simulation: bool) -> None:
        self._bin = python().parent
        self.home = root / "flower-home"
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.env = {
            **os.environ,
            "FLWR_HOME": str(self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
        }
        self.env.pop("PYTHONPATH", None)
        self.port, self.watch = free_port(), Watch({"all": []})
        self.counters: list[Counter] = []
        self._root, self._owners, self._simulation = root, owners, simulation
        self._children: list[subprocess.Popen[bytes]] = []

    def _child(self, name: str, *words: object) -> None:
        with (self._root / f"flower-{name}.log").open("wb") as log:
            child = subprocess.Popen([str(word) for word in words], env=self.env, stdout=log, stderr=log, start_new_session=True)
        self._children.append(child)
        self.watch.groups["all"].append(child.pid)

    def start(self) -> float:
        """Seconds until all were there."""
        began = time.monotonic()
        self.watch.__enter__()
        more = ["--simulation"] if self._simulation else ["--isolation", "subprocess"]
        link = self._root / "flower-link.log"
        self._child("link", self._bin / "flower-superlink", "--insecure", "--port", self.port, *more)
        waited(lambda: link.exists() and b"Uvicorn running" in link.read_bytes(), READY_S)
        for place in range(0 if self._simulation else self._owners):
            self.counters.append(Counter(self.port))
            words = ("--superlink", f"127.0.0.1:{self.counters[-1].port}", "--port", free_port())
            config = f"partition-id={place} num-partitions={self._owners}"
            self._child(f"node-{place}", self._bin / "flower-supernode", "--insecure", *words, "--node-config", config)
        waited(lambda: self._joined() >= len(self.counters), READY_S)
        said = f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        (self.home / "config.toml").write_text(said, encoding="utf-8")
        return time.monotonic() - began

    def _joined(self) -> int:
        """Owners that have spoken with the SuperLink."""
        return sum(one.down > 0 for one in self.counters)

    def stop(self) -> None:
        self.watch.__exit__(None, None, None)
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for one in self.counters:
            one.close()


def asked(given: Problem, root: Path, way: str, kind: str, rounds: int, quick: bool) -> Told:
    """way: simulation or processes. Raises SystemExit when Flower did not end well."""
    for old in (*root.glob("times-*.txt"), root / "found.json"):
        old.unlink(missing_ok=True)
    owners, features = len(given.train), next(iter(given.train.values())).z.shape[1]
    running = _Running(root, owners, way == "simulation")
    with ExitStack() as stack:
        stack.callback(running.stop)
        started = running.start()
        before = [(one.up, one.down) for one in running.counters]
        config = f'kind="{kind}" rounds={rounds} lam={given.lam} features={features} owners={owners} quick={int(quick)}'
        config += f' records={sum(len(part.y) for part in given.train.values())} data="{root}"'
        words = ["flwr", "run", str(PEERS / "flower_app"), "here", "--stream", "--run-config", config]
        words += ["--federation-config", f"num-supernodes={owners}"] if way == "simulation" else []
        began = time.monotonic()
        with (root / f"flower-{way}-{kind}.log").open("wb") as log:
            ran = subprocess.run(words, env=running.env, stdout=log, stderr=log, timeout=RUN_S, check=False)
        job_s = time.monotonic() - began
        if ran.returncode or not (root / "found.json").exists():
            raise SystemExit(f"Flower {way} {kind} did not end well; see {root}")
        sent = [(one.up - up, one.down - down) for one, (up, down) in zip(running.counters, before, strict=True)]
    told, times = json.loads((root / "found.json").read_text(encoding="utf-8")), rounds_of(root)
    return Told(
        system="Flower",
        way=way,
        kind=kind,
        quick=quick,
        started_s=started,
        job_s=job_s,
        rounds=times.rounds,
        rounds_s=times.last_s - times.first_s,
        later_round_s=times.later_round_s,
        up_bytes=max((up for up, _ in sent), default=None),
        down_bytes=max((down for _, down in sent), default=None),
        peak_bytes=running.watch.peak_whole,
        found=told["found"],
    )
