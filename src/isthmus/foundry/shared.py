"""One pass over the pixels for several stages: rows hold the means of companion blocks too, and each stage takes its columns."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Stage
from isthmus.foundry.backbone import blocks
from isthmus.foundry.features import Images, StageExtractor, checked_taps, stage

COMPANION_TAPS = (4, 7, 10)
"""Blocks whose means every pass keeps: they lie on the way to most stages, and their means cost next to nothing."""


class SharedStages:
    """See contracts.ports.SharedExtractor. Quantisation works feature by feature, so a column is the same in every stage.

    taps: the stage's own. threads: within one batch. The graph is built when the first image comes.
    """

    def __init__(self, backbone: str, taps: tuple[int, ...], threads: int = 1) -> None:
        self._backbone = backbone
        self._taps = checked_taps(taps)
        self._threads = threads
        self._all = tuple(sorted({*self._taps, *COMPANION_TAPS}))
        self.stage: Stage = stage(self._taps, backbone=backbone)
        widths = {block.index: block.channels_out for block in blocks()}
        starts = dict(zip(self._all, np.cumsum([0, *(widths[t] for t in self._all)]), strict=False))
        self._columns = np.concatenate([np.arange(starts[t], starts[t] + widths[t]) for t in self._taps])

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
