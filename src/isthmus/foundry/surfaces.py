"""Made-up surfaces with made-up defects: public pictures that the public basis is learned from (foundry.basis).

Nobody's data is in them. A picture is a plate: a base of even, grained or patched texture with regular dark lines, edges, light that
falls off, and, each with chance DEFECT_CHANCE, defects whose place is known: cracks, faint or deep, dark fragments, blotches, broken
strips, spots, shade.
Textures are filtered noise with a power-law spectrum and 'dead leaves' (Lee, Mumford and Huang 2001), which share statistics with
photographs. The idea of learning defects from drawn ones is that of CutPaste (Li et al. 2021) and DRAEM (Zavrtanik et al. 2021).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 112
CELL = 4
GRID = SIDE // CELL
KINDS = ("faint crack", "crack", "dark fragment", "blotch", "broken strip", "spots", "shade")
FAINT = 0.35
DEFECT_CHANCE = 0.2
COVER_MAX = 0.6
Field = NDArray[np.float32]
_ROWS, _COLUMNS = (axis.astype(np.float32) / SIDE for axis in np.mgrid[0:SIDE, 0:SIDE])
_U, _V = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]


@dataclass(frozen=True)
class Surface:
    """One picture. pixels: (SIDE, SIDE, 3) uint8, grey. covered: (len(KINDS), GRID, GRID) share of each cell that a defect covers."""

    pixels: NDArray[np.uint8]
    covered: Field


def surface(rng: np.random.Generator) -> Surface:
    """Draws one."""
    image, masks = with_defects(rng, _base(rng))
    light = image * rng.uniform(0.6, 1.25) + rng.normal(0, 0.012, image.shape) * rng.random()
    grey = (np.clip(light, 0, 1) * 255).astype(np.uint8)
    covered = masks.reshape(len(KINDS), GRID, CELL, GRID, CELL).mean((2, 4))
    return Surface(np.repeat(grey[:, :, None], 3, 2), covered.astype(np.float32))


def defect_shade(rng: np.random.Generator) -> Field:
    """(SIDE, SIDE) share of light that drawn defects leave, 1 where there is none; drawn again until there is one somewhere."""
    while True:
        shade, masks = with_defects(rng, np.ones((SIDE, SIDE), np.float32))
        if masks.any():
            return shade


def spoilt(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An H x W x 3 picture with drawn defects, always the same ones: the generator is keyed by its pixels."""
    key = hashlib.sha256(f"drawn {picture.shape}".encode() + np.ascontiguousarray(picture).tobytes()).digest()
    shade = defect_shade(np.random.default_rng(int.from_bytes(key[:16], "little")))
    wide = np.asarray(Image.fromarray(shade).resize((picture.shape[1], picture.shape[0]), Image.Resampling.BILINEAR))
    return np.asarray(np.clip(np.rint(picture * wide[:, :, None]), 0, 255), dtype=np.uint8)


# Textures.


def _noise(rng: np.random.Generator, power: float, stretch: float = 0.0, angle: float = 0.0, floor: float = 0.0) -> Field:
    """Noise of spectrum 1 / f^power, stretched across an angle; mean 0, deviation 1."""
    across = _U * np.cos(angle) + _V * np.sin(angle)
    along = -_U * np.sin(angle) + _V * np.cos(angle)
    radius = np.sqrt(across**2 * (1 + stretch) + along**2 + floor**2)
    radius[0, 0] = 1.0
    found = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * radius ** (-power / 2), s=(SIDE, SIDE))
    found -= found.mean()
    return np.asarray(found / found.std(), dtype=np.float32)


def _turned(rng: np.random.Generator, low: float, high: float) -> tuple[Field, Field]:
    """Coordinates of a box at a random place, size (low..high) and angle: inside where both are within -1..1."""
    (x, y), (width, height), angle = rng.random(2), rng.uniform(low, high, 2), rng.uniform(0, np.pi)
    along = (_COLUMNS - x) * np.cos(angle) + (_ROWS - y) * np.sin(angle)
    across = -(_COLUMNS - x) * np.sin(angle) + (_ROWS - y) * np.cos(angle)
    return np.asarray(along / width), np.asarray(across / height)


