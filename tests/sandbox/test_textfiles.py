"""Owners' texts: files in sub-folders, rows of a table, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.contracts.errors import FolderError, InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.kit.clock import SetClock
from isthmus.sandbox.folder import read_folder
from isthmus.sandbox.ownerdata import file_digests, record_of, sent_bytes
from isthmus.sandbox.reviewed import add_reviewed
from isthmus.sandbox.rowfiles import RowFiles

TEXTS = Schema(columns=(Column(name="text", kind="text"),))
ROWS = 'text,label,group\n"It broke, on day one.",defect,a\nWorks.,good,b\n'


def letters(root: Path, **texts: str | bytes) -> Path:
    for place, text in texts.items():
        file = root / place.split("_")[0] / f"{place}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def test_sub_folders_of_texts_are_records(tmp_path: Path) -> None:
    data = read_folder(letters(tmp_path, good_1="Works.", good_2="还不错", defect_1="It broke."))
    assert sorted((file.path, file.label) for file in data.files) == [
        ("defect/defect_1.txt", 1),
        ("good/good_1.txt", -1),
        ("good/good_2.txt", -1),
    ]
    assert len(file_digests(data, schema=TEXTS)) == 3


def test_texts_beside_pictures_are_notes_and_no_records(tmp_path: Path) -> None:
    letters(tmp_path, good_1="a note", defect_1="a note")
    for name in ("good/a.png", "defect/b.png"):
        (tmp_path / name).write_bytes(b"picture")
    assert {file.path for file in read_folder(tmp_path).files} == {"good/a.png", "defect/b.png"}


def test_a_row_is_sent_as_its_text_alone(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text(ROWS, encoding="utf-8")
    data = read_folder(tmp_path)
    before = file_digests(data, schema=TEXTS)
    tables = RowFiles(tmp_path)
    assert sent_bytes(record_of(tmp_path, data.files[0], tables), data.files[0], TEXTS) == b"It broke, on day one."
    (tmp_path / "records.csv").write_text(ROWS.replace("Works", "Worked"), encoding="utf-8")
    after = file_digests(read_folder(tmp_path), schema=TEXTS)
    assert [path for path in before if before[path] != after[path]] == ["records.csv#2"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b"", "is empty"), (b"\xff\xfe", "not UTF-8"), (b"\x00\x01", "control character"), (b"a" * 10_000_000, "more than the")],
)
def test_a_bad_text_is_told_with_its_name(tmp_path: Path, raw: bytes, said: str) -> None:
    data = read_folder(letters(tmp_path, good_1="Works.", defect_1=raw))
    with pytest.raises(InputError) as refused:
        file_digests(data, schema=TEXTS)
    assert refused.value.message.startswith("defect/defect_1.txt") and said in refused.value.message


def test_a_table_without_the_column_is_told(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text(ROWS.replace("text,", "words,"), encoding="utf-8")
    with pytest.raises(FolderError, match="has no column text"):
        file_digests(read_folder(tmp_path), schema=TEXTS)
    (tmp_path / "records.csv").write_text(ROWS.replace("Works.", " "), encoding="utf-8")
    with pytest.raises(InputError, match=r"records\.csv#2 is empty"):
        file_digests(read_folder(tmp_path), schema=TEXTS)


def test_reviewed_texts_teach_and_come_once(tmp_path: Path) -> None:
    own = letters(tmp_path / "own", good_1="Works.", defect_1="It broke.")
    given = letters(tmp_path / "given", good_1="Fine again.", defect_1="It broke.")
    added = add_reviewed(own, given, SetClock())
    assert (added.added, added.here_before, added.training) == (1, 1, 1)
    assert add_reviewed(own, given, SetClock()).added == 0


def test_pictures_and_texts_are_not_taken_for_each_other(tmp_path: Path) -> None:
    for name in ("good/a.png", "defect/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"picture")
    with pytest.raises(FolderError, match="takes texts"):
        file_digests(read_folder(tmp_path), schema=TEXTS)
    given = letters(tmp_path / "mail", good_1="Works.", defect_1=b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):  # without a scenario too
        file_digests(read_folder(given))
