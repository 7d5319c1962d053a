"""A run goes on without whoever refuses, is paused or silent, if the others' terms let it; else it fails and names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.app.attendance import Attendance
from isthmus.assurance.certificate import read
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import JobFailedError, JobRefusedError
from isthmus.contracts.job import JobRefusal, JobRequest, JobStatus
from isthmus.contracts.statistic import FOLD_OUT, MOMENTS, OWN_HEAD
from isthmus.kit.signing import Envelope
from tests.app.world import PURPOSE, House, SyntheticJobs, SyntheticOwner, owner, request

OWNERS = ("alba", "brio", "cora", "dora", "ezra")


@dataclass
class AttendedJobs(SyntheticJobs):
    """unwilling: (party, statistic) -> clause. mute: parties whose nodes do not call. least, apart: of every agreement."""

    unwilling: dict[tuple[str, str], str] = field(default_factory=dict)
    mute: set[str] = field(default_factory=set)
    least: int = 3
    apart: int = 2

    def agreement(self, party: str, purpose: str) -> tuple[str, Agreement]:
        fields: dict[str, Any] = dict.fromkeys(("owner", "asset", "exchange"), party)
        numbers = dict.fromkeys(("issued_at_s", "expires_at_s", "runs_max", "least_group_size"), 1)
        sets = {"purposes": (purpose,), "operations": (), "participants": {}}
        return self.agreement_digest(party, purpose), Agreement(
            **fields, **numbers, **sets, least_participants=self.least, overlap_owners_min=self.apart
        )

    def create(self, asked: JobRequest) -> JobStatus:
        found = super().create(asked)
        unwilling = [(p, clause) for p in asked.roster if (clause := self.unwilling.get((p, asked.statistic)))]
        if unwilling and found.phase == "compute":
            party, clause = unwilling[0]
            refusals = (JobRefusal(party=party, clause=clause, message="its owner says so", next="ask it"),)
            others = tuple(p for p in asked.roster if p != party)
            self.known[found.id] = msgspec.structs.replace(found, phase="failed", refusals=refusals, countersigned=others)
        missing = tuple(p for p in asked.roster if p in self.mute)
        if missing and found.phase == "compute":
            others = tuple(p for p in asked.roster if p not in missing)
            self.known[found.id] = msgspec.structs.replace(found, phase="countersign", missing=missing, countersigned=others)
        return self.known[found.id]

    def _status(self, job_id: str, asked: JobRequest, **more: Any) -> JobStatus:
        sizes = dict.fromkeys(asked.roster, 8) if more.get("phase") == "done" else {}
        return super()._status(job_id, asked, countersigned=asked.roster, **{"bytes_received": sizes, **more})

    def of_run(self, run_id: str) -> list[JobStatus]:
        return [self.known[job] for job, asked in self._requests.items() if asked.run_id == run_id]

    def silent(self, parties: Sequence[str], silence_s: float) -> tuple[str, ...]:
        return tuple(party for party in parties if party in self.mute)

    def give_up(self, job_id: str, silent: Sequence[str]) -> JobStatus:
        self.known[job_id] = msgspec.structs.replace(self.known[job_id], phase="failed", missing=(), reason=f"{silent[0]} has not called")
        return self.known[job_id]


@dataclass
class Plant:
    house: House
    jobs: AttendedJobs

    def attended(self, run: str = "run_1") -> Attendance:
        wanted = request(owners=OWNERS[: len(self.jobs.owners)])
        self.house.begun(run, wanted)
        shop = self.house.shop

        def waited(seconds: float) -> None:
            self.house.clock.advance(30)

        object.__setattr__(shop, "wait", waited)
        return Attendance(shop, run, wanted)


def plant(root: Path, count: int = 4, **more: Any) -> Plant:
    people: dict[str, SyntheticOwner] = {party: owner(party, seed) for seed, party in enumerate(OWNERS[:count])}
    jobs = AttendedJobs(people, **more)
    jobs.agree(PURPOSE, *people)
    return Plant(House(root, jobs), jobs)


def parties_of(found: dict[str, Any], of: House) -> tuple[str, ...]:
    envelope = msgspec.convert(found["certificate"]["envelope"], Envelope)
    return tuple(read(envelope, {of.key.key_id: of.key.public_hex}).predicate.parties)


@pytest.mark.parametrize("clause", ["paused", "expiry", "purpose", "participants", "own-head"])
def test_one_who_refuses_at_the_beginning_is_gone_without(tmp_path: Path, clause: str) -> None:
    found = plant(tmp_path, unwilling={("brio", MOMENTS): clause})
    certified, result = found.attended().walk()
    assert certified and parties_of(result, found.house) == ("alba", "cora", "dora") == tuple(result["owners"])
    assert result["absent"] == [{"party": "brio", "clause": clause, "message": "its owner says so"}]
    assert f"brio took no part: it refused by its clause {clause}" in result["notes"][0]
    rosters = {asked.run_id: asked.roster for asked in found.jobs.asked if not asked.run_id.endswith("/own-heads")}
    assert rosters.pop("run_1") == OWNERS[:4] and set(rosters.values()) == {("alba", "cora", "dora")}
    assert [step.name for step in found.house.catalogue.view("run_1").steps if step.name.startswith("without")] == ["without brio"]


def test_one_who_is_silent_is_gone_without_after_a_while(tmp_path: Path) -> None:
    found = plant(tmp_path, mute={"dora"})
    before_s = found.house.clock.monotonic_s()
    certified, result = found.attended().walk()
    assert certified and list(result["owners"]) == ["alba", "brio", "cora"]
    assert result["absent"][0]["clause"] == "silent" and "has not called" in result["notes"][0]
    assert found.house.clock.monotonic_s() - before_s >= 90


def test_too_few_others_fail_the_run_as_before(tmp_path: Path) -> None:
    found = plant(tmp_path, count=3, unwilling={("brio", MOMENTS): "paused"})
    with pytest.raises(JobRefusedError) as caught:
        found.attended().walk()
    assert caught.value.message == "brio refused by its clause paused: its owner says so"
    more = plant(tmp_path / "more", least=4, unwilling={("brio", MOMENTS): "paused"})
    with pytest.raises(JobRefusedError, match="brio refused"):
        more.attended().walk()


def test_one_after_the_other_until_too_few_are_left_and_all_are_named(tmp_path: Path) -> None:
    found = plant(tmp_path, count=5, unwilling={(party, MOMENTS): "paused" for party in ("alba", "cora", "ezra")})
    with pytest.raises(JobRefusedError) as caught:
        found.attended().walk()
    assert all(f"{party} " in caught.value.message for party in ("alba", "cora", "ezra")) and "without:" in caught.value.message
    found.jobs.unwilling.clear()
    certified, result = found.attended().walk()
    assert certified and result["absent"] == [] and len(result["owners"]) == 5, "nothing had left, so all are asked again"


def test_a_refusal_after_shares_left_ends_the_run_if_it_is_one_owner_alone(tmp_path: Path) -> None:
    found = plant(tmp_path, unwilling={("brio", FOLD_OUT): "paused"})
    with pytest.raises(JobRefusedError, match="brio refused by its clause paused"):
        found.attended().walk()
    assert {asked.run_id for asked in found.jobs.asked} == {"run_1"}


def test_clauses_that_a_smaller_roster_cannot_meet_end_the_run(tmp_path: Path) -> None:
    for place, clause in enumerate(("would-reveal", "least-participants", "roster", "exchange-signature")):
        found = plant(tmp_path / str(place), unwilling={("brio", MOMENTS): clause})
        with pytest.raises(JobRefusedError, match=clause):
            found.attended().walk()
        assert len(found.jobs.asked) == 1


def test_a_refusal_in_the_computing_phase_ends_the_run(tmp_path: Path) -> None:
    found = plant(tmp_path)
    found.jobs.refusing[MOMENTS] = (JobRefusal(party="brio", clause="payload", message="x", next="y"),)
    with pytest.raises(JobRefusedError, match="payload"):
        found.attended().walk()
    assert len(found.jobs.asked) == 1


def test_own_heads_that_are_refused_are_noted_and_nobody_is_left_out(tmp_path: Path) -> None:
    found = plant(tmp_path, unwilling={("brio", OWN_HEAD): "own-head"})
    certified, result = found.attended().walk()
    assert certified and len(result["owners"]) == 4 and result["absent"] == [] and any("own model" in note for note in result["notes"])


def test_a_run_that_was_cut_off_goes_on_with_the_roster_that_it_had(tmp_path: Path) -> None:
    found = plant(tmp_path, unwilling={("brio", MOMENTS): "paused"})

    def cut(asked: JobRequest) -> None:
        if asked.statistic == FOLD_OUT:
            raise JobFailedError("the exchange was killed", "")

    found.jobs.before = cut
    first = found.attended()
    with pytest.raises(JobFailedError, match="killed"):
        first.walk()
    found.jobs.before, found.jobs.unwilling = (lambda asked: None), {}
    certified, result = found.attended().walk()
    assert certified and list(result["owners"]) == ["alba", "cora", "dora"] and result["absent"][0]["party"] == "brio"
