"""An exchange, or an owner, that cheats: each attempt is refused by the clause that is there for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import ASSET_TYPE
from isthmus.contracts.errors import AgreementError, ConflictError, IsthmusError, SignatureError
from isthmus.contracts.job import COUNTERSIGNATURE_TYPE, JOB_TYPE, Countersignature, Job, NodeTask, RosterMember
from isthmus.contracts.statistic import CLUSTERS, MOMENTS, OWN_HEAD
from isthmus.kit.canonical import digest_of, parse_canonical
from isthmus.kit.signing import Envelope, SigningKey, payload_of, seal
from isthmus.sandbox.masking import mask_public_hex, new_mask_key
from isthmus.sandbox.nodehome import NodeSettings, init_home
from isthmus.sandbox.statistics.registry import STATISTICS
from isthmus.sandbox.terms import check_agreement, roster_digest
from tests.sandbox.world import VIEWS, World, tiny_head, tiny_stage, write_folder

STRANGER = SigningKey.from_seed(b"s" * 32)


def job_of(world: World, **changes: Any) -> Job:
    """A job as the exchange would make it, then changed; another statistic is said to be for what it is for."""
    status = world.service.create_job(world.request())
    job = msgspec.convert(parse_canonical(payload_of(msgspec.convert(world.service.job_document(status.id), Envelope))), Job)
    if changes.get("statistic") in STATISTICS and "terms" not in changes:
        changes["terms"] = msgspec.structs.replace(job.terms, output=STATISTICS[changes["statistic"]].output)
    return msgspec.structs.replace(job, **changes)


def offered(world: World, name: str, job: Job, key: SigningKey | None = None) -> list[str]:
    """What alfa's node says to a task that the exchange made up: the clauses of its refusals, empty when it countersigned."""
    owner = world.owners[name]
    task = NodeTask(phase="countersign", job=msgspec.to_builtins(seal(key or world.exchange_key, JOB_TYPE, job)))
    owner.uplink.tampered = lambda tasks: [task]
    before = len(owner.refusals())
    try:
        owner.node.step(0)
    except IsthmusError:
        pass
    finally:
        owner.uplink.tampered = lambda tasks: tasks
    return owner.refusals()[before:]


def test_the_honest_job_is_countersigned(world: World) -> None:
    assert offered(world, "alfa", job_of(world)) == []


@pytest.mark.parametrize(
    ("clause", "changes"),
    [
        ("purpose", {"purpose": "marketing"}),
        ("statistic", {"statistic": "rows/1"}),
        ("parameters", {"params": {"views": VIEWS, "rows": True}}),
        ("parameters", {"params": {"views": VIEWS, "sure_weight": 17}}),
        ("parameters", {"params": {"views": []}}),
        ("job-expiry", {"expires_at_s": 1_700_000_000}),
        ("job-expiry", {"created_at_s": 1_900_000_000, "expires_at_s": 1_900_000_100}),
        ("job-expiry", {"expires_at_s": 1_900_000_000}),
        ("roster", {"roster": ()}),
        ("dimension", {"stage": msgspec.structs.replace(tiny_stage(), dimension=40)}),
        ("stage", {"stage": msgspec.structs.replace(tiny_stage(), dimension=0)}),
    ],
)
def test_what_is_asked_is_held_against_the_terms(world: World, clause: str, changes: dict[str, Any]) -> None:
    assert offered(world, "alfa", job_of(world, **changes)) == [clause]


def test_another_exchange_cannot_ask(world: World) -> None:
    assert offered(world, "alfa", job_of(world), key=STRANGER) == ["exchange-signature"]


def test_an_edited_job_is_not_believed(world: World) -> None:
    owner = world.owners["alfa"]
    world.service.create_job(world.request())

    def edited(tasks: list[NodeTask]) -> list[NodeTask]:
        honest = msgspec.convert(tasks[0].job, Envelope)
        job = msgspec.convert(parse_canonical(payload_of(honest)), Job)
        other = seal(STRANGER, JOB_TYPE, msgspec.structs.replace(job, round=9))
        return [NodeTask(phase="countersign", job=msgspec.to_builtins(Envelope(JOB_TYPE, other.payload, honest.signatures)))]

    owner.uplink.tampered = edited
    with pytest.raises(IsthmusError):
        owner.node._refuse = _raise_first(owner.node._refuse)  # type: ignore[method-assign]
        owner.node.step(0)
    assert owner.refusals() == ["exchange-signature"]


