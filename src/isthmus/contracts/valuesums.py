"""Statistics of numbers that are foretold: their parameters, and what each integer of a payload means.

All targets of a model share features and weights, so one Gram matrix serves them all. Everything is int64, as in contracts.sums.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np

from isthmus.contracts.head import Head
from isthmus.contracts.statistic import ALL_RECORDS, CLEAN, JOINT, Candidate, Corruption, EvaluationKey, condition_name
from isthmus.contracts.sums import GroupSums, Ints, Moments, group_sums_from, moments_from, moments_size
from isthmus.contracts.targets import TARGET_MAX, Target, TargetMoments, Weighing

VALUE_MOMENTS = "value-moments/1"
VALUE_FOLD_OUT = "value-foldout/1"
VALUE_CLUSTERS = "value-clusters/1"
VALUE_EVALUATE = "value-evaluate/1"
VALUE_STATISTICS = (VALUE_MOMENTS, VALUE_FOLD_OUT, VALUE_CLUSTERS, VALUE_EVALUATE)

SCORE_PARTS_MAX, RESIDUAL_BINS_MAX, BANDS_MAX = 8, 128, 8
"""Residuals are told in few bins: fine ones tell more of who was in them."""

ERROR_UNIT = 1 << 24
"""Squared errors are told in this part of the declared range squared; of groups, in GROUP_ERROR_UNIT."""

GROUP_ERROR_UNIT = 1 << 18
GROUP_ERROR_MAX = 1 << 28
"""A group's squared errors count as at most this many, 1024 ranges squared, so that sums of their squares stay within 64 bits."""

LEVEL_UNIT = 1 << 16
"""Outcomes, and widths of bands, are told in this part of the declared range."""


class _Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """targets: as the owner declared them, in this order. weigh: how training records count; None: all once."""

    targets: tuple[Target, ...]
    weigh: Weighing | None = None


class ValueMomentsParams(_Params, frozen=True, kw_only=True):
    """value-moments/1: packed ValueMoments."""


class ResidualGrid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fold-out residuals are counted: parts of scores, parted by ascending `edges`, by `bins` equal bins of outcome less score over
    [-limit, limit], the ends open. All in units of the target."""

    edges: tuple[float, ...]
    limit: float
    bins: int

    @property
    def parts(self) -> int:
        return len(self.edges) + 1


class ValueFoldOutParams(_Params, frozen=True, kw_only=True):
    """value-foldout/1: packed ValueFoldOut. candidates: for each target its fits, as many for all. total_weight: of the roster's rows.
    grids: one a target where residuals are told too, of one candidate each; empty where the losses only are."""

    candidates: tuple[tuple[Candidate, ...], ...]
    total_weight: int
    grids: tuple[ResidualGrid, ...] = ()


class Bands(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As in contracts.head.Output."""

    edges: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]


class ValueClustersParams(_Params, frozen=True, kw_only=True):
    """value-clusters/1: for each target packed GroupSums of fold-out records and those whose outcome lies beyond the band."""

    candidates: tuple[Candidate, ...]
    total_weight: int
    bands: tuple[Bands, ...]


class ValueEvaluateParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """value-evaluate/1: packed ValueSums, one after the other in the order of `value_keys`, targets innermost.

    artefact: digest of the artefact's bytes, which the node rebuilds from `head`. naive: for each target the units that the naive forecast
    always foretells: 0 where a change is foretold, so that it is the newest value, else the training mean. slices: record kinds beside
    all. records: the split that is evaluated.
    """

    artefact: str
    head: Head
    naive: tuple[float, ...]
    slices: tuple[str, ...] = ()
    corruptions: tuple[Corruption, ...] = ()
    records: str = "holdout"


def value_keys(params: ValueEvaluateParams) -> tuple[EvaluationKey, ...]:
    """The declared order: clean, then each corruption; slices innermost, on clean records only."""
    clean = [EvaluationKey(JOINT, CLEAN, part) for part in (ALL_RECORDS, *params.slices)]
    return (*clean, *(EvaluationKey(JOINT, condition_name(one), ALL_RECORDS) for one in params.corruptions))


@dataclass(frozen=True)
class ValueMoments:
    """moments: with the first target's sums. further: (targets - 1, 1 + d) sum of w y and of w y q of each other. squares: sum of w y^2 of
    each target."""

    moments: Moments
    further: Ints
    squares: Ints

    def packed(self) -> Ints:
        return np.concatenate([self.squares, self.further.reshape(-1), self.moments.packed()])

    def of_target(self, place: int) -> TargetMoments:
        """What one target's fit is solved from."""
        if place == 0:
            return TargetMoments(self.moments, int(self.squares[0]))
        own = self.further[place - 1]
        return TargetMoments(replace(self.moments, sum_wy=int(own[0]), sum_wyx=own[1:].copy()), int(self.squares[place]))