def _leaves(rng: np.random.Generator, count: int) -> Field:
    found = np.zeros((SIDE, SIDE), np.float32)
    for _ in range(count):
        along, across = _turned(rng, 0.05, 0.4)
        found[(np.abs(along) < 1) & (np.abs(across) < 1)] = rng.standard_normal()
    return found


def _base(rng: np.random.Generator) -> Field:
    """A plate without defects."""
    image = np.full((SIDE, SIDE), rng.uniform(0.35, 0.9), np.float32)
    kind = rng.random()
    if kind < 0.35:
        image *= 1 + rng.uniform(0.005, 0.04) * _noise(rng, rng.uniform(1, 3))
    elif kind < 0.85:
        image *= 1 + rng.uniform(0.02, 0.12) * _noise(rng, rng.uniform(1, 2.5), rng.uniform(0, 8), rng.uniform(0, np.pi))
        if rng.random() < 0.7:  # dark grain, which is no defect
            grain = _noise(rng, rng.uniform(2, 3.5), rng.uniform(0, 10), rng.uniform(0, np.pi), rng.uniform(0.02, 0.08))
            image *= 1 - rng.uniform(0.1, 0.5) * np.clip((grain - rng.uniform(0.8, 2.2)) * rng.uniform(1, 4), 0, 1)
    else:
        image *= 1 + rng.uniform(0.02, 0.12) * _leaves(rng, int(rng.integers(30, 120))) + 0.01 * _noise(rng, 2)
    return _edged(rng, _lined(rng, image))


def _lined(rng: np.random.Generator, image: Field) -> Field:
    """Regular lines across the plate, some of them dashed, and a fine grating."""
    if rng.random() < 0.85:
        across, along = (_COLUMNS, _ROWS) if rng.random() < 0.08 else (_ROWS, _COLUMNS)
        count, depth, half, dashed = int(rng.integers(2, 5)), rng.uniform(0.3, 0.85), rng.uniform(0.005, 0.018), rng.random() < 0.3
        for place in range(count):
            line = np.abs(across - ((place + 0.5) / count + rng.normal(0, 0.01))) < half
            if dashed:
                line = line & (np.sin(2 * np.pi * along * rng.integers(2, 6) + rng.uniform(0, 6)) > -0.7)
            image = image * (1 - depth * line)
    if rng.random() < 0.5:
        along = _ROWS if rng.random() < 0.8 else _COLUMNS
        image = image * (1 + rng.uniform(0.01, 0.04) * np.sin(2 * np.pi * along * rng.integers(20, 50) + rng.uniform(0, 6)))
    return np.asarray(image, dtype=np.float32)


def _edged(rng: np.random.Generator, image: Field) -> Field:
    """Light that falls off, cut corners, dark margins."""
    x, y = _COLUMNS, _ROWS
    image = image * (1 - rng.uniform(0, 0.5) * ((x - 0.5) ** 2 + (y - 0.5) ** 2))
    image = image * (1 + rng.uniform(-0.25, 0.25) * (x - 0.5) + rng.uniform(-0.25, 0.25) * (y - 0.5))
    if rng.random() < 0.4:
        cut = rng.uniform(0.02, 0.14)
        image = image * np.where((x + y < cut) | (x - y > 1 - cut) | (y - x > 1 - cut) | (x + y > 2 - cut), rng.uniform(0.1, 0.4), 1)
    if rng.random() < 0.6:
        left, right, top, bottom = rng.uniform(0, 0.03, 4)
        image = image * np.where((x < left) | (x > 1 - right) | (y < top) | (y > 1 - bottom), rng.uniform(0.1, 0.6), 1)
    return np.asarray(image, dtype=np.float32)


# Defects. Each returns the darkened image and where it is.


def _crack(rng: np.random.Generator, width: float) -> Field:
    """A jagged line as a soft mask."""
    place, angle, found = rng.random(2), rng.uniform(0, 2 * np.pi), np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(1, 6))):
        angle += rng.normal(0, 0.5)
        step = rng.uniform(0.08, 0.5) * np.array([np.cos(angle), np.sin(angle)])
        along = np.clip(((_COLUMNS - place[0]) * step[0] + (_ROWS - place[1]) * step[1]) / float(step @ step), 0, 1)
        distance = (_COLUMNS - place[0] - along * step[0]) ** 2 + (_ROWS - place[1] - along * step[1]) ** 2
        found = np.maximum(found, np.exp(-distance / width**2))
        place = place + step
    return np.asarray(found, dtype=np.float32)


