"""Which answers can be promised: thresholds planned on images the model learned from, proven on images it never saw.

The claim: among the images answered at threshold t (margin >= t, familiar), at most a share `error` is wrong, at confidence
`confidence`, for images drawn like these (selective classification: Geifman and El-Yaniv 2017, "Selective Classification for
Deep Neural Networks"). Proof by fixed-sequence testing over a threshold grid (Angelopoulos, Bates, Candes, Jordan and Lei 2021,
"Learn then Test"): half L trains the model; L's leave-out scores give the grid and its order, first a threshold very likely to
pass, then ever lower ones. Half T, of which neither model nor order knows anything, tests one threshold after the other,
each at the full level, and stops at the first that fails. Given L and which images are answered, errors are binomial, so each
test (Clopper-Pearson upper bound <= error) is exact, and the whole promise is wrong with probability <= 1 - confidence.
When the first threshold fails, its own bound is reported instead: that is the same event, so no confidence is spent twice.

Images in groups (parts, lots) are not independent: the bound is then taken at the sample size divided by the design effect,
with Korn and Graubard's (1998) t adjustment; the effect is estimated on L and never below 1. That one is approximate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from isthmus.assurance.bounds import (
    clopper_pearson_upper,
    design_effect,
    korn_graubard_upper,
    more_records,
    needed_samples,
    too_few_groups,
    upper_bounds,
)
from isthmus.contracts.sums import GroupSums
from isthmus.scenarios.trial_model import Flags, Integers, Reals, logistic, sigmoid

GRID_STEPS = 40
GRID_SHARE_MIN = 0.05
MORE_MAX = 100_000
NEAR_BEST = 0.95
POWER_MIN = 0.02
COUNT_SDS = 1.3


@dataclass(frozen=True)
class Side:
    """One half as the proof sees it. Each (n,): margin (-1 where unfamiliar), whether the verdict is right, group number."""

    margin: Reals
    right: Flags
    groups: Integers

    @property
    def clustered(self) -> bool:
        return len(np.unique(self.groups)) < len(self.groups)


@dataclass(frozen=True)
class Step:
    """One tested threshold. records: in the tested half. groups: among the answered.

    bound: upper confidence bound of the error among answered, 0..1.
    """

    threshold: float
    records: int
    answered: int
    groups: int
    errors: int
    design_effect: float
    bound: float

    @property
    def share(self) -> float:
        return self.answered / self.records if self.records else 0.0


@dataclass(frozen=True)
class Promise:
    """steps: the thresholds tested in their order. passed: how many of them hold, from the first on."""

    error: float
    confidence: float
    steps: tuple[Step, ...]
    passed: int

    @property
    def proven(self) -> bool:
        return self.passed > 0

    @property
    def chosen(self) -> Step:
        """The lowest threshold that is proven, or the first one when none is."""
        return self.steps[max(self.passed - 1, 0)]


def effect_at(side: Side, threshold: float) -> float:
    """Design effect of the error share among images answered at a threshold; at least 1."""
    answered = side.margin >= threshold
    if not answered.any():
        return 1.0
    _, index = np.unique(side.groups[answered], return_inverse=True)
    count, wrong = np.bincount(index), np.bincount(index, weights=(~side.right[answered]).astype(np.float64)).astype(np.int64)
    squares = (int(v) for v in ((count**2).sum(), (wrong**2).sum(), (count * wrong).sum()))
    return design_effect(GroupSums(len(count), int(count.sum()), int(wrong.sum()), *squares))


def threshold_grid(learned: Side) -> list[float]:
    """Thresholds, highest first, at even steps of the share of learned images that they answer; the last answers all familiar ones."""
    margins = np.sort(learned.margin[learned.margin >= 0])[::-1]
    if not len(margins):
        return [0.0]
    counts = np.linspace(GRID_SHARE_MIN * len(margins), len(margins), GRID_STEPS)
    grid = {float(margins[max(math.ceil(c) - 1, 0)]) for c in counts} | {0.0}
    return sorted(grid, reverse=True)


def expected_errors(learned: Side, grid: list[float]) -> list[float]:
    """Error among answered at each threshold, smoothed by a logistic regression of rightness on the margin."""
    answerable = learned.margin >= 0
    margin, right = learned.margin[answerable], learned.right[answerable]
    if not len(margin):
        return [1.0] * len(grid)
    intercept, slope = logistic(margin, right)
    wrong = 1.0 - sigmoid(intercept + max(slope, 0.0) * margin)
    return [float(wrong[margin >= threshold].mean()) if (margin >= threshold).any() else 1.0 for threshold in grid]


def planned_sequence(learned: Side, records: int, error: float, confidence: float, effect: float) -> list[float]:
    """The order of testing, decided on the learned half alone: downwards from the strictest threshold that is nearly as likely
    to pass as any (with a rather low guess of how many will be answered); when none is likely, from the one whose bound
    would be lowest.
    """
    grid = threshold_grid(learned)
    rates = np.array(expected_errors(learned, grid))
    shares = np.array([(learned.margin >= t).mean() for t in grid])
    counts = np.floor(np.maximum(shares * records - COUNT_SDS * np.sqrt(records * shares * (1 - shares)), 0.0) / effect)
    power = np.where(counts > 0, stats.binom.cdf(errors_allowed(counts, error, confidence), counts, rates), 0.0)
    if float(power.max()) < POWER_MIN:
        return grid[int(upper_bounds(rates * counts, counts, confidence).argmin()) :]
    return grid[int(np.flatnonzero(power >= NEAR_BEST * power.max())[0]) :]


def errors_allowed(records: Reals, error: float, confidence: float) -> Reals:
    """Most errors among `records` answered ones that still prove `error`; -1 when even none would not. Elementwise."""
    allowed = stats.binom.ppf(1 - confidence, records, error)
    return np.asarray(allowed - (stats.binom.cdf(allowed, records, error) > 1 - confidence))


def prove(learned: Side, tested: Side, error: float, confidence: float) -> Promise:
    """Tests the planned sequence on the tested half; see the module's text for why the promise holds."""
    effect = max(effect_at(learned, t) for t in threshold_grid(learned)) if tested.clustered else 1.0
    steps: list[Step] = []
    passed = 0
    for threshold in planned_sequence(learned, len(tested.margin), error, confidence, effect):
        step = step_at(tested, threshold, effect, confidence)
        steps.append(step)
        if step.bound > error:
            break
        passed += 1
    return Promise(error, confidence, tuple(steps), passed)


