"""A lock on a state folder: one holder, released however it ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.contracts.errors import StorageError
from isthmus.kit import filelock
from isthmus.kit.filelock import held

HOLDER = """
import sys
from pathlib import Path
from isthmus.kit.filelock import held
with held(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "mit Leerzeichen Ω" / "a.lock"
    with held(path) as mine, held(path) as other:
        assert mine and not other
    with held(path) as again:
        assert again
    with held(tmp_path / "b.lock") as mine, held(path) as other:
        assert mine and other, "locks of two folders have nothing to do with each other"


def test_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path / "a.lock") as mine:
        assert mine
        raise ZeroDivisionError
    with held(tmp_path / "a.lock") as mine:
        assert mine


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_released_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline().strip() == "True"
        with held(path) as mine:
            assert not mine
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    with held(path) as mine:
        assert mine


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError), held(tmp_path / "file" / "a.lock"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="flock is POSIX's")
def test_a_disk_without_locks_is_not_taken_for_another_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.fcntl, "flock", refuses)
    with pytest.raises(StorageError, match="cannot be locked: No locks available"), held(tmp_path / "a.lock"):
        pass