def _raise_first(refuse: Callable[..., None]) -> Callable[..., None]:
    def wrapped(job: Job, digest: str, error: IsthmusError) -> None:
        refuse(job, digest, error)
        raise error

    return wrapped


@pytest.mark.parametrize(
    ("clause", "terms"),
    [
        ("operation", {"operations": (CLUSTERS,)}),
        ("stage", {"stages": ("sha256:" + "0" * 64,)}),
        ("least-participants", {"least_participants": 4}),
        ("least-group-size", {"least_group_size": 1000}),
        ("dimension", {"dimension_records_min_ratio": 100}),
        ("expiry", {"expires_at_s": 1_800_000_001}),
    ],
)
def test_each_term_refuses(tmp_path, clause: str, terms: dict[str, Any]) -> None:
    world = World(tmp_path, terms=terms)
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    job = job_of(world)
    world.clock.advance(2)
    assert offered(world, "alfa", job) == [clause]


def test_own_head_needs_leave(tmp_path) -> None:
    world = World(tmp_path, terms={"allow_own_head": False})
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    assert offered(world, "alfa", job_of(world, statistic=OWN_HEAD, params={"views": VIEWS, "penalties": [1.0]})) == ["own-head"]


def test_own_head_is_held_against_the_owners_own_records(world: World) -> None:
    stage = msgspec.structs.replace(tiny_stage(), dimension=12)
    assert offered(world, "alfa", job_of(world, stage=stage)) == []
    assert offered(world, "alfa", job_of(world, run_id="b", stage=stage, statistic=OWN_HEAD, params={"penalties": [1.0]})) == ["dimension"]


def test_puppet_that_no_agreement_names(world: World) -> None:
    job = job_of(world)
    asset = msgspec.structs.replace(world.owners["bravo"].home.asset, owner="puppet", commitment="sha256:" + "1" * 64)
    puppet = RosterMember(party="puppet", public_key=STRANGER.public_hex, asset=msgspec.to_builtins(seal(STRANGER, ASSET_TYPE, asset)))
    roster = (*(m for m in job.roster if m.party != "bravo"), puppet)
    assert offered(world, "alfa", msgspec.structs.replace(job, roster=roster)) == ["participants"]


def test_pinned_name_with_another_key(world: World) -> None:
    job = job_of(world)
    asset = msgspec.to_builtins(seal(STRANGER, ASSET_TYPE, world.owners["bravo"].home.asset))
    fake = RosterMember(party="bravo", public_key=STRANGER.public_hex, asset=asset)
    assert offered(world, "alfa", msgspec.structs.replace(job, roster=(job.roster[0], fake, job.roster[2]))) == ["participants"]
    claimed = RosterMember(party="bravo", public_key=job.roster[1].public_key, asset=asset)
    assert offered(world, "alfa", msgspec.structs.replace(job, roster=(job.roster[0], claimed, job.roster[2]))) == ["asset-signature"]


def test_one_owners_asset_for_another(world: World) -> None:
    job = job_of(world)
    twice = RosterMember(party="bravo", public_key=job.roster[1].public_key, asset=job.roster[2].asset)
    assert offered(world, "alfa", msgspec.structs.replace(job, roster=(job.roster[0], twice, job.roster[2]))) == ["asset-signature"]


def test_the_same_data_under_two_names(world: World) -> None:
    job = job_of(world)
    bravo = world.owners["bravo"].home
    copied = msgspec.structs.replace(bravo.asset, commitment=world.owners["carol"].home.asset.commitment)
    member = RosterMember(party="bravo", public_key=bravo.key.public_hex, asset=msgspec.to_builtins(seal(bravo.key, ASSET_TYPE, copied)))
    assert offered(world, "alfa", msgspec.structs.replace(job, roster=(job.roster[0], member, job.roster[2]))) == ["participants"]


