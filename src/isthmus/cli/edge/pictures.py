"""The named decoder isthmus-rgb8/1 on a box: the same pixels as where the model was certified, bit for bit.

With Pillow: PNG, JPEG, BMP, TIFF, WEBP, GIF, PPM. Without it: .npy (H x W x 3 bytes) and binary .ppm of 8 bits.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

try:
    from PIL import Image, ImageOps
except ImportError:
    Image = None  # type: ignore[assignment]
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
SUFFIXES = {".npy", ".ppm"}
if Image is not None:
    SUFFIXES |= {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".pgm"}
    Image.MAX_IMAGE_PIXELS = None  # our own limit is lower, and a refusal instead of a warning
PIXELS_MAX, BYTES_MAX, SIDE_MIN = 40_000_000, 64 * 1024 * 1024, 8
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, MemoryError, RecursionError)


class Pictures:
    """Files that are one picture each."""

    noun, input, suffixes = "pictures", "image", SUFFIXES

    def records(self, path: Path) -> Iterator[tuple[str, bytes]]:
        yield path.name, read(path)

    def decoded(self, raw: bytes, suffix: str) -> Any:
        return decoded(raw, suffix)


def read(path: Path) -> bytes:
    """A file's bytes. Raises ValueError for one that is too large, OSError."""
    if path.stat().st_size > BYTES_MAX:
        raise ValueError(f"more than {BYTES_MAX} bytes")
    return path.read_bytes()


def decoded(raw: bytes, suffix: str) -> Any:
    """A picture file's bytes -> H x W x 3 uint8, as the named decoder has it. Raises ValueError, OSError."""
    if suffix == ".npy":
        pixels = np.load(io.BytesIO(raw), allow_pickle=False)
    elif Image is None:
        head = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", raw)
        if head is None:
            raise ValueError("not a binary .ppm of 8 bits; install pillow for other files")
        pixels = np.frombuffer(raw, np.uint8, int(head[1]) * int(head[2]) * 3, head.end()).reshape(int(head[2]), int(head[1]), 3)
    else:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            if image.width * image.height > PIXELS_MAX:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {PIXELS_MAX}")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            pixels = np.asarray(rgb8(image))
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or min(pixels.shape[:2]) < SIDE_MIN:
        raise ValueError(f"{pixels.shape} of {pixels.dtype} is not height x width x 3 bytes, each side {SIDE_MIN} or more")
    return np.ascontiguousarray(pixels)


def rgb8(image: Any) -> Any:
    """Any mode -> RGB of 8 bits: deep grey is scaled, transparency is laid over black."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        deep = np.nan_to_num(np.asarray(image, np.float64)) if image.mode == "F" else np.asarray(image).astype(np.int64)
        most = deep.max(initial=0)
        top = 1 if image.mode == "F" and most <= 1 else 255 if most <= 255 else 65535
        grey = np.clip(deep / top, 0, 1) * 255 if image.mode == "F" else np.clip(deep, 0, top) * 255 // top
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    return image.convert("RGB")
