"""The one named decoder that turns image files into RGB bytes: at the owners' nodes, in `try`, and where it serves.

A certificate names `DECODER`, because a model's promise holds for pixels decoded this way and no other.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from isthmus.contracts.errors import PictureError

DECODER = "isthmus-rgb8/1"
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
FILE_BYTES_MAX = 64 * 1024 * 1024
"""An image file's bytes; a larger one is not read."""

PIXELS_MAX = 40_000_000
"""Width times height of one image; refused before it is unpacked."""

SIDE_MIN = 8
"""Pixels that each side of an image needs."""


def _as_rgb8(image: Image.Image) -> Image.Image:
    """Any mode -> RGB, 8 bits. 16-bit and float grey scale linearly to 8 bits; transparency is laid over black."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        deep = np.asarray(image).astype(np.int64)
        top = 65535 if int(deep.max(initial=0)) > 255 else 255
        return Image.fromarray((np.clip(deep, 0, top) * 255 // top).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        real = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top_f = 1.0 if real.max(initial=0.0) <= 1.0 else 255.0 if real.max() <= 255.0 else 65535.0
        return Image.fromarray((np.clip(real / top_f, 0, 1) * 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # a huge image is not copied without need


def decode(raw: bytes, name: str = "image") -> NDArray[np.uint8]:
    """Decodes the first frame of an image file; returns H x W x 3 uint8, upright (EXIF orientation applied).

    Raises PictureError: not an image, a format not in FORMATS, cut short, or beyond FILE_BYTES_MAX or PIXELS_MAX.
    """
    if len(raw) > FILE_BYTES_MAX:
        raise PictureError(f"{name} has {len(raw)} bytes, more than the {FILE_BYTES_MAX} allowed", "send a smaller file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                width, height = image.size
                if width * height > PIXELS_MAX:
                    raise PictureError(f"{name} has {width} x {height} pixels, more than {PIXELS_MAX} in all", "scale it down")
                if min(width, height) < SIDE_MIN:
                    raise PictureError(f"{name} has {width} x {height} pixels; each side needs at least {SIDE_MIN}", "give a larger image")
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                pixels = np.asarray(_as_rgb8(image), dtype=np.uint8)
    except UnidentifiedImageError as error:
        raise PictureError(f"{name} is not an image that can be read", f"use one of {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(f"{name} has too many pixels: {error}", "scale it down") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, MemoryError) as error:
        raise PictureError(f"{name} is damaged and cannot be decoded: {error}", "replace the file") from error
    return np.ascontiguousarray(pixels)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Decodes an image file; see `decode`. Raises PictureError also when the file cannot be read."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise PictureError(f"{path.name} is larger than the {FILE_BYTES_MAX} bytes allowed", "scale it down")
        raw = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
    return decode(raw, path.name)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """H x W x 3 uint8 -> PNG bytes."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", optimize=False)
    return out.getvalue()
