"""Records that are rows of CSV files: in a folder, as bytes with a digest, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import FolderError, InputError
from isthmus.contracts.schema import Column, Schema
from isthmus.kit.records import decode_record
from isthmus.sandbox.folder import read_folder
from isthmus.sandbox.ownerdata import file_digests
from isthmus.sandbox.rowfiles import RowFiles, rows_named

TABLE = "label,heat,group,split\n" + "".join(f"{'defect' if n % 3 else 'good'},{n}.5,g{n // 2},train\n" for n in range(8))
SCHEMA = Schema(columns=(Column(name="heat", low=0, high=10),))


def folder(root: Path, **files: str) -> Path:
    for name, text in files.items():
        (root / f"{name}.csv").write_text(text, encoding="utf-8")
    return root


def test_a_row_is_a_record_with_a_digest_of_its_own(tmp_path: Path) -> None:
    data = read_folder(folder(tmp_path, records=TABLE))
    assert [file.path for file in data.files][:2] == ["records.csv#1", "records.csv#2"]
    assert not data.groups_inferred and not data.splits_inferred and data.groups("train") == 4
    before = file_digests(data, schema=SCHEMA)
    folder(tmp_path, records=TABLE.replace("3.5", "3.25"))
    after = file_digests(read_folder(tmp_path), schema=SCHEMA)
    assert [path for path in before if before[path] != after[path]] == ["records.csv#4"]


def test_labels_may_name_windows_of_several_files(tmp_path: Path) -> None:
    labels = "path,label\na.csv#1-3,good\na.csv#2-4,defect\n"
    data = read_folder(folder(tmp_path, labels=labels, a="heat\n1\n2\n3\n4\n"))
    raw = RowFiles(tmp_path).record("a.csv", 2, 4)
    window = Schema(columns=SCHEMA.columns, steps=3)
    assert decode_record(raw, "it", window).ravel().tolist() == [2, 3, 4]
    assert len(file_digests(data, schema=window)) == 2
    with pytest.raises(InputError, match="3 steps"):
        file_digests(data, schema=SCHEMA)


@given(st.text(max_size=20))
def test_any_path_is_rows_a_file_or_a_refusal(path: str) -> None:
    try:
        found = rows_named(path)
    except FolderError:
        return
    assert found is None or 1 <= found[1] <= found[2]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"records": "heat\n1\n"}, "no column label"),
        ({"records": "label,heat\n"}, "no rows"),
        ({"records": "label,label\ngood,1\n"}, "a column twice"),
        ({"records": "label,heat\ngood\n"}, "line 2 has 1 fields"),
        ({"records": 'label,heat\ngood,"1\n'}, "not CSV"),
        ({"records": "label,heat\nfine,1\n"}, "label is 'fine'"),
        ({"labels": "path,label\na.csv#9,good\n", "a": "heat\n1\n"}, "row 9 of a.csv, which has 1"),
        ({"labels": "path,label\na.csv#3-2,good\n", "a": "heat\n1\n"}, "rows 3 to 2"),
        ({"labels": "path,label\n../a.csv#1,good\n"}, "not a path inside"),
        ({"labels": "path,label\nb.csv#1,good\n"}, "not there"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, files: dict[str, str], said: str) -> None:
    with pytest.raises(FolderError, match=said):
        read_folder(folder(tmp_path, **files))


def test_a_column_that_is_not_in_the_header_is_said_also_where_it_may_be_missing(tmp_path: Path) -> None:
    schema = Schema(columns=(*SCHEMA.columns, Column(name="flow", low=0, high=1, missing=True)))
    with pytest.raises(FolderError, match="has no column flow") as caught:
        file_digests(read_folder(folder(tmp_path, records=TABLE)), schema=schema)
    assert "the header has label, heat" in caught.value.next_step


def test_a_value_that_the_schema_does_not_take_is_said_when_the_node_is_made(tmp_path: Path) -> None:
    data = read_folder(folder(tmp_path, records=TABLE.replace("3.5", "hot")))
    with pytest.raises(InputError, match=r"records\.csv#4: column heat is 'hot'"):
        file_digests(data, schema=SCHEMA)
