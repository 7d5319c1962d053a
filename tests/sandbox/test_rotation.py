"""A party changes its key: its id, agreements and history stay, others follow the chain; the old key and a stolen one are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.contracts.errors import ConflictError, IsthmusError, LogTamperedError, SignatureError, StorageError
from isthmus.contracts.job import NodeTask
from isthmus.contracts.party import PARTY_TYPE, ROTATION_TYPE, Rotation
from isthmus.kit.clock import SetClock
from isthmus.kit.signing import Envelope, SigningKey, seal
from isthmus.sandbox import keychange
from isthmus.sandbox.keychange import rotate_key
from isthmus.sandbox.nodehome import NEXT_KEY_NAME, open_home
from isthmus.sandbox.outlog import KEYS_SUFFIX, Leaving, OutLog, keep_rotations, verified, verify_log
from isthmus.sandbox.rotation import chain, checked_rotation, extended, sealed_rotation
from tests.sandbox.world import World

OLD, NEW, THIEF = (SigningKey.from_seed(letter * 32) for letter in (b"o", b"n", b"t"))


def rotated(world: World, name: str) -> Rotation:
    """What an owner does: stops the node, changes the key, starts again."""
    world.owners[name].home.store.close()
    word = rotate_key(world.root / name / "state", world.clock)
    world.owners[name] = world.owner(open_home(world.root / name / "state"))
    return word


def job_done(world: World, run: str) -> Any:
    status = world.service.create_job(world.request(run_id=run))
    world.steps()
    return world.service.job(status.id)


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.add("alfa", "bravo", "carol")
    found.steps(1)
    return found


def test_a_rotation_needs_both_signatures() -> None:
    word = checked_rotation(sealed_rotation(OLD, NEW, "alfa", 1, 10.0))
    assert (word.old_key, word.new_key) == (OLD.public_hex, NEW.public_hex)
    fields = {"party": "alfa", "sequence": 1, "old_key": OLD.public_hex, "new_key": NEW.public_hex, "at_s": 1}
    for signer in (OLD, NEW, THIEF):
        with pytest.raises(SignatureError):
            checked_rotation(seal(signer, ROTATION_TYPE, Rotation(**fields)))
    stolen = seal(NEW, ROTATION_TYPE, Rotation(**fields))
    forged = both_signed(stolen, seal(THIEF, ROTATION_TYPE, Rotation(**fields)))
    with pytest.raises(SignatureError, match="old key"):
        checked_rotation(forged)
    with pytest.raises(IsthmusError):
        checked_rotation(sealed_rotation(OLD, OLD, "alfa", 1, 1.0))
    with pytest.raises(IsthmusError):
        checked_rotation(seal(OLD, ROTATION_TYPE, {"party": "alfa"}))


def both_signed(one: Envelope, other: Envelope) -> Envelope:
    return Envelope(one.payload_type, one.payload, (*one.signatures, *other.signatures))


def test_the_first_word_of_a_key_is_its_last() -> None:
    first, second = sealed_rotation(OLD, NEW, "alfa", 1, 1.0), sealed_rotation(OLD, THIEF, "alfa", 1, 2.0)
    known = extended((), [first, second, {"no": "envelope"}, second])
    assert known == (first,)
    words = [checked_rotation(one) for one in known]
    assert chain("alfa", OLD.public_hex, words) == [OLD.public_hex, NEW.public_hex]
    assert chain("bravo", OLD.public_hex, words) == [OLD.public_hex]
    assert chain("alfa", THIEF.public_hex, words) == [THIEF.public_hex]


def test_jobs_go_on_under_agreements_that_pin_the_old_key(world: World) -> None:
    assert job_done(world, "run-1").phase == "done"
    before = world.owners["alfa"].home.key.public_hex
    agreements = [digest for digest, _ in world.owners["alfa"].home.agreements()]
    word = rotated(world, "alfa")
    assert word.old_key == before and world.owners["alfa"].home.key.public_hex == word.new_key
    world.steps(1)
    status = job_done(world, "run-2")
    assert status.phase == "done", status.reason
    assert [digest for digest, _ in world.owners["alfa"].home.agreements()] == agreements
    rotated(world, "alfa")
    rotated(world, "bravo")
    world.steps(1)
    assert job_done(world, "run-3").phase == "done"
    assert {owner.log.parent.parent.name: len(verify_log(owner.log, owner.home.key.public_hex)) > 5 for owner in world.owners.values()}


def test_runs_are_counted_on_across_a_rotation(tmp_path: Path) -> None:
    world = World(tmp_path, terms={"runs_max": 2})
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    assert job_done(world, "run-1").phase == "done"
    rotated(world, "alfa")
    world.steps(1)
    assert job_done(world, "run-2").phase == "done"
    assert job_done(world, "run-3").phase == "failed" and "runs" in world.owners["alfa"].refusals()


def test_the_old_key_is_refused_afterwards(world: World) -> None:
    old = world.owners["alfa"].home.key
    party = msgspec.structs.replace(world.owners["alfa"].home.party, public_key=old.public_hex)
    rotated(world, "alfa")
    world.steps(1)
    with pytest.raises(ConflictError, match="another key"):
        world.service.register_party(seal(old, PARTY_TYPE, party))
    with pytest.raises(ConflictError):
        world.service.register_party(seal(old, PARTY_TYPE, msgspec.structs.replace(party, id="delta")))
    with pytest.raises(SignatureError):
        world.service.rotate(sealed_rotation(old, THIEF, "alfa", 2, 1.0))
    world.owners["alfa"].home.store.close()
    with pytest.raises(LogTamperedError, match="another key"):
        OutLog(world.owners["alfa"].log, old, SetClock())


def test_a_stolen_new_key_is_nobody(world: World) -> None:
    with pytest.raises(SignatureError):
        world.service.rotate(sealed_rotation(THIEF, NEW, "alfa", 1, 1.0))
    word = Rotation(party="alfa", sequence=1, old_key=world.owners["alfa"].home.key.public_hex, new_key=NEW.public_hex, at_s=1)
    with pytest.raises(SignatureError, match="old key"):
        world.service.rotate(seal(NEW, ROTATION_TYPE, word))
    with pytest.raises(SignatureError):
        world.service.rotate(sealed_rotation(OLD, NEW, "nobody", 1, 1.0))
    bravo = world.owners["bravo"].home.key
    with pytest.raises(ConflictError):
        world.service.rotate(sealed_rotation(world.owners["alfa"].home.key, bravo, "alfa", 1, 1.0))


def test_nodes_that_saw_the_change_refuse_an_exchange_that_hides_it(world: World) -> None:
    old_party, old_asset = world.owners["alfa"].home.party_envelope, world.owners["alfa"].home.asset_envelope
    old = world.owners["alfa"].home.key
    rotated(world, "alfa")
    world.steps(1)
    assert job_done(world, "run-2").phase == "done"
    store = world.service._store
    with store._database.transaction() as sql:
        sql.execute("DELETE FROM sandbox_rotations")
        sql.execute("UPDATE sandbox_parties SET public_key = ? WHERE id = 'alfa'", (old.public_hex,))
    world.service.register_party(old_party)
    world.service.register_asset(old_asset)
    status = world.service.create_job(world.request(run_id="run-3"))
    world.steps(2, only=("bravo",))
    assert world.service.job(status.id).refusals[0].clause == "participants"


def test_a_lying_exchange_cannot_put_its_own_key_in(world: World) -> None:
    def tampered(tasks: list[NodeTask]) -> list[NodeTask]:
        word = Rotation(party="carol", sequence=1, old_key=world.owners["carol"].home.key.public_hex, new_key=THIEF.public_hex, at_s=1)
        forged = both_signed(seal(THIEF, ROTATION_TYPE, word), seal(world.exchange_key, ROTATION_TYPE, word))
        return [msgspec.structs.replace(task, rotations=(msgspec.to_builtins(forged), "no envelope")) for task in tasks]

    world.owners["bravo"].uplink.tampered = tampered
    assert job_done(world, "run-1").phase == "done"


@pytest.mark.parametrize("cut", ["keep_rotations", "OutLog", "NodeStore", "replace"])
def test_a_change_that_was_cut_off_is_finished_by_asking_again(world: World, cut: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert job_done(world, "run-1").phase == "done"
    root, owner = world.root / "alfa" / "state", world.owners["alfa"]
    owner.home.store.close()

    def fails(*_: Any) -> Any:
        raise StorageError("the power went out", "")

    with monkeypatch.context() as broken, pytest.raises(StorageError):
        broken.setattr(Path, "replace", fails) if cut == "replace" else broken.setattr(keychange, cut, fails)
        rotate_key(root, world.clock)
    with pytest.raises(ConflictError, match="cut off"):
        open_home(root)
    word = rotate_key(root, world.clock)
    assert word.sequence == 1 and not (root / NEXT_KEY_NAME).exists()
    world.owners["alfa"] = world.owner(open_home(root))
    kinds = [entry.kind for entry in verify_log(owner.log, word.new_key)]
    assert kinds.count("rotation") == 1
    world.steps(1)
    assert job_done(world, "run-2").phase == "done"


def test_the_log_verifies_by_any_key_of_its_owner_and_by_no_other(tmp_path: Path) -> None:
    path = tmp_path / "left.jsonl"
    OutLog(path, OLD, SetClock()).append(Leaving("status", b"{}", "direct"))
    word = sealed_rotation(OLD, NEW, "alfa", 1, 1.0)
    keep_rotations(path, (word,))
    raw = msgspec.json.encode(word)
    log = OutLog(path, OLD, SetClock())
    log.append(Leaving("rotation", raw, "direct"))
    assert verified(path, OLD.public_hex)[1] == OLD.public_hex, "another body is no rotation"
    for line in (Leaving("status", b"{}", "direct"),):
        log.append(line)
    assert len(verify_log(path, NEW.public_hex)) == 3
    with pytest.raises(LogTamperedError):
        verify_log(path, THIEF.public_hex)
    keep_rotations(path, (word, sealed_rotation(THIEF, OLD, "alfa", 2, 1.0)))
    with pytest.raises(LogTamperedError, match="no chain"):
        verify_log(path, NEW.public_hex)
    path.with_name(path.name + KEYS_SUFFIX).write_bytes(b"[]")
    with pytest.raises(LogTamperedError):
        verify_log(path, NEW.public_hex)
