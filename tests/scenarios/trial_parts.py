"""Drawn parts for the trial's tests: grey discs, some with a scratch, and an extractor that needs no network weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw


def part(seed: int, scratched: bool, size: tuple[int, int] = (96, 96), light: float = 1.0) -> Image.Image:
    """A disc on a ground, with noise; a scratch of random place and direction across it when `scratched`."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", size, 70)
    draw = ImageDraw.Draw(image)
    w, h = size
    draw.ellipse([w * 0.12, h * 0.12, w * 0.88, h * 0.88], fill=150 + int(rng.integers(-8, 8)))
    if scratched:
        x, y = rng.uniform(0.3, 0.7, 2) * size
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.25, 0.4) * w
        dx, dy = np.cos(angle) * length, np.sin(angle) * length
        draw.line([x - dx, y - dy, x + dx, y + dy], fill=245, width=max(2, w // 24))
    noisy = (np.asarray(image, dtype=np.float64) + rng.normal(0, 5, (h, w))) * light
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def folder_of_parts(root: Path, good: int, bad: int, names: tuple[str, str] = ("good", "scratched")) -> Path:
    for i in range(good):
        save(part(i, False), root / names[0] / f"{hashlib.sha256(bytes([i % 256, i // 256])).hexdigest()[:8]}.png")
    for i in range(bad):
        save(part(10_000 + i, True), root / names[1] / f"{hashlib.sha256(bytes([1, i % 256, i // 256])).hexdigest()[:8]}.png")
    return root


class CoarseExtractor:
    """Grey values and edges in 7 x 7 fields: quick, and enough for drawn parts."""

    digest = "sha256:" + "0" * 64
    dimension = 7 * 7 * 2 + 2

    def quantised(self, images: list[NDArray[np.uint8]]) -> NDArray[np.int16]:
        rows = []
        for image in images:
            grey = np.asarray(Image.fromarray(image).convert("L").resize((56, 56)), dtype=np.float64)
            edges = np.abs(np.diff(grey, axis=0, prepend=grey[:1])) + np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
            fields = [m.reshape(7, 8, 7, 8).mean(axis=(1, 3)).ravel() for m in (grey, edges)]
            bright = np.array([(grey > 190).mean() * 255, np.sort(grey.ravel())[-30:].mean()])
            rows.append(np.concatenate([*fields, bright]) * 100)
        return np.clip(np.array(rows), -32767, 32767).astype(np.int16)