def step_at(tested: Side, threshold: float, effect: float, confidence: float) -> Step:
    """What the tested half says about one threshold."""
    answered = tested.margin >= threshold
    count, wrong = int(answered.sum()), int((answered & ~tested.right).sum())
    groups = len(np.unique(tested.groups[answered]))
    step = Step(threshold, len(tested.margin), count, groups, wrong, effect if tested.clustered else 1.0, 1.0)
    return replace(step, bound=_bound(step, confidence))


def _bound(step: Step, confidence: float) -> float:
    if step.groups == step.answered:
        return clopper_pearson_upper(step.errors, step.answered, confidence)
    if too_few_groups(step.groups):
        return 1.0
    return korn_graubard_upper(step.errors, step.answered, step.design_effect, step.groups, confidence)


def more_needed(step: Step, error: float, confidence: float) -> int | None:
    """How many more answered images without an error would prove `error` at this threshold; None beyond MORE_MAX.

    0 errors of 40 images: 19 more prove 5 % at 95 %, 259 more prove 1 %.
    """
    if step.groups == step.answered:
        more = max(0, needed_samples(error, confidence, step.errors) - step.answered)
    else:
        more = more_records(step.errors, step.answered, step.design_effect, step.groups, error, confidence)
    return more if more <= MORE_MAX else None
