"""The command line's edge: quick help, one sentence for each failure, exit codes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

import isthmus.cli.main as edge
from isthmus.cli.main import TARGETS, main
from isthmus.contracts.errors import RefusedError, StorageError

ISTHMUS = [sys.executable, "-m", "isthmus.cli.main"]


def with_command(monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    """Puts a command `doctor` in place that runs `body`."""

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def doctor(as_json: bool) -> Any:
        return body()

    monkeypatch.setattr("isthmus.cli.doctor.doctor", doctor)


def raising(error: BaseException) -> Any:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (StorageError("the disk is full.", "free some space."), "storage-unavailable", 1),
        (RefusedError("runs_max", "no runs are left", "ask for more"), "refused-by-node", RefusedError.exit_code),
        (KeyboardInterrupt(), "interrupted", 130),
        (click.Abort(), "interrupted", 130),
        (OSError(errno.ENOSPC, "No space left on device", "isthmus-state/x"), "system-refused", 1),
        (ModuleNotFoundError("No module named 'elpv_dataset'", name="elpv_dataset"), "package-missing", 1),
        (ZeroDivisionError("division by zero"), "unexpected", 70),
        (RuntimeError("first\nsecond"), "unexpected", 70),
        (AssertionError(), "unexpected", 70),
        (click.BadParameter("no such thing"), "bad-usage", 2),
    ],
)
def test_a_failure_is_one_sentence(
    error: BaseException, code: str, exit_code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_command(monkeypatch, raising(error))
    assert main(["doctor"]) == exit_code
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"error [{code}]: ") and said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err and ".;" not in said.err
    assert main(["doctor", "--json"]) == exit_code
    body = json.loads(capsys.readouterr().out)["error"]
    assert body["code"] == code and body["message"] and set(body) == {"code", "message", "next"}


def test_trace_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ISTHMUS_TRACE", "1")
    with_command(monkeypatch, raising(ZeroDivisionError("x")))
    assert main(["doctor"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("result", "exit_code"), [(None, 0), (0, 0), (1, 1), (True, 0), ("text", 0)])
def test_a_command_may_choose_its_exit_code(result: Any, exit_code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_command(monkeypatch, lambda: result)
    assert main(["doctor"]) == exit_code


@pytest.mark.parametrize(
    ("line", "code", "hint"),
    [
        (["dokter"], "bad-input", "did you mean doctor?"),
        (["xyzzy"], "bad-input", "see isthmus --help"),
        (["--bogus"], "bad-usage", "isthmus --help"),
        (["doctor", "--bogus"], "bad-usage", "isthmus doctor --help"),
        (["doctor", "surplus"], "bad-usage", "isthmus doctor --help"),
    ],
)
def test_wrong_lines(line: list[str], code: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error [{code}]: ") and said.rstrip().endswith(hint)


def test_a_wrong_setting_stops_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ISTHMUS_PROT", "1")
    assert main(["doctor"]) == 2
    assert "error [bad-setting]" in capsys.readouterr().err
    assert main(["--help"]) == 0


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert all(f"  {name} " in bare for name in TARGETS)
    assert bare.index("Start here") < bare.index("Begin") < bare.index("Examples")


@pytest.mark.parametrize("name", list(TARGETS))
def test_every_command_loads_and_says_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0, capsys.readouterr().err
    assert len(capsys.readouterr().out.splitlines()) > 4


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    """The bar is 0.3 s on an idle machine; the least of five runs is compared, with room for a busy one."""
    took: list[float] = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([*ISTHMUS, "--help"], check=True, capture_output=True)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.6, took
    heavy = ("numpy", "onnx", "onnxruntime", "rich", "httpx", "starlette", "scipy", "PIL")
    program = f"import sys; from isthmus.cli.main import main; main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert shown.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away_is_no_failure(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    ran = subprocess.run([*ISTHMUS, "--help"], stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("isthmus ")


def test_exit_codes_do_not_collide() -> None:
    assert len({edge.EXIT_USAGE, edge.EXIT_FAULT, edge.EXIT_INTERRUPTED, edge.EXIT_PIPE}) == 4
