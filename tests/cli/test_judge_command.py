"""`isthmus judge` and `isthmus account`: what is sent under which name, and what is told of refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

import isthmus.cli.judge as command
from isthmus.cli.account import micros_of
from isthmus.cli.caller import key_text
from isthmus.cli.judge import ask_one, records_in, request_id
from isthmus.contracts.errors import FolderError, InputError, RemoteError, RequestReusedError
from isthmus.contracts.inference import IMAGE, RECORDS


def named(paths: list[Path], shape: list[int], name: str) -> list[str]:
    return [one for one, _ in records_in(tuple(paths), shape, name)]


def test_pictures_rows_and_windows_have_names_that_last(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "b.png").write_bytes(b"b")
    (tmp_path / "in" / "a.PNG").write_bytes(b"a")
    (tmp_path / "in" / "notes.txt").write_bytes(b"no")
    assert named([tmp_path / "in"], [-1, -1, -1, 3], IMAGE) == ["a.PNG", "deep/b.png"]
    (tmp_path / "t.csv").write_text("heat\n1\n2\n3\n4\n5\n", encoding="utf-8")
    assert named([tmp_path / "t.csv"], [-1, 1], RECORDS) == [f"t.csv#{place}" for place in range(1, 6)]
    assert named([tmp_path / "t.csv"], [-1, 2, 1], RECORDS) == ["t.csv#1-2", "t.csv#3-4"]
    assert list(records_in((tmp_path / "t.csv#2-3",), [-1, 2, 1], RECORDS)) == [("t.csv#2-3", b'[{"heat":"2"},{"heat":"3"}]')]
    for path, shape, name in ((tmp_path / "in" / "deep", [-1, 1], RECORDS), (tmp_path / "t.csv", [-1, 9, 1], RECORDS)):
        with pytest.raises(FolderError):
            named([path], shape, name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="no pictures"):
        named([tmp_path / "empty"], [-1, -1, -1, 3], IMAGE)


def test_within_a_lot_one_record_is_one_request() -> None:
    assert request_id("caps", None, "a", b"1") is None
    one = request_id("caps", "pallet-7", "a", b"1")
    assert one == request_id("caps", "pallet-7", "a", b"1")
    others = {
        request_id(*words) for words in (("caps", "pallet-8", "a", b"1"), ("caps", "pallet-7", "b", b"1"), ("caps", "pallet-7", "a", b"2"))
    }
    assert len({one, *others}) == 4


class Refusing:
    """An exchange that refuses."""

    def __init__(self, status: int, code: str) -> None:
        self.error = RemoteError(status, code, "no", "")

    def send(self, *words: object, **more: object) -> None:
        raise self.error


@pytest.mark.parametrize(("status", "code"), [(400, "bad-picture"), (413, "body-too-large"), (409, RequestReusedError.code)])
def test_a_record_that_is_refused_does_not_stop_the_others(status: int, code: str) -> None:
    found = ask_one(Refusing(status, code), "caps", IMAGE, "a.png", b"x", None)  # type: ignore[arg-type]
    assert (found.verdict, found.why, found.receipt) == (command.REFUSED, "no", "")


@pytest.mark.parametrize(("status", "code"), [(401, "bad-key"), (402, "insufficient-funds"), (410, "deployment-retired"), (503, "busy")])
def test_what_concerns_all_records_stops(status: int, code: str) -> None:
    with pytest.raises(RemoteError):
        ask_one(Refusing(status, code), "caps", IMAGE, "a.png", b"x", None)  # type: ignore[arg-type]


def test_amounts_and_keys(tmp_path: Path) -> None:
    assert [micros_of(text) for text in ("5", "2.50", "0.000001")] == [5_000_000, 2_500_000, 1]
    for text in ("", "-1", "1,5", "1.0000001", "1e3", "٣", "12345678901"):
        with pytest.raises(InputError):
            micros_of(text)
    (tmp_path / "k").write_text(" iso_abc \n", encoding="ascii")
    assert key_text(str(tmp_path / "k")) == "iso_abc" and key_text("iso_abc") == "iso_abc"
    (tmp_path / "b").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError):
        key_text(str(tmp_path / "b"))
