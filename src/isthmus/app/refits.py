"""How a model may be made again without owners who have left: decided from the agreements alone. Pure; the nodes have the last word."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import msgspec

from isthmus.contracts.agreement import AGGREGATE_PARTICIPANTS_MIN, Agreement
from isthmus.contracts.build import RunRequest
from isthmus.contracts.withdrawal import Way


@dataclass(frozen=True)
class RefitPlan:
    """way: see contracts.withdrawal.Refit. request: what to run; None where nothing may be run, and then reason and next say why."""

    way: Way
    request: RunRequest | None = None
    reason: str = ""
    next: str = ""


def plan_refit(request: RunRequest, leavers: Collection[str], terms: Mapping[str, Agreement], after: Collection[str]) -> RefitPlan:
    """The run that does without the leavers. request: the run that had them. terms: the agreement of everybody in its roster, by party,
    those of leavers as they were. after: parties who agreed on the purpose for after leaving.

    A leaver whose agreement has individual visibility keeps nothing that the difference of two totals would tell. Of the others, one alone
    would be told by subtraction: so either enough of them leave together, or the features change, or nothing is run.
    """
    gone, staying = sorted(set(leavers)), [party for party in request.roster if party not in leavers]
    least = max([1, *(terms[party].least_participants for party in staying if party in terms)])
    aggregate = any(party not in terms or terms[party].visibility == "aggregate" for party in staying)
    least = max(least, AGGREGATE_PARTICIPANTS_MIN) if aggregate else least
    secret = [party for party in gone if party not in terms or terms[party].visibility == "aggregate"]
    owners_min = max([2, *(terms[party].overlap_owners_min for party in staying if party in terms)])
    enough = bool(staying) and len(staying) >= least
    again = msgspec.structs.replace(request, left=tuple(sorted({*request.left, *gone})), candidate=False)
    if enough and not secret:
        return RefitPlan("same-features", again)
    if enough and len(secret) >= owners_min:
        return RefitPlan("together", again)
    other = bool(request.scenario.recipe.parts_after_leaving) and not request.without
    if other and len(staying) >= 2 and set(staying) <= set(after):
        return RefitPlan("other-features", msgspec.structs.replace(request, without=tuple(gone), candidate=False))
    if not enough:
        left = f"{len(staying)} owner{'' if len(staying) == 1 else 's'} left"
        return RefitPlan(
            "too-few", None, f"with {left}, the agreements ask for {least}", "let more owners join, then run the scenario anew"
        )
    return RefitPlan("would-reveal", None, _revealed(secret, owners_min), _what_to_do(request, owners_min))


def _revealed(secret: list[str], owners_min: int) -> str:
    names, verb = " and ".join(secret), "is" if len(secret) == 1 else "are"
    return (
        f"{names} {verb} fewer than the {owners_min} owners who must leave together: the total of before less the total without"
        f" {'it' if len(secret) == 1 else 'them'} would be sums that the agreement keeps in aggregate"
    )


def _what_to_do(request: RunRequest, owners_min: int) -> str:
    purpose = f"{request.scenario.purpose}/after-leaving"
    features = (
        f"agree on {purpose!r}" if request.scenario.recipe.parts_after_leaving else "name other features in recipe.parts_after_leaving"
    )
    return f"wait until {owners_min} have left, or {features}, or agree anew with individual visibility or a privacy budget"
