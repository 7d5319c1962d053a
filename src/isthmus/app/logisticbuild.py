"""Builds a scenario whose head is logistic: after the moments, a few rounds of Newton's method, then as any other run."""

from __future__ import annotations

from typing import Any

from isthmus.app.build import Build, Choice
from isthmus.app.rounds import LogisticRounds
from isthmus.contracts.ports import Json
from isthmus.contracts.statistic import IRLS
from isthmus.contracts.sums import LOSS_UNIT, Moments
from isthmus.foundry.foldout import choose_lambda


class LogisticBuild(Build):
    """See `Build`. Fits of all penalties are compared; the chosen one is walked to its end."""

    _rounds: LogisticRounds

    def _fit(self, moments: Moments) -> list[Any]:
        self._rounds = LogisticRounds(lambda params: self._finished(IRLS, self._stage, params), self._training(), moments)
        return list(self._rounds.path(self._scenario.recipe.lambdas))

    def _facts(self, fit: Any) -> Json:
        return {"irls": self._rounds.told(fit)}

    def _choose(self, fits: list[Any], weight: int) -> Choice:
        """As `Build` does; the chosen one takes its place among `fits` when it is settled."""
        losses = self._fold_out(fits, weight, histograms=False)
        index = choose_lambda(losses, [f.lam for f in fits])
        fits[index] = self._rounds.settled(fits[index])
        chosen = self._fold_out(fits[index : index + 1], weight, histograms=True)
        return Choice(weight, index, chosen.histogram[0], [int(v) / losses.sum_w / LOSS_UNIT for v in losses.loss])