def test_same_round_with_other_params_is_refused(world: World) -> None:
    job = job_of(world)
    world.steps()
    changed = msgspec.structs.replace(job, params={"views": VIEWS[:2]}, attempt=2)
    assert offered(world, "alfa", changed) == ["replay"]
    assert offered(world, "alfa", msgspec.structs.replace(changed, round=2)) == ["rounds"]
    other_stage = msgspec.structs.replace(job, stage=tiny_stage(2), round=3)
    assert offered(world, "alfa", other_stage) == ["rounds"]


def test_more_questions_than_a_run_may_ask(world: World) -> None:
    head = tiny_head()
    for number in range(9):
        params = {"artefact": digest_of(head), "head": head, "slices": [f"kind-{number}"]}
        status = world.service.create_job(world.request("evaluate/1", msgspec.to_builtins(params), round=number))
        world.steps(2)
        assert world.service.job(status.id).phase == ("done" if number < 8 else "failed")
    assert world.owners["alfa"].refusals() == ["rounds"]


def test_runs_are_counted_by_run_not_by_round(tmp_path) -> None:
    world = World(tmp_path, terms={"runs_max": 1})
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    job = job_of(world)
    world.steps()
    assert offered(world, "alfa", msgspec.structs.replace(job, attempt=2)) == []
    assert offered(world, "alfa", msgspec.structs.replace(job, run_id="run-2")) == ["runs"]


def four(tmp_path) -> World:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol", "delta", "echo")
    world.steps(1)
    world.service.create_job(world.request())
    world.steps()
    return world


def without(job: Job, *names: str) -> Job:
    return msgspec.structs.replace(job, run_id="run-2", roster=tuple(m for m in job.roster if m.party not in names))


def test_roster_minus_one_owner_would_reveal_it(tmp_path) -> None:
    world = four(tmp_path)
    job = job_of(world)
    assert offered(world, "alfa", without(job, "echo")) == ["would-reveal"]
    assert offered(world, "alfa", without(job, "delta", "echo")) == []
    elsewhere = msgspec.structs.replace(without(job, "echo"), stage=tiny_stage(2))
    assert offered(world, "alfa", elsewhere) == []


def test_same_roster_with_a_new_version_of_one_asset_would_reveal_the_change(tmp_path) -> None:
    world = four(tmp_path)
    job = job_of(world)
    bravo = world.owners["bravo"].home
    newer = msgspec.structs.replace(bravo.asset, records_train=bravo.asset.records_train - 1, commitment="sha256:" + "2" * 64)
    member = RosterMember(party="bravo", public_key=bravo.key.public_hex, asset=msgspec.to_builtins(seal(bravo.key, ASSET_TYPE, newer)))
    roster = tuple(member if m.party == "bravo" else m for m in job.roster)
    assert offered(world, "alfa", msgspec.structs.replace(job, run_id="run-2", roster=roster)) == ["would-reveal"]


def compute_with(world: World, change: Callable[[dict[str, Any], Job, str], dict[str, Any]]) -> list[str]:
    """Runs a job until alfa has all countersignatures, as changed by the exchange; returns alfa's refusals."""
    status = world.service.create_job(world.request())
    world.steps(1)
    owner = world.owners["alfa"]

    def tampered(tasks: list[NodeTask]) -> list[NodeTask]:
        job = msgspec.convert(parse_canonical(payload_of(msgspec.convert(tasks[0].job, Envelope))), Job)
        return [msgspec.structs.replace(tasks[0], countersignatures=change(dict(tasks[0].countersignatures), job, status.digest))]

    owner.uplink.tampered = tampered
    owner.node.step(0)
    assert not any("/vector" in path for path, _ in owner.uplink.sent) or not owner.refusals()
    return owner.refusals()


def signed_word(key: SigningKey, job: Job, digest: str, party: str, **changes: str) -> dict[str, Any]:
    values = {"job": digest, "roster": roster_digest(job), "party": party, "mask_key": mask_public_hex(new_mask_key()), **changes}
    found: dict[str, Any] = msgspec.to_builtins(seal(key, COUNTERSIGNATURE_TYPE, Countersignature(**values)))
    return found


def test_honest_countersignatures_lead_to_a_vector(world: World) -> None:
    assert compute_with(world, lambda given, job, digest: given) == []


@pytest.mark.parametrize("key", [STRANGER, SigningKey.from_seed(b"x" * 32)], ids=["stranger", "exchange"])
def test_substituted_mask_key(world: World, key: SigningKey) -> None:
    def change(given: dict[str, Any], job: Job, digest: str) -> dict[str, Any]:
        return {**given, "bravo": signed_word(key, job, digest, "bravo")}

    assert compute_with(world, change) == ["countersignature"]


