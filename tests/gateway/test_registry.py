"""Loaded deployments: nothing serves but certified bytes, under a certificate that holds now."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from isthmus.contracts.errors import (
    ArtefactEditedError,
    CertificateArtefactError,
    CertificateDecoderError,
    CertificateError,
    CertificateExpiredError,
    CertificateRevokedError,
    DeploymentStoppedError,
    EngineError,
    InputError,
    StorageError,
    UnknownModelError,
)
from isthmus.gateway.limits import DIGEST_RECHECK_S
from isthmus.gateway.registry import Registry
from isthmus.gateway.service import DECODERS
from tests.gateway.fakes import FakeEngine, House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def flip(path: Path, position: int = 3) -> None:
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(bytes(raw))


def test_the_engine_gets_the_very_bytes_that_were_verified(house: House) -> None:
    house.loaded()
    assert house.engine.artefact == house.artefact.read_bytes()
    assert house.registry.engine(house.registry.find("cells")) is house.engine


def test_an_edited_byte_is_refused_at_load_with_the_reason(house: House) -> None:
    flip(house.artefact)
    with pytest.raises(ArtefactEditedError, match=house.digest):
        house.loaded()
    assert house.engines == []
    with pytest.raises(ArtefactEditedError, match=house.digest):
        house.registry.admit(house.registry.find("cells"))


def test_an_edited_byte_is_refused_at_dispatch_until_loaded_again(house: House) -> None:
    entry = house.loaded().registry.find("cells")
    flip(house.artefact)
    with pytest.raises(ArtefactEditedError):
        house.registry.admit(entry)
    assert house.engine.closed
    flip(house.artefact)
    with pytest.raises(ArtefactEditedError):
        house.registry.admit(entry)
    house.loaded()
    assert house.registry.ready(house.registry.find("cells"))


def test_an_edit_behind_an_unchanged_stamp_is_found_by_the_periodic_digest(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.gateway.registry._stamp", lambda path: (1, 1, 1, 1))
    entry = house.loaded().registry.find("cells")
    flip(house.artefact)
    assert house.registry.ready(entry)
    house.clock.advance(DIGEST_RECHECK_S)
    with pytest.raises(ArtefactEditedError):
        house.registry.admit(entry)


def test_a_touched_file_with_the_same_bytes_keeps_serving(house: House) -> None:
    entry = house.loaded().registry.find("cells")
    os.utime(house.artefact, (1, 1))
    assert house.registry.ready(entry)


def test_a_missing_file_is_refused_at_load_and_at_dispatch(house: House) -> None:
    entry = house.loaded().registry.find("cells")
    house.artefact.unlink()
    with pytest.raises(ArtefactEditedError, match="cannot be read"):
        house.registry.admit(entry)
    with pytest.raises(ArtefactEditedError, match="cannot be read"):
        house.loaded()


def test_a_certificate_that_ends_in_mid_life_stops_the_next_request(house: House) -> None:
    entry = house.loaded().registry.find("cells")
    house.clock.advance(999)
    house.registry.admit(entry)
    house.clock.advance(1)
    with pytest.raises(CertificateExpiredError):
        house.registry.admit(entry)


def test_a_revocation_acts_at_once_and_a_lost_answer_is_no_pass(house: House) -> None:
    entry = house.loaded().registry.find("cells")
    for refusal in (CertificateRevokedError("it was withdrawn", "certify again"), StorageError("no database", "wait")):
        house.gate.refusal = refusal
        with pytest.raises(type(refusal)):
            house.registry.admit(entry)
    house.gate.refusal = None
    assert house.registry.ready(entry)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"artefact_digest": "sha256:" + "0" * 64}, CertificateArtefactError),
        ({"certificate_digest": "sha256:" + "0" * 64}, CertificateError),
        ({"decoder": "other/1"}, CertificateDecoderError),
        ({"state": "withdrawn"}, DeploymentStoppedError),
        ({"version": "a/b"}, InputError),
        ({"name": "No Name"}, InputError),
    ],
)
def test_what_its_certificate_does_not_cover_is_not_loaded(house: House, changes: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        house.registry.load(msgspec.structs.replace(house.deployment, **changes), house.artefact)
    assert house.engines == []


def test_a_certificate_for_another_decoder_is_refused(house: House) -> None:
    house.gate.certified = msgspec.structs.replace(house.gate.certified, decoder="other/1")
    with pytest.raises(CertificateDecoderError):
        house.loaded()


def test_an_engine_that_does_not_start_leaves_the_reason(house: House) -> None:
    def failing(artefact: bytes) -> FakeEngine:
        raise EngineError("the worker died", "look for memory")

    house.registry._engines = failing
    with pytest.raises(EngineError):
        house.loaded()
    with pytest.raises(EngineError):
        house.registry.admit(house.registry.find("cells"))


def test_versions_live_side_by_side_and_the_last_loaded_is_the_default(house: House) -> None:
    house.loaded()
    second = msgspec.structs.replace(house.deployment, version="2")
    house.registry.load(second, house.artefact)
    assert house.registry.find("cells").deployment.version == "2"
    assert house.registry.find("cells", "1").deployment.version == "1"
    assert house.registry.versions("cells") == ["1", "2"]
    house.loaded()
    assert house.registry.find("cells").deployment.version == "1"
    assert house.engines[0].closed and not house.engines[1].closed


def test_unknown_and_withdrawn_names(house: House) -> None:
    house.loaded()
    for name, version in (("dogs", None), ("cells", "9")):
        with pytest.raises(UnknownModelError):
            house.registry.find(name, version)
    house.registry.withdraw("cells")
    with pytest.raises(DeploymentStoppedError):
        house.registry.admit(house.registry.find("cells"))
    assert house.engine.closed


def named(house: House, count: int, awake_max: int) -> list[str]:
    """Deployments line-0, line-1, ... of one artefact, loaded in that order."""
    house.registry = Registry(house.gate, house._engine, house.clock, DECODERS, awake_max)
    names = [f"line-{number}" for number in range(count)]
    for name in names:
        house.registry.load(msgspec.structs.replace(house.deployment, name=name), house.artefact)
    return names


def running(house: House) -> list[str]:
    return [entry.deployment.name for entry in house.registry.all() if entry.engine is not None]


def use(house: House, name: str) -> None:
    with house.registry.leased(name) as entry:
        house.registry.engine(entry)


def test_the_least_recently_used_sleep_and_a_request_wakes_them(house: House) -> None:
    names = named(house, 5, awake_max=2)
    assert running(house) == names[3:] and [engine.closed for engine in house.engines] == [True] * 3 + [False] * 2
    assert all(house.registry.ready(house.registry.find(name)) for name in names)
    assert running(house) == names[3:]  # to look is not to wake
    use(house, names[3])
    use(house, names[0])
    assert running(house) == [names[0], names[3]] and len(house.engines) == 6


def test_an_engine_in_use_does_not_sleep(house: House) -> None:
    names = named(house, 3, awake_max=1)
    with house.registry.leased(names[0]) as entry:
        engine = house.registry.engine(entry)
        use(house, names[1])
        assert entry.engine is engine and not house.engines[3].closed
    assert len(running(house)) == 1


def test_bytes_edited_in_its_sleep_are_refused_when_it_is_woken(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.gateway.registry._stamp", lambda path: (1, 1, 1, 1))  # as if nobody had touched the file
    names = named(house, 2, awake_max=1)
    flip(house.artefact)
    with house.registry.leased(names[0]) as entry, pytest.raises(ArtefactEditedError):
        house.registry.engine(entry)
    assert len(house.engines) == 2 and not house.registry.ready(entry)


def test_what_served_before_begins_asleep_where_enough_engines_run(house: House) -> None:
    named(house, 1, awake_max=1)
    house.registry.load(msgspec.structs.replace(house.deployment, name="line-9"), house.artefact, proven=True)
    assert len(house.engines) == 1 and running(house) == ["line-0"]
    use(house, "line-9")
    assert len(house.engines) == 2 and running(house) == ["line-9"]


def test_many_threads_wake_each_deployment_at_most_once_at_a_time(house: House) -> None:
    names = named(house, 4, awake_max=2)

    def ask(number: int) -> bool:
        with house.registry.leased(names[number % 4]) as entry:
            engine = house.registry.engine(entry)
            time.sleep(0.001)
            return not engine.closed  # type: ignore[attr-defined]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))
    assert len(running(house)) <= 2
    open_engines = [engine for engine in house.engines if not engine.closed]
    assert len(open_engines) == len(running(house))
