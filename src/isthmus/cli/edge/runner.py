"""Judges pictures on a small machine, offline, with the model and certificate beside this file; needs onnxruntime and numpy only.

It runs nothing unless the certificate stands. Each verdict is in journal.jsonl, on the disk, before it is told; what an exchange has not
had yet is sent when one answers. Exit codes: 0 all judged; 1 a picture could not be read; 2 refused, with one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from certificate import Refused, canonical, certified, sha256
from pictures import SUFFIXES, UNREADABLE, decoded, read

VERDICTS, SEND_TIMEOUT_S, BATCH, CLOCK_BACK_S = ("good", "defect", "person"), 10.0, 500, 86_400
Stamps = dict[Path, tuple[int, int]]


class Journal:
    """One line a picture, on the disk before it counts. `record` leaves for the exchange, each with the digest of the one before; `local`
    (file names) stays. A line that was cut short by a crash is dropped: its picture is judged again, and was never counted."""

    def __init__(self, path: Path, box: str) -> None:
        self.path, self.seq, self.head, self.done, self.at_s = path, 0, sha256(box.encode()), set[tuple[str, str]](), 0
        raw = path.read_bytes() if path.exists() else b""
        self.size = raw.rfind(b"\n") + 1
        for line in raw[: self.size].split(b"\n")[:-1]:
            entry = json.loads(line)
            record = entry["record"]
            if (record["seq"], record["prev"]) != (self.seq + 1, self.head):
                raise Refused(f"journal.jsonl was edited before line {self.seq + 1}")
            self.seq, self.head, self.at_s = record["seq"], sha256(canonical(record)), max(self.at_s, record["at_s"])
            self.done.add((entry["local"]["name"], record["image"]))
        self.file = path.open("ab")
        self.file.truncate(self.size)

    def add(self, name: str, ms: float, **said: str | int) -> None:
        if os.fstat(self.file.fileno()).st_size != self.size:
            raise Refused("another runner writes journal.jsonl; end it, or use a box of its own")
        record = {"seq": self.seq + 1, "prev": self.head, **said}
        line = json.dumps({"local": {"name": name, "ms": ms}, "record": record}).encode() + b"\n"
        self.file.write(line)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.seq, self.head, self.size = self.seq + 1, sha256(canonical(record)), self.size + len(line)
        self.done.add((name, str(said["image"])))

    def sent(self) -> dict[str, Any]:
        """How far it was taken. Where this is lost it is all sent again, and counted once."""
        path = self.path.with_name("sent.json")
        return dict(json.loads(path.read_bytes())) if path.exists() else {"taken": 0, "offset": 0, "withdrawn": False}

    def send(self, url: str, key: str) -> dict[str, Any]:
        """Sends what was not taken yet, BATCH lines at a time; says how far that is, and why it goes no further."""
        state, headers = self.sent(), {"authorization": f"Bearer {key}", "content-type": "application/json"}
        while True:
            with self.path.open("rb") as file:
                file.seek(state["offset"])
                lines = [line for _, line in zip(range(BATCH), file, strict=False)]
            body = json.dumps({"records": [json.loads(line)["record"] for line in lines]}).encode()
            try:
                with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=SEND_TIMEOUT_S) as answer:
                    state.update(json.loads(answer.read()), offset=state["offset"] + sum(map(len, lines)))
            except (OSError, ValueError) as error:
                detail = error.read().decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else ""
                return {**state, "waiting": self.seq - state["taken"], "why": f"{error} {detail}".strip()}
            part = self.path.with_name("sent.part")
            part.write_bytes(json.dumps(state).encode())
            part.replace(self.path.with_name("sent.json"))
            if state["offset"] >= self.size:
                return {**state, "waiting": 0}


class Box:
    """The certified model in one session, its journal, and how many pictures were paid for beforehand."""

    def __init__(self, options: argparse.Namespace, clock: Callable[[], float]) -> None:
        folder, self.clock, self.ms, self.failed = options.box, clock, list[float](), 0
        target = json.loads((folder / "target.json").read_bytes())
        pinned = options.public_key or (folder / "issuer.pub").read_text().strip()
        model, self.until_s = certified(folder, target, pinned, options.tier, clock())
        self.journal, self.allowance = Journal(folder / "journal.jsonl", target["box"]), target["allowance"]
        self.url, self.key = (options.url or target["url"]).rstrip("/"), (folder / "box.key").read_text().strip()
        if clock() < self.journal.at_s - CLOCK_BACK_S:
            raise Refused("this machine's clock stands before the journal's last line; set it right")
        self.deliver()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads, settings.use_deterministic_compute = options.threads, 1, True
        self.session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    def judge(self, path: Path) -> bool:
        """One picture, from its file to its line in the journal, then on standard output. False when it cannot be read."""
        if self.clock() >= self.until_s:
            raise Refused("the certificate's validity is over; certify again and export again")
        try:
            raw, began_s = read(path), time.perf_counter()
            image = sha256(raw)
            if (path.name, image) in self.journal.done:
                return True
            if self.journal.seq >= self.allowance:
                raise Refused(f"the {self.allowance} pictures that were paid for are used; export again")
            score, verdict = self.session.run(["score", "verdict"], {"image": decoded(raw, path.suffix.lower())[None]})
        except UNREADABLE as error:
            self.failed += 1
            print(json.dumps({"name": path.name, "error": f"{type(error).__name__}: {error}"}), flush=True)
            return False
        said = {"score": repr(float(score[0])), "verdict": VERDICTS[int(verdict[0])]}
        self.ms.append(ms := round((time.perf_counter() - began_s) * 1000, 3))
        self.journal.add(path.name, ms, at_s=int(self.clock()), image=image, **said)
        print(json.dumps({"name": path.name, **said, "ms": ms, "image": image, "seq": self.journal.seq}), flush=True)
        return True

    def deliver(self) -> dict[str, Any]:
        """Sends what waits. Raises Refused when the issuer has withdrawn the certificate."""
        state = self.journal.send(self.url + "/v1/edge/records", self.key) if self.url else self.journal.sent()
        if state["withdrawn"]:
            raise Refused("the certificate was withdrawn by its issuer")
        if state.get("waiting"):
            print(json.dumps({"exchange": state}), file=sys.stderr)
        return state

    def figures(self) -> dict[str, Any]:
        """Milliseconds of each picture from bytes to verdict, and the most memory that the process had, where the system tells it."""
        status = Path("/proc/self/status")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else "")
        told: dict[str, Any] = {"ms": {"median": float(np.median(self.ms)), "most": max(self.ms)}} if self.ms else {}
        told |= {"peak_bytes": int(peak[1]) * 1024} if peak else {}
        return {"judged": len(self.ms), "failed": self.failed, "left": self.allowance - self.journal.seq, **told}


def look(paths: list[Path]) -> Stamps:
    """The pictures named and those in the folders named, each with size and time. A name with a dot first is still being written."""
    found = {inner for path in paths for inner in (path.rglob("*") if path.is_dir() else [path])}
    shown = [path for path in found if path in paths or (path.suffix.lower() in SUFFIXES and not path.name.startswith("."))]
    stamps: Stamps = {}
    for path in sorted(shown):
        with contextlib.suppress(FileNotFoundError):
            stamps[path] = (path.stat().st_size, path.stat().st_mtime_ns)
    return stamps


def work(box: Box, options: argparse.Namespace) -> None:
    """Judges what is there. When watching it goes on until stopped, and reads only files that stood still between two looks."""
    seen: Stamps = {}
    before, due_s = look(options.paths), 0.0
    while True:
        time.sleep(options.poll_s if options.watch else 0)
        now = look(options.paths)
        for path in [path for path in now if now[path] == before.get(path) and now[path] != seen.get(path)]:
            if box.judge(path) and options.remove:
                path.unlink()
            seen[path] = now[path]
        seen, before = {path: seen[path] for path in now if path in seen}, now
        if not options.watch:
            return
        if time.monotonic() >= due_s:
            box.deliver()
            due_s = time.monotonic() + options.send_s


def main(clock: Callable[[], float] = time.time) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, help="pictures, or folders of pictures")
    parser.add_argument("--watch", action="store_true", help="go on: judge what comes into the folders")
    parser.add_argument("--remove", action="store_true", help="remove each picture once its verdict is on the disk")
    for name, value in {"poll-s": 0.5, "send-s": 30.0, "threads": 1, "tier": "T1"}.items():
        parser.add_argument("--" + name, default=value, type=type(value))
    parser.add_argument("--url", help="the exchange that takes what was judged; the default stands in target.json")
    parser.add_argument("--public-key", help="the issuer's key (64 hex digits), from a source that you trust")
    parser.add_argument("--box", type=Path, default=Path(__file__).resolve().parent, help="the folder that `isthmus export` wrote")
    options = parser.parse_args()
    try:
        if missing := [str(path) for path in options.paths if not path.exists()]:
            raise Refused(f"there is no {missing[0]}")
        box = Box(options, clock)
        with contextlib.suppress(KeyboardInterrupt):
            work(box, options)
        print(json.dumps({**box.figures(), "exchange": box.deliver()}), file=sys.stderr)
        return 1 if box.failed else 0
    except (Refused, OSError, ValueError, KeyError, TypeError) as error:
        plain = isinstance(error, Refused | BrokenPipeError)
        damaged = "" if plain else f"the box cannot be used, export it again: {type(error).__name__}: "
        print(f"refused: {damaged}{error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
