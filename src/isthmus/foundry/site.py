"""The next site's model: the fleet's sums plus a few local records, weighted, solved again.

The local records' weight is multiplied by a factor from a grid, with zero (the fleet alone) and infinity (the site alone) at its ends.
Each factor and penalty is judged by exact leave-one-group-out on the local records alone (kit.hatmatrix); the fleet's sums hold none of
them, and no record kept for proof is looked at.

With a few labels the least loss is often a lucky one. So no single fit is picked: the heads are averaged, which is one linear head again,
with exponential weights exp(-n loss / (4 variance)), the weights of Leung and Barron, "Information theory and mixing least-squares
regressions" (2006), for estimated risks; the variance is taken to be the least loss. Their prior keeps heads of the site alone small while
there are fewer labels than features (`prior_of`). bench/replicate.py measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Head
from isthmus.contracts.sums import Ints, Moments
from isthmus.foundry.foldout import moments_of
from isthmus.foundry.ridge import LAMBDAS, Candidate, candidates
from isthmus.kit.hatmatrix import design, leave_group_out
from isthmus.kit.treewalk import head_scores

FACTORS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
FACTOR_UNIT = 16
SUM_MAX = 1 << 62
TEMPERATURE = 4.0
PRIOR = (0.5, 0.4, 0.1)
LOSS_MIN = 1e-9
SHORT_UNIT, SHORT_MAX = 1 << 12, 4.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LocalRows:
    """A site's own labelled rows: q (n, d) int16, w (n,) positive integers, y (n,) in {-1, +1}, or in [-span, span] of a number that is
    foretold, groups (n,) labels; views of one record, and records that belong together, share a group."""

    q: NDArray[np.int16]
    w: NDArray[Any]
    y: NDArray[Any]
    groups: NDArray[Any]
    span: int = 1

    def moments(self) -> Moments:
        return moments_of(self.q, self.w, self.y, self.groups, span=self.span)


@dataclass(frozen=True)
class SiteFit:
    """One head for the site. factor: of the local weights; 0 for the fleet alone, infinity for the site alone. loss: weighted mean
    squared error of `scores`, (n,), which no row's own group took part in."""

    factor: float
    candidate: Candidate
    loss: float
    scores: Floats


@dataclass(frozen=True)
class SiteFits:
    """fleet: the fleet's head as it is. local: on the site's rows alone; None, with local_note, when they cannot carry one.
    combined: the average of all, which is the site's; its factor and penalty are those of the heaviest. weights: of the fleet alone, of
    finite factors, and of the site alone; they sum to 1."""

    fleet: SiteFit
    local: SiteFit | None
    local_note: str
    combined: SiteFit
    weights: tuple[float, float, float]


def weighted_sum(fleet: Moments, local: Moments, factor: float) -> Moments:
    """FACTOR_UNIT * fleet + round(FACTOR_UNIT * factor) * local, exactly; a common multiple of all weights changes no fit.

    Raises InputError when a sum would not fit into 62 bits.
    """
    times = round(FACTOR_UNIT * factor)

    def total(a: Ints, b: Ints) -> Ints:
        exact = a.astype(object) * FACTOR_UNIT + b.astype(object) * times
        if max((abs(int(v)) for v in exact.reshape(-1)), default=0) > SUM_MAX:
            raise InputError("the weighted sums are too large", "use a smaller weighting")
        return np.asarray(exact.astype(np.int64))

    return Moments(
        records=fleet.records + local.records,
        groups=fleet.groups + local.groups,
        sum_w=fleet.sum_w * FACTOR_UNIT + local.sum_w * times,
        sum_wy=fleet.sum_wy * FACTOR_UNIT + local.sum_wy * times,
        sum_wx=total(fleet.sum_wx, local.sum_wx),
        sum_wyx=total(fleet.sum_wyx, local.sum_wyx),
        gram=total(fleet.gram, local.gram),
        span=fleet.span,
    )


