"""A run with terms to be scored: a signed split that can be recomputed, and service that pays by it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from isthmus.app.contribution import check_scorable, site_weights
from isthmus.app.ownersums import owner_moments
from isthmus.contracts.brier import BRIER
from isthmus.contracts.contribution import WEIGHT_TOTAL
from isthmus.contracts.errors import InputError, JobRefusedError
from isthmus.contracts.operations import fleet_operations
from isthmus.foundry.coalitions import summed
from isthmus.foundry.ridge import candidates
from isthmus.foundry.stages import stage_of
from isthmus.kit.signing import Envelope
from isthmus.sandbox.contribution import checked_contribution
from isthmus.sandbox.folder import HOLDOUT
from tests.app.town import PURPOSE, Town
from tests.app.world import scenario

OWNERS = ("alder", "birch", "cedar", "dogwood")
SCORED = {
    "visibility": "individual",
    "least_participants": 1,
    "contribution": True,
    "dimension_records_min_ratio": 1,
    "operations": (*fleet_operations("ridge"), BRIER),
}


def test_owners_are_scored_paid_and_a_leaver_is_no_longer(tmp_path: Path) -> None:
    with Town(tmp_path, SCORED) as town:
        town.add(*OWNERS, seeds={"dogwood": 0}, counts={"dogwood": 60})  # dogwood has what alder has, less of it
        run = town.run("build", town.request(*OWNERS, contribution=True))
        assert run.state == "certified", run.error or run.result["failures"]
        told = run.result["contribution"]
        found = checked_contribution(msgspec.convert(told["envelope"], Envelope), town.exchange.key.public_hex)
        assert [one.party for one in found.owners] == list(OWNERS) and found.method == "exact" and len(found.masks.array()) == 15
        assert sum(share.weight_ppm for share in found.shares) == WEIGHT_TOTAL and not found.by_rows
        assert found.records == sum(len(town.homes[o].folder.of_split(HOLDOUT)) for o in OWNERS)
        assert all(s.low_ppm is not None and s.low_ppm <= s.weight_ppm <= s.high_ppm for s in found.shares), found.shares
        by_party = {share.party: share.weight_ppm for share in found.shares}
        assert by_party["dogwood"] < min(by_party[o] for o in OWNERS[1:3])
        _of_records(town, run.result, found)
        rule = town.exchange.meter.prices.split(run.result["deployment"]["split_id"])
        assert {one.party: one.weight for one in rule.owners} == by_party == told["weights"]
        town.leave("dogwood")
        (lapsed,) = town.exchange.departures.told()
        again = town.ended(lapsed.refit.run)
        assert again.state == "certified", again.error
        assert set(again.result["contribution"]["weights"]) == set(OWNERS[:3])


def _of_records(town: Town, result: dict, found) -> None:  # type: ignore[no-untyped-def, type-arg]
    """The loss of everybody's coalition, found from the records themselves."""
    stage = stage_of(town.scenario.recipe.backbone, town.scenario.recipe.parts, town.scenario.interface.schema)
    data = [home.owner_data(town.tools) for home in town.homes.values()]
    serve, parties = town.scenario.serve, [one.party for one in found.owners]
    whose = (town.exchange._workshop(), found.run, found.scenario, PURPOSE, stage, town.scenario.recipe.training, parties)
    sums = owner_moments(*whose, models_to=serve.models_to, owners_share_ppm=serve.owners_ppm)
    (fit,) = candidates(summed(list(sums.values())), [result["penalty"]])
    total = 0.0
    for one in data:
        chance = np.clip((one.features(stage, HOLDOUT) @ fit.raw()[1:] + fit.raw()[0] + 1) / 2, 0, 1)
        total += float(((chance - (one.records(HOLDOUT).y > 0)) ** 2).sum())
    assert found.losses.array()[-1] / 2**24 == pytest.approx(total, abs=1e-4)


def test_who_did_not_agree_to_be_scored_ends_the_run_before_anything_is_served(tmp_path: Path) -> None:
    with Town(tmp_path, {**SCORED, "least_participants": 3}) as town:
        town.add(*OWNERS[:3])
        run = town.run("build", town.request(*OWNERS[:3], contribution=True))
        assert run.state == "failed" and run.error["code"] == JobRefusedError.code and "least-participants" in run.error["message"]
        assert town.exchange.lives.names() == []


def test_only_models_with_a_head_that_gives_probabilities_are_scored() -> None:
    known = scenario()
    check_scorable(known)
    gaussian = msgspec.structs.replace(known, recipe=msgspec.structs.replace(known.recipe, head="gaussian"))
    numbers = msgspec.structs.replace(known, interface=msgspec.structs.replace(known.interface, output="value"))
    for wrong in (gaussian, numbers):
        with pytest.raises(InputError, match="cannot be scored"):
            check_scorable(wrong)


def test_a_site_shares_by_rows_beside_what_the_fleets_owners_were_scored() -> None:
    rows = {"a": 100, "b": 300}
    assert site_weights({}, rows, "s", 40) == {"a": 100, "b": 300, "s": 40}
    scored = {"contribution": {"weights": {"a": 700_000, "b": 300_000}}}
    assert site_weights(scored, rows, "s", 40) == {"a": 700_000, "b": 300_000, "s": 100_000}
