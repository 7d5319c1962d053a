"""A real federation of ours on this machine: `isthmus up`, and a real `isthmus node` process an owner, each behind a byte counter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx
import msgspec
import numpy as np
from wire import Counter, Watch, waited

from isthmus.contracts.head import Stage
from isthmus.contracts.job import JobRequest, JobStatus

STOP_S = 20
READY_S = 120


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "isthmus", *(str(word) for word in words)]


def done(*words: object) -> dict[str, Any]:
    """What a command said with --json. Raises SystemExit when it failed."""
    ran = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"isthmus {' '.join(map(str, words[:3]))} failed: {ran.stderr.strip()[-400:]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


class Federation:
    """Entered: all nodes are registered. times: what each part of starting took, in s. watch: memory from the first process on.

    folders: party -> its data. terms, init: further words of `isthmus node agree` and `init`. at_once: commands of owners run side by side.
    """

    def __init__(
        self,
        root: Path,
        folders: Mapping[str, Path],
        purpose: str,
        terms: tuple[str, ...] = (),
        init: tuple[str, ...] = (),
        at_once: int = 1,
    ) -> None:
        self.root, self._folders, self._purpose, self._terms, self._init = root, dict(folders), purpose, terms, init
        self._at_once = at_once
        self.times: dict[str, float] = {}
        self.counters: dict[str, Counter] = {}
        self.watch = Watch({"exchange": [], **{party: [] for party in folders}})
        self._children: list[subprocess.Popen[str]] = []
        self._logs: list[IO[str]] = []
        self._round = 0

    def _child(self, group: str, *words: object) -> subprocess.Popen[str]:
        log = (self.root / f"{group}.log").open("w", encoding="utf-8")
        self._logs.append(log)
        child = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, env=os.environ)
        self._children.append(child)
        self.watch.groups[group].append(child.pid)
        return child

    def _timed(self, name: str, began_s: float) -> None:
        self.times[name] = round(time.monotonic() - began_s, 3)

    def __enter__(self) -> Federation:
        self.root.mkdir(parents=True, exist_ok=True)
        self.watch.__enter__()
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self) -> None:
        began = time.monotonic()
        state = self.root / "exchange-state"
        child = self._child("exchange", "up", "--state", state, "--port", "0", "--json")
        assert child.stdout is not None
        told = json.loads(child.stdout.readline() or "{}")
        if "url" not in told:
            raise SystemExit(f"the exchange did not start; see {self.root / 'exchange.log'}")
        self._timed("exchange", began)
        self.url, key = str(told["url"]), told["public_key"]
        token = (state / "exchange" / "operator.token").read_text(encoding="utf-8").strip()
        self.operator = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=600)
        began = time.monotonic()
        with ThreadPoolExecutor(self._at_once) as pool:
            told_keys = list(pool.map(lambda party: str(self._made(party)["public_key"]), self._folders))
        keys = dict(zip(self._folders, told_keys, strict=True))
        self._timed(f"node init, {self._at_once} at a time", began)
        began = time.monotonic()
        with ThreadPoolExecutor(self._at_once) as pool:
            list(pool.map(lambda party: self._agreed(party, keys, key), keys))
        self._timed(f"node agree, {self._at_once} at a time", began)
        began = time.monotonic()
        for party in keys:
            self.counters[party] = Counter(int(self.url.rsplit(":", 1)[1]))
            address = f"http://127.0.0.1:{self.counters[party].port}"
            self._child(party, "node", "start", "--state", self._home(party), "--exchange", address)
        waited(lambda: len(self._get("/v1/agreements")) == len(keys) and len(self._get("/v1/nodes")) == len(keys), READY_S)
        self._timed("nodes start and register, together", began)

    def _made(self, party: str) -> dict[str, Any]:
        return done("node", "init", self._folders[party], "--state", self._home(party), "--id", party, *self._init, "--json")

    def _agreed(self, party: str, keys: Mapping[str, str], exchange_key: str) -> None:
        others = [word for other, key in keys.items() if other != party for word in ("--participant", f"{other}={key}")]
        words = ("--purpose", self._purpose, "--exchange-key", exchange_key, *others, *self._terms)
        done("node", "agree", "--state", self._home(party), *words, "--json")

    def _home(self, party: str) -> Path:
        return self.root / "nodes" / party

    def home(self, party: str) -> Path:
        """The node's state folder."""
        return self._home(party)

    def _get(self, path: str) -> Any:
        return self.operator.get(path).raise_for_status().json()

    def total(self, run_id: str, statistic: str, stage: Stage, params: msgspec.Struct) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The roster's sum, asked for and waited for over HTTP. Raises SystemExit when the job fails."""
        self._round += 1
        asked = JobRequest(
            run_id=run_id,
            round=self._round,
            purpose=self._purpose,
            scenario="bench@1",
            statistic=statistic,
            stage=stage,
            params=msgspec.to_builtins(params),
            roster=tuple(self._folders),
        )
        answer = self.operator.post("/v1/jobs", content=msgspec.json.encode(asked))
        if answer.status_code >= 400:
            raise SystemExit(f"the exchange refused {statistic}: {answer.text[:300]}")
        status = msgspec.json.decode(answer.content, type=JobStatus)
        while status.phase not in ("done", "failed"):
            raw = self.operator.get(f"/v1/jobs/{status.id}?wait_s=20").raise_for_status().content
            status = msgspec.json.decode(raw, type=JobStatus)
        if status.total is None:
            raise SystemExit(f"{statistic} failed: {status.reason}")
        return status.total.array().astype(np.int64)

    def sent(self) -> dict[str, tuple[int, int]]:
        """party -> bytes (up, down) until now."""
        return {party: (one.up, one.down) for party, one in self.counters.items()}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        self.watch.__exit__(None, None, None)
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout is not None:
                child.stdout.close()
        for log in self._logs:
            log.close()
        for one in self.counters.values():
            one.close()