def value_moments_size(targets: int, dimension: int) -> int:
    return targets + (targets - 1) * (1 + dimension) + moments_size(dimension)


def value_moments_from(vector: Ints, targets: int, dimension: int) -> ValueMoments:
    """Inverse of `ValueMoments.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (value_moments_size(targets, dimension),):
        raise ValueError(f"moments of {targets} targets and {dimension} features have another size than {vector.shape}")
    split = targets + (targets - 1) * (1 + dimension)
    further = vector[targets:split].reshape(targets - 1, 1 + dimension).copy()
    moments = replace(moments_from(vector[split:], dimension), span=TARGET_MAX)
    return ValueMoments(moments, further, vector[:targets].copy())


@dataclass(frozen=True)
class ValueFoldOut:
    """sum_w: weight behind the losses. losses: (targets, candidates) sums of w times the squared residual, in square units. counts: for
    each target (parts, bins) unweighted counts of residuals, or none."""

    sum_w: int
    losses: Ints
    counts: tuple[Ints, ...]

    def packed(self) -> Ints:
        return np.concatenate([np.array([self.sum_w], dtype=np.int64), self.losses.reshape(-1), *(one.reshape(-1) for one in self.counts)])


def value_foldout_size(params: ValueFoldOutParams) -> int:
    return 1 + sum(len(one) for one in params.candidates) + sum(grid.parts * grid.bins for grid in params.grids)


def value_foldout_from(vector: Ints, params: ValueFoldOutParams) -> ValueFoldOut:
    """Inverse of `ValueFoldOut.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (value_foldout_size(params),):
        raise ValueError(f"fold-out sums have {value_foldout_size(params)} entries, not {vector.shape}")
    targets = len(params.candidates)
    split = 1 + sum(len(one) for one in params.candidates)
    counts, start = [], split
    for grid in params.grids:
        end = start + grid.parts * grid.bins
        counts.append(vector[start:end].reshape(grid.parts, grid.bins).copy())
        start = end
    return ValueFoldOut(int(vector[0]), vector[1:split].reshape(targets, -1).copy(), tuple(counts))


VALUE_COUNTS = ("records", "groups", "below", "above", "open")
VALUE_LEVELS = ("squares", "naive_squares", "model_model", "naive_naive", "model_naive", "outcome", "outcome_square", "width")


@dataclass(frozen=True)
class ValueSums:
    """One number on held-out records under one condition in one slice.

    counts: VALUE_COUNTS, unweighted; below, above: outcomes beyond the band's ends; open: bands that reach an end of the range. clusters:
    GroupSums of records and misses. levels: VALUE_LEVELS: squared errors of the model and of the naive forecast in 1 / ERROR_UNIT of the
    range squared; over groups, sums of squares and products of these two in GROUP_ERROR_UNIT; outcomes above the range's low end, their
    squares, and the bands' widths in 1 / LEVEL_UNIT of the range.
    """

    counts: dict[str, int]
    clusters: GroupSums
    levels: dict[str, int]

    @property
    def misses(self) -> int:
        return self.counts["below"] + self.counts["above"]

    def packed(self) -> Ints:
        head = np.array([self.counts[name] for name in VALUE_COUNTS], dtype=np.int64)
        tail = np.array([self.levels[name] for name in VALUE_LEVELS], dtype=np.int64)
        return np.concatenate([head, self.clusters.packed(), tail])


VALUE_SUMS_SIZE = len(VALUE_COUNTS) + len(GroupSums.FIELDS) + len(VALUE_LEVELS)


def value_sums_from(vector: Ints) -> ValueSums:
    """Inverse of `ValueSums.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (VALUE_SUMS_SIZE,):
        raise ValueError(f"sums of one number have {VALUE_SUMS_SIZE} entries, not {vector.shape}")
    n, g = len(VALUE_COUNTS), len(GroupSums.FIELDS)
    counts = {name: int(value) for name, value in zip(VALUE_COUNTS, vector[:n], strict=True)}
    levels = {name: int(value) for name, value in zip(VALUE_LEVELS, vector[n + g :], strict=True)}
    return ValueSums(counts, group_sums_from(vector[n : n + g]), levels)
