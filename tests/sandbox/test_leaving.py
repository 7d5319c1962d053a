"""An owner leaves: kept before it is sent, refused by its node ever after, and what the others' nodes then allow."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isthmus.contracts.errors import AgreementError, InputError, SignatureError, UnreachableError
from isthmus.contracts.job import JobRequest
from isthmus.contracts.statistic import EVALUATE, MOMENTS
from isthmus.contracts.withdrawal import WITHDRAWAL_TYPE, Withdrawal
from isthmus.kit.canonical import digest_of
from isthmus.kit.signing import Envelope, SigningKey, seal
from isthmus.sandbox.leaving import leave, words
from isthmus.sandbox.outlog import undeclared, verify_log
from isthmus.sandbox.withdrawals import Withdrawals
from tests.sandbox.world import World, tiny_stage

FIVE = ("alfa", "bravo", "carol", "delta", "echo")


def state_of(world: World, name: str) -> Path:
    return world.root / name / "state"


def left(world: World, name: str, purpose: str | None = "inspect") -> list[Withdrawal]:
    return leave(state_of(world, name), purpose, "our contract ends", int(world.clock.now_s()))


def asked(world: World, run: str, *roster: str, **more: object) -> str:
    """The phase that a job for the sums of a roster ends in."""
    job = world.service.create_job(world.request(run_id=run, roster=roster, **more))
    world.steps(4)
    return world.service.job(job.id).phase


def agreement_of(world: World, name: str) -> object:
    return msgspec.to_builtins(world.owners[name].home.store.agreements()[0][1])


def test_a_withdrawal_is_kept_logged_sent_and_final(world: World) -> None:
    (word,) = left(world, "carol")
    assert word.owner == "carol" and word.purposes == ("inspect",) and left(world, "carol") == [word]
    world.steps(1)
    entries = verify_log(world.owners["carol"].log, world.owners["carol"].home.key.public_hex)
    assert [e.kind for e in entries].count("withdrawal") == 1 and undeclared(entries) == []
    (kept,) = Withdrawals(world.root / "withdrawals.sqlite").all()
    assert kept[1] == word
    with pytest.raises(AgreementError, match="carol has left"):
        world.service.create_job(world.request())


def test_the_node_refuses_even_when_the_exchange_asks_all_the_same(world: World) -> None:
    asked_before = world.service.create_job(world.request())
    left(world, "carol")
    world.service._withdrawals = None  # an exchange that forgets who left
    world.steps(4)
    assert world.service.job(asked_before.id).phase == "failed"
    assert world.owners["carol"].refusals() == ["withdrawn"]
    assert asked(world, "run-2", "alfa", "bravo", "carol", stage=world.request().stage) == "failed"
    assert world.owners["carol"].refusals() == ["withdrawn", "withdrawn"]


def test_a_share_that_was_ready_does_not_leave_after_its_owner_did(world: World) -> None:
    job = world.service.create_job(world.request())
    world.steps(1)

    def away(path: str, body: bytes) -> None:
        if "/vector" in path:
            raise UnreachableError("gone", "")

    carol = world.owners["carol"]
    carol.uplink.before = away
    with pytest.raises(UnreachableError):
        carol.node.step(0)
    left(world, "carol")
    carol.uplink.before = lambda path, body: None
    world.steps(3)
    assert not any("/vector" in path for path, _ in carol.uplink.sent)
    assert world.service.job(job.id).phase == "failed"


def standing(world: World, name: str, place: int = 0) -> tuple[str, str]:
    """Where an owner's agreement stands, at its node and at the exchange."""
    digest = world.owners[name].home.store.agreements()[place][0]
    here = world.owners[name].home.store.negotiations.of_agreement(digest)
    assert here is not None
    return here.negotiation.state, str(world.service.desk.standing(digest)[0])


