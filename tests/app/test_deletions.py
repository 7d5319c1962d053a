"""After an agreement has ended, what rests on it is deleted in time, out of the files too, and the owner gets a signed record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from isthmus.app.deletions import DAY_S, Deletions
from isthmus.cli.main import isthmus
from isthmus.contracts.errors import DeploymentRetiredError, NotFoundError, StorageError
from isthmus.contracts.head import Array
from isthmus.contracts.job import JOB_TYPE, Job
from isthmus.contracts.negotiation import DELETION_TYPE, DeletionRecord
from isthmus.kit.canonical import digest_of
from isthmus.kit.signing import Envelope, key_id, payload_of, seal, unseal
from isthmus.sandbox.coordinator import JobState
from isthmus.sandbox.service import Promises
from tests.app.versions import Versions
from tests.sandbox.world import World

LASTS_S = 3600
DAYS = 7


class House:
    """Real owners with a real job, and a certified, deployed model of the run that asked for it."""

    def __init__(self, root: Path) -> None:
        (root / "exchange").mkdir(parents=True)
        self.world = World(root, terms={"deletion_days": DAYS}, promises=Promises("", DAYS))
        self.world.add("alfa", "bravo", "carol")
        self.world.steps(1)
        self.job = self.world.service.create_job(self.world.request(run_id="run_1"))
        self.world.steps()
        self.total = self.world.service.job(self.job.id).total
        self.total_digest = self.world.service.job(self.job.id).total_digest
        assert self.total is not None
        self.versions = Versions(root / "exchange", clock=self.world.clock)
        self.deployment = self.versions.put("run_1")
        self.world.service.create_job(self.world.request(run_id="run_9", purpose="inspect", round=2, stage=self.world.request().stage))
        self.deletions = Deletions(
            self.world.service,
            self.world.jobstore,
            self.versions.house.catalogue,
            self.versions.lives,
            self.world.exchange_key,
            self.world.clock,
        )

    def ended(self, days: float) -> None:
        """So many days after the agreements' time."""
        self.world.clock.advance(LASTS_S + days * DAY_S)
        self.world.service.desk.expire()

    def document(self) -> Job:
        envelope = msgspec.convert(self.world.service.job_document(self.job.id), Envelope)
        return msgspec.json.decode(payload_of(envelope), type=Job)

    def bytes_of(self, needle: bytes) -> list[str]:
        """Files of the exchange that hold these bytes."""
        files = [path for path in self.world.root.rglob("exchange*/**/*") if path.is_file()] + list(
            self.world.root.glob("exchange.sqlite*")
        )
        return sorted({path.name for path in files if needle in path.read_bytes()})


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.versions.close()


def test_nothing_is_deleted_before_it_is_due(house: House) -> None:
    assert house.deletions.turn() == []
    house.ended(DAYS - 1.5)
    assert house.deletions.turn() == []
    assert house.world.service.job(house.job.id).total is not None


def test_in_time_sums_models_and_results_go_and_the_owner_hears_of_it(house: House) -> None:
    raw = Array.of(house.total.array()).data  # type: ignore[union-attr]
    plain = house.total.array().astype("<i8").tobytes()[:64]  # type: ignore[union-attr]
    assert house.bytes_of(plain), "the sums are in the exchange's files before"
    carrying = msgspec.structs.replace(house.document(), id="job_carrier", run_id="run_2", purpose="elsewhere", params={"fleet": raw})
    house.world.jobstore.put_job(
        JobState(carrying, digest_of(carrying), seal(house.world.exchange_key, JOB_TYPE, carrying), phase="failed")
    )
    house.ended(DAYS - 0.5)
    records = house.deletions.turn()
    assert {record.owner for record in records} == {"alfa", "bravo", "carol"} and house.deletions.turn() == []
    first = records[0]
    assert house.job.id in first.jobs and "job_carrier" in first.jobs and first.runs == ("run_1",)
    assert first.totals == (house.total_digest,)
    assert first.deleted_at_s <= first.due_at_s == first.ended_at_s + DAYS * DAY_S
    assert house.bytes_of(plain) == [] and house.bytes_of(raw.encode()) == []
    assert house.deployment.artefact_digest in first.artefacts
    assert not house.versions.house.catalogue.artefact_path(house.deployment.artefact_digest).exists()
    with pytest.raises(NotFoundError):
        house.versions.house.catalogue.head(house.deployment.artefact_digest)
    assert house.deployment.certificate_digest in house.versions.house.catalogue.revoked()
    with pytest.raises(DeploymentRetiredError):
        house.versions.registry.find(house.deployment.name)
    view = house.versions.house.catalogue.view("run_1")
    assert view.state == "failed" and view.result is None and view.error is not None and view.error["code"] == "deleted"
    with pytest.raises(NotFoundError):
        house.world.service.job(house.job.id)
    _the_owner_keeps_the_record(house, first)


