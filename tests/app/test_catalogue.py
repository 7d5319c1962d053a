"""What the exchange keeps: artefacts by digest, certificates, bars, runs, deployments."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from isthmus.app.catalogue import Catalogue, write_whole
from isthmus.contracts.build import StepRecord
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import NotFoundError, StorageError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.kit.clock import SetClock
from isthmus.kit.signing import SigningKey, seal
from tests.app.world import request

KEY = SigningKey.from_seed(b"s" * 32)
DIGEST = "sha256:" + "a" * 64
HEAD = Head(
    stage=Stage(backbone="b", parts=("block/1",), dimension=2, digest="sha256:0"),
    coefficients=Array.of(np.ones(2)),
    bias=0.0,
    lo=0.0,
    hi=0.0,
    decoder="d",
)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "Zustand mit Lücke 状態", SetClock())


def deployment(version: str, lo: float = 0.0) -> Deployment:
    parts = {"artefact_digest": DIGEST, "certificate_digest": DIGEST, "site": "fleet", "tier": "T2", "price_id": "p", "split_id": "s"}
    return Deployment(name="m", version=version, provider="c", decoder="d", lo=lo, hi=1.0, **parts)


def test_artefacts_are_kept_as_they_are(catalogue: Catalogue) -> None:
    path = catalogue.add_model(DIGEST, HEAD, b"model")
    assert path.read_bytes() == catalogue.artefact(DIGEST) == b"model" and catalogue.head(DIGEST) == HEAD
    before = path.stat()
    catalogue.add_model(DIGEST, HEAD, b"model")
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_ino == before.st_ino


def test_an_artefact_edited_on_disk_is_written_anew_by_the_next_walk(catalogue: Catalogue) -> None:
    path = catalogue.add_model(DIGEST, HEAD, b"model")
    path.write_bytes(b"edited")
    assert catalogue.artefact(DIGEST) == b"edited", "what is on disk is told; the registry compares"
    catalogue.add_model(DIGEST, HEAD, b"model")
    assert path.read_bytes() == b"model"


def test_a_missing_artefact_is_a_storage_error_and_an_unknown_one_is_not_found(catalogue: Catalogue) -> None:
    catalogue.add_model(DIGEST, HEAD, b"model").unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        catalogue.artefact(DIGEST)
    for ask in (catalogue.artefact, catalogue.head, catalogue.certificate, catalogue.bars, catalogue.view):
        with pytest.raises(NotFoundError):
            ask("sha256:none")
    with pytest.raises(NotFoundError):
        catalogue.revoke("sha256:none", "why")


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        Catalogue(tmp_path / "file", SetClock())
    with pytest.raises(StorageError, match="cannot be written"):
        write_whole(tmp_path / "file" / "below", b"x")


def test_an_artefact_that_cannot_be_written_leaves_no_model(catalogue: Catalogue) -> None:
    (catalogue.folder / "artefacts").write_text("in the way")
    with pytest.raises(StorageError):
        catalogue.add_model(DIGEST, HEAD, b"model")
    with pytest.raises(NotFoundError):
        catalogue.head(DIGEST)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_a_secret_is_never_readable_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = os.fsync

    def looked(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            seen.append(stat.S_IMODE(os.fstat(handle).st_mode))
        original(handle)

    monkeypatch.setattr(os, "fsync", looked)
    mask = os.umask(0)
    try:
        stale = tmp_path / f".token.{os.getpid()}.part"
        stale.write_bytes(b"left by a crash")
        stale.chmod(0o666)
        write_whole(tmp_path / "token", b"secret", mode=0o600)
    finally:
        os.umask(mask)
    assert seen == [0o600] and stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["token"]


def test_certificates_are_revoked_for_good(catalogue: Catalogue) -> None:
    catalogue.add_model(DIGEST, HEAD, b"model")
    envelope = seal(KEY, "t", {"n": 1})
    catalogue.add_certificate("sha256:c1", DIGEST, envelope, "run_1")
    catalogue.add_certificate("sha256:c2", DIGEST, envelope, "run_1")
    catalogue.revoke("sha256:c1", "found wrong")
    catalogue.revoke("sha256:c1", "again")
    catalogue.add_certificate("sha256:c1", DIGEST, envelope, "run_1")
    assert catalogue.revoked() == {"sha256:c1"}
    assert [(d, r) for d, _, r in catalogue.certificates()] == [("sha256:c2", False), ("sha256:c1", True)]
    assert len(catalogue.certificates_of("run_1", DIGEST)) == 2 and catalogue.certificates_of("run_2", DIGEST) == []


def test_bars_keep_their_first_signature(catalogue: Catalogue) -> None:
    first = seal(KEY, "t", {"n": 1})
    catalogue.keep_bars("sha256:b", first)
    catalogue.keep_bars("sha256:b", seal(SigningKey.generate(), "t", {"n": 1}))
    assert catalogue.bars("sha256:b") == first


def test_all_is_there_after_opening_again(tmp_path: Path) -> None:
    one = Catalogue(tmp_path, SetClock())
    one.begin("run_1", "build", request())
    one.step_done("run_1", StepRecord(name="bars", wall_s=0.1, reused=False, detail={}))
    one.close()
    two = Catalogue(tmp_path, SetClock())
    assert two.unfinished() == ["run_1"] and two.request_of("run_1") == ("build", request())
    assert [s.name for s in two.view("run_1").steps] == ["bars"]


def test_only_ended_runs_that_were_not_certified_begin_again(catalogue: Catalogue) -> None:
    assert catalogue.begin("run_1", "build", request()) and not catalogue.begin("run_1", "build", request())
    for state, again in (("refused", True), ("failed", True), ("certified", False)):
        catalogue.end("run_1", state, {"state": state}, None)  # type: ignore[arg-type]
        assert catalogue.begin("run_1", "build", request()) is again, state


def test_the_deployment_put_last_stays_last(catalogue: Catalogue) -> None:
    """It is what serves by default, also after the exchange was started again."""
    for version in ("one", "two"):
        catalogue.put_deployment(deployment(version))
    catalogue.put_deployment(deployment("one", lo=-0.5))
    assert [(d.version, d.lo) for d in catalogue.deployments()] == [("two", 0.0), ("one", -0.5)]
