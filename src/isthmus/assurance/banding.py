"""Plans the bands of a number that is foretold, from summed counts of fold-out residuals; held-out records choose nothing.

A band is promised to miss at most a stated share of outcomes, and the promise has to be proven on held-out records. So bands are not made
for that share but for a smaller one, such that the bound on so many held-out records is expected to prove the promise with the wanted
chance; as thresholds are planned (foundry.foldout). Scores are parted so that hard situations, such as a rising river, have a band of
their own.

Residuals are fold-out: of each record, by the fit that saw nothing of its group. They are exchangeable with held-out ones only as far as
groups are; where years or machines drift apart, the held-out bound is what tells, and it takes clusters into account.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import ndtri

from isthmus.assurance.bounds import korn_graubard_upper
from isthmus.assurance.conformal import Band, ResidualBins, band
from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import Ints
from isthmus.contracts.valuesums import ResidualGrid

PART_ENDS = (0.5, 0.8, 0.95)
"""Where fold-out scores are parted: the lower half, the next 30 %, the next 15 % and the highest 5 %."""

PART_RECORDS_MIN = 200
"""A part with fewer fold-out records is joined with the one below it."""

STEPS = 40


@dataclass(frozen=True, kw_only=True)
class BandPlan:
    """What the bands should be able to prove on held-out records. bar: greatest share of misses. records, groups: of the planned held-out
    part. design_effect: that is assumed. confidence: of the bound. power: wanted chance that it holds."""

    bar: float
    records: int
    groups: int
    design_effect: float
    confidence: float
    power: float


@dataclass(frozen=True, kw_only=True)
class PlannedBands:
    """edges, bands: as in contracts.head.Output. miss: share that the bands are made to miss. expected_bound: on the planned records.
    reached: whether that is at most the bar; note: a sentence when not."""

    edges: tuple[float, ...]
    bands: tuple[Band, ...]
    miss: float
    expected_bound: float
    reached: bool
    note: str


def expected_bound(miss: float, calibration: int, plan: BandPlan) -> float:
    """The bound expected, with the plan's chance, on held-out records of bands that miss this share of `calibration` fold-out ones."""
    n = max(plan.records, 1)
    spread = np.sqrt(miss * (1.0 - miss) * plan.design_effect * (1.0 / n + 1.0 / max(calibration, 1)))
    worse = min(miss + float(ndtri(plan.power)) * float(spread), 1.0)
    return korn_graubard_upper(worse * n, n, plan.design_effect, plan.groups, plan.confidence)


def planned_miss(calibration: int, plan: BandPlan) -> float:
    """The largest share that bands may be made to miss while the plan is expected to prove its bar; 0 when none is. Found by halving."""
    low, high = 0.0, plan.bar
    for _ in range(STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if expected_bound(middle, calibration, plan) <= plan.bar else (low, middle)
    return low


def parted(counts: Ints, grid: ResidualGrid) -> tuple[tuple[float, ...], list[Ints]]:
    """(edges in units, residual counts of each part) of (parts, bins) counts, joined at PART_ENDS."""
    if counts.shape != (grid.parts, grid.bins) or bool((counts < 0).any()) or not counts.any():
        raise InputError("the counts of fold-out residuals are empty or of the wrong shape", "ask for the sums again")
    sizes = counts.sum(axis=1)
    share = np.cumsum(sizes) / sizes.sum()
    cuts: list[int] = []
    for end in PART_ENDS:
        cut = int(np.searchsorted(share, end)) + 1
        start = cuts[-1] if cuts else 0
        if cut > start and cut < grid.parts and sizes[start:cut].sum() >= PART_RECORDS_MIN and sizes[cut:].sum() >= PART_RECORDS_MIN:
            cuts.append(cut)
    bounds = [0, *cuts, grid.parts]
    return tuple(grid.edges[cut - 1] for cut in cuts), [counts[a:b].sum(axis=0) for a, b in pairwise(bounds)]


def plan_bands(counts: Ints, grid: ResidualGrid, plan: BandPlan) -> PlannedBands:
    """Edges and bands of one target. counts: (parts, bins) fold-out residuals as the grid has them. Raises InputError.

    Where nothing is expected to prove the bar, bands are made for a tenth of it, and `reached` says so: the held-out records decide.
    """
    edges, parts = parted(counts, grid)
    bins, total = ResidualBins(grid.limit, grid.bins), int(counts.sum())
    miss = planned_miss(total, plan)
    reached = miss > 0.0
    made = tuple(band(part, bins, miss if reached else plan.bar / 10.0) for part in parts)
    bound = expected_bound(miss, total, plan)
    note = "" if reached else f"no bands are expected to prove {plan.bar:.1%} on {plan.records} held-out records in {plan.groups} groups"
    return PlannedBands(edges=edges, bands=made, miss=miss, expected_bound=bound, reached=reached, note=note)