def _the_owner_keeps_the_record(house: House, record: DeletionRecord) -> None:
    house.world.clock.advance(60)
    house.world.steps(1)
    kept = house.world.owners["alfa"].home.store.negotiations.all()[0]
    assert kept.deletion is not None
    public = house.world.exchange_key.public_hex
    assert msgspec.convert(unseal(kept.deletion, DELETION_TYPE, {key_id(public): public}), DeletionRecord) == record
    run = CliRunner().invoke(isthmus, ["node", "agree", "--state", str(house.world.root / "alfa" / "state"), "--show"])
    assert "the exchange signed that it deleted 1 sums" in run.output


def test_a_record_of_another_is_not_kept(house: House) -> None:
    alfa = house.world.owners["alfa"]
    kept = alfa.home.store.negotiations.all()[0]
    record = DeletionRecord(agreement=kept.negotiation.agreement or "", owner="alfa", ended_at_s=1, due_at_s=2, deleted_at_s=1)

    def lied(listed: list[Any]) -> list[Any]:
        forged = msgspec.to_builtins(seal(alfa.home.key, DELETION_TYPE, record))
        other = msgspec.to_builtins(seal(house.world.exchange_key, DELETION_TYPE, msgspec.structs.replace(record, agreement="sha256:0")))
        return [msgspec.structs.replace(one, deletion=word) for one in listed for word in (forged, other, {})]

    alfa.uplink.tampered_terms = lied
    house.world.clock.advance(60)
    alfa.node.step(0)
    assert alfa.home.store.negotiations.all()[0].deletion is None


def test_a_renewed_agreement_keeps_what_it_covers(house: House) -> None:
    keys = {name: owner.home.key.public_hex for name, owner in house.world.owners.items()}
    for owner in house.world.owners.values():
        owner.home.agree(house.world.agreement(owner.home, keys, expires_at_s=int(house.world.clock.now_s()) + 400 * DAY_S))
    house.world.steps(1)
    house.ended(DAYS)
    assert house.deletions.turn() == [] and house.world.service.job(house.job.id).total is not None


def test_a_turn_that_is_cut_off_is_ended_by_the_next_with_the_same_list(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.ended(DAYS)
    forget = house.world.jobstore.forget_jobs

    def cut(job_ids: Any) -> None:
        forget(job_ids)
        raise StorageError("the disk is full", "make room")

    monkeypatch.setattr(house.world.jobstore, "forget_jobs", cut)
    with pytest.raises(StorageError):
        house.deletions.turn()
    monkeypatch.setattr(house.world.jobstore, "forget_jobs", forget)
    first = next(record for record in house.deletions.turn() if record.owner == "alfa")
    assert house.job.id in first.jobs and first.totals and house.deployment.artefact_digest in first.artefacts


def test_without_the_duty_nothing_is_deleted(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    status = world.service.create_job(world.request())
    world.steps()
    versions = Versions(tmp_path / "exchange", clock=world.clock)
    world.clock.advance(LASTS_S + 1000 * DAY_S)
    world.service.desk.expire()
    deletions = Deletions(world.service, world.jobstore, versions.house.catalogue, versions.lives, world.exchange_key, world.clock)
    assert deletions.turn() == [] and world.service.job(status.id).total is not None
    versions.close()
