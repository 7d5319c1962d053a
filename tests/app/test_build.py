"""A build really fits, chooses, evaluates, and certifies or refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.app.build import AFTER_LEAVING, SLICE_KINDS_MAX, Build
from isthmus.app.worker import RunCancelled
from isthmus.assurance.certificate import check_digest
from isthmus.contracts.errors import CertificateArtefactError, InputError, JobFailedError
from isthmus.contracts.job import JobRefusal, JobRequest
from isthmus.contracts.scenario import Augmentation
from isthmus.contracts.statistic import CLUSTERS, EVALUATE, FOLD_OUT, MOMENTS, OWN_HEAD
from isthmus.foundry.export import artefact_digest
from isthmus.kit.pictures import DECODER
from isthmus.kit.signing import Envelope
from isthmus.scenarios.run import AFTER_LEAVING as DRIVER_AFTER_LEAVING
from tests.app.world import OWNERS, PURPOSE, House, house, owner, owners, part, request, scenario


def walked(of: House, wanted: Any, run_id: str = "run_1") -> tuple[bool, dict[str, Any]]:
    of.begun(run_id, wanted)
    return Build(of.shop, run_id, wanted).walk()


@pytest.fixture
def ready(tmp_path: Path) -> House:
    return house(tmp_path)


def certificate(of: House, result: dict[str, Any], artefact: str | None = None) -> Any:
    envelope = msgspec.convert(result["certificate"]["envelope"], Envelope)
    trusted = {of.key.key_id: of.key.public_hex}
    return check_digest(envelope, artefact or result["artefact_digest"], trusted, "T2", of.clock.now_s(), of.catalogue.revoked(), DECODER)


def test_a_good_model_is_certified_for_what_was_measured(ready: House) -> None:
    certified, result = walked(ready, request())
    assert certified and result["passed"] and result["failures"] == []
    found = certificate(ready, result).predicate
    assert found.parties == OWNERS and found.agreements == tuple(ready.jobs.terms[p, PURPOSE] for p in OWNERS)
    assert found.claims.records == sum(o.asset.records_holdout for o in ready.jobs.owners.values())
    assert result["moments"]["records"] == sum(o.asset.records_train for o in ready.jobs.owners.values())
    raw = ready.catalogue.artefact(result["artefact_digest"])
    assert artefact_digest(raw) == result["artefact_digest"]
    assert set(result["auc"]) == {"joint", *OWNERS} and result["auc"]["joint"] > 0.9
    assert ready.catalogue.bars(found.bars_digest).payload


def test_shuffled_labels_are_refused(tmp_path: Path) -> None:
    certified, result = walked(house(tmp_path, owners(shuffled=True)), request())
    assert not certified and result["certificate"] is None and result["failures"]


def test_too_few_groups_are_refused_with_the_number_missing(tmp_path: Path) -> None:
    few = {p: owner(p, s, holdout=20) for s, p in enumerate(OWNERS)}
    certified, result = walked(house(tmp_path, few), request())
    assert not certified and any("2 more needed" in line for line in result["failures"])


def test_promises_stop_at_the_first_that_fails_and_the_last_proven_is_certified(ready: House) -> None:
    certified, result = walked(ready, request(200_000, 100_000, 500, 100))
    tried = [row["bars"]["error_ppm_max"] for row in result["promises"]]
    assert certified and tried == [200_000, 100_000, 500], "nothing is tried after a failure"
    assert [row["passed"] for row in result["promises"]] == [True, True, False]
    assert result["bars"]["error_ppm_max"] == 100_000
    assert result["artefact_digest"] == result["promises"][1]["artefact_digest"] != result["promises"][2]["artefact_digest"]
    assert certificate(ready, result).predicate.claims.error_bound_ppm <= 100_000
    with pytest.raises(CertificateArtefactError):
        certificate(ready, result, result["promises"][2]["artefact_digest"])


def test_a_later_promise_cannot_rescue_a_failed_first(ready: House) -> None:
    certified, result = walked(ready, request(200, 100))
    assert not certified and len(result["promises"]) == 1 and result["bars"]["error_ppm_max"] == 200


def test_bars_are_signed_before_any_sum_is_asked_for(ready: House) -> None:
    seen: list[int] = []
    ready.jobs.before = lambda asked: seen.append(len(ready.catalogue._db.rows("SELECT * FROM bars")))
    walked(ready, request(200_000, 100_000))
    assert seen[0] == 2 and set(seen) == {2}


def test_held_out_records_choose_nothing(tmp_path: Path) -> None:
    """Other held-out records of the same number: the same penalty, thresholds and artefact; only the verdict's figures differ."""
    one, other = house(tmp_path / "one"), house(tmp_path / "other")
    for place, found in enumerate(other.jobs.owners.values()):
        found.parts["holdout"] = part(7000 + place, 200)
    (_, a), (_, b) = walked(one, request()), walked(other, request())
    assert a["artefact_digest"] == b["artefact_digest"] and a["thresholds"] == b["thresholds"] and a["design_effect"] == b["design_effect"]
    assert a["evaluations"] != b["evaluations"]


