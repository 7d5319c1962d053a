"""One pass over the pixels for several stages gives the features that each stage alone would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.contracts.errors import IsthmusError
from isthmus.foundry.features import StageExtractor, stage
from isthmus.foundry.shared import SharedStages

BACKBONE = "efficientnet-lite0-dim"


@pytest.mark.parametrize(
    "parts", [("block/0",), ("block/2", "block/7"), ("defects/max", "defects/mean", "texture/12"), ("texture/30",), ("deep/3",)]
)
def test_selected_columns_are_the_stages_own_features(parts: tuple[str, ...], pictures: list[NDArray[np.uint8]]) -> None:
    shared = SharedStages(BACKBONE, parts)
    found = shared.select(shared.rows(pictures[:3]))
    alone = StageExtractor(parts, 1, backbone=BACKBONE).quantised(pictures[:3])
    assert found.dtype == np.int16 and found.shape == (3, shared.stage.dimension) and np.array_equal(found, alone)
    assert shared.stage == stage(parts, backbone=BACKBONE)


def test_stages_on_the_way_share_their_rows(pictures: list[NDArray[np.uint8]]) -> None:
    one, other = SharedStages(BACKBONE, ("texture/4",)), SharedStages(BACKBONE, ("deep/8", "defects/max"))
    assert one.digest == other.digest
    rows = one.rows(pictures[:2])
    assert np.array_equal(other.select(rows), other.select(other.rows(pictures[:2])))
    assert SharedStages(BACKBONE, ("block/2",)).digest != one.digest


def test_no_image_gives_no_row() -> None:
    shared = SharedStages(BACKBONE, ("block/4",))
    rows = shared.rows([])
    assert rows.shape[0] == 0 and shared.select(rows).shape == (0, shared.stage.dimension)


def test_an_unknown_part_is_refused() -> None:
    for parts in (("block/99",), (), ("block/4", "block/4")):
        with pytest.raises(IsthmusError):
            SharedStages(BACKBONE, parts)


def test_the_graph_waits_for_the_first_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("built too early")

    monkeypatch.setattr("isthmus.foundry.shared.StageExtractor", refused)
    shared = SharedStages(BACKBONE, ("block/4",))
    assert shared.digest and shared.stage.dimension == 40
    with pytest.raises(AssertionError, match="too early"):
        shared.rows([np.zeros((8, 8, 3), np.uint8)])
