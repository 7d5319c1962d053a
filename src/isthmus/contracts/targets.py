"""A number that a model foretells, as whole units over its declared range; and the sums that a ridge regression on it is solved from.

A target is seen on its declared scale (logarithmic where `log` is set), as an integer in [-TARGET_MAX, TARGET_MAX]. With `change_from` the
integer is the change from the newest value of that column, on the same scale: what is foretold is how far the river will rise, not where it
stands. The range is declared, so it is public and tells nothing of anybody's data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import COLUMN_NAME, RESERVED, Schema
from isthmus.contracts.sums import FEATURE_MAX, Ints, Moments, moments_from, moments_size

TARGET_MAX = FEATURE_MAX
TARGETS_MAX = 8
WEIGHT_MAX = 16
Floats = NDArray[np.float64]


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """low, high: the range that values are expected in, in `unit`; beyond it they count as its end. log: seen on a logarithmic scale.
    change_from: a number column of the schema with the same scale, whose newest value the change is counted from."""

    name: str
    unit: str = ""
    low: float
    high: float
    log: bool = False
    change_from: str = ""


class Weighing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a training record counts: its newest value of a number column over `unit`, rounded, 1 to WEIGHT_MAX. What is known at the
    time of the forecast decides, never the outcome."""

    column: str
    unit: float


def weights_of(weighing: Weighing, newest: Any) -> Ints:
    """(n,) newest values of its column -> (n,) whole weights from 1 to WEIGHT_MAX; what is missing counts 1."""
    found = np.nan_to_num(np.asarray(newest, dtype=np.float64) / weighing.unit, nan=1.0, posinf=WEIGHT_MAX, neginf=1.0)
    return np.clip(np.rint(found), 1, WEIGHT_MAX).astype(np.int64)


def checked_targets(targets: tuple[Target, ...], schema: Schema) -> tuple[Target, ...]:
    """Targets that one model may foretell together. Raises InputError."""
    names = [target.name for target in targets]
    if not 1 <= len(targets) <= TARGETS_MAX or len(set(names)) < len(names):
        raise InputError(f"a model cannot foretell {len(names)} numbers, or one twice", f"name 1 to {TARGETS_MAX} targets, each once")
    for target in targets:
        checked_target(target, schema)
    return targets


def checked_weighing(weighing: Weighing, schema: Schema) -> Weighing:
    """The weighing if records of this schema can be weighed by it. Raises InputError."""
    if all(column.name != weighing.column or column.kind != "number" for column in schema.columns):
        raise InputError(f"records are weighed by {weighing.column}, which is no number column", "name one of the schema's")
    if not 0 < weighing.unit < math.inf:
        raise InputError(f"records are weighed in units of {weighing.unit:g}", "give the value that counts once")
    return weighing


def checked_target(target: Target, schema: Schema) -> Target:
    """The target if it can be foretold from windows of this schema. Raises InputError."""
    name = target.name
    if not COLUMN_NAME.fullmatch(name):
        raise InputError(f"the target's name {name!r} cannot be used", "use a small letter, then small letters, digits and _")
    if name in RESERVED or any(column.name == name for column in schema.columns):
        raise InputError(f"the target {name} is also a column, so that the model would see the answer", "give it a name of its own")
    if not (math.isfinite(target.low) and math.isfinite(target.high) and target.low < target.high):
        raise InputError(f"the target {name} has no range: low {target.low:g}, high {target.high:g}", "declare the range expected")
    if target.log and target.low <= 0:
        raise InputError(f"the target {name} is seen on a logarithmic scale from {target.low:g}", "give a low above 0, or leave log out")
    if target.change_from:
        column = next((c for c in schema.columns if c.name == target.change_from and c.kind == "number"), None)
        if column is None:
            raise InputError(f"the target {name} changes from {target.change_from}, which is no number column", "name one of the schema's")
        if column.missing:
            raise InputError(f"the target {name} changes from {column.name}, which may be missing", "declare that column as always there")
        if (column.low, column.high, column.log) != (target.low, target.high, target.log):
            raise InputError(f"the target {name} and column {column.name} have unlike scales", "give both the same low, high and log")
    return target


def _seen(target: Target, values: Any) -> Floats:
    """Values clipped to the range, on the scale."""
    found = np.clip(np.asarray(values, dtype=np.float64), target.low, target.high)
    return np.log(found) if target.log else found


def _ends(target: Target) -> tuple[float, float]:
    return (math.log(target.low), math.log(target.high)) if target.log else (target.low, target.high)


def unit_step(target: Target) -> float:
    """One unit on the target's scale. A change may be twice as wide as the range, to each side of none."""
    low, high = _ends(target)
    return (high - low) / TARGET_MAX / (1.0 if target.change_from else 2.0)


def units_of(target: Target, values: Any, newest: Any = None) -> Ints:
    """Values (n,) in the target's unit -> (n,) integers in [-TARGET_MAX, TARGET_MAX]. newest: (n,) of `change_from`.

    Raises InputError on a value that is no finite number.
    """
    given = np.asarray(values, dtype=np.float64)
    origin = np.asarray(newest, dtype=np.float64) if target.change_from else np.full_like(given, sum(_ends(target)) / 2)
    if not (np.isfinite(given).all() and np.isfinite(origin).all()):
        raise InputError(f"a value of the target {target.name} is no finite number", "leave out records whose outcome is not known")
    start = _seen(target, origin) if target.change_from else origin
    found = np.rint((_seen(target, given) - start) / unit_step(target))
    return np.clip(found, -TARGET_MAX, TARGET_MAX).astype(np.int64)


def values_of(target: Target, units: Any, newest: Any = None) -> Floats:
    """Inverse of `units_of` for any units, whole or not: (n,) values in the target's unit, within its range."""
    low, high = _ends(target)
    start = _seen(target, newest) if target.change_from else (low + high) / 2
    found = np.clip(start + np.asarray(units, dtype=np.float64) * unit_step(target), low, high)
    return np.exp(found) if target.log else np.asarray(found)


@dataclass(frozen=True)
class TargetMoments:
    """What a ridge regression is solved from: Moments with y in units, and the sum of w y^2, which says how much there is to explain."""

    moments: Moments
    sum_wyy: int

    def packed(self) -> Ints:
        """One int64 vector of `target_moments_size(d)` entries."""
        return np.concatenate([np.array([self.sum_wyy], dtype=np.int64), self.moments.packed()])


def target_moments_size(dimension: int) -> int:
    """Entries of packed TargetMoments with `dimension` features."""
    return 1 + moments_size(dimension)


def target_moments_from(vector: Ints, dimension: int) -> TargetMoments:
    """Inverse of `TargetMoments.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (target_moments_size(dimension),):
        raise ValueError(f"sums of a target and {dimension} features have {target_moments_size(dimension)} entries, not {vector.shape}")
    return TargetMoments(replace(moments_from(vector[1:], dimension), span=TARGET_MAX), int(vector[0]))
