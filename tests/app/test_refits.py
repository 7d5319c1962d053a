"""Which way a model may be made again without its leavers, by the agreements alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from isthmus.app.refits import plan_refit
from isthmus.contracts.agreement import Agreement
from tests.app.world import request

FIVE = ("alba", "brio", "cora", "dune", "ebro")


def terms(parties: tuple[str, ...] = FIVE, **changed: Any) -> dict[str, Agreement]:
    fields: dict[str, Any] = {"exchange": "e", "purposes": ("p",), "operations": ("o",), "participants": {}, "issued_at_s": 0, "asset": "a"}
    fields |= {"expires_at_s": 1, "runs_max": 1, "least_group_size": 1, "least_participants": 3}
    return {party: Agreement(owner=party, **{**fields, **changed}) for party in parties}


def plan(leavers: tuple[str, ...], agreed: dict[str, Agreement], after: tuple[str, ...] = (), **more: Any) -> Any:
    wanted = request(owners=FIVE, **more)
    if not after:
        recipe = msgspec.structs.replace(wanted.scenario.recipe, parts_after_leaving=())
        wanted = msgspec.structs.replace(wanted, scenario=msgspec.structs.replace(wanted.scenario, recipe=recipe))
    return plan_refit(wanted, leavers, agreed, after)


def test_individual_leavers_may_be_shown_alone() -> None:
    found = plan(("ebro",), terms(visibility="individual", least_participants=1))
    assert found.way == "same-features" and found.request.left == ("ebro",) and found.request.roster == FIVE[:4]
    assert not found.request.without and found.request.owners == FIVE


def test_one_individual_leaver_among_others_in_aggregate() -> None:
    assert plan(("ebro",), {**terms(), **terms(("ebro",), visibility="individual")}).way == "same-features"
    mixed = {**terms(visibility="individual", least_participants=1), **terms(("ebro",))}
    assert plan(("ebro",), mixed).way == "would-reveal", "the leaver's own terms count, not the others'"


@pytest.mark.parametrize(("leavers", "owners_min", "way"), [(1, 2, "would-reveal"), (2, 2, "together"), (2, 3, "would-reveal")])
def test_in_aggregate_enough_leave_together(leavers: int, owners_min: int, way: str) -> None:
    found = plan(FIVE[-leavers:], terms(overlap_owners_min=owners_min))
    assert found.way == way
    if way == "would-reveal":
        assert found.request is None and f"wait until {owners_min} have left" in found.next and "parts_after_leaving" in found.next


def test_else_the_features_change_if_all_who_stay_agreed_on_that() -> None:
    found = plan(("ebro",), terms(), after=FIVE[:4])
    assert found.way == "other-features" and found.request.without == ("ebro",) and not found.request.left
    assert plan(("ebro",), terms(), after=FIVE[:3]).way == "would-reveal"
    assert plan(("dune", "ebro"), terms(), after=FIVE[:3]).way == "together", "the same features are better than others"


@pytest.mark.parametrize("leavers", [FIVE, FIVE[1:], FIVE[2:]])
def test_too_few_stay(leavers: tuple[str, ...]) -> None:
    found = plan(leavers, terms())
    assert found.way == "too-few" and found.request is None and found.next
    assert plan(FIVE, terms(visibility="individual", least_participants=1)).way == "too-few"


def test_a_second_departure_keeps_the_first_in_mind() -> None:
    found = plan(("dune",), terms(visibility="individual", least_participants=1), left=("ebro",))
    assert found.request.left == ("dune", "ebro") and found.request.roster == FIVE[:3]
