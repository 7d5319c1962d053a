"""NVIDIA FLARE on the same question, by its own recipes, in an environment of its own; see peers/flare_run.py."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from datasets import default_packages
from environments import environment_python
from peer_problem import Problem
from peer_times import PEERS, Told, rounds_of
from wire import Counter, Watch, free_port

REQUIREMENTS = ("nvflare==2.9.0", "scikit-learn==1.9.1", "numpy==2.4.6", "pandas==3.1.1")
RUN_S = 400


def python() -> Path:
    return environment_python("nvflare", REQUIREMENTS, default_packages())


def asked(given: Problem, root: Path, mode: str, kind: str, rounds: int, quick: bool) -> Told:
    """mode: simulator or poc. Raises SystemExit when FLARE did not end well."""
    for old in root.glob("times-*.txt"):
        old.unlink()
    features, owners = next(iter(given.train.values())).z.shape[1], len(given.train)
    server = free_port()
    counters = [Counter(server) for _ in range(owners)] if mode == "poc" else []
    words = [python(), PEERS / "flare_run.py", mode, kind, root, "--owners", owners, "--rounds", rounds, "--features", features]
    words += ["--lam", given.lam, "--ports", f"{server}:{','.join(str(one.port) for one in counters)}", *(["--quick"] if quick else [])]
    log = root / f"flare-{mode}-{kind}.log"
    with log.open("w", encoding="utf-8") as errors:
        env = {**os.environ, "PATH": f"{python().parent}{os.pathsep}{os.environ['PATH']}"}
        env.pop("PYTHONPATH", None)
        words_ = [str(word) for word in words]
        pipe = subprocess.PIPE
        child = subprocess.Popen(words_, stdin=pipe, stdout=pipe, stderr=errors, text=True, start_new_session=True, env=env)
        with Watch({"all": [child.pid]}) as watch:
            found, sent = _followed(child, counters)
    for one in counters:
        one.close()
    if found is None:
        raise SystemExit(f"FLARE {mode} {kind} did not end well; see {log}")
    times = rounds_of(root)
    started = found["started_s"] if mode == "poc" else times.first_s - found["asked_s"]
    return Told(
        system="NVIDIA FLARE",
        way=mode,
        kind=kind,
        quick=quick,
        started_s=started,
        job_s=found["ended_s"] - found["asked_s"],
        rounds=times.rounds,
        rounds_s=times.last_s - times.first_s,
        later_round_s=times.later_round_s,
        up_bytes=max((up for up, _ in sent), default=None),
        down_bytes=max((down for _, down in sent), default=None),
        peak_bytes=watch.peak_whole,
        found=found["found"],
    )


def _followed(child: subprocess.Popen[str], counters: list[Counter]) -> tuple[dict[str, Any] | None, list[tuple[int, int]]]:
    """(its last object, bytes of each owner while the job ran)."""
    assert child.stdout is not None and child.stdin is not None
    found, before, sent = None, [(0, 0)] * len(counters), [(0, 0)] * len(counters)
    for line in child.stdout:
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        if said.get("ready"):
            before = [(one.up, one.down) for one in counters]
        elif said.get("done"):
            sent = [(one.up - up, one.down - down) for one, (up, down) in zip(counters, before, strict=True)]
        else:
            found = said
            continue
        child.stdin.write("\n")
        child.stdin.flush()
    child.wait(RUN_S)
    return found, sent
