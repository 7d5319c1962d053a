"""The extractor: public ranges, integers, the same digits whatever the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, ModelFileError
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.foundry.backbone import blocks
from isthmus.foundry.features import StageExtractor, clipped_share, public_ranges
from isthmus.foundry.runtime import batches, session
from tests.foundry.conftest import SMALL_PARTS

Tensors = dict[str, NDArray[Any]]
Pictures = list[NDArray[np.uint8]]


def test_shape_type_and_range(small: StageExtractor, pictures: Pictures) -> None:
    found = small.quantised(pictures)
    assert found.shape == (len(pictures), small.dimension) == (9, 64)
    assert found.dtype == np.int16
    assert np.abs(found.astype(int)).max() <= FEATURE_MAX
    assert small.quantised([]).shape == (0, 64)


def test_batches_and_threads_do_not_change_a_digit(small: StageExtractor, tensors: Tensors, pictures: Pictures) -> None:
    together = small.quantised(pictures)
    alone = np.concatenate([small.quantised([p]) for p in pictures])
    two = StageExtractor(SMALL_PARTS, threads=2, tensors=tensors).quantised(pictures[::-1])[::-1]
    assert (together == alone).all()
    assert (together == two).all()


def test_digest_is_stable_and_names_the_definition(small: StageExtractor, tensors: Tensors) -> None:
    again = StageExtractor(SMALL_PARTS, threads=2)
    assert again.digest == small.digest
    assert again.stage() == small.stage()
    assert StageExtractor(("block/2",), tensors=tensors).digest != small.digest
    edited = dict(tensors)
    edited["_blocks.4._bn2.weight"] = edited["_blocks.4._bn2.weight"] * np.float32(1.0000002)
    assert StageExtractor(SMALL_PARTS, tensors=edited).digest != small.digest


def test_ranges_need_no_data_and_add_up_over_residuals(tensors: Tensors) -> None:
    centre, half = public_ranges(tensors, ("block/3", "block/4"))
    gamma3, gamma4 = (tensors[f"_blocks.{i}._bn2.weight"].astype(float) for i in (3, 4))
    beta3, beta4 = (tensors[f"_blocks.{i}._bn2.bias"].astype(float) for i in (3, 4))
    assert blocks()[4].residual and not blocks()[3].residual
    assert np.allclose(centre, np.concatenate([beta3, beta3 + beta4]))
    assert np.allclose(half, 4 * np.concatenate([np.abs(gamma3), np.hypot(gamma3, gamma4)]))


@pytest.mark.parametrize("parts", [("block/10",), ("block/11",), ("block/14",)])
def test_synthetic_images_do_not_clip_and_use_many_bits(tensors: Tensors, pictures: Pictures, parts: tuple[str, ...]) -> None:
    found = StageExtractor(parts, tensors=tensors).quantised(pictures)
    assert clipped_share(found) < 0.001
    assert np.median(np.ptp(found.astype(int), axis=0)) >= 2**10


def test_real_cells_do_not_clip_and_use_ten_bits(tensors: Tensors) -> None:
    package = pytest.importorskip("elpv_dataset")
    from pathlib import Path

    from isthmus.kit.pictures import read_picture
    from isthmus.scenarios.package import find_package, load_package

    shipped = load_package(find_package("solar-cell-inspection")).recipe
    files = sorted((Path(package.__file__).parent / "data" / "images").glob("*.png"))[::110]
    for parts in (("block/11",), shipped.parts, shipped.parts_after_leaving):
        found = StageExtractor(parts, tensors=tensors, backbone=shipped.backbone).quantised([read_picture(f) for f in files])
        assert max(clipped_share(column) for column in found.T) < 0.05
        assert (found.astype(float).std(axis=0) * 6).min() >= 2**10


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ("block/16",),
        ("block/-1",),
        ("block/02",),
        ("block/2", "block/2"),
        ("texture/3", "texture/4"),
        ("texture/0",),
        ("deep/25",),
        ("defects/most",),
        ("block",),
        ("elsewhere/1",),
    ],
)
def test_impossible_parts_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        StageExtractor(parts)


@pytest.mark.parametrize("shape", [(0, 10, 3), (10, 10), (10, 10, 4), (10, 10, 1)])
def test_impossible_images_are_refused(small: StageExtractor, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        small.quantised([np.zeros(shape, np.uint8)])
    with pytest.raises(InputError):
        small.quantised([np.zeros((10, 10, 3), np.float32)])  # type: ignore[list-item]


def test_batches_are_bounded_by_pixels_and_count() -> None:
    images = [np.zeros((300, 600, 3), np.uint8)] * 5 + [np.zeros((8, 8, 3), np.uint8)] * 40
    found = list(batches(images))
    assert sorted(i for indices, _ in found for i in indices) == list(range(45))
    assert max(b.shape[0] for _, b in found) == 16
    assert max(b.shape[0] for _, b in found if b.shape[1] == 300) == 2


def test_one_pixel_and_long_images_work(small: StageExtractor) -> None:
    assert small.quantised([np.zeros((1, 1, 3), np.uint8), np.zeros((8, 3000, 3), np.uint8)]).shape == (2, 64)


@pytest.mark.parametrize("raw", [b"", b"no graph", b"\x08\x09"])
def test_bytes_that_are_no_model_are_refused(raw: bytes) -> None:
    with pytest.raises(ModelFileError):
        session(raw, 1)
