"""Logistic regression from sums: Newton's method, a round of sums a step (contracts.logistic says what a round is).

The slope is fine, so the solution is that of pooled rows to some 1e-9; the curvature only steers the steps. The penalty is ridge
regression's: lam * sum_w / 2 times the squared coefficients on standardised features, the intercept free.

Few rounds. The first step needs none: at equal odds for all, slope and curvature follow from the moments that ridge regression
asks for too. Penalties are compared one step from a common point, where each is the exact solution of that point's weighted least squares
(`path`); only the chosen one is walked to its end (`settled`). A last step below STEP_LAST is taken without asking again: it errs by the
square of its length.

Scores without a group come from the hat matrix of that last weighted least squares, exact for it, and an approximation to a new fit
("approximate leave-one-out": Rad and Maleki, JRSS B 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Link
from isthmus.contracts.logistic import TOTAL_WEIGHT_MAX, LogisticSums, logistic_size
from isthmus.contracts.sums import LOSS_UNIT, Moments
from isthmus.foundry.ridge import Candidate, Standard, standard
from isthmus.kit.hatmatrix import design, leave_group_out
from isthmus.kit.logits import working_rows

ROUNDS_MAX = 8
"""Of one fit, all penalties together; a node answers no more for one run."""
PATH_ROUNDS = 2
STEP_LAST = 1e-4
HALVINGS_MAX = 6
Floats = NDArray[np.float64]
Ask = Callable[[Floats], LogisticSums]
"""Coefficients (d + 1,), the bias first, on (1, q) -> the roster's round there."""


def entries_told(dimension: int, rounds: int) -> int:
    """Numbers that leave in so many rounds."""
    return rounds * logistic_size(dimension)


@dataclass(frozen=True)
class LogisticFit(Candidate):
    """A fit of the logarithm of the odds. inverse: (d + 1, d + 1), of the last step's curvature and penalty. at: (d + 1,) coefficients on
    (1, q) where that step began. sums: the round there. settled: the step was small."""

    at: Floats
    sums: LogisticSums
    settled: bool
    link: ClassVar[Link] = "logistic"

    @property
    def freedom(self) -> float:
        """The effective number of parameters, the intercept's included: the sum of all rows' leverages."""
        penalty = self.lam * self.sums.sum_w
        return float(len(self.coefficients) - penalty * np.trace(self.inverse[1:, 1:]))

    def logits(self, q: NDArray[np.int16]) -> Floats:
        """(n,) of rows."""
        raw = self.raw()
        return np.asarray(raw[0] + q.astype(np.float64) @ raw[1:])


class Rounds:
    """Asks, keeps what was answered, and ends with a clear sentence when there are too many.

    moments: of the same rows, for means and scales; their weights are those of `ask`.
    """

    def __init__(self, ask: Ask, moments: Moments, rounds_max: int = ROUNDS_MAX) -> None:
        if moments.sum_w > TOTAL_WEIGHT_MAX:
            raise InputError(
                f"rows of weight {moments.sum_w} are more than the {TOTAL_WEIGHT_MAX} that a logistic fit can sum", "use the head ridge"
            )
        self._ask, self._known, self._most = ask, dict[bytes, LogisticSums](), rounds_max
        self.moments, self.base = moments, standard(moments)

    @property
    def asked(self) -> int:
        """How many rounds were asked for."""
        return len(self._known)

    def sums(self, at: Floats) -> LogisticSums:
        """The round at these coefficients. Raises InputError after too many."""
        name = at.tobytes()
        if name not in self._known:
            if self.asked >= self._most:
                raise InputError(
                    f"the logistic fit did not settle in {self._most} rounds", "use larger penalties (lambdas), or the head ridge"
                )
            self._known[name] = self._ask(at)
        return self._known[name]


def _turn(base: Standard) -> Floats:
    """(d + 1, d + 1): a raw row (1, q) times it is the standardised row."""
    d = base.mean.shape[0]
    turn = np.zeros((d + 1, d + 1))
    turn[0, 0], turn[0, 1:] = 1.0, -base.mean / base.scale
    turn[1:, 1:] = np.diag(1.0 / base.scale)
    return turn


def _penalty(base: Standard, lam: float) -> Floats:
    return np.concatenate([[0.0], np.full(base.mean.shape[0], lam * base.sum_w)])


def on_standard(at: Floats, base: Standard) -> Floats:
    """Coefficients on (1, q) -> on (1, (q - mean) / scale)."""
    return np.concatenate([[at[0] + at[1:] @ base.mean], at[1:] * base.scale])


