"""Deployments through their versions: one record, exactly one of before and after, and nothing served that is not certified."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.app.lifelog import checked_steps, life_of
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import (
    ConflictError,
    DeploymentRetiredError,
    DeploymentStoppedError,
    InputError,
    LogTamperedError,
    NotFoundError,
    StorageError,
    UnknownModelError,
)
from isthmus.contracts.life import DeployedVersion, LifeStep, RetireOrder, RollbackOrder
from isthmus.kit.signing import SigningKey
from tests.app.versions import Cut, Versions, cutting
from tests.app.world import scenario

NAME = scenario().id
WHO = "exchange/k1"


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    found = Versions(tmp_path)
    yield found
    found.close()


def back(order_id: str = "o1", to: int | None = None, why: str = "more false alarms") -> RollbackOrder:
    return RollbackOrder(id=order_id, why=why, to=to)


def serves(versions: Versions) -> int | None:
    """Number of the version that answers, by the registry; it must be the one of the record."""
    view = versions.lives.view(NAME)
    try:
        version = versions.registry.find(NAME).deployment.version
    except (UnknownModelError, DeploymentRetiredError):
        assert view.current is None
        return None
    number = next(one.version.number for one in view.versions if one.version.deployment.version == version)
    assert number == view.current
    return number


def test_versions_are_ordered_and_each_step_says_who_and_why(versions: Versions) -> None:
    first, second = versions.put("run_1", 100_000), versions.put("run_2", 200_000)
    assert first.version != second.version and serves(versions) == 2
    steps = versions.lives.steps(NAME)
    assert [(s.action, s.before, s.after) for s in steps] == [("deploy", None, 1), ("deploy", 1, 2)]
    assert steps[1].previous and "run_2" in steps[1].why and steps[1].version is not None
    view = versions.lives.view(NAME)
    assert [one.state for one in view.versions] == ["superseded", "serving"]
    found = view.versions[0].version
    assert found.scenario == f"{NAME}@{scenario().version}" and found.run == "run_1" and found.owners == ("alba", "brio", "cora")
    assert found.scenario_digest.startswith("sha256:")


def test_the_same_run_again_changes_nothing_also_after_a_rollback(versions: Versions) -> None:
    versions.put("run_1", 100_000)
    second = versions.put("run_2", 200_000)
    versions.lives.rollback(NAME, back(), WHO)
    assert versions.put("run_2", 200_000) == second and serves(versions) == 1
    assert len(versions.lives.steps(NAME)) == 3


def test_rollback_goes_to_the_version_before_and_not_back_and_forth(versions: Versions) -> None:
    for number in (1, 2, 3):
        versions.put(f"run_{number}", 100_000 * number)
    assert versions.lives.rollback(NAME, back("a"), WHO).after == 2
    assert versions.lives.rollback(NAME, back("b"), WHO).after == 1 == serves(versions)
    with pytest.raises(ConflictError, match=r"nothing to go back to: version 3: it was gone back from \(--to 3 takes it\)"):
        versions.lives.rollback(NAME, back("c"), WHO)
    assert versions.lives.rollback(NAME, back("d", to=3), WHO).after == 3 == serves(versions)
    assert [one.state for one in versions.lives.view(NAME).versions] == ["rolled-back", "rolled-back", "serving"]


def test_the_same_order_twice_is_one_step_and_another_under_its_id_is_refused(versions: Versions) -> None:
    versions.put("run_1", 100_000)
    versions.put("run_2", 200_000)
    assert versions.lives.rollback(NAME, back(), WHO) == versions.lives.rollback(NAME, back(), "somebody/else")
    assert len(versions.lives.steps(NAME)) == 3
    for other in (back(why="another reason"), back(to=2)):
        with pytest.raises(ConflictError, match="used before"):
            versions.lives.rollback(NAME, other, WHO)
    with pytest.raises(ConflictError, match="used before"):
        versions.lives.retire(NAME, RetireOrder(id="o1", why="x"), WHO)


@pytest.mark.parametrize("bad", [back(""), back("x" * 101), back("a\nb"), back(why=" "), back(why="x" * 501)])
def test_an_order_needs_an_id_and_a_reason(versions: Versions, bad: RollbackOrder) -> None:
    versions.put("run_1", 100_000)
    with pytest.raises(InputError):
        versions.lives.rollback(NAME, bad, WHO)


def test_a_version_whose_certificate_does_not_hold_is_passed_over_and_never_served(versions: Versions) -> None:
    for number in (1, 2, 3):
        versions.put(f"run_{number}", 100_000 * number)
    second = versions.lives.view(NAME).versions[1].version.deployment
    versions.house.catalogue.revoke(second.certificate_digest, "wrong labels")
    assert "withdrawn" in versions.lives.view(NAME).versions[1].problem
    assert versions.lives.rollback(NAME, back("a"), WHO).after == 1
    with pytest.raises(ConflictError, match="version 2: the certificate was withdrawn"):
        versions.lives.rollback(NAME, back("b", to=2), WHO)
    first = versions.lives.view(NAME).versions[0].version.deployment
    versions.house.catalogue.revoke(first.certificate_digest, "wrong labels too")
    with pytest.raises(ConflictError, match="nothing to go back to"):
        versions.lives.rollback(NAME, back("c"), WHO)
    assert not versions.lives.view(NAME).ready and serves(versions) == 1, "refused, and nothing else takes its place"


def test_edited_bytes_are_not_gone_back_to(versions: Versions) -> None:
    first = versions.put("run_1", 100_000)
    versions.put("run_2", 200_000)
    path = versions.house.catalogue.artefact_path(first.artefact_digest)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ConflictError, match="version 1: the bytes of"):
        versions.lives.rollback(NAME, back(), WHO)
    assert serves(versions) == 2 and len(versions.lives.steps(NAME)) == 2


def test_nothing_goes_back_to_the_data_of_who_has_left(versions: Versions) -> None:
    versions.put("run_1", 100_000)
    versions.put("run_2", 200_000, without=("cora",))
    assert versions.lives.view(NAME).versions[0].problem == "it was fitted on the data of cora, who left since"
    for order in (back("a"), back("b", to=1)):
        with pytest.raises(ConflictError, match="data of cora, who left since"):
            versions.lives.rollback(NAME, order, WHO)
    versions.put("run_3", 150_000)
    assert versions.lives.rollback(NAME, back("c"), WHO).after == 2, "cora came back, then left the scene again with version 2"
    with pytest.raises(ConflictError, match="data of cora"):
        versions.lives.rollback(NAME, back("d", to=3), WHO)


def test_retire_ends_the_engines_keeps_the_record_and_can_be_taken_back(versions: Versions) -> None:
    versions.put("run_1", 100_000)
    versions.put("run_2", 200_000)
    order = RetireOrder(id="end", why="the line was sold")
    step = versions.lives.retire(NAME, order, WHO)
    assert step.before == 2 and step.after is None and step == versions.lives.retire(NAME, order, WHO)
    assert all(engine.closed for engine in versions.engines)
    for version in (None, versions.lives.view(NAME).versions[0].version.deployment.version):
        with pytest.raises(DeploymentRetiredError, match="was retired"):
            versions.registry.find(NAME, version)
    view = versions.lives.view(NAME)
    assert view.state == "retired" and not view.ready and len(view.versions) == 2
    with pytest.raises(ConflictError, match="retired already"):
        versions.lives.retire(NAME, RetireOrder(id="again", why="x"), WHO)
    assert versions.reopened() == {} and serves(versions) is None
    with pytest.raises(DeploymentRetiredError):
        versions.registry.find(NAME)
    later = versions.put("run_3", 150_000)
    assert serves(versions) is None and later.name == NAME
    assert [one.state for one in versions.lives.view(NAME).versions] == ["superseded", "retired", "proposed"]
    assert versions.lives.rollback(NAME, back(), WHO).after == 2 == serves(versions)


def test_a_candidate_is_recorded_and_does_not_serve(versions: Versions) -> None:
    versions.put("run_1", 100_000)
    versions.put("run_2", 200_000, candidate=True)
    assert serves(versions) == 1 and len(versions.engines) == 1
    assert [one.state for one in versions.lives.view(NAME).versions] == ["serving", "proposed"]
    with pytest.raises(NotFoundError, match="never served a version 2"):
        versions.lives.rollback(NAME, back(to=2), WHO)


def test_a_new_version_that_is_refused_leaves_the_old_one(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    versions.put("run_1", 100_000)

    def failing(artefact: bytes) -> None:
        raise StorageError("no memory", "free some")

    monkeypatch.setattr(versions.registry, "_engines", failing)
    with pytest.raises(StorageError):
        versions.put("run_2", 200_000)
    assert serves(versions) == 1 and versions.lives.view(NAME).ready


def test_older_versions_say_what_serves_instead(versions: Versions) -> None:
    found: list[Deployment] = [versions.put(f"run_{number}", 100_000 * number) for number in (1, 2, 3)]
    assert versions.registry.versions(NAME) == [found[1].version, found[2].version]
    with pytest.raises(DeploymentStoppedError, match=f"is superseded; {found[2].version} serves"):
        versions.registry.find(NAME, found[0].version)
    assert [engine.closed for engine in versions.engines] == [True, False, False]


def test_a_version_ends_with_its_last_request(versions: Versions) -> None:
    versions.put("run_1", 100_000)
    versions.put("run_2", 200_000)
    with versions.registry.leased(NAME) as entry:
        versions.lives.rollback(NAME, back(), WHO)
        assert versions.registry.engine(entry) is versions.engines[1] and not versions.engines[1].closed
        with pytest.raises(DeploymentStoppedError, match="was gone back from"):
            versions.registry.find(NAME, entry.deployment.version)
    assert versions.engines[1].closed and serves(versions) == 1


@pytest.mark.parametrize("where", ["load", "record", "prefer", "drop"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["deploy", "rollback", "retire"])
def test_cut_off_anywhere_is_before_or_after(
    versions: Versions, monkeypatch: pytest.MonkeyPatch, what: str, where: str, after: bool
) -> None:
    for number in (1, 2):
        versions.put(f"run_{number}", 100_000 * number)
    wanted = {"deploy": (2, 3), "rollback": (2, 1), "retire": (2, None)}[what]
    holder = versions.lives if where == "record" else versions.registry
    acts = {
        "deploy": lambda: versions.put("run_3", 300_000),
        "rollback": lambda: versions.lives.rollback(NAME, back(), WHO),
        "retire": lambda: versions.lives.retire(NAME, RetireOrder(id="end", why="x"), WHO),
    }
    with monkeypatch.context() as patched:
        patched.setattr(holder, where, cutting(getattr(holder, where), after))
        with contextlib.suppress(Cut):
            acts[what]()
    assert versions.reopened() == {}
    found = serves(versions)
    recorded = len(versions.lives.steps(NAME)) == 3
    assert found == wanted[recorded]
    acts[what]()
    assert serves(versions) == wanted[1] and len(versions.lives.steps(NAME)) == 3, "the same order finishes what was begun"


def test_a_full_disk_leaves_what_serves(versions: Versions) -> None:
    versions.put("run_1", 100_000)
    versions.put("run_2", 200_000)
    versions.lives._db._connection.execute("PRAGMA query_only = ON")
    for act in (lambda: versions.lives.rollback(NAME, back(), WHO), lambda: versions.lives.retire(NAME, RetireOrder(id="e", why="x"), WHO)):
        with pytest.raises(StorageError):
            act()
        assert serves(versions) == 2
    versions.lives._db._connection.execute("PRAGMA query_only = OFF")
    assert versions.lives.rollback(NAME, back(), WHO).after == 1


@pytest.mark.parametrize("damage", ["edited", "removed", "swapped", "foreign"])
def test_a_damaged_record_is_told_and_not_served_from(versions: Versions, damage: str) -> None:
    for number in (1, 2, 3):
        versions.put(f"run_{number}", 100_000 * number)
    envelopes = versions.lives.envelopes(NAME)
    trusted = {versions.house.key.key_id: versions.house.key.public_hex}
    assert len(checked_steps(envelopes, trusted)) == 3
    other = SigningKey.from_seed(b"o" * 32)
    if damage == "edited":
        payload = envelopes[1].payload
        envelopes[1] = msgspec.structs.replace(envelopes[1], payload=payload[:80] + ("A" if payload[80] != "A" else "B") + payload[81:])
    elif damage == "removed":
        del envelopes[1]
    elif damage == "swapped":
        envelopes[1], envelopes[2] = envelopes[2], envelopes[1]
    else:
        trusted = {other.key_id: other.public_hex}
    with pytest.raises(LogTamperedError, match=r"step \d"):
        checked_steps(envelopes, trusted)


def test_a_record_that_was_edited_on_disk_keeps_the_deployment_from_serving(versions: Versions, tmp_path: Path) -> None:
    versions.put("run_1", 100_000)
    versions.put("run_2", 200_000)
    with sqlite3.connect(tmp_path / "deployments.sqlite") as db:
        db.execute("DELETE FROM step WHERE seq = 0")
    db.close()
    with pytest.raises(LogTamperedError):
        versions.lives.view(NAME)
    versions.put("run_3", 150_000, site="line-4")
    refused = versions.reopened()
    assert list(refused) == [NAME] and "does not follow" in refused[NAME]
    assert [(view.state, view.ready) for view in versions.lives.views()] == [("damaged", False), ("serving", True)]
    with pytest.raises(UnknownModelError):
        versions.registry.find(NAME)


def test_what_an_earlier_release_served_is_taken_over(versions: Versions) -> None:
    _, head, digests = versions.certified("run_1", 100_000)
    old = Deployment(
        name=NAME,
        version="older",
        artefact_digest=digests[0],
        certificate_digest=digests[1],
        site="fleet",
        tier="T2",
        price_id="p",
        split_id="s",
        provider="c",
        decoder=head.decoder,
        lo=head.lo,
        hi=head.hi,
    )
    versions.house.catalogue.put_deployment(old)
    assert versions.reopened() == {} == versions.reopened()
    assert serves(versions) == 1 and len(versions.lives.steps(NAME)) == 1


def test_unknown_names_are_404(versions: Versions) -> None:
    for act in (
        lambda: versions.lives.view("no-such"),
        lambda: versions.lives.rollback("no-such", back(), WHO),
        lambda: versions.lives.retire("no-such", RetireOrder(id="x", why="x"), WHO),
        lambda: versions.lives.history("no-such"),
    ):
        with pytest.raises(NotFoundError):
            act()


def steps_of(actions: list[str]) -> list[LifeStep]:
    """A run of steps as Lives would record them: a rollback goes to the best that may return, and is left out where there is none."""
    found: list[LifeStep] = []
    deployment = msgspec.convert(
        {name: 0.0 if name in ("lo", "hi") else "x" for name in Deployment.__struct_fields__[: -len(Deployment.__struct_defaults__)]},
        Deployment,
    )
    for action in actions:
        life = life_of(found)
        fields: dict[str, object] = {"before": life.current}
        if action in ("deploy", "propose"):
            action = "propose" if life.retired else action
            fields["version"] = DeployedVersion(number=life.next_number, deployment=deployment)
            fields = {**fields, "after": life.next_number} if action == "deploy" else {"version": fields["version"]}
        elif action == "rollback":
            targets = [number for number in life.may_return() if number != life.current]
            if not targets:
                continue
            fields["after"] = targets[0]
        elif life.retired or life.current is None:
            continue
        base = {"format": "isthmus-life/1", "name": "x", "seq": len(found), "id": str(len(found)), "order": "", "who": "", "why": ""}
        found.append(msgspec.convert({**base, "action": action, "at_s": 0, "previous": "", **msgspec.to_builtins(fields)}, LifeStep))
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["deploy", "propose", "rollback", "retire"]), max_size=25))
def test_however_a_life_goes_at_most_one_version_serves(actions: list[str]) -> None:
    steps = steps_of(actions)
    life = life_of(steps)
    serving = [number for number, state in life.states.items() if state == "serving"]
    assert serving == ([] if life.current is None else [life.current])
    assert life.retired <= (life.current is None) and len(set(life.served)) == len(life.served)
    assert sorted(life.versions) == list(range(1, len(life.versions) + 1))
    assert set(life.may_return()) <= set(life.served) - set(serving)
    assert all(life_of(steps[:place]).current == steps[place].before for place in range(len(steps)) if steps[place].action != "propose")