def test_countersignature_of_another_job(world: World) -> None:
    def change(given: dict[str, Any], job: Job, digest: str) -> dict[str, Any]:
        key = world.owners["bravo"].home.key
        return {**given, "bravo": signed_word(key, job, "sha256:" + "3" * 64, "bravo")}

    assert compute_with(world, change) == ["countersignature"]


def test_missing_countersignature(world: World) -> None:
    assert compute_with(world, lambda given, job, digest: {p: e for p, e in given.items() if p != "carol"}) == ["countersignature"]


def test_own_countersignature_replaced(world: World) -> None:
    def change(given: dict[str, Any], job: Job, digest: str) -> dict[str, Any]:
        return {**given, "alfa": signed_word(world.owners["alfa"].home.key, job, digest, "alfa")}

    assert compute_with(world, change) == ["countersignature"]


def test_colluder_that_copies_a_mask_key(world: World) -> None:
    def change(given: dict[str, Any], job: Job, digest: str) -> dict[str, Any]:
        word = parse_canonical(payload_of(msgspec.convert(given["carol"], Envelope)))
        return {**given, "bravo": signed_word(world.owners["bravo"].home.key, job, digest, "bravo", mask_key=word["mask_key"])}

    assert compute_with(world, change) == ["countersignature"]


def test_compute_without_having_countersigned(world: World) -> None:
    job = job_of(world)
    envelope = msgspec.to_builtins(seal(world.exchange_key, JOB_TYPE, job))
    owner = world.owners["alfa"]
    owner.uplink.tampered = lambda tasks: [NodeTask(phase="compute", job=envelope)]
    owner.node.step(0)
    assert owner.refusals() == ["countersignature"]


def test_agreement_expires_between_countersigning_and_computing(world: World) -> None:
    world.service.create_job(world.request(ttl_s=7200))
    world.steps(1)
    world.clock.advance(3600)
    world.owners["alfa"].node.step(0)
    assert world.owners["alfa"].refusals() == ["expiry"]


def test_changed_image_is_not_used(world: World) -> None:
    data = world.owners["alfa"].home.folder
    (data.root / data.files[0].path).write_bytes((data.root / data.files[1].path).read_bytes())
    status = world.service.create_job(world.request())
    world.steps()
    assert world.owners["alfa"].refusals() == ["data"] and world.service.job(status.id).phase == "failed"
    refusal = world.service.job(status.id).refusals[0]
    assert data.files[0].path not in msgspec.json.encode(refusal).decode()


def test_small_slice_is_refused(tmp_path) -> None:
    world = World(tmp_path, terms={"least_group_size": 10})
    world.add("alfa", "bravo", "carol")
    data = world.root / "alfa" / "data" / "labels.csv"
    data.write_text(data.read_text().replace("mono,holdout", "rare,holdout", 2))
    settings = NodeSettings(id="alfa", name="alfa", kind="owner", data=str(data.parent), licence="test", sample=True)
    home = init_home(world.root / "alfa" / "state", settings)
    home.agree(world.agreement(home, {n: o.home.key.public_hex for n, o in world.owners.items()}))
    world.owners["alfa"] = world.owner(home)
    world.steps(1)
    params = {"artefact": digest_of(tiny_head()), "head": tiny_head(), "slices": ["rare"]}
    status = world.service.create_job(world.request("evaluate/1", msgspec.to_builtins(params)))
    world.steps()
    assert [r.clause for r in world.service.job(status.id).refusals][:1] == ["least-group-size"]


def test_other_artefact_than_the_heads(world: World) -> None:
    params = {"artefact": "sha256:" + "4" * 64, "head": tiny_head()}
    status = world.service.create_job(world.request("evaluate/1", msgspec.to_builtins(params)))
    world.steps()
    assert {r.clause for r in world.service.job(status.id).refusals} == {"artefact"}


