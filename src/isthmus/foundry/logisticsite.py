"""The next site's logistic model: the fleet's loss near its optimum, joined with a few local records, solved at the site.

Near its optimum the fleet's loss is what its last round says: value, slope and curvature at one point. So the joined loss is that parabola,
plus the local records' own loss times a factor, plus the penalty; Newton's method at the site's node solves it, and no further round is
asked of anybody. Laplace's approximation of a posterior as the prior of the next (MacKay, Neural Computation 4 (1992)) is the same sum.
Factors, penalties, leave-one-out scores and the average of all fits are those of `site`; logits are averaged, so that the average is one
head again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.logistic import LogisticSums
from isthmus.contracts.sums import SCORE_LIMIT, Moments
from isthmus.foundry.logistic import begun, on_standard, stepped
from isthmus.foundry.ridge import LAMBDAS, Candidate, Standard, standard
from isthmus.foundry.site import FACTOR_UNIT, FACTORS, LocalRows, SiteFit, SiteFits, checked_factors, least_of, mixing_weights, weighted_sum
from isthmus.kit.hatmatrix import design, leave_group_out
from isthmus.kit.logits import curvature, probability, scores_of, working_rows

STEPS_MAX = 40
STEP_MIN = 1e-7
HALVINGS_MAX = 20
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Parabola:
    """A loss near a point: at, slope (d + 1,), curve (d + 1, d + 1), over (1, q). slope: towards less loss, as rounds tell it."""

    at: Floats
    slope: Floats
    curve: Floats

    @staticmethod
    def of(sums: LogisticSums, at: Floats) -> Parabola:
        """Raises InputError when the round does not fit its point."""
        if at.shape != sums.slope.shape:
            raise InputError(f"the fleet's round has {len(sums.slope)} slopes for {len(at)} coefficients", "send the round with its point")
        return Parabola(at, *sums.floats())

    def loss(self, there: Floats) -> float:
        away = there - self.at
        return float(-self.slope @ away + 0.5 * away @ self.curve @ away)

    def slope_at(self, there: Floats) -> Floats:
        return np.asarray(self.slope - self.curve @ (there - self.at))


@dataclass(frozen=True)
class _Problem:
    """fleet: None for the site alone. x: (n, d + 1) local rows (1, q). w: (n,) with the factor in it. times: of the fleet's sums."""

    fleet: Parabola | None
    times: float
    x: Floats
    w: Floats
    y: NDArray[Any]
    base: Standard
    lam: float

    def loss(self, at: Floats) -> float:
        logits = self.x @ at
        own = float(self.w @ np.logaddexp(0.0, np.where(self.y > 0, -logits, logits)))
        joined = 0.0 if self.fleet is None else self.times * self.fleet.loss(at)
        return own + joined + 0.5 * self.lam * self.base.sum_w * float((on_standard(at, self.base)[1:] ** 2).sum())

    def sums(self, at: Floats) -> tuple[Floats, Floats]:
        """(slope, curvature) at a point, without the penalty."""
        chance = probability(self.x @ at)
        slope = (self.w * ((self.y > 0) - chance)) @ self.x
        curve = (self.x * (self.w * curvature(chance))[:, None]).T @ self.x
        if self.fleet is not None:
            slope, curve = slope + self.times * self.fleet.slope_at(at), curve + self.times * self.fleet.curve
        return slope, curve


def _solved(problem: _Problem, at: Floats) -> tuple[Candidate, Floats]:
    """(fit, whose inverse is that at its end, and that end on (1, q)). Raises InputError when it cannot be solved."""
    for _ in range(STEPS_MAX):
        slope, curve = problem.sums(at)
        base = replace(problem.base, mean=curve[0, 1:] / curve[0, 0])
        found, inverse = stepped(slope, curve, at, base, problem.lam)
        fit = Candidate(problem.lam, base.mean, base.scale, inverse, found)
        if float(np.abs(found - on_standard(at, base)).max()) < STEP_MIN:
            return fit, at
        there, before = fit.raw(), problem.loss(at)
        for _ in range(HALVINGS_MAX):
            if problem.loss(there) <= before + 1e-9 * abs(before):
                break
            there = (there + at) / 2.0
        at = there
    raise InputError(f"the site's logistic fit does not settle at lambda {problem.lam}", "use a larger lambda")


