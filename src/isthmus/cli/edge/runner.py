"""Judges pictures or records on a small machine, offline, with the model and certificate beside this file: onnxruntime and numpy only.

Records are rows of tables or windows of series: CSV files with a header, JSON files of one record, JSON Lines. It runs nothing unless the
certificate stands. Each verdict is in journal.jsonl, on the disk, before it is told; what an exchange has not had yet is sent when one
answers. Exit codes: 0 all judged; 1 a picture or record could not be read; 2 refused, with one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from certificate import Refused, certified, sha256
from journal import Journal
from pictures import UNREADABLE, Pictures
from records import Rows

VERDICTS, CLOCK_BACK_S = ("good", "defect", "person"), 86_400
Stamps = dict[Path, tuple[int, int]]


class Box:
    """The certified model in one session, its journal, and how many judgements were paid for beforehand."""

    def __init__(self, options: argparse.Namespace, clock: Callable[[], float]) -> None:
        folder, self.clock, self.ms, self.failed = options.box, clock, list[float](), 0
        target = json.loads((folder / "target.json").read_bytes())
        pinned = options.public_key or (folder / "issuer.pub").read_text().strip()
        model, self.until_s, schema = certified(folder, target, pinned, options.tier, clock())
        self.kind = Pictures() if schema is None else Rows(schema, options.stride)
        self.journal, self.allowance = Journal(folder / "journal.jsonl", target["box"]), target["allowance"]
        self.url, self.key = (options.url or target["url"]).rstrip("/"), (folder / "box.key").read_text().strip()
        if clock() < self.journal.at_s - CLOCK_BACK_S:
            raise Refused("this machine's clock stands before the journal's last line; set it right")
        self.deliver()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads, settings.use_deterministic_compute = options.threads, 1, True
        settings.log_severity_level = 3  # errors; what the runtime tidies up is nothing to tell
        self.session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    def judge(self, path: Path) -> bool:
        """One file, each record from its bytes to its line in the journal, then on standard output. False when one cannot be read."""
        before = self.failed
        try:
            for name, raw in self.kind.records(path):
                self.judge_one(name, raw, path.suffix.lower())
        except UNREADABLE as error:
            self.fail(path.name, error)
        return self.failed == before

    def judge_one(self, name: str, raw: bytes, suffix: str) -> None:
        if self.clock() >= self.until_s:
            raise Refused("the certificate's validity is over; certify again and export again")
        began_s, image = time.perf_counter(), sha256(raw)
        if (name, image) in self.journal.done:
            return
        if self.journal.seq >= self.allowance:
            raise Refused(f"the {self.allowance} {self.kind.noun} that were paid for are used; export again")
        try:
            score, verdict = self.session.run(["score", "verdict"], {self.kind.input: self.kind.decoded(raw, suffix)[None]})
        except UNREADABLE as error:
            return self.fail(name, error)
        said = {"score": repr(float(score[0])), "verdict": VERDICTS[int(verdict[0])]}
        self.ms.append(ms := round((time.perf_counter() - began_s) * 1000, 3))
        self.journal.add(name, ms, at_s=int(self.clock()), image=image, **said)
        print(json.dumps({"name": name, **said, "ms": ms, "image": image, "seq": self.journal.seq}), flush=True)

    def fail(self, name: str, error: BaseException) -> None:
        self.failed += 1
        print(json.dumps({"name": name, "error": f"{type(error).__name__}: {error}"}), flush=True)

    def deliver(self) -> dict[str, Any]:
        """Sends what waits. Raises Refused when the issuer has withdrawn the certificate."""
        state: dict[str, Any] = self.journal.send(self.url + "/v1/edge/records", self.key) if self.url else self.journal.sent()
        if state["withdrawn"]:
            raise Refused("the certificate was withdrawn by its issuer")
        if state.get("waiting"):
            print(json.dumps({"exchange": state}), file=sys.stderr)
        return state

    def figures(self) -> dict[str, Any]:
        """Milliseconds of each record from bytes to verdict, and the most memory that the process had, where the system tells it."""
        status = Path("/proc/self/status")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text() if status.exists() else "")
        told: dict[str, Any] = {"ms": {"median": float(np.median(self.ms)), "most": max(self.ms)}} if self.ms else {}
        told |= {"peak_bytes": int(peak[1]) * 1024} if peak else {}
        return {"judged": len(self.ms), "failed": self.failed, "left": self.allowance - self.journal.seq, **told}


def look(paths: list[Path], suffixes: set[str]) -> Stamps:
    """The files named and those in the folders named, each with size and time. A name with a dot first is still being written."""
    found = {inner for path in paths for inner in (path.rglob("*") if path.is_dir() else [path])}
    shown = [path for path in found if path in paths or (path.suffix.lower() in suffixes and not path.name.startswith("."))]
    stamps: Stamps = {}
    for path in sorted(shown):
        with contextlib.suppress(FileNotFoundError):
            stamps[path] = (path.stat().st_size, path.stat().st_mtime_ns)
    return stamps


def work(box: Box, options: argparse.Namespace) -> None:
    """Judges what is there. When watching it goes on until stopped, and reads only files that stood still between two looks."""
    seen: Stamps = {}
    before, due_s = look(options.paths, box.kind.suffixes), 0.0
    while True:
        time.sleep(options.poll_s if options.watch else 0)
        now = look(options.paths, box.kind.suffixes)
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
    parser.add_argument("paths", nargs="+", type=Path, help="pictures or tables, or folders of them")
    parser.add_argument("--watch", action="store_true", help="go on: judge what comes into the folders")
    parser.add_argument("--remove", action="store_true", help="remove each file once its verdicts are on the disk")
    parser.add_argument("--stride", type=int, help="rows from one window of a series to the next; the default is a window's length")
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
