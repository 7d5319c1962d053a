"""Corruptions are declared, deterministic, graded, and keep shape and type."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isthmus.assurance.corruptions import FAMILIES, SEVERITIES, corrupt
from isthmus.contracts.errors import InputError


def image(seed: int = 0, height: int = 60, width: int = 90, grey: bool = False) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    found = np.kron(rng.integers(0, 256, (height // 10, width // 10, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    return np.repeat(found[:, :, :1], 3, axis=2) if grey else found


def test_the_sequence_is_fixed() -> None:
    assert FAMILIES == ("brightness", "contrast", "noise", "blur", "glare", "shift", "turn")
    assert SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_severity_changes_more_than_the_one_before(family: str) -> None:
    picture = image(0, 240, 300)
    clean = picture.astype(float)
    changes = [np.abs(corrupt(picture, family, s).astype(float) - clean).mean() for s in SEVERITIES]
    assert changes[0] > 0.5
    assert all(a < b for a, b in itertools.pairwise(changes))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_same_pixels_every_time_and_the_input_stays(family: str, severity: int) -> None:
    given_image, kept = image(1), image(1)
    first, second = corrupt(given_image, family, severity), corrupt(np.asfortranarray(given_image), family, severity)
    assert (first == second).all() and (given_image == kept).all()
    assert first.shape == kept.shape and first.dtype == np.uint8


def test_pixels_are_the_declared_ones() -> None:
    """A change of any constant or generator changes what certificates mean; then declare new families."""
    digest = hashlib.sha256()
    for family in FAMILIES[:3]:
        for severity in SEVERITIES:
            digest.update(corrupt(image(2), family, severity).tobytes())
    assert digest.hexdigest()[:16] == "8516b744148ce20e"


def test_a_moved_part_is_the_same_part_elsewhere() -> None:
    picture = image(7, 300, 200)
    for severity, pixels in zip(SEVERITIES, (1, 2, 4, 6, 8), strict=True):
        moved = corrupt(picture, "shift", severity)
        inside = picture[pixels:-pixels, pixels:-pixels]
        places = {
            (down, right): moved[pixels + down : 300 - pixels + down, pixels + right : 200 - pixels + right]
            for down in (-pixels, pixels)
            for right in (-pixels, pixels)
        }
        assert sum(bool((found == inside).all()) for found in places.values()) == 1
    ways = {corrupt(image(seed, 100, 100), "shift", 5)[50, 50].tobytes() == image(seed, 100, 100)[46, 46].tobytes() for seed in range(20)}
    assert ways == {True, False}


def test_a_turned_part_turns_back() -> None:
    smooth = np.repeat((np.add.outer(np.arange(200), np.arange(200)) / 2).astype(np.uint8)[:, :, None], 3, axis=2)
    for severity, degrees in zip(SEVERITIES, (0.5, 1, 2, 3.5, 5), strict=True):
        turned = corrupt(smooth, "turn", severity)[40:160, 40:160, 0].astype(float)
        down, right = np.gradient(turned)
        slope = np.degrees(np.arctan2(down.mean(), right.mean()))
        assert abs(slope - 45) == pytest.approx(degrees, abs=0.3)


def test_glare_ends_at_white() -> None:
    flat = np.full((20, 20, 3), 200, np.uint8)
    assert [int(corrupt(flat, "glare", s)[0, 0, 0]) for s in SEVERITIES] == [220, 240, 255, 255, 255]


def test_noise_has_its_declared_size_and_keeps_grey_grey() -> None:
    flat = np.full((200, 200, 3), 128, np.uint8)
    for severity, sd in zip(SEVERITIES, (4, 8, 12, 18, 26), strict=True):
        noisy = corrupt(flat, "noise", severity).astype(float)
        assert noisy.std() == pytest.approx(sd, rel=0.03)
        assert abs(noisy.mean() - 128) < 0.5
    grey = corrupt(image(3, grey=True), "noise", 3)
    assert (grey[:, :, 0] == grey[:, :, 1]).all() and (grey[:, :, 0] == grey[:, :, 2]).all()
    assert (corrupt(image(4), "noise", 1) - image(4) != corrupt(image(5), "noise", 1) - image(5)).any()


def test_blur_scales_with_the_picture() -> None:
    small = image(6, 240, 240)
    large = np.kron(small, np.ones((2, 2, 1))).astype(np.uint8)
    a = corrupt(small, "blur", 3).astype(float)
    b = corrupt(large, "blur", 3).astype(float).reshape(240, 2, 240, 2, 3).mean(axis=(1, 3))
    assert np.abs(a - b).mean() < 0.1 * np.abs(a - small).mean()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(FAMILIES), st.sampled_from(SEVERITIES), st.integers(0, 255))
def test_any_size_and_level_works(height: int, width: int, family: str, severity: int, level: int) -> None:
    found = corrupt(np.full((height, width, 3), level, np.uint8), family, severity)
    assert found.shape == (height, width, 3) and found.dtype == np.uint8
    if family in ("contrast", "blur", "shift", "turn"):
        assert (found == level).all()


@pytest.mark.parametrize(("family", "severity"), [("fog", 1), ("noise", 0), ("noise", 6), ("", 3)])
def test_undeclared_ones_are_refused(family: str, severity: int) -> None:
    with pytest.raises(InputError):
        corrupt(image(), family, severity)


def test_images_of_another_kind_are_refused() -> None:
    for bad in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(InputError):
            corrupt(bad, "noise", 1)
    with pytest.raises(InputError):
        corrupt(np.zeros((4, 4, 3)), "noise", 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_grey_picture_is_blurred_as_each_of_its_channels_in_a_coloured_one(severity: int) -> None:
    grey, coloured = image(3, grey=True), image(3, grey=True)
    coloured[..., 2] = image(4)[..., 2]
    found, other = corrupt(grey, "blur", severity), corrupt(coloured, "blur", severity)
    assert np.array_equal(found[..., 0], other[..., 0]) and np.array_equal(found[..., 0], found[..., 2])
    assert not np.array_equal(other[..., 0], other[..., 2])