def test_the_same_inputs_give_the_same_artefact_and_claims(tmp_path: Path) -> None:
    (_, a), (_, b) = walked(house(tmp_path / "one"), request()), walked(house(tmp_path / "other"), request())
    assert a["artefact_digest"] == b["artefact_digest"] and a["claims"] == b["claims"]
    assert a["certificate"]["digest"] == b["certificate"]["digest"], "the clock stood still"


def test_a_run_cut_off_at_every_step_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = walked(house(tmp_path / "whole"), request())[1]
    cut = house(tmp_path / "cut")
    wanted, run_id = request(), "run_1"
    cut.begun(run_id, wanted)
    original = cut.catalogue.step_now
    left = {"steps": 0}

    def counted(*given: Any) -> None:
        if left["steps"] == 0:
            raise RunCancelled
        left["steps"] -= 1
        original(*given)

    monkeypatch.setattr(cut.catalogue, "step_now", counted)
    cuts = 0
    while True:
        left["steps"] = cuts
        try:
            certified, result = Build(cut.shop, run_id, wanted).walk()
            break
        except RunCancelled:
            cuts += 1
    assert cuts == 9 and certified
    assert {k: v for k, v in result.items() if k != "certificate"} == {k: v for k, v in whole.items() if k != "certificate"}
    assert cut.jobs.made == 6, "no sum was made twice"
    assert len(cut.catalogue.certificates()) == 1


def test_a_run_cut_off_after_it_certified_keeps_its_certificate(ready: House) -> None:
    first = walked(ready, request())[1]
    ready.clock.advance(3600)
    again = walked(ready, request())[1]
    assert again["certificate"] == first["certificate"] and len(ready.catalogue.certificates()) == 1


def test_walking_again_does_not_undo_a_revocation(ready: House) -> None:
    first = walked(ready, request())[1]
    ready.catalogue.revoke(first["certificate"]["digest"], "found wrong")
    ready.clock.advance(3600)
    again = walked(ready, request())[1]
    assert again["certificate"]["digest"] in ready.catalogue.revoked()


def test_an_expired_certificate_is_issued_anew_and_another_run_has_its_own(ready: House) -> None:
    first = walked(ready, request())[1]["certificate"]["digest"]
    other = walked(ready, request(label="again"), "run_2")[1]["certificate"]["digest"]
    assert other == first, "the same moment, the same words"
    ready.clock.advance(91 * 86_400)
    assert walked(ready, request())[1]["certificate"]["digest"] != first


def test_a_refusal_names_the_clause_and_the_party(ready: House) -> None:
    ready.jobs.refusing[MOMENTS] = (JobRefusal(party="brio", clause="expiry", message="the agreement is over", next="agree anew"),)
    with pytest.raises(JobFailedError, match="brio refused by its clause expiry: the agreement is over"):
        walked(ready, request())
    assert ready.catalogue.view("run_1").step == "moments"


def test_a_least_group_size_is_a_clause_too(ready: House) -> None:
    ready.jobs.owners["cora"].parts["holdout"] = part(9, 3)
    with pytest.raises(JobFailedError, match="cora refused by its clause least-group-size"):
        walked(ready, request())


@pytest.mark.parametrize("statistic", [MOMENTS, FOLD_OUT, CLUSTERS, OWN_HEAD, EVALUATE])
def test_an_agreement_made_anew_meanwhile_ends_the_run(ready: House, statistic: str) -> None:
    """Else an owner could move records from the training part to the held-out part between the fit and the proof."""

    def meddle(asked: JobRequest) -> None:
        if asked.statistic == statistic:
            ready.jobs.agree(PURPOSE, "alba", version=2)

    ready.jobs.before = meddle
    with pytest.raises(JobFailedError, match="alba made a new agreement"):
        walked(ready, request())
    assert ready.catalogue.certificates() == []


