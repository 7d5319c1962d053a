"""What rooms ask of each other without importing each other. `app` and `cli` pass the implementations in."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.schema import Schema


class Clock(Protocol):
    """Wall time for documents, monotonic time for waiting."""

    def now_s(self) -> float:
        """Seconds since the Unix epoch."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back."""


class Extractor(Protocol):
    """A frozen, public extractor of features of pictures, whose integers all statistics are made of."""

    @property
    def digest(self) -> str:
        """sha256 of the extractor's definition; equal digests give equal features on one machine type."""

    @property
    def dimension(self) -> int:
        """Number of features."""

    def quantised(self, images: list[NDArray[np.uint8]]) -> NDArray[np.int16]:
        """Images (each H x W x 3, uint8, any size) -> (len(images), dimension) int16 in [-32767, 32767]."""


class SharedExtractor(Protocol):
    """A frozen, public feature extractor, whose rows may serve several stages, so that records are read once.

    `digest` names the rows that `rows` makes; `select` takes a stage's features out of them.
    """

    @property
    def digest(self) -> str:
        """sha256 of the definition of the rows."""

    def rows(self, given: list[NDArray[Any]], /) -> NDArray[np.int16]:
        """Decoded records -> (len(given), any number) int16."""

    def select(self, rows: NDArray[np.int16]) -> NDArray[np.int16]:
        """(n, any number) -> (n, the stage's dimension)."""


class Corruptor(Protocol):
    """Declared corruptions of a record, in a fixed sequence of severities."""

    def __call__(self, record: NDArray[Any], family: str, severity: int, schema: Schema | None = None, /) -> NDArray[Any]:
        """A picture (H x W x 3 uint8), or a record of the schema -> the same shape. severity 1..5. Deterministic in its arguments."""


class Progress(Protocol):
    """Where long work says how far it is."""

    def __call__(self, done: int, total: int, label: str) -> None: ...


Json = dict[str, Any]
