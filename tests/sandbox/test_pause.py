"""A paused node answers nothing, says so, and goes on where it was when it is resumed; a restart changes nothing of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.contracts.errors import InputError
from isthmus.sandbox import nodestate
from isthmus.sandbox.ownerview import OwnerBook
from tests.sandbox.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.add("alfa", "bravo", "carol")
    found.steps(1)
    return found


def kinds(world: World, name: str) -> list[str]:
    return [path.rsplit("/", 1)[1].partition("?")[0] for path, _ in world.owners[name].uplink.sent if "/tasks/" in path]


def test_a_paused_node_refuses_by_that_clause_before_anything_is_computed(world: World) -> None:
    state = world.root / "alfa" / "state"
    assert nodestate.pause(state, world.clock) == nodestate.pause(state, world.clock) == nodestate.paused(state)
    job = world.service.create_job(world.request())
    world.steps()
    status = world.service.job(job.id)
    assert status.phase == "failed" and status.refusals[0].clause == "paused" and "alfa" not in status.countersigned
    assert kinds(world, "alfa") == ["refusal"] and not status.bytes_received
    world.restart("alfa")
    again = world.service.create_job(world.request())
    world.steps()
    assert world.service.job(again.id).refusals[0].clause == "paused"
    assert nodestate.resume(state) and not nodestate.resume(state)
    world.service.create_job(world.request())
    world.steps()
    assert world.service.job(job.id).phase == "done"


def test_a_job_that_was_countersigned_waits_and_the_exchange_is_told(world: World) -> None:
    state = world.root / "alfa" / "state"
    job = world.service.create_job(world.request(ttl_s=60))
    world.steps(1)
    assert world.service.job(job.id).phase == "compute"
    nodestate.pause(state, world.clock)
    world.steps(3)
    status = world.service.job(job.id)
    assert status.phase == "compute" and status.missing == ("alfa",) and kinds(world, "alfa")[-1] == "status"
    nodestate.resume(state)
    world.steps(1)
    assert world.service.job(job.id).phase == "done"


def test_one_that_expires_meanwhile_says_who_was_paused(world: World) -> None:
    job = world.service.create_job(world.request(ttl_s=60))
    world.steps(1)
    nodestate.pause(world.root / "alfa" / "state", world.clock)
    world.service._seen.clear()
    world.service.take_status("alfa", "paused", 0, 0)
    world.steps(1, only=("bravo", "carol"))
    world.clock.advance(61)
    status = world.service.job(job.id)
    assert status.phase == "failed" and status.reason is not None and "alfa" in status.reason
    assert "has not called" in status.reason or "paused by its owner" in status.reason


def test_a_pause_in_the_middle_of_computing_keeps_the_share_back(world: World) -> None:
    state = world.root / "alfa" / "state"
    job = world.service.create_job(world.request())
    world.steps(1)
    data = world.owners["alfa"].node._data
    real = data.tools.extractor

    def pausing(stage):  # type: ignore[no-untyped-def]
        nodestate.pause(state, world.clock)
        return real(stage)

    object.__setattr__(data.tools, "extractor", pausing)
    world.steps(2)
    assert "vector" not in kinds(world, "alfa") and world.owners["alfa"].home.store.past_jobs() == []
    object.__setattr__(data.tools, "extractor", real)
    nodestate.resume(state)
    world.steps(1)
    assert world.service.job(job.id).phase == "done"


def test_the_owners_view_says_it_all(world: World) -> None:
    state = world.root / "alfa" / "state"
    world.service.create_job(world.request())
    world.steps()
    book = OwnerBook(state, world.clock)
    view = book.view()
    assert view.party == "alfa" and view.log_problem == "" and view.images_left == 0 and not view.running
    assert [line.state for line in view.asked] == ["answered"] and view.asked[0].parties == ("alfa", "bravo", "carol")
    assert view.left[0].kind == "vector" and view.left[0].numbers > 0 and view.bytes_left == sum(size for _, size in view.kinds.values())
    assert (view.agreements[0].runs_used, view.agreements[0].runs_max, view.agreements[0].present) == (1, 5, True)
    assert book.pause().paused_since_s == int(world.clock.now_s()) and book.resume().paused_since_s is None
    log = world.owners["alfa"].log
    log.write_bytes(log.read_bytes().replace(b'"kind":"asset"', b'"kind":"party"'))
    broken = book.view()
    assert "line 2" in broken.log_problem and broken.messages == 0


def test_what_is_no_node_is_said(tmp_path: Path) -> None:
    for call in (lambda: nodestate.resume(tmp_path), lambda: nodestate.paused(tmp_path), lambda: nodestate.joined_exchange(tmp_path)):
        with pytest.raises(InputError):
            call()
