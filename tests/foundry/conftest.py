"""Shared by the foundry's tests: the backbone's tensors, a few pictures, and a small head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from isthmus.contracts.head import Array, Head
from isthmus.foundry.export import build_artefact
from isthmus.foundry.features import StageExtractor, load_tensors
from isthmus.kit.pictures import DECODER

SMALL_PARTS = ("block/2", "block/4")


@pytest.fixture(scope="session")
def tensors() -> dict[str, NDArray[Any]]:
    return load_tensors()


@pytest.fixture(scope="session")
def small(tensors: dict[str, NDArray[Any]]) -> StageExtractor:
    return StageExtractor(SMALL_PARTS, threads=1, tensors=tensors)


@pytest.fixture(scope="session")
def pictures() -> list[NDArray[np.uint8]]:
    """Pictures of several sizes: noise, plain, blocks, gradients."""
    rng = np.random.default_rng(7)
    blocks = [np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((20, 20, 1))).astype(np.uint8) for _ in range(3)]
    noise = [rng.integers(0, 256, (50, 70, 3), dtype=np.uint8) for _ in range(2)]
    plain = [np.full((33, 40, 3), level, np.uint8) for level in (0, 128, 255)]
    ramp = np.repeat(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], 3, axis=2).repeat(300, axis=0)
    return [*blocks, *noise, *plain, ramp]


@pytest.fixture(scope="session")
def head(small: StageExtractor) -> Head:
    rng = np.random.default_rng(3)
    coefficients = np.round(rng.normal(0, 2e-6, small.dimension) * 2**40) / 2**40
    return Head(stage=small.stage(), coefficients=Array.of(coefficients), bias=0.125, lo=-0.1, hi=0.1, decoder=DECODER)


@pytest.fixture(scope="session")
def artefact(head: Head, tensors: dict[str, NDArray[Any]]) -> bytes:
    return build_artefact(head, tensors)
