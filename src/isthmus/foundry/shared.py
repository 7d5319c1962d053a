"""One pass over the pixels for several stages: rows hold the features of companion parts too, and each stage takes its columns."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Stage
from isthmus.foundry.features import StageExtractor, stage
from isthmus.foundry.runtime import Images
from isthmus.foundry.stageparts import checked_parts, joined_parts, part_columns, part_size

COMPANION_PARTS = ("defects/max", "defects/mean", "defects/share", "defects/spread", "texture/24", "deep/8")
"""Parts that every pass keeps: the stages of most scenarios, and of rosters after a leaver, take theirs from these."""


class SharedStages:
    """See contracts.ports.SharedExtractor. Quantisation works feature by feature, so a column is the same in every stage.

    parts: the stage's own. threads: within one batch. The graph is built when the first image comes.
    """

    def __init__(self, backbone: str, parts: tuple[str, ...], threads: int = 1) -> None:
        own = checked_parts(parts)
        self._backbone = backbone
        self._threads = threads
        everything = tuple(sorted(joined_parts(COMPANION_PARTS, parts)))
        self._all = tuple(part.text for part in everything)
        self.stage: Stage = stage(parts, backbone=backbone)
        starts = part_columns(everything)
        self._columns = np.concatenate([np.arange(starts[part.shelf], starts[part.shelf] + part_size(part)) for part in own])

    @cached_property
    def _extractor(self) -> StageExtractor:
        return StageExtractor(self._all, self._threads, backbone=self._backbone)

    @cached_property
    def digest(self) -> str:
        """Of the rows, which hold every companion."""
        return stage(self._all, backbone=self._backbone).digest

    def rows(self, images: Images) -> NDArray[np.int16]:
        """(n, all columns) int16."""
        return self._extractor.quantised(images)

    def select(self, rows: NDArray[np.int16]) -> NDArray[np.int16]:
        """(n, the stage's dimension)."""
        return rows[:, self._columns]