def stepped(slope: Floats, curve: Floats, at: Floats, base: Standard, lam: float) -> tuple[Floats, Floats]:
    """One step of Newton's method from `at`: (standardised coefficients, inverse of curvature and penalty).

    slope: (d + 1,), curve: (d + 1, d + 1), over (1, q). Raises InputError when they cannot be solved.
    """
    turn, penalty, begun = _turn(base), _penalty(base, lam), on_standard(at, base)
    normal = turn.T @ curve @ turn
    normal = (normal + normal.T) / 2.0 + np.diag(penalty)
    try:
        factor = cho_factor(normal, lower=True)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise InputError(f"the sums cannot be solved at lambda {lam}", "use a larger lambda or give more records") from error
    inverse = cho_solve(factor, np.eye(len(penalty)))
    return begun + cho_solve(factor, turn.T @ slope - penalty * begun), (inverse + inverse.T) / 2.0


def _on_raw(standardised: Floats, base: Standard) -> Floats:
    slopes = standardised[1:] / base.scale
    return np.concatenate([[standardised[0] - slopes @ base.mean], slopes])


def begun(moments: Moments, base: Standard, lam: float) -> Floats:
    """(d + 1,) coefficients on (1, q) after the first step from equal odds for all, which follows from the moments: no round is asked."""
    share = (1.0 + base.target_mean) / 2.0
    at = np.concatenate([[np.log(share / (1.0 - share))], np.zeros(moments.dimension)])
    first = np.concatenate([[float(moments.sum_w)], moments.sum_wx.astype(np.float64)])
    positive = np.concatenate([[moments.sum_w + moments.sum_wy], (moments.sum_wx + moments.sum_wyx).astype(np.float64)]) / 2.0
    products = np.block([[first[:1, None], first[None, 1:]], [first[1:, None], moments.gram.astype(np.float64)]])
    found, _ = stepped(positive - share * first, share * (1.0 - share) * products, at, base, lam)
    return _on_raw(found, base)


def _fit(rounds: Rounds, at: Floats, lam: float) -> LogisticFit:
    """One step from `at`, whose round is asked for if it is not known. Columns are centred by that round's own weights."""
    sums = rounds.sums(at)
    base = replace(rounds.base, mean=sums.curve[0, 1:] / float(sums.curve[0, 0]))
    found, inverse = stepped(*sums.floats(), at, base, lam)
    small = float(np.abs(found - on_standard(at, base)).max()) < STEP_LAST
    return LogisticFit(float(lam), base.mean, base.scale, inverse, found, at, sums, small)


def _objective(sums: LogisticSums, at: Floats, base: Standard, lam: float) -> float:
    return sums.loss / LOSS_UNIT + 0.5 * float(_penalty(base, lam) @ on_standard(at, base) ** 2)


def _next(rounds: Rounds, fit: LogisticFit) -> LogisticFit:
    """The fit one step on. A step that does not lower the penalised loss is halved."""
    base, lam = rounds.base, fit.lam
    before, there = _objective(fit.sums, fit.at, base, lam), fit.raw()
    slack = 1e-9 * base.sum_w + 2.0 * base.sum_w / LOSS_UNIT  # losses are rounded
    for _ in range(HALVINGS_MAX):
        if _objective(rounds.sums(there), there, base, lam) <= before + slack:
            break
        there = (there + fit.at) / 2.0
    return _fit(rounds, there, lam)


def settled(rounds: Rounds, fit: LogisticFit) -> LogisticFit:
    """The fit walked to its end. Raises InputError when the rounds do not suffice."""
    while not fit.settled:
        fit = _next(rounds, fit)
    return fit


def path(rounds: Rounds, lambdas: Sequence[float]) -> list[LogisticFit]:
    """One fit for each lambda, in the order given, each one step from the same point: near the end for the middle one of them.

    Raises InputError when a lambda is not positive, or sums cannot be solved.
    """
    if not lambdas or any(not lam > 0 for lam in lambdas):
        raise InputError(f"the penalties {list(lambdas)} cannot be used", "give positive numbers")
    middle = sorted(lambdas)[len(lambdas) // 2]
    fit = _fit(rounds, begun(rounds.moments, rounds.base, middle), middle)
    for _ in range(PATH_ROUNDS - 1):
        fit = fit if fit.settled else _next(rounds, fit)
    return [_fit(rounds, fit.at, lam) for lam in lambdas]


def fit_logistic(ask: Ask, moments: Moments, lam: float, rounds_max: int = ROUNDS_MAX) -> LogisticFit:
    """The fit of one penalty. Raises InputError when lam is not positive, or sums cannot be solved."""
    rounds = Rounds(ask, moments, rounds_max)
    return settled(rounds, path(rounds, [lam])[0])


def fold_out_logits(fit: LogisticFit, q: NDArray[np.int16], w: NDArray[Any], y: NDArray[Any], groups: NDArray[Any]) -> Floats:
    """(n,) logits of each row by the fit without its group, where the rows are all that were summed (see the module).

    Raises InputError when there are fewer than two groups.
    """
    curve, working = working_rows(fit.at[0] + q.astype(np.float64) @ fit.at[1:], y)
    rows = design(q, fit.mean, fit.scale)
    return leave_group_out(rows, np.asarray(w, dtype=np.float64) * curve, working, groups, fit.inverse, fit.coefficients)
