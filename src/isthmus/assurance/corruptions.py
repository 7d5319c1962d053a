"""Declared corruptions of an image: what light, lens, sensor and a part that lies askew do on a line, in five severities each.

After Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions" (ICLR 2019); the constants are ours
and part of what a certificate means. They always run in this order, mildest first. Everything is deterministic: noise comes
from a counter-based generator keyed by the image's own bytes, and so does the side that a part is moved or turned to, so that every node
and every run sees the same pixels.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from isthmus.assurance.record_corruptions import RECORD_FAMILIES, SEVERITIES, corrupt_record
from isthmus.assurance.text_corruptions import TEXT_FAMILIES, corrupt_text
from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Schema

FAMILIES = ("brightness", "contrast", "noise", "blur", "glare", "shift", "turn")
SCRATCH = "scratch"
"""A drawn defect, not a change of light, lens or sensor: it shows whether a model that only knows good pictures is blind."""
BRIGHTNESS_GAIN = (0.9, 0.8, 0.7, 0.55, 0.4)
CONTRAST_GAIN = (0.85, 0.7, 0.55, 0.4, 0.25)
NOISE_SD_LEVELS = (4.0, 8.0, 12.0, 18.0, 26.0)
BLUR_SIGMA_PIXELS = (0.5, 1.0, 1.5, 2.25, 3.0)
BLUR_SIDE_PIXELS = 224
SCRATCH_LENGTH_SHARE = (0.1, 0.15, 0.2, 0.3, 0.4)
SCRATCH_GAIN = (0.7, 0.6, 0.5, 0.4, 0.3)
SCRATCH_WIDTH_SHARE = 0.015
SCRATCH_MARGIN_SHARE = 0.1
GLARE_GAIN = (1.1, 1.2, 1.35, 1.6, 2.0)
SHIFT_SHARE = (0.005, 0.01, 0.02, 0.03, 0.04)
TURN_DEGREES = (0.5, 1.0, 2.0, 3.5, 5.0)
Image = NDArray[np.uint8]


def families_of(schema: Schema | None) -> tuple[str, ...]:
    """The corruptions that records of a schema, or pictures, can be put through."""
    if schema is None:
        return (*FAMILIES, SCRATCH)
    return TEXT_FAMILIES if schema.written else RECORD_FAMILIES


def _levels(values: NDArray[np.float64]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def _seed(image: Image, name: str) -> bytes:
    """32 bytes that follow from a picture and a name."""
    return hashlib.sha256(f"{name} {image.shape}".encode() + np.ascontiguousarray(image).tobytes()).digest()


def _brightness(image: Image, step: int) -> Image:
    """Less light: every level times a gain."""
    return _levels(image.astype(np.float64) * BRIGHTNESS_GAIN[step])


def _glare(image: Image, step: int) -> Image:
    """More light: every level times a gain, and what would be above white is white."""
    return _levels(image.astype(np.float64) * GLARE_GAIN[step])


def _contrast(image: Image, step: int) -> Image:
    """Flatter: levels drawn towards the image's mean level."""
    mean = float(image.mean(dtype=np.float64))
    return _levels((image.astype(np.float64) - mean) * CONTRAST_GAIN[step] + mean)


def _noise(image: Image, step: int) -> Image:
    """Sensor noise: Gaussian, independent from pixel to pixel, the same in the three channels, so that grey stays grey."""
    seed = _seed(image, f"noise {step + 1}")
    count = image.shape[0] * image.shape[1]
    words = np.random.Philox(key=int.from_bytes(seed[:16], "little")).random_raw(count)
    uniform = ((words >> np.uint64(32)).astype(np.float64) + 0.5) / 2.0**32
    grains = ndtri(uniform).reshape(image.shape[0], image.shape[1], 1)
    return _levels(image.astype(np.float64) + NOISE_SD_LEVELS[step] * grains)


