"""The journal of a box: what it judged, chained and on the disk, and how far an exchange has taken it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from certificate import Refused, canonical, sha256

SEND_TIMEOUT_S, BATCH = 10.0, 500


class Journal:
    """One line a record, on the disk before it counts. `record` leaves for the exchange, each with the digest of the one before; `local`
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
