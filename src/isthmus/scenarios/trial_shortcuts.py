"""What else tells the folders apart: size, format, colour, light. A model may learn that instead, and fail on the line.

Each property alone predicts each class against the rest; the balanced accuracy of its best rule is compared with `TELLING`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.scenarios.trial_images import Reading
from isthmus.scenarios.trial_model import Integers, Reals

TELLING = 0.9
RECORDING = ("size", "format", "mode", "compression")
TYPICAL_DIGITS = 3
COMPRESSION_RATIO_MIN = 1.5


@dataclass(frozen=True)
class Shortcut:
    """A property that alone tells a class apart. accuracy: balanced, 0..1. here, rest: what is typical in the class and elsewhere."""

    aspect: str
    class_name: str
    accuracy: float
    here: str
    rest: str

    @property
    def of_recording(self) -> bool:
        """True when the property says how a picture was taken or saved, never what is on it."""
        return self.aspect in RECORDING


def shortcuts(readings: Sequence[Reading], classes: Integers, names: Sequence[str]) -> list[Shortcut]:
    """Properties whose balanced accuracy for some class is TELLING or more, the most telling first, one entry per property."""
    words: dict[str, list[str]] = {
        "size": [f"{r.width} x {r.height}" for r in readings],
        "format": [r.kind for r in readings],
        "mode": [r.mode for r in readings],
    }
    numbers: dict[str, Reals] = {
        "size": np.array([float(r.width * r.height) for r in readings]),
        "compression": np.array([r.bytes_per_pixel for r in readings]),
        "light": np.array([r.light for r in readings]),
        "contrast": np.array([r.contrast for r in readings]),
        "colour": np.array([r.colour for r in readings]),
    }
    found = [_by_word(key, values, classes, names) for key, values in words.items() if len(set(values)) <= max(2, len(values) // 5)]
    found += [_by_number(key, values, classes, names) for key, values in numbers.items()]
    found = [s for s in found if s.aspect != "compression" or _far_apart(s)]
    best: dict[str, Shortcut] = {}
    for shortcut in found:
        if shortcut.accuracy >= TELLING and shortcut.accuracy > getattr(best.get(shortcut.aspect), "accuracy", 0.0):
            best[shortcut.aspect] = shortcut
    if "format" in best:
        best.pop("compression", None)
    return sorted(best.values(), key=lambda s: (not s.of_recording, -s.accuracy))


def _far_apart(shortcut: Shortcut) -> bool:
    """Contents change a file's size somewhat; another quality setting changes it a lot."""
    here, rest = float(shortcut.here), float(shortcut.rest)
    return max(here, rest) >= COMPRESSION_RATIO_MIN * min(here, rest)


def _by_word(key: str, values: list[str], classes: Integers, names: Sequence[str]) -> Shortcut:
    distinct, index = np.unique(np.array(values), return_inverse=True)
    candidates: list[Shortcut] = []
    for number, name in enumerate(names):
        inside = np.bincount(index[classes == number], minlength=len(distinct)) / max(1, int((classes == number).sum()))
        outside = np.bincount(index[classes != number], minlength=len(distinct)) / max(1, int((classes != number).sum()))
        accuracy = 0.5 * float(np.maximum(inside, outside).sum())
        candidates.append(Shortcut(key, name, accuracy, str(distinct[inside.argmax()]), str(distinct[outside.argmax()])))
    return max(candidates, key=lambda s: s.accuracy)


def _by_number(key: str, values: Reals, classes: Integers, names: Sequence[str]) -> Shortcut:
    candidates: list[Shortcut] = []
    for number, name in enumerate(names):
        inside, outside = np.sort(values[classes == number]), np.sort(values[classes != number])
        cuts = np.unique(values)
        below_in = np.searchsorted(inside, cuts, side="right") / len(inside)
        below_out = np.searchsorted(outside, cuts, side="right") / len(outside)
        accuracy = 0.5 + 0.5 * float(np.abs(below_in - below_out).max())
        candidates.append(Shortcut(key, name, accuracy, _typical(inside), _typical(outside)))
    return max(candidates, key=lambda s: s.accuracy)


def _typical(values: Reals) -> str:
    return f"{float(np.median(values)):.{TYPICAL_DIGITS}g}"