def _fits(moments: Moments, rows: LocalRows, times: int, factor: float, lambdas: Sequence[float]) -> list[SiteFit]:
    """One fit for each lambda; the rows entered `moments` with their weights times `times` (0: not at all)."""
    found: list[SiteFit] = []
    fits = candidates(moments, lambdas)
    z = design(rows.q, fits[0].mean, fits[0].scale)
    weights, targets = np.asarray(rows.w, dtype=np.float64), np.asarray(rows.y, dtype=np.float64)
    for fit in fits:
        if times:
            scores = leave_group_out(z, weights * times, targets, rows.groups, fit.inverse, fit.coefficients)
        else:
            scores = np.asarray(z @ fit.coefficients)
        found.append(SiteFit(factor, fit, float(weights @ (targets - scores) ** 2 / weights.sum()), scores))
    return found


def least_of(fits: list[SiteFit]) -> SiteFit:
    """Least loss; ties to the smaller factor, then to the larger lambda."""
    return min(fits, key=lambda f: (f.loss, f.factor, -f.candidate.lam))


def prior_of(fits: Sequence[SiteFit], groups: int) -> Floats:
    """(len(fits),) weights before any loss is seen: PRIOR for the fleet alone, for joined heads and for local ones, shared within each.

    Local heads get less, by the square of `groups` per feature, where there are fewer groups than features: their loss is then mostly luck.
    """
    kind = np.array([0 if fit.factor == 0 else 2 if np.isinf(fit.factor) else 1 for fit in fits])
    features = fits[0].candidate.coefficients.shape[0] - 1
    share = np.array([*PRIOR[:2], PRIOR[2] * min(1.0, groups / features) ** 2])
    prior = share[kind] / np.bincount(kind, minlength=len(PRIOR))[kind]
    return np.asarray(prior / prior.sum())


def mixing_weights(fits: Sequence[SiteFit], groups: int) -> Floats:
    """(len(fits),) weights of the average, by prior and loss; they sum to 1."""
    loss = np.array([fit.loss for fit in fits])
    least = max(float(loss.min()), LOSS_MIN)
    weight = prior_of(fits, groups) * np.exp(-groups * (loss - loss.min()) / (TEMPERATURE * least))
    return np.asarray(weight / weight.sum())


def mixed(fits: Sequence[SiteFit], rows: LocalRows) -> tuple[SiteFit, Floats]:
    """The average of the fits, and the weight of each, (len(fits),). Its candidate stands on raw features; it has no inverse."""
    weight = mixing_weights(fits, len(np.unique(rows.groups)))
    raw = weight @ np.stack([fit.candidate.raw() for fit in fits])
    scores = weight @ np.stack([fit.scores for fit in fits])
    w, y = np.asarray(rows.w, dtype=np.float64), np.asarray(rows.y, dtype=np.float64)
    d, heaviest = raw.shape[0] - 1, fits[int(weight.argmax())]
    candidate = Candidate(heaviest.candidate.lam, np.zeros(d), np.ones(d), np.zeros((0, 0)), raw)
    return SiteFit(heaviest.factor, candidate, float(w @ (y - scores) ** 2 / w.sum()), scores), weight


def checked_factors(factors: Sequence[float], rows: LocalRows) -> list[float]:
    """The finite weightings, sorted. Raises InputError when one cannot be used, or there is nothing to weigh."""
    finite = sorted({f for f in factors if 0 < f < float("inf")})
    if not finite or any(not 1 / 32 < f <= 4096 for f in finite):
        raise InputError(f"the weightings {list(factors)} cannot be used", "give numbers from 0.0625 to 4096")
    if rows.q.shape[0] == 0 or bool((np.asarray(rows.w) <= 0).any()):
        raise InputError("the site gave no labelled records, or one without weight", "label some")
    return finite


