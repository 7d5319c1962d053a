"""The public basis: what it was learned from, that it reads back, and that it does what it says on surfaces it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, ModelFileError
from isthmus.contracts.parts import parsed_part, sources_of
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.foundry.basis import DIRECTIONS, basis_from, grid_channels, make_basis, shipped_basis
from isthmus.foundry.features import BACKBONES, StageExtractor, clipped_share
from isthmus.foundry.stageparts import RANGE_SDS, checked_parts, part_names, part_size
from isthmus.foundry.surfaces import GRID, KINDS, SIDE, Surface, surface

BACKBONE = "efficientnet-lite0-dim"
ALL = ("defects/max", "defects/mean", "defects/share", "defects/spread", "texture/86", "deep/24")
Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def drawn() -> list[Surface]:
    rng = np.random.default_rng(31)
    return [surface(rng) for _ in range(240)]


@pytest.fixture(scope="module")
def seen(tensors: Tensors, drawn: list[Surface]) -> NDArray[np.int16]:
    return StageExtractor(ALL, threads=2, tensors=tensors, backbone=BACKBONE).quantised([one.pixels for one in drawn])


def area(positive: NDArray[np.bool_], score: NDArray[Any]) -> float:
    order = score[positive][:, None] - score[~positive][None, :]
    return float((order > 0).mean() + 0.5 * (order == 0).mean())


def test_surfaces_are_grey_pictures_with_known_defects(drawn: list[Surface]) -> None:
    covered = np.stack([one.covered for one in drawn])
    assert all(one.pixels.shape == (SIDE, SIDE, 3) and one.pixels.dtype == np.uint8 for one in drawn)
    assert covered.shape == (len(drawn), len(KINDS), GRID, GRID) and covered.min() >= 0 and covered.max() <= 1
    share = (covered.max(axis=(2, 3)) > 0).mean(axis=0)
    assert ((share > 0.04) & (share < 0.35)).all()
    again, other = surface(np.random.default_rng(4)), surface(np.random.default_rng(5))
    assert np.array_equal(again.pixels, surface(np.random.default_rng(4)).pixels) and not np.array_equal(again.pixels, other.pixels)


def test_detectors_tell_their_own_kind_on_fresh_surfaces(drawn: list[Surface], seen: NDArray[np.int16]) -> None:
    truth = np.stack([one.covered.max(axis=(1, 2)) > 0 for one in drawn])
    most = seen[:, : len(KINDS)].astype(float)
    own = [area(truth[:, k], most[:, k]) for k in range(len(KINDS))]
    others = [area(truth[:, k], most[:, j]) for k in range(len(KINDS)) for j in range(len(KINDS)) if j != k]
    assert min(own) > 0.8 and np.mean(own) > np.mean(others) + 0.2


def test_directions_have_mean_zero_and_one_deviation_on_fresh_surfaces(seen: NDArray[np.int16]) -> None:
    values = seen[:, 4 * len(KINDS) :].astype(float) * RANGE_SDS / FEATURE_MAX
    assert np.abs(values.mean(axis=0)).max() < 0.35 and values.std(axis=0).min() > 0.6 and values.std(axis=0).max() < 1.6
    apart = np.corrcoef(values[:, :20].T) - np.eye(20)
    assert np.abs(apart).mean() < 0.1
    assert clipped_share(seen) < 0.005


def test_fewer_directions_are_the_first_of_more(tensors: Tensors, drawn: list[Surface], seen: NDArray[np.int16]) -> None:
    few = StageExtractor(("deep/3", "texture/5"), tensors=tensors, backbone=BACKBONE).quantised([one.pixels for one in drawn[:9]])
    whole = np.concatenate([seen[:9, -24:-21], seen[:9, 4 * len(KINDS) : 4 * len(KINDS) + 5]], axis=1)
    assert np.array_equal(few, whole)


def test_it_reads_back_and_says_when_it_cannot() -> None:
    document = shipped_basis().document()
    assert basis_from(document).digest == shipped_basis().digest
    assert shipped_basis().detectors.shape == (len(KINDS), sum(grid_channels().values()))
    assert {name: len(matrix) for name, (matrix, _) in shipped_basis().directions.items()} == DIRECTIONS
    for broken in ({}, {**document, "format": "other"}, {**document, "detectors": ["!"]}, {**document, "kinds": ["x"]}):
        with pytest.raises(ModelFileError):
            basis_from(broken)


def test_making_it_is_repeatable_and_depends_on_the_seed(tensors: Tensors) -> None:
    said: list[int] = []
    one = make_basis(tensors, BACKBONES[BACKBONE], count=64, say=said.append)
    assert said == [32, 64] and one.digest == make_basis(tensors, BACKBONES[BACKBONE], count=64).digest
    assert one.digest != make_basis(tensors, BACKBONES[BACKBONE], seed=6, count=64).digest != shipped_basis().digest


def test_every_feature_has_a_name_of_its_own() -> None:
    for part in checked_parts((*ALL, "block/3")):
        assert len(set(part_names(part))) == part_size(part)


def test_parts_name_what_their_sums_could_be_subtracted_from() -> None:
    assert sources_of(("defects/max",)) == {"defects/max"}
    assert sources_of(("texture/3",)) & sources_of(("texture/9",)) and sources_of(("texture/3",)) & sources_of(("block/7",))
    assert sources_of(("defects/mean",)) & sources_of(("block/2",)) and not sources_of(("deep/3",)) & sources_of(("texture/3",))
    assert sources_of(("no such part",)) == {"no such part"}
    assert parsed_part("texture/12").text == "texture/12"
    for wrong in ("texture/012", "texture/１２", "block/" + "1" * 5000, "block/+1", "block/1 ", "block/1\n", "block/"):
        with pytest.raises(InputError):
            parsed_part(wrong)
        assert sources_of((wrong,)) == {wrong}
