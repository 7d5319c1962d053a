"""`isthmus doctor`: what is needed and broken fails; what is optional never does; each finding says what next."""

from __future__ import annotations

import json
import os
import socket
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import isthmus.cli.doctor as doctor
from isthmus.cli.main import main
from isthmus.kit.clock import SetClock
from isthmus.kit.config import Settings


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_STATE", str(tmp_path / "state"))


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json", *options])
    said = json.loads(capsys.readouterr().out)
    return code, {check["name"]: check for check in said["checks"]} | {"ready": said["ready"]}


def test_this_machine_is_ready_and_nothing_is_left_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, checks = run(capsys)
    assert code == 0 and checks["ready"] is True, checks
    assert list(tmp_path.iterdir()) == []
    assert main(["doctor"]) == 0
    assert "Ready." in capsys.readouterr().out


def test_every_finding_that_is_not_ok_says_what_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    for name in ("version", "files", "metadata"):
        monkeypatch.setattr(metadata, name, missing)
    (tmp_path / "file").write_text("x", encoding="ascii")
    monkeypatch.setattr(doctor, "DISK_FREE_BYTES_LEAST", 1 << 70)
    monkeypatch.setattr(doctor, "MEMORY_BYTES_LEAST", 1 << 70)
    monkeypatch.setattr(doctor, "PYTHON_LEAST", (9, 9))
    findings = {f.name: f for f in doctor.examine(Settings(state=tmp_path / "file" / "state"), SetClock(0.0))}
    findings["chromium"] = doctor.check_chromium(tmp_path / "none")
    wrong = {name: f.state for name, f in findings.items() if f.state != "ok"}
    assert wrong == {
        "python": "broken",
        "packages": "broken",
        "image weights": "broken",
        "sample images": "absent",
        "state folder": "broken",
        "disk": "broken",
        "memory": "absent",
        "clock": "broken",
        "chromium": "absent",
    }
    assert all(findings[name].next_step and findings[name].found for name in wrong)


def test_broken_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "PYTHON_LEAST", (9, 9))
    code, checks = run(capsys)
    assert code == 1 and checks["ready"] is False and checks["python"]["state"] == "broken"
    assert main(["doctor"]) == 1


def test_edited_weights_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_weights().state == "ok"
    monkeypatch.setattr(doctor, "WEIGHTS_SHA256", "0" * 64)
    found = doctor.check_weights()
    assert found.state == "broken" and "expected" in found.found


def test_a_broken_runtime_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_onnxruntime().state == "ok"

    def broken(name: str) -> Any:
        raise OSError("wrong ELF class")

    monkeypatch.setattr("importlib.import_module", broken)
    assert doctor.check_onnxruntime().state == "broken"


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        found = doctor.check_port("127.0.0.1", port)
    assert found.state == "absent" and "ISTHMUS_PORT" in found.next_step
    assert doctor.check_port("127.0.0.1", port).state == "ok"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert doctor.check_state(tmp_path).state == "broken"


def test_clock() -> None:
    now = time.time()
    assert doctor.check_clock(SetClock(now), now - 10).state == "ok"
    assert doctor.check_clock(SetClock(now - 86_400), now).state == "broken"
    assert "24.0 hours" in doctor.check_clock(SetClock(now - 86_400), now).found


def test_requirements_are_compared_by_number() -> None:
    assert doctor._requirement("numpy>=1.26") == ("numpy", "1.26")
    assert doctor._requirement("types-PyYAML") == ("types-PyYAML", "0")
    assert doctor._numbers("1.10.0") > doctor._numbers("1.9") and doctor._numbers("2.0.0rc1") >= doctor._numbers("2.0")
