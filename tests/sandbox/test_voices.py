"""Who counts as a participant, and what an exchange, an issuer or an owner that cheats at the secure sum gets."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.contracts.asset import ASSET_TYPE
from isthmus.contracts.errors import InputError
from isthmus.contracts.job import Job, NodeTask, RosterMember
from isthmus.kit.canonical import canonical_bytes, sha256_hex
from isthmus.kit.signing import SigningKey, seal
from isthmus.sandbox.masking import mask_public_hex, masked, new_mask_key, unmasked_sum
from isthmus.sandbox.outlog import verify_log
from isthmus.sandbox.overlap import isolates_one, reveals
from isthmus.sandbox.voices import CREDENTIAL_S_MAX, credential
from tests.sandbox.test_attacks import compute_with, job_of, offered, signed_word, without
from tests.sandbox.world import World

ISSUER, OTHER = SigningKey.from_seed(b"i" * 32), SigningKey.from_seed(b"o" * 32)


@pytest.fixture(scope="module")
def guild(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three owners who pin each other and let an issuer vouch for more."""
    found = World(tmp_path_factory.mktemp("guild"), terms={"issuers": {"guild": ISSUER.public_hex}})
    found.add("alfa", "bravo", "carol")
    found.steps(1)
    return found


def guest(world: World, name: str, key: SigningKey | None = None, signer: SigningKey = ISSUER, **changes: Any) -> RosterMember:
    """A party that nobody pins, with an issuer's word and data of its own."""
    own, now_s = key or SigningKey.from_seed(name.encode().ljust(32, b".")), int(world.clock.now_s())
    words: dict[str, Any] = {
        "issuer": "guild",
        "party": name,
        "public_key": own.public_hex,
        "issued_at_s": now_s,
        "expires_at_s": now_s + 1000,
    }
    word = credential(signer, **{**words, **changes})
    commitment = "sha256:" + sha256_hex(name.encode())
    asset = msgspec.structs.replace(world.owners["bravo"].home.asset, owner=name, commitment=commitment)
    sealed = msgspec.to_builtins(seal(own, ASSET_TYPE, asset))
    return RosterMember(party=name, public_key=own.public_hex, asset=sealed, credential=msgspec.to_builtins(word))


def asked(world: World, run: str, names: tuple[str, ...], *guests: RosterMember) -> list[str]:
    job = job_of(world, run_id=run)
    roster = sorted([*(m for m in job.roster if m.party in names), *guests], key=lambda m: m.party)
    return offered(world, "alfa", msgspec.structs.replace(job, roster=tuple(roster)))


def test_one_that_an_issuer_vouches_for_takes_part(guild: World) -> None:
    assert asked(guild, "g1", ("alfa", "bravo"), guest(guild, "delta")) == []
    assert asked(guild, "g2", ("alfa", "bravo", "carol"), guest(guild, "delta"), guest(guild, "echo")) == []


def test_all_whom_one_issuer_vouches_for_count_once(guild: World) -> None:
    puppets = [guest(guild, f"puppet-{place}") for place in range(5)]
    assert asked(guild, "p1", ("alfa",), *puppets) == ["least-participants"]


@pytest.mark.parametrize(
    "changes",
    [
        {"signer": OTHER},
        {"issuer": "another"},
        {"party": "foxtrot"},
        {"public_key": OTHER.public_hex},
        {"expires_at_s": 1},
        {"issued_at_s": 4_000_000_000, "expires_at_s": 4_000_000_100},
        {"expires_at_s": 1_800_000_000 + 2 * CREDENTIAL_S_MAX},
    ],
)
def test_words_that_do_not_hold(guild: World, changes: dict[str, Any]) -> None:
    member = guest(guild, "delta", **changes)
    assert asked(guild, f"w{sorted(changes)}{changes.get('expires_at_s', '')}", ("alfa", "bravo"), member) == ["participants"]


def test_no_issuer_is_trusted_that_no_agreement_names(tmp_path) -> None:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    assert asked(world, "n1", ("alfa", "bravo"), guest(world, "delta")) == ["participants"]


def test_a_pinned_owner_that_vouches_is_the_voice_of_its_puppets(tmp_path) -> None:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    bravo = world.owners["bravo"].home.key
    world.owners["alfa"].home.agree(world.agreement(world.owners["alfa"].home, pinned(world), issuers={"bravo": bravo.public_hex}))
    world.steps(1)
    puppets = [guest(world, f"puppet-{place}", signer=bravo, issuer="bravo") for place in range(2)]
    assert asked(world, "b1", ("alfa", "bravo"), *puppets) == ["least-participants"]


def pinned(world: World) -> dict[str, str]:
    return {name: owner.home.key.public_hex for name, owner in world.owners.items()}


def test_puppets_that_leave_with_a_victim_do_not_hide_it() -> None:
    """Two leave, but one is an issuer's puppet: who has its share sees the other's."""
    names = ("alfa", "bravo", "carol", "delta", "puppet")
    first = frozenset((name, "1") for name in names)
    after = frozenset(m for m in first if m[0] not in ("delta", "puppet"))
    assert reveals([first], after, 2) is None
    assert isolates_one([first, after]) is None
    others = frozenset((f"puppet-{n}", "1") for n in range(3))
    pins = frozenset(names[:4])
    assert "differs" in str(reveals([first | others], (first | others) - others, 2, pins))
    assert reveals([first], after, 2, pins) is None, "a pinned owner and one voice are two"


def test_a_node_registers_its_own_word_only(guild: World) -> None:
    home, now_s = guild.owners["alfa"].home, int(guild.clock.now_s())
    with pytest.raises(InputError):
        home.keep_credential(credential(ISSUER, "guild", "alfa", OTHER.public_hex, now_s, now_s + 10))
    assert home.keep_credential(credential(ISSUER, "guild", "alfa", home.key.public_hex, now_s, now_s + 10)).issuer == "guild"