def _blotch(rng: np.random.Generator) -> Field:
    """An oval with a soft edge."""
    along, across = _turned(rng, 0.08, 0.4)
    steep = np.clip((along**2 + across**2 - 1) * rng.uniform(2, 10), -30, 30)
    return np.asarray(1 / (1 + np.exp(steep)), dtype=np.float32)


def _fragment(rng: np.random.Generator) -> Field:
    """A part of the plate, cut off by up to three wavy lines."""
    found, centre = np.ones((SIDE, SIDE), dtype=bool), rng.random(2)
    for _ in range(int(rng.integers(1, 4))):
        angle = rng.uniform(0, 2 * np.pi)
        wave = 0.03 * np.sin(_COLUMNS * rng.uniform(5, 30) + _ROWS * rng.uniform(5, 30))
        line = (_COLUMNS - centre[0]) * np.cos(angle) + (_ROWS - centre[1]) * np.sin(angle) + wave
        found &= line > rng.uniform(-0.3, 0.15)
    return found.astype(np.float32)


def _strip(rng: np.random.Generator) -> Field:
    """A short upright strip, hard or fading in."""
    x, top, height, half = rng.random(), rng.random(), rng.uniform(0.08, 0.35), rng.uniform(0.004, 0.03)
    inside = (np.abs(_COLUMNS - x) < half) & (top < _ROWS) & (top + height > _ROWS)
    fade = 1.0 if rng.random() < 0.5 else np.clip((_ROWS - top) / height, 0, 1)
    return np.asarray(inside * fade, dtype=np.float32)


def _spot(rng: np.random.Generator) -> Field:
    (x, y), size = rng.random(2), rng.uniform(0.008, 0.06)
    return np.asarray(np.exp(-((_COLUMNS - x) ** 2 + (_ROWS - y) ** 2) / size**2), dtype=np.float32)


def with_defects(rng: np.random.Generator, image: Field) -> tuple[Field, Field]:
    """Draws defects over an image (SIDE, SIDE), each kind with chance DEFECT_CHANCE: (image, (len(KINDS), SIDE, SIDE) masks of 0 and 1).
    Over an image of ones it gives what any picture is to be multiplied by."""
    masks = np.zeros((len(KINDS), SIDE, SIDE), np.float32)

    def spoil(kind: int, shape: Field, depth: float, edge: float) -> None:
        nonlocal image
        image = np.asarray(image * (1 - depth * shape), dtype=np.float32)
        masks[kind] = np.maximum(masks[kind], shape > edge)

    if rng.random() < DEFECT_CHANCE:
        for _ in range(int(rng.integers(1, 5))):
            depth = rng.uniform(0.1, 0.8)
            spoil(0 if depth < FAINT else 1, _crack(rng, rng.uniform(0.004, 0.012)), depth, 0.4)
    if rng.random() < DEFECT_CHANCE:
        for _ in range(int(rng.integers(1, 4))):
            kind, shape = (2, _fragment(rng)) if rng.random() < 0.7 else (3, _blotch(rng))
            if shape.mean() <= COVER_MAX:
                spoil(kind, shape, rng.uniform(0.2, 0.9), 0.5)
    if rng.random() < DEFECT_CHANCE:
        for _ in range(int(rng.integers(2, 12))):
            spoil(4, _strip(rng), rng.uniform(0.15, 0.7), 0.3)
    if rng.random() < DEFECT_CHANCE:
        for _ in range(int(rng.integers(1, 8))):
            spoil(5, _spot(rng), rng.uniform(0.3, 0.95), 0.4)
    if rng.random() < DEFECT_CHANCE:
        spoil(6, np.clip(_noise(rng, 3.5) * 0.6 + 0.3, 0, 1), rng.uniform(0.2, 0.6), 0.5)
    return image, masks