def test_a_whole_withdrawal_ends_the_agreement_on_both_sides(world: World) -> None:
    world.steps(1)
    assert standing(world, "carol") == ("FINALIZED", "FINALIZED")
    left(world, "carol")
    assert standing(world, "carol") == ("TERMINATED", "FINALIZED"), "before the exchange could be told"
    world.steps(1)
    assert standing(world, "carol") == ("TERMINATED", "TERMINATED") and standing(world, "alfa") == ("FINALIZED", "FINALIZED")
    (here,) = world.owners["carol"].home.store.negotiations.all()
    assert here.negotiation.messages[-1].reason == world.service.desk.all()[-1].messages[-1].reason == "our contract ends"
    assert left(world, "carol") and standing(world, "carol") == ("TERMINATED", "TERMINATED"), "again is no error"


def test_an_exchange_that_keeps_no_withdrawals_is_told_that_the_agreement_ended(world: World) -> None:
    world.steps(1)
    world.service._withdrawals = None
    left(world, "carol")
    world.clock.advance(60)
    world.steps(1)
    assert standing(world, "carol") == ("TERMINATED", "TERMINATED")
    with pytest.raises(AgreementError, match="TERMINATED"):
        world.service.create_job(world.request())


def test_a_withdrawal_that_was_cut_short_is_brought_to_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.steps(1)
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr("isthmus.sandbox.nodeterms.NodeTerms.end", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt()))
        left(world, "carol")
    assert standing(world, "carol")[0] == "FINALIZED" and words(world.owners["carol"].home.store)
    left(world, "carol")
    world.steps(1)
    assert standing(world, "carol") == ("TERMINATED", "TERMINATED")


