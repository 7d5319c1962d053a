"""What every system told of one question, and when its owners were asked: each client writes down when it computed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PEERS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class Told:
    """started_s: until owners could be asked. job_s: from asking to the answer, on a system that stands. rounds_s: from the first owner's
    first computation to the last one's last; later_round_s: the median round after the first. Bytes: of the owner that sent or got most, or
    None where there is no wire. peak_bytes: all processes together. found: the model's (d + 1,) coefficients on (1, z), or sums."""

    system: str
    way: str
    kind: str
    quick: bool
    started_s: float
    job_s: float
    rounds: int
    rounds_s: float
    later_round_s: float
    up_bytes: int | None
    down_bytes: int | None
    peak_bytes: int
    found: Any


@dataclass(frozen=True)
class Times:
    """In s since the epoch."""

    rounds: int
    first_s: float
    last_s: float
    later_round_s: float


def rounds_of(root: Path) -> Times:
    """From the clients' own notes. Raises SystemExit when there are none."""
    notes = [np.loadtxt(path, ndmin=2) for path in sorted(root.glob("times-*.txt"))]
    if not notes:
        raise SystemExit(f"no owner was asked; see the logs in {root}")
    ends = np.array([note[:, 1] for note in notes if len(note) == len(notes[0])]).max(axis=0)
    later = float(np.median(np.diff(ends))) if len(ends) > 1 else 0.0
    return Times(len(notes[0]), min(note[0, 0] for note in notes), max(note[-1, 1] for note in notes), later)