def test_agreements_that_contradict_themselves(world: World) -> None:
    honest = world.agreement(world.owners["alfa"].home, {n: o.home.key.public_hex for n, o in world.owners.items()})
    check_agreement(honest)
    for changes in (
        {"contribution": True},
        {"operations": ("rows/1",)},
        {"purposes": ()},
        {"participants": {"bravo": "0" * 64}},
        {"participants": {"alfa": honest.participants["alfa"], "bravo": honest.participants["alfa"]}},
        {"participants": {"alfa": honest.participants["alfa"], "bravo": world.exchange_key.public_hex}},
        {"exchange": "abc"},
        {"expires_at_s": honest.issued_at_s},
        {"runs_max": 0},
        {"least_participants": 2},
        {"dimension_records_min_ratio": 3},
        {"overlap_owners_min": 1},
    ):
        with pytest.raises(AgreementError):
            check_agreement(msgspec.structs.replace(honest, **changes))
    check_agreement(msgspec.structs.replace(honest, visibility="individual", contribution=True, least_participants=1))


def test_an_agreement_for_another_is_not_signed(world: World) -> None:
    home = world.owners["alfa"].home
    agreement: Agreement = world.agreement(world.owners["bravo"].home, {"bravo": world.owners["bravo"].home.key.public_hex})
    with pytest.raises(IsthmusError):
        home.agree(agreement)


def test_party_id_stays_with_its_key(world: World) -> None:
    from isthmus.contracts.party import PARTY_TYPE

    taken = msgspec.structs.replace(world.owners["alfa"].home.party, public_key=STRANGER.public_hex)
    with pytest.raises(ConflictError):
        world.service.register_party(seal(STRANGER, PARTY_TYPE, taken))
    with pytest.raises(SignatureError):
        world.service.register_party(seal(STRANGER, PARTY_TYPE, msgspec.structs.replace(world.owners["alfa"].home.party, id="zeta")))
    with pytest.raises(SignatureError):
        world.service.register_asset(seal(STRANGER, ASSET_TYPE, world.owners["alfa"].home.asset))


def test_individual_owner_may_run_alone_and_unmasked(tmp_path) -> None:
    world = World(tmp_path, terms={"visibility": "individual", "least_participants": 1})
    world.add("solo")
    world.steps(1)
    status = world.service.create_job(world.request(MOMENTS))
    world.steps()
    assert world.service.job(status.id).phase == "done"


def test_new_numbers_for_the_same_job_are_refused(world: World) -> None:
    """A retry with a label changed behind the node's back would show the difference."""
    status = world.service.create_job(world.request(ttl_s=30))
    world.steps(1)
    alfa = world.owners["alfa"]
    alfa.node.step(0)
    world.clock.advance(31)
    world.service.create_job(world.request(ttl_s=30))
    folder = alfa.node._data.folder
    flipped = (dataclasses.replace(folder.files[0], label=-folder.files[0].label), *folder.files[1:])
    alfa.node._data = dataclasses.replace(alfa.node._data, folder=dataclasses.replace(folder, files=flipped))
    world.steps()
    assert alfa.refusals() == ["payload"] and world.service.job(status.id).phase == "failed"


def test_write_folder_is_deterministic(tmp_path) -> None:
    a, b = write_folder(tmp_path / "a", 1), write_folder(tmp_path / "b", 1)
    assert (a / "labels.csv").read_bytes() == (b / "labels.csv").read_bytes()


def test_leaving_reveals_nothing_also_under_terms_that_show_sums_singly(tmp_path) -> None:
    """Those who stay may show their own sums; the leaver's must still not follow by subtraction over features in common."""
    world = four(tmp_path)
    home = world.owners["alfa"].home
    keys = {name: owner.home.key.public_hex for name, owner in world.owners.items()}
    terms = {"purposes": ("after",), "visibility": "individual", "least_participants": 2}
    home.agree(world.agreement(home, keys, **terms))
    left = msgspec.structs.replace(without(job_of(world), "echo"), purpose="after")
    assert offered(world, "alfa", left) == ["would-reveal"]
    wider = msgspec.structs.replace(left.stage, parts=(*left.stage.parts, "block/9"), digest="sha256:" + "3" * 64)
    assert offered(world, "alfa", msgspec.structs.replace(left, run_id="run-3", stage=wider)) == ["would-reveal"]
    elsewhere = msgspec.structs.replace(left, run_id="run-4", stage=tiny_stage(2))
    assert offered(world, "alfa", elsewhere) == []
