"""What happens to the answers when the light changes: every level is decoded, relit and scored anew.

A level of e stops multiplies linear light by 2^e (sRGB transfer function of IEC 61966-2-1), clipped at white: what a camera
with fixed exposure would see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from isthmus.contracts.ports import Clock, Progress
from isthmus.scenarios.trial_images import ImageReader, Pixels, Reading, in_order
from isthmus.scenarios.trial_model import Integers, Reals

STOPS = (-3.0, -2.0, -1.5, -1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0)
UNCHANGED = STOPS.index(0.0)


@dataclass(frozen=True)
class Relit:
    """One image at every level. thumb: data URI of the unchanged image. light, contrast: (levels,). quantised: (levels, features)."""

    reading: Reading
    thumb: str
    light: Reals
    contrast: Reals
    quantised: Reals


@dataclass(frozen=True)
class LightStudy:
    """images: positions in the caller's list. states, scores: (images, levels);
    states index into `trial.STATES`. wanted: images asked for."""

    stops: tuple[float, ...]
    images: tuple[int, ...]
    thumbs: tuple[str, ...]
    states: Integers
    scores: Reals
    wanted: int


def relight(stops: float) -> Callable[[Pixels], Pixels]:
    """The change of an image by a level in stops; 0 leaves it as it is."""
    code = np.arange(256) / 255.0
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    lit = np.clip(linear * 2.0**stops, 0.0, 1.0)
    table = np.round(255.0 * np.where(lit <= 0.0031308, lit * 12.92, 1.055 * lit ** (1 / 2.4) - 0.055)).astype(np.uint8)

    def change(pixels: Pixels) -> Pixels:
        return np.asarray(table[pixels])

    return change


def grey_of(pixels: Pixels) -> tuple[float, float]:
    """(mean, standard deviation) of an image's grey, 0..255."""
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return float(grey.mean()), float(grey.std())


def relit(readings: list[Reading], reader: ImageReader, clock: Clock, deadline_s: float, progress: Progress) -> list[Relit]:
    """The first of these images at every level; as many as there is time for until `deadline_s` on the monotonic clock."""
    changes = [relight(stops) for stops in STOPS]

    def work(reading: Reading) -> Relit:
        thumb, images, quantised = reader.views(reading.file, changes)
        light, contrast = np.array([grey_of(image) for image in images]).T
        return Relit(reading, thumb, light, contrast, quantised.astype(np.float64))

    done: list[Relit] = []
    for item in in_order(work, readings):
        done.append(item)
        progress(len(done), len(readings), "images at 13 levels of light")
        if clock.monotonic_s() > deadline_s:
            break
    return done