def _left_out(fit: Candidate, at: Floats, rows: LocalRows, weights: Floats) -> Floats:
    """(n,) logits of each row by the fit without its group; weights: as they entered."""
    curve, response = working_rows(at[0] + rows.q.astype(np.float64) @ at[1:], rows.y)
    z = design(rows.q, fit.mean, fit.scale)
    return leave_group_out(z, weights * curve, response, rows.groups, fit.inverse, fit.coefficients)


def _loss(logits: Floats, rows: LocalRows) -> float:
    weights = np.asarray(rows.w, dtype=np.float64)
    return float(weights @ (np.asarray(rows.y) - scores_of(logits) / SCORE_LIMIT) ** 2 / weights.sum())


def _fits(fleet: Parabola | None, moments: Moments, rows: LocalRows, factor: float, lambdas: Sequence[float]) -> list[SiteFit]:
    """One fit for each lambda, each begun where the last one ended; `scores` are logits. moments: of all that enters."""
    times = 1.0 if fleet is None else float(round(FACTOR_UNIT * factor))
    weights, base = np.asarray(rows.w, dtype=np.float64) * times, standard(moments)
    x = np.column_stack([np.ones(len(rows.q)), rows.q.astype(np.float64)])
    at = begun(moments, base, max(lambdas)) if fleet is None else fleet.at
    found = []
    for lam in sorted(lambdas, reverse=True):
        fit, at = _solved(_Problem(fleet, float(FACTOR_UNIT), x, weights, np.asarray(rows.y), base, lam), at)
        logits = _left_out(fit, at, rows, weights)
        found.append(SiteFit(factor, fit, _loss(logits, rows), logits))
    return found


def _as_scores(fit: SiteFit) -> SiteFit:
    return replace(fit, scores=scores_of(fit.scores))


def combine_logistic(
    fleet: Moments,
    round_: LogisticSums,
    at: Floats,
    rows: LocalRows,
    fleet_lambda: float,
    factors: Sequence[float] = FACTORS,
    lambdas: Sequence[float] = LAMBDAS,
) -> SiteFits:
    """As `site.combine`, for a logistic fleet. round_, at: its last round, and where. Scores are 4 p - 2. Raises InputError."""
    finite = checked_factors(factors, rows)
    own, parabola = rows.moments(), Parabola.of(round_, at)
    if own.dimension != fleet.dimension or at.shape != (fleet.dimension + 1,):
        raise InputError(f"the fleet has {fleet.dimension} features, the site {own.dimension}", "use the fleet's stage at the site")
    shared = standard(fleet)
    found, inverse = stepped(parabola.slope, parabola.curve, at, shared, fleet_lambda)
    head = Candidate(fleet_lambda, shared.mean, shared.scale, inverse, found)
    logits = np.asarray(design(rows.q, head.mean, head.scale) @ head.coefficients)
    alone = SiteFit(0.0, head, _loss(logits, rows), logits)
    joined: list[SiteFit] = []
    for factor in finite:
        joined += _fits(parabola, weighted_sum(fleet, own, factor), rows, factor, lambdas)
    local_fits: list[SiteFit] = []
    note = ""
    if len(np.unique(rows.groups)) < 2:
        note = "the site's records are all of one group, so a model of its own cannot be tried"
    else:
        try:
            local_fits = _fits(None, own, rows, float("inf"), lambdas)
        except InputError as error:
            note = error.message
    combined, weight = _mixed([alone, *joined, *local_fits], rows)
    ends = (float(weight[0]), float(weight[1 : 1 + len(joined)].sum()), float(weight[1 + len(joined) :].sum()))
    return SiteFits(_as_scores(alone), _as_scores(least_of(local_fits)) if local_fits else None, note, _as_scores(combined), ends)


def _mixed(fits: Sequence[SiteFit], rows: LocalRows) -> tuple[SiteFit, Floats]:
    """The average of the fits' logits, and the weight of each."""
    weight = mixing_weights(fits, len(np.unique(rows.groups)))
    raw = weight @ np.stack([fit.candidate.raw() for fit in fits])
    logits = weight @ np.stack([fit.scores for fit in fits])
    d, heaviest = raw.shape[0] - 1, fits[int(weight.argmax())]
    candidate = Candidate(heaviest.candidate.lam, np.zeros(d), np.ones(d), np.zeros((0, 0)), raw)
    return SiteFit(heaviest.factor, candidate, _loss(logits, rows), logits), weight
