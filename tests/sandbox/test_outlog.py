from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import LogTamperedError
from isthmus.kit.clock import SetClock
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.outlog import LOG_NAME, Leaving, OutLog, undeclared, verify_log

KEY = SigningKey.from_seed(b"k" * 32)


def written(root: Path, count: int = 6) -> Path:
    log = OutLog(root / LOG_NAME, KEY, SetClock())
    for index in range(count):
        log.append(Leaving("vector", bytes(8 * index), "direct", "sha256:j", "moments/1", (index,), "uint64"))
    return root / LOG_NAME


def test_entries_say_what_left(tmp_path: Path) -> None:
    entries = verify_log(written(tmp_path), KEY.public_hex)
    assert [e.seq for e in entries] == [1, 2, 3, 4, 5, 6] and [e.bytes for e in entries] == [0, 8, 16, 24, 32, 40]
    assert entries[3].sha256 == hashlib.sha256(bytes(24)).hexdigest() and undeclared(entries) == []
    OutLog(tmp_path / LOG_NAME, KEY, SetClock()).append(Leaving("image", b"pixels", "direct"))
    assert [e.kind for e in undeclared(verify_log(tmp_path / LOG_NAME, KEY.public_hex))] == ["image"]


def test_an_empty_log_holds(tmp_path: Path) -> None:
    assert verify_log(tmp_path / LOG_NAME, KEY.public_hex) == []


def test_another_key_did_not_sign(tmp_path: Path) -> None:
    with pytest.raises(LogTamperedError):
        verify_log(written(tmp_path), SigningKey.from_seed(b"o" * 32).public_hex)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_is_found(tmp_path: Path, data: st.DataObject) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    path = written(tmp_path, 3)
    raw = bytearray(path.read_bytes())
    where = data.draw(st.integers(0, len(raw) - 1))
    raw[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    with pytest.raises(LogTamperedError):
        verify_log(path, KEY.public_hex)


@pytest.mark.parametrize("change", ["first", "middle", "last", "last-two", "swap", "repeat", "all", "head", "cut"])
def test_removed_moved_or_added_lines_are_found(tmp_path: Path, change: str) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    head = path.with_name(path.name + ".head")
    if change == "head":
        head.unlink()
    lines = {
        "first": lines[1:],
        "middle": lines[:2] + lines[3:],
        "last": lines[:-1],
        "last-two": lines[:-2],
        "swap": [lines[1], lines[0], *lines[2:]],
        "repeat": [*lines, lines[-1]],
        "all": [],
        "head": lines,
        "cut": [*lines[:-1], lines[-1][:-5]],
    }[change]
    path.write_bytes(b"".join(lines))
    with pytest.raises(LogTamperedError):
        verify_log(path, KEY.public_hex)


def test_an_older_head_does_not_excuse_a_cut(tmp_path: Path) -> None:
    path = written(tmp_path, 2)
    head = path.with_name(path.name + ".head")
    old = head.read_bytes()
    log = OutLog(path, KEY, SetClock())
    for _ in range(2):
        log.append(Leaving("status", b"x", "direct"))
    head.write_bytes(old)
    with pytest.raises(LogTamperedError):
        verify_log(path, KEY.public_hex)


def test_a_crash_in_the_middle_of_a_line_is_mended(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":7,"at_ms"')
    log = OutLog(path, KEY, SetClock())
    assert path.read_bytes() == whole
    log.append(Leaving("status", b"{}", "direct"))
    assert [e.seq for e in verify_log(path, KEY.public_hex)][-1] == 7


def test_a_crash_before_the_head_is_mended(tmp_path: Path) -> None:
    path = written(tmp_path)
    head = path.with_name(path.name + ".head")
    before = head.read_bytes()
    OutLog(path, KEY, SetClock()).append(Leaving("status", b"{}", "direct"))
    head.write_bytes(before)
    assert len(verify_log(path, KEY.public_hex)) == 7
    OutLog(path, KEY, SetClock()).append(Leaving("status", b"{}", "direct"))
    assert json.loads(head.read_bytes())["seq"] == 8 and len(verify_log(path, KEY.public_hex)) == 8