def combine(
    fleet: Moments, rows: LocalRows, fleet_lambda: float, factors: Sequence[float] = FACTORS, lambdas: Sequence[float] = LAMBDAS
) -> SiteFits:
    """Fleet-only, local-only and averaged heads for a site, each with its leave-one-group-out loss on the site's rows.

    factors: finite ones above 1 / 32 and at most 4096; 0 and infinity are always tried (fleet, local). Raises InputError.
    """
    finite = checked_factors(factors, rows)
    own = rows.moments()
    if own.dimension != fleet.dimension:
        raise InputError(f"the fleet has {fleet.dimension} features, the site {own.dimension}", "use the fleet's stage at the site")
    alone = least_of(_fits(fleet, rows, 0, 0.0, [fleet_lambda]))
    joined: list[SiteFit] = []
    for factor in finite:
        joined += _fits(weighted_sum(fleet, own, factor), rows, round(FACTOR_UNIT * factor), factor, lambdas)
    local_fits: list[SiteFit] = []
    note = ""
    if len(np.unique(rows.groups)) < 2:
        note = "the site's records are all of one group, so a model of its own cannot be tried"
    else:
        try:
            local_fits = _fits(own, rows, 1, float("inf"), lambdas)
        except InputError as error:
            note = error.message
    combined, weight = mixed([alone, *joined, *local_fits], rows)
    ends = (float(weight[0]), float(weight[1 : 1 + len(joined)].sum()), float(weight[1 + len(joined) :].sum()))
    return SiteFits(alone, least_of(local_fits) if local_fits else None, note, combined, ends)


def corrected(
    fleet: Moments,
    rows: LocalRows,
    head: Head,
    fleet_lambda: float,
    factors: Sequence[float] = FACTORS,
    lambdas: Sequence[float] = LAMBDAS,
) -> SiteFits:
    """The same three for a fleet whose head has trees: it as it is, it and a linear correction, and a linear head of the site alone.

    Candidates of the first two hold the linear part only; the trees come beside it. The correction is fitted to what a score lacks of a
    margin of 1 on its label's side, nothing where it lacks nothing: one step of the squared hinge loss, which every `loss` here is. It is
    joined with fleet sums that ask for no correction, and averaged as heads are. Raises InputError.
    """
    score = head_scores(head, rows.q)
    short = np.asarray(rows.y) * np.maximum(0.0, 1.0 - np.asarray(rows.y) * score)
    wanted = np.rint(np.clip(short, -SHORT_MAX, SHORT_MAX) * SHORT_UNIT).astype(np.int64)
    span = int(SHORT_MAX * SHORT_UNIT) + 1
    nothing = replace(fleet, sum_wy=0, sum_wyx=np.zeros_like(fleet.sum_wyx), span=span)
    step = combine(nothing, replace(rows, y=wanted, span=span), fleet_lambda, factors, lambdas)
    own = combine(fleet, rows, fleet_lambda, factors, lambdas)
    fits = {name: _added(getattr(step, name), rows, head) for name in ("fleet", "combined")}
    local = None if own.local is None else replace(own.local, loss=_lacking(rows, own.local.scores))
    return SiteFits(fits["fleet"], local, own.local_note, fits["combined"], step.weights)


def _lacking(rows: LocalRows, score: Floats) -> float:
    """Weighted mean square of what scores lack of a margin of 1."""
    w = np.asarray(rows.w, dtype=np.float64)
    return float(w @ np.maximum(0.0, 1.0 - np.asarray(rows.y) * score) ** 2 / w.sum())


def _added(fit: SiteFit, rows: LocalRows, head: Head) -> SiteFit:
    """A correction in the units of a score, added to a head. Its candidate stands on raw features."""
    raw = fit.candidate.raw() / SHORT_UNIT + np.concatenate([[head.bias], head.coefficients.array()])
    total = head_scores(head, rows.q) + fit.scores / SHORT_UNIT
    d = raw.shape[0] - 1
    candidate = Candidate(fit.candidate.lam, np.zeros(d), np.ones(d), np.zeros((0, 0)), raw)
    return SiteFit(fit.factor, candidate, _lacking(rows, total), total)
