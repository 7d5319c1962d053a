"""Builds a scenario whose head is trees: after the moments, a round for each level of each tree, then as any other run."""

from __future__ import annotations

from typing import Any

from isthmus.app.build import Build, Choice
from isthmus.app.grown import grow_at_nodes
from isthmus.contracts.head import Head
from isthmus.contracts.ports import Json
from isthmus.contracts.sums import GroupSums, Moments
from isthmus.foundry.foldout import Thresholds


class TreeBuild(Build):
    """See `Build`. How many trees, and thresholds, rest on groups that were set aside; the fit knows both."""

    def _fit(self, moments: Moments) -> list[Any]:
        ask = lambda statistic, params: self._total(statistic, self._stage, params)  # noqa: E731
        return [grow_at_nodes(self._scenario.recipe, self._stage, moments, len(self._roster), self._training(), ask)]

    def _facts(self, fit: Any) -> Json:
        facts: Json = fit.facts()
        return facts

    def _choose(self, fits: list[Any], weight: int) -> Choice:
        return Choice(weight, 0, fits[0].histogram, list(fits[0].losses))

    def _head(self, fit: Any, thresholds: Thresholds) -> Head:
        head: Head = fit.head(thresholds.lo, thresholds.hi)
        return head

    def _verdicts(self, fit: Any, thresholds: Thresholds, weight: int) -> GroupSums:
        found: GroupSums = fit.verdicts(thresholds.lo, thresholds.hi)
        return found
