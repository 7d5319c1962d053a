"""Builds a scenario whose head is trees: after the moments, a round for each level of each tree, then as any other run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isthmus.app.build import Build, Choice
from isthmus.app.grown import Seen, grow_at_nodes
from isthmus.app.rounds import as_candidate
from isthmus.contracts.head import Head
from isthmus.contracts.ports import Json
from isthmus.contracts.sums import GroupSums, Moments
from isthmus.foundry.foldout import Thresholds


class TreeBuild(Build):
    """See `Build`. How many trees, and thresholds, rest on groups that were set aside; the fit knows both."""

    def _fit(self, moments: Moments) -> list[Any]:
        recipe, seen = self._scenario.recipe, Seen(moments, len(self._roster))
        if recipe.trees is not None and recipe.trees.start == "ridge":
            fits = super()._fit(moments)
            chosen = super()._choose(fits, moments.sum_w)
            seen = replace(seen, linear=as_candidate(fits[chosen.index]), histogram=chosen.histogram)
        return [grow_at_nodes(recipe, self._stage, seen, self._training(), lambda name, params: self._total(name, self._stage, params))]

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