def test_the_exchange_hands_on_what_a_party_registered(tmp_path) -> None:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    home, now_s = world.owners["carol"].home, int(world.clock.now_s())
    home.keep_credential(credential(ISSUER, "guild", "carol", home.key.public_hex, now_s, now_s + 1000))
    world.restart("carol")
    terms = {"issuers": {"guild": ISSUER.public_hex}, "participants": {n: k for n, k in pinned(world).items() if n != "carol"}}
    for name in ("alfa", "bravo"):
        owner = world.owners[name]
        owner.home.agree(world.agreement(owner.home, {}, **terms, issued_at_s=now_s + 1))
    world.clock.advance(2)
    world.steps(1)
    status = world.service.create_job(world.request())
    world.steps()
    assert world.service.job(status.id).phase == "done"


# The secure sum.


@pytest.mark.parametrize("changes", [{"statistic": "foldout/2"}, {"purpose": "resell"}, {"asset": "sha256:" + "5" * 64}])
def test_a_word_that_commits_to_something_else(tmp_path, changes: dict[str, str]) -> None:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    bravo = world.owners["bravo"].home

    def swap(given: dict[str, Any], job: Job, digest: str) -> dict[str, Any]:
        honest = {"asset": bravo.asset_digest, "purpose": job.purpose, "statistic": job.statistic}
        return {**given, "bravo": signed_word(bravo.key, job, digest, "bravo", **{**honest, **changes})}

    assert compute_with(world, swap) == ["countersignature"]


def test_what_is_committed_to_is_stored_and_logged_before_it_is_sent(tmp_path) -> None:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    alfa, seen = world.owners["alfa"], []

    def before(path: str, body: bytes) -> None:
        if "/countersign" in path:
            last = verify_log(alfa.log, alfa.home.key.public_hex)[-1]
            stored = alfa.home.store.job(last.job)
            assert stored is not None and stored.countersignature == body
            seen.append((last.kind, last.sha256 == sha256_hex(body)))

    alfa.uplink.before = before
    world.service.create_job(world.request())
    world.steps(1)
    assert seen == [("countersign", True)]


def test_other_keys_for_a_share_that_is_fixed_change_nothing(tmp_path) -> None:
    """The exchange says that the answer was lost, and gives other one-round keys: the very bytes of before come back."""
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    status = world.service.create_job(world.request())
    world.steps(1)
    alfa, kept = world.owners["alfa"], []
    alfa.uplink.tampered = lambda tasks: kept.extend(tasks) or tasks
    alfa.node.step(0)
    bravo = world.owners["bravo"].home
    job = job_of(world)
    honest = {"asset": bravo.asset_digest, "purpose": job.purpose, "statistic": job.statistic}
    words = {**kept[0].countersignatures, "bravo": signed_word(bravo.key, job, status.digest, "bravo", **honest)}
    again = NodeTask(phase="compute", job=kept[0].job, countersignatures=words)
    alfa.uplink.tampered = lambda tasks: [again]
    alfa.node.step(0)
    vectors = {body for path, body in alfa.uplink.sent if "/vector" in path}
    assert len(vectors) == 1


def test_a_member_dropped_after_masking_leaves_nothing_to_read(tmp_path) -> None:
    """Without one share the rest stays masked; asked anew without that owner, the others refuse."""
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol", "delta")
    world.steps(1)
    world.service.create_job(world.request())
    world.steps(1)
    job = job_of(world)
    for name in ("alfa", "bravo", "carol"):
        world.owners[name].node.step(0)
    bodies = [body for n in ("alfa", "bravo", "carol") for path, body in world.owners[n].uplink.sent if "/vector" in path]
    partial = unmasked_sum([np.frombuffer(body, dtype="<u8").astype(np.uint64) for body in bodies])
    assert np.abs(partial.astype(np.float64)).mean() > 2.0**60
    assert offered(world, "alfa", without(job, "delta")) == ["would-reveal"]


def test_parts_of_a_vector_have_masks_of_their_own() -> None:
    """Parts in their places add up; the same part twice, or two parts that changed places, do not."""
    keys = {name: new_mask_key() for name in "ab"}
    public = {name: mask_public_hex(key) for name, key in keys.items()}
    whole = {"a": np.arange(8), "b": np.arange(8) * 10}

    def sent(name: str, start: int, offset: int) -> np.ndarray:
        peer = "b" if name == "a" else "a"
        return masked(whole[name][start : start + 4], name, keys[name], {peer: public[peer]}, {"job": "j"}, offset)

    for start in (0, 4):
        assert (
            unmasked_sum([sent("a", start, start), sent("b", start, start)]).tolist()
            == (whole["a"] + whole["b"])[start : start + 4].tolist()
        )
    assert unmasked_sum([sent("a", 0, 0), sent("b", 0, 4)]).tolist() != (whole["a"] + whole["b"])[:4].tolist()
    difference = sent("a", 0, 0) - sent("a", 4, 4)
    assert np.abs(difference.view(np.int64).astype(float)).mean() > 2.0**58


def test_the_word_itself_is_what_others_are_shown(tmp_path) -> None:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    status = world.service.create_job(world.request())
    world.steps(1)
    task = world.service.tasks("alfa")[0]
    assert sorted(task.countersignatures) == ["alfa", "bravo", "carol"]
    stored = world.owners["bravo"].home.store.job(status.digest)
    assert stored is not None and canonical_bytes(task.countersignatures["bravo"]) == stored.countersignature