def test_who_leaves_one_purpose_stays_in_the_others(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.terms = {"purposes": ("inspect", "count")}
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    left(world, "alfa", "count")
    world.steps(1)
    assert standing(world, "alfa") == ("FINALIZED", "FINALIZED")
    left(world, "alfa", "inspect")
    world.steps(1)
    assert standing(world, "alfa") == ("TERMINATED", "TERMINATED")


def test_it_is_sent_later_when_the_exchange_was_away_and_after_a_restart(world: World) -> None:
    left(world, "carol")

    def away(path: str, body: bytes) -> None:
        raise UnreachableError("gone", "")

    world.owners["carol"].uplink.before = away
    with pytest.raises(UnreachableError):
        world.owners["carol"].node.step(0)
    assert Withdrawals(world.root / "withdrawals.sqlite").all() == []
    world.restart("carol").node.step(0)
    assert len(Withdrawals(world.root / "withdrawals.sqlite").all()) == 1


def test_jobs_under_way_end_when_an_owner_leaves(world: World) -> None:
    job = world.service.create_job(world.request())
    left(world, "carol")
    world.owners["carol"].node.step(0)
    found = world.service.job(job.id)
    assert found.phase == "failed" and "carol has left" in (found.reason or "")


def test_who_agrees_anew_is_back(world: World) -> None:
    left(world, "carol")
    world.steps(1)
    world.clock.advance(10)
    home = world.owners["carol"].home
    keys = {name: owner.home.key.public_hex for name, owner in world.owners.items()}
    home.agree(world.agreement(home, keys))
    world.steps(1)
    assert asked(world, "run-1", "alfa", "bravo", "carol") == "done"


def test_leaving_needs_no_data_and_names_what_is_wrong(world: World, tmp_path: Path) -> None:
    for file in (world.root / "carol" / "data").iterdir():
        file.unlink()
    assert left(world, "carol", None)
    with pytest.raises(InputError, match="no agreement for the purpose 'other'"):
        left(world, "alfa", "other")
    with pytest.raises(InputError, match="no node's state folder"):
        leave(tmp_path / "nowhere", None, "", 0)
    with pytest.raises(InputError, match="reason"):
        leave(state_of(world, "alfa"), None, "two\nlines", 0)


def test_leaving_a_purpose_leaves_what_is_below_it_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.terms = {"purposes": ("inspect", "inspect/after-leaving", "inspection", "count")}
    world.add("alfa", "bravo", "carol")
    (word,) = left(world, "alfa")
    assert word.purposes == ("inspect", "inspect/after-leaving")
    assert {one.purposes for one in left(world, "alfa", None)} == {word.purposes, ("count", "inspection")}
    assert len(words(world.owners["alfa"].home.store)) == 2


@pytest.mark.parametrize("forged", ["other key", "other owner", "no purpose", "unknown agreement"])
def test_forged_withdrawals_are_refused(world: World, forged: str) -> None:
    home = world.owners["carol"].home
    digest = home.store.agreements()[0][0]
    fields = {"owner": "carol", "agreement": digest, "purposes": ("inspect",), "at_s": 1}
    key = SigningKey.from_seed(b"m" * 32) if forged == "other key" else home.key
    fields |= {"other owner": {"owner": "alfa"}, "no purpose": {"purposes": ()}, "unknown agreement": {"agreement": digest_of({})}}.get(
        forged, {}
    )
    envelope: Envelope = seal(key, WITHDRAWAL_TYPE, fields)
    with pytest.raises((SignatureError, AgreementError)):
        world.service.register_withdrawal(envelope)
    assert Withdrawals(world.root / "withdrawals.sqlite").all() == []


# What the others' nodes allow after that.


def five(tmp_path: Path, **terms: object) -> World:
    world = World(tmp_path)
    world.add(*FIVE, **terms)
    world.steps(1)
    assert asked(world, "run-1", *FIVE) == "done"
    return world


def total(world: World, run: str) -> str | None:
    (job,) = (s for s in world.service.jobs_of_run(run) if s.statistic == MOMENTS)
    return world.service.job(job.id).total_digest


def test_aggregate_one_leaver_is_refused_and_two_are_not(tmp_path: Path) -> None:
    world = five(tmp_path)
    assert asked(world, "run-2", *FIVE[:4]) == "failed"
    assert world.owners["alfa"].refusals() == ["would-reveal"]
    assert asked(world, "run-3", *FIVE[:3]) == "done"
    fresh = World(tmp_path / "fresh")
    fresh.terms = {"least_participants": 3}
    fresh.add(*FIVE[:3])
    fresh.steps(1)
    assert asked(fresh, "run-9", *FIVE[:3]) == "done"
    assert total(world, "run-3") == total(fresh, "run-9")


def test_individual_a_leaver_is_shown_by_its_own_agreement_and_by_nothing_less(tmp_path: Path) -> None:
    world = five(tmp_path, visibility="individual", least_participants=1)
    shown = agreement_of(world, "echo")
    assert asked(world, "run-2", *FIVE[:4]) == "failed"
    assert world.owners["alfa"].refusals() == ["would-reveal"]
    assert asked(world, "run-3", *FIVE[:4], seen_singly=(agreement_of(world, "delta"),)) == "failed"
    assert asked(world, "run-4", *FIVE[:4], seen_singly=(shown,)) == "done"
    envelope = msgspec.convert(shown, Envelope)
    forged = msgspec.to_builtins(seal(SigningKey.from_seed(b"m" * 32), envelope.payload_type, {"owner": "echo"}))
    assert asked(world, "run-5", *FIVE[:4], seen_singly=(forged,)) == "failed"
    assert "agreement-signature" in world.owners["alfa"].refusals()


def test_an_agreement_in_aggregate_shows_nobody(tmp_path: Path) -> None:
    world = five(tmp_path)
    assert asked(world, "run-2", *FIVE[:4], seen_singly=(agreement_of(world, "echo"),)) == "failed"
    assert world.owners["alfa"].refusals() == ["would-reveal"]


def test_what_is_shown_changes_no_job(world: World) -> None:
    plain: JobRequest = world.request()
    shown = world.request(seen_singly=(agreement_of(world, "alfa"),))
    assert world.service.create_job(plain).id == world.service.create_job(shown).id
    assert EVALUATE in world.owners["alfa"].home.agreements()[0][1].operations


def test_aggregate_one_leaver_and_other_features(tmp_path: Path) -> None:
    world = five(tmp_path)
    assert asked(world, "run-2", *FIVE[:4], stage=tiny_stage(2)) == "done"
