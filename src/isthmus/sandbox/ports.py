"""What a node is given: extractors, corruptions and the builder of artefacts live in rooms that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Head, Stage
from isthmus.contracts.ports import Corruptor, SharedExtractor
from isthmus.contracts.schema import Schema
from isthmus.contracts.statistic import SiteHeadParams, SiteHeads
from isthmus.contracts.sums import Moments

Given = list[NDArray[Any]]
"""Decoded records: pictures, or float32 rows or windows."""


class MatrixExtractor(SharedExtractor, Protocol):
    """An extractor that takes records of a table as the matrix that they are."""

    def matrix(self, records: NDArray[np.float32], /) -> NDArray[np.int16]:
        """(n, columns) -> what `rows` gives of the same records one by one."""


@dataclass(frozen=True)
class Artefact:
    """A rebuilt artefact. digest: `sha256:<hex>` of its bytes. scores: decoded records -> (n,) float64. foretold: of one that foretells
    numbers, (n, 4, targets) float64: score, value, low and high."""

    digest: str
    scores: Callable[[Given], NDArray[np.float64]]
    foretold: Callable[[Given], NDArray[np.float64]] | None = None


class ArtefactBuilder(Protocol):
    """Rebuilds, from the head's numbers and the public backbone alone, the artefact that will serve."""

    def __call__(self, head: Head) -> Artefact: ...


class ExtractorFinder(Protocol):
    """The extractor of a stage; raises InputError when this node has not that backbone or the digest differs."""

    def __call__(self, stage: Stage) -> SharedExtractor: ...


@dataclass(frozen=True)
class SiteRows:
    """An owner's own rows for a site fit. q: (n, d), w, y, groups: (n,), all views; the first `records` rows are the identity view."""

    q: NDArray[np.int16]
    w: NDArray[np.int64]
    y: NDArray[np.int64]
    groups: NDArray[np.int64]
    records: int


class SiteFitter(Protocol):
    """Joins the fleet's sums with a site's own rows. Raises InputError."""

    def __call__(self, fleet: Moments, rows: SiteRows, stage: Stage, params: SiteHeadParams) -> SiteHeads: ...


@dataclass(frozen=True)
class Tools:
    """What lives in other rooms. site: None where a node fits no site heads. spoilt: a picture -> with drawn defects; None where a node
    draws none. corrupt_rows: what `corrupt` makes of each row of a table, at once."""

    extractor: ExtractorFinder
    artefact: ArtefactBuilder
    corrupt: Corruptor
    site: SiteFitter | None = None
    spoilt: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    corrupt_rows: Callable[[NDArray[np.float32], str, int, Schema], NDArray[np.float32]] | None = None