def test_after_leaving_has_a_purpose_and_a_stage_of_its_own(ready: House) -> None:
    wanted = request(without=("cora",), clean_only=True)
    certified, result = walked(ready, wanted)
    assert AFTER_LEAVING == DRIVER_AFTER_LEAVING, "the driver's agreements and the exchange's jobs name one purpose"
    assert {asked.purpose for asked in ready.jobs.asked} == {PURPOSE + AFTER_LEAVING}
    assert {asked.roster for asked in ready.jobs.asked} == {("alba", "brio")}
    assert tuple(result["stage"]["parts"]) == ("block/0",) and result["own_heads"] == {}
    assert OWN_HEAD not in {asked.statistic for asked in ready.jobs.asked}
    assert not certified and any("not measured" in line for line in result["failures"]), "clean_only cannot meet bars on corruptions"


def test_own_heads_are_asked_under_the_purpose_with_their_own_run(ready: House) -> None:
    walked(ready, request())
    asked = {a.statistic: a for a in ready.jobs.asked}
    assert asked[OWN_HEAD].purpose == PURPOSE and asked[OWN_HEAD].stage == asked[MOMENTS].stage
    assert len({a.round for a in ready.jobs.asked}) == len(ready.jobs.asked)


def test_an_owner_that_keeps_its_own_head_does_not_end_the_run(ready: House) -> None:
    kept = JobRefusal(party="brio", clause="dimension", message="80 features need 320 records", next="use fewer features")
    ready.jobs.refusing[OWN_HEAD] = (kept,)
    certified, result = walked(ready, request())
    assert certified and result["own_heads"] == {} and set(result["auc"]) == {"joint"}
    assert any("brio refused by its clause dimension" in note for note in result["notes"])
    assert not any("brio" in note for row in result["promises"] for note in row["notes"]), "it is no part of what was certified"


def test_kinds_beyond_what_is_judged_are_named(ready: House) -> None:
    held = ready.jobs.owners["cora"].parts["holdout"]
    many = tuple(f"kind-{place % 11:02d}" for place in range(held.y.size))
    ready.jobs.owners["cora"].parts["holdout"] = dataclasses.replace(held, kinds=many)
    _, result = walked(ready, request())
    judged = {row["slice"] for row in result["evaluations"]} - {"all"}
    assert len(judged) == SLICE_KINDS_MAX
    (said,) = [note for note in result["notes"] if "not judged by themselves" in note]
    assert all(kind in said for kind in {*many, *ready.jobs.owners["alba"].asset.kinds_holdout} - judged)


def test_an_owner_named_like_the_joint_head_gets_no_certificate(tmp_path: Path) -> None:
    """Its own head's counts would stand in the place of the artefact's."""
    found = {name: owner(name, seed) for seed, name in enumerate(("alba", "brio", "joint"))}
    with pytest.raises(InputError, match="no name of its own"):
        walked(house(tmp_path, found), request(owners=tuple(found)))


@pytest.mark.parametrize(
    ("promises", "more"), [((), {"promises_ppm": ()}), ((50_000, 100_000), {}), ((50_000, 50_000), {}), ((), {"validity_days": 500})]
)
def test_bad_promises_are_refused_before_any_sum(ready: House, promises: tuple[int, ...], more: dict[str, Any]) -> None:
    wanted = msgspec.structs.replace(request(), scenario=scenario(*promises, **more))
    with pytest.raises(InputError):
        walked(ready, wanted)
    assert ready.jobs.asked == []


def test_an_owner_without_agreement_is_named(ready: House) -> None:
    del ready.jobs.terms["brio", PURPOSE]
    with pytest.raises(InputError, match="brio has no agreement"):
        walked(ready, request())


def test_augmentations_reach_every_job_on_training_records_and_add_no_records(ready: House) -> None:
    plain = walked(ready, request())[1]
    asked = request()
    changed = (Augmentation(family="brightness", severities=(1, 3)), Augmentation(family="noise", severities=(2,)))
    recipe = msgspec.structs.replace(asked.scenario.recipe, augmentations=changed)
    certified, result = walked(
        ready, msgspec.structs.replace(asked, scenario=msgspec.structs.replace(asked.scenario, recipe=recipe)), run_id="run_2"
    )
    rows = [{"family": "brightness", "severity": 1}, {"family": "brightness", "severity": 3}, {"family": "noise", "severity": 2}]
    jobs = [one for one in ready.jobs.asked if one.params.get("augmentations")]
    assert certified and {one.statistic for one in jobs} == {MOMENTS, FOLD_OUT, CLUSTERS, OWN_HEAD}
    assert all(list(one.params["augmentations"]) == rows for one in jobs)
    before, after = plain["moments"], result["moments"]
    assert (before["records"], before["groups"]) == (after["records"], after["groups"])
    views = len(recipe.views)
    assert after["sum_w"] * views == before["sum_w"] * (views + 3)
    assert plain["artefact_digest"] != result["artefact_digest"]
