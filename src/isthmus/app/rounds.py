"""A logistic fit walked at the owners' nodes: one job irls/1 a round, between the moments and the fold-out scores of a build."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from isthmus.contracts.head import Array
from isthmus.contracts.job import JobStatus
from isthmus.contracts.logistic import LogisticSums, logistic_sums_from, logistic_units
from isthmus.contracts.ports import Json
from isthmus.contracts.statistic import Candidate, IrlsParams, Working
from isthmus.contracts.sums import Moments
from isthmus.foundry.logistic import Floats, LogisticFit, Rounds, path, settled
from isthmus.foundry.ridge import Candidate as Fit

Finish = Callable[[msgspec.Struct], JobStatus]
"""Asks the roster for one round, and waits."""


class LogisticRounds:
    """The rounds of one run. training: how records enter, as in TrainingParams. moments: the roster's."""

    def __init__(self, finish: Finish, training: Json, moments: Moments) -> None:
        self._finish, self._training = finish, training
        self._weight, self._dimension = moments.sum_w, moments.dimension
        self._jobs: dict[bytes, str] = {}
        self._rounds = Rounds(self._ask, moments)

    def _ask(self, at: Floats) -> LogisticSums:
        fields = {**self._training, "coefficients": msgspec.to_builtins(Array.of(at)), "total_weight": self._weight}
        status = self._finish(msgspec.convert(fields, IrlsParams))
        assert status.total is not None
        self._jobs[at.tobytes()] = status.id
        return logistic_sums_from(status.total.array().astype(np.int64), self._dimension, logistic_units(self._weight))

    def path(self, lambdas: Sequence[float]) -> list[Fit]:
        """One fit for each penalty, to be compared; see foundry.logistic.path."""
        return list(path(self._rounds, lambdas))

    def settled(self, fit: Fit) -> LogisticFit:
        """One of them walked to its end. Raises InputError when the rounds do not suffice."""
        assert isinstance(fit, LogisticFit)
        return settled(self._rounds, fit)

    def told(self, fit: Fit) -> Json:
        """How many rounds were asked for, and where the last step of the fit began: its job and coefficients."""
        assert isinstance(fit, LogisticFit)
        return {"rounds": self._rounds.asked, "job": self._jobs[fit.at.tobytes()], "at": msgspec.to_builtins(Array.of(fit.at))}


def as_candidate(fit: Fit) -> Candidate:
    """A fit as nodes are told of it."""
    raw = fit.raw()
    found = Candidate(penalty=fit.lam, bias=float(raw[0]), coefficients=Array.of(raw[1:]))
    if not isinstance(fit, LogisticFit):
        return found
    working = Working(coefficients=Array.of(fit.at), weight=fit.sums.weight, freedom=fit.freedom)
    return msgspec.structs.replace(found, working=working)