def _blur(image: Image, step: int) -> Image:
    """Out of focus: Gaussian, its width for a picture of 224 pixels, scaled to the image's shorter side; edges held."""
    sigma = BLUR_SIGMA_PIXELS[step] * min(image.shape[:2]) / BLUR_SIDE_PIXELS
    grey = bool((image == image[..., :1]).all())  # one channel is then all three: the same bytes in a third of the time
    seen = image[..., :1] if grey else image
    found = _levels(ndimage.gaussian_filter(seen.astype(np.float64), sigma=(sigma, sigma, 0.0), mode="nearest"))
    return np.repeat(found, 3, axis=2) if grey else found


def _scratch(image: Image, step: int) -> Image:
    """A dark straight line of SCRATCH_LENGTH_SHARE of the shorter side, at a place and angle that follow from the image's bytes."""
    seed = hashlib.sha256(f"scratch {image.shape}".encode() + np.ascontiguousarray(image).tobytes()).digest()
    words = np.random.Philox(key=int.from_bytes(seed[:16], "little")).random_raw(3)
    first, second, third = (float(word >> np.uint64(32)) / 2.0**32 for word in words)
    height, width = image.shape[:2]
    side, angle = min(height, width), np.pi * third
    length, half = SCRATCH_LENGTH_SHARE[step] * side, max(0.5, SCRATCH_WIDTH_SHARE * side / 2)
    free = 1.0 - 2.0 * SCRATCH_MARGIN_SHARE
    middle = (SCRATCH_MARGIN_SHARE + free * first) * height, (SCRATCH_MARGIN_SHARE + free * second) * width
    down, right = np.mgrid[0:height, 0:width].astype(np.float64)
    along = (down - middle[0]) * np.sin(angle) + (right - middle[1]) * np.cos(angle)
    across = (down - middle[0]) * np.cos(angle) - (right - middle[1]) * np.sin(angle)
    inside = (np.abs(along) <= length / 2) & (np.abs(across) <= half)
    return np.where(inside[..., None], _levels(image.astype(np.float64) * SCRATCH_GAIN[step]), image)


def _shift(image: Image, step: int) -> Image:
    """Moved aslant, by a share of the image's shorter side in each direction; which way follows from the picture. Edges are held."""
    pixels, way = round(SHIFT_SHARE[step] * min(image.shape[:2])), _seed(image, "shift")[0]
    down, right = (pixels if way & 1 else -pixels), (pixels if way & 2 else -pixels)
    rows = np.clip(np.arange(image.shape[0]) - down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) - right, 0, image.shape[1] - 1)
    return np.ascontiguousarray(image[rows][:, columns])


def _turn(image: Image, step: int) -> Image:
    """Turned about its middle, between pixels bilinear; which way follows from the picture. Edges are held."""
    angle = TURN_DEGREES[step] * (1.0 if _seed(image, "turn")[0] & 1 else -1.0)
    grey = bool((image == image[..., :1]).all())
    seen = (image[..., :1] if grey else image).astype(np.float64)
    found = _levels(ndimage.rotate(seen, angle, axes=(0, 1), reshape=False, order=1, mode="nearest"))
    return np.repeat(found, 3, axis=2) if grey else found


_MAKERS = {
    "brightness": _brightness,
    "contrast": _contrast,
    "noise": _noise,
    "blur": _blur,
    "glare": _glare,
    "shift": _shift,
    "turn": _turn,
    SCRATCH: _scratch,
}


def corrupt(image: NDArray[Any], family: str, severity: int, schema: Schema | None = None) -> NDArray[Any]:
    """A picture (H x W x 3 uint8), or a record of a schema -> the same shape, but for texts. family: one of `families_of`. severity: 1
    (mild) to 5.

    Raises InputError for others.
    """
    if schema is not None and schema.written:
        return corrupt_text(image, family, severity)
    if schema is not None:
        return corrupt_record(image, family, severity, schema)
    if family not in _MAKERS:
        raise InputError(f"the corruption {family!r} is not known", f"use one of {', '.join(_MAKERS)}")
    if severity not in SEVERITIES:
        raise InputError(f"the severity {severity} is not known", "use 1 to 5")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InputError(f"an image of shape {image.shape} and type {image.dtype} cannot be used", "give height x width x 3 bytes")
    return _MAKERS[family](image, severity - 1)
