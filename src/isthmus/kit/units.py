"""Units that are mistaken for each other, as factors and as scales with another zero: what a column must be multiplied by to be as meant.

Shared by the check of an owner's folder (sandbox.quality) and the exchange's search for an owner whose column is off (foundry.suspects).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Conversion(NamedTuple):
    """right = factor * written + shift."""

    name: str
    factor: float
    shift: float = 0.0

    def applied(self, values: Floats) -> Floats:
        """The values as they were meant."""
        return np.asarray(values * self.factor + self.shift)

    def undone(self, values: Floats) -> Floats:
        """The values as this mistake writes them."""
        return np.asarray((values - self.shift) / self.factor)


def _both(name: str, back: str, factor: float) -> tuple[Conversion, Conversion]:
    return Conversion(name, factor), Conversion(back, 1.0 / factor)


CONVERSIONS: tuple[Conversion, ...] = (
    *_both("10 times too small", "10 times too large", 10.0),
    *_both("100 times too small", "100 times too large", 100.0),
    *_both("1000 times too small", "1000 times too large", 1000.0),
    *_both("inch, not mm", "mm, not inch", 25.4),
    *_both("inch, not cm", "cm, not inch", 2.54),
    *_both("feet, not m", "m, not feet", 0.3048),
    *_both("pounds, not kg", "kg, not pounds", 0.45359237),
    *_both("minutes, not seconds", "seconds, not minutes", 60.0),
    *_both("hours, not seconds", "seconds, not hours", 3600.0),
    *_both("m/s, not km/h", "km/h, not m/s", 3.6),
    *_both("mmol/L of glucose, not mg/dL", "mg/dL of glucose, not mmol/L", 18.0182),
    *_both("mmol/L of cholesterol, not mg/dL", "mg/dL of cholesterol, not mmol/L", 38.67),
    *_both("kPa, not mmHg", "mmHg, not kPa", 7.50062),
    *_both("psi, not bar", "bar, not psi", 0.0689476),
    Conversion("degrees Fahrenheit, not Celsius", 5.0 / 9.0, -160.0 / 9.0),
    Conversion("degrees Celsius, not Fahrenheit", 9.0 / 5.0, 32.0),
    Conversion("kelvin, not degrees Celsius", 1.0, -273.15),
    Conversion("degrees Celsius, not kelvin", 1.0, 273.15),
)
