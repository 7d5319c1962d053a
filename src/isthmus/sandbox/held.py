"""An owner's data as statistics see it: a folder of records (sandbox.ownerdata), or a table in columns (sandbox.columndata)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Stage
from isthmus.contracts.ports import Progress
from isthmus.contracts.schema import Schema
from isthmus.contracts.statistic import Corruption, TrainingParams
from isthmus.contracts.targets import Target
from isthmus.sandbox.folder import Groups
from isthmus.sandbox.ports import Artefact, Tools
from isthmus.sandbox.statistics.records import Records, Training

WHOLE_BYTES_MAX = 128 * 1024 * 1024
"""Features of an owner's training records that are held in memory at once; what is more is walked in chunks."""


class HeldChunk(Protocol):
    """Up to CHUNK_RECORDS records of a split, in order, to be judged by models."""

    @property
    def records(self) -> Records:
        """Labels, groups and kinds."""

    def features(self, stage: Stage, corruption: Corruption | None = None) -> NDArray[np.int16]:
        """(n, width) of the stage, corrupted first if so asked."""

    def artefact_scores(self, artefact: Artefact, stage: Stage) -> NDArray[np.float64]:
        """(n,) scores of the artefact itself, run on the decoded records as they are."""


class Held(Protocol):
    """A split's records in chunks of CHUNK_RECORDS. contiguous: each group's records stand together."""

    @property
    def contiguous(self) -> bool: ...

    def chunks(self) -> Iterator[HeldChunk]: ...


class Data(Protocol):
    """The data of one asset. Everything raises RefusedError when the data are no longer those that the asset commits to."""

    @property
    def tools(self) -> Tools: ...

    @property
    def progress(self) -> Progress: ...

    @property
    def begun(self) -> dict[str, NDArray[np.float64]]:
        """Scores that trees begin at, kept between rounds."""

    def telling(self, progress: Progress) -> Data:
        """The same, which tells another of its progress."""

    def shortening(self, norm_max: int) -> Data:
        """The same, with the rows of features for training sums no longer than that; 0: as they are."""

    def count(self, split: str) -> int:
        """Records of a split."""

    def count_good(self, split: str) -> int:
        """Of them those labelled good."""

    def count_of_kind(self, split: str, kind: str) -> int:
        """Of them those of one slice."""

    def groups(self) -> Groups:
        """How large groups are, and whether one stands in two splits."""

    def records(self, split: str) -> Records:
        """Labels, groups and kinds of a whole split."""

    def training(self, stage: Stage, params: TrainingParams) -> Training:
        """The training split with the features of each view, and then of each augmentation."""

    def held(self, split: str, stages: Sequence[Stage]) -> Held:
        """A split's records in chunks. stages: those whose features may be asked for."""

    def features(self, stage: Stage, split: str) -> NDArray[np.int16]:
        """(n, width) of a whole split."""

    def outcomes(self, split: str, targets: tuple[Target, ...]) -> NDArray[np.float64]:
        """(n, targets) outcomes of a whole split."""

    def newest(self, split: str, schema: Schema, column: str) -> NDArray[np.float64]:
        """(n,) newest values of a number column; NaN where it is missing."""

    def foretold(self, artefact: Artefact, stage: Stage, split: str, corruption: Corruption | None) -> NDArray[Any]:
        """(n, 4, targets) score, value, low and high of a whole split."""
