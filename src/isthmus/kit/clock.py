"""The system's clock, and one that tests set by hand."""

from __future__ import annotations

import time
from dataclasses import dataclass


class SystemClock:
    """Wall and monotonic time of this machine."""

    def now_s(self) -> float:
        return time.time()

    def monotonic_s(self) -> float:
        return time.monotonic()


@dataclass
class SetClock:
    """A clock that stands still until it is moved; for tests and the simulator."""

    at_s: float = 1_800_000_000.0

    def now_s(self) -> float:
        return self.at_s

    def monotonic_s(self) -> float:
        return self.at_s

    def advance(self, seconds: float) -> None:
        self.at_s += seconds
