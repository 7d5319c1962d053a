"""A table in columns and the folder of the same records: the same sums, digit for digit; and what is wrong is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import FolderError, InputError, RefusedError
from isthmus.contracts.schema import Column, value_of
from isthmus.contracts.statistic import MOMENTS, TrainingParams
from isthmus.sandbox import columndata, ownerdata
from isthmus.sandbox.columndata import ColumnData
from isthmus.sandbox.columnlayout import ColumnLayout
from isthmus.sandbox.columnsample import sampled
from isthmus.sandbox.columnvalues import RowError, numbers_of
from isthmus.sandbox.featurefile import FILES_MAX, FeatureFiles
from isthmus.sandbox.folder import read_labels
from isthmus.sandbox.nodehome import init_home, open_home
from isthmus.sandbox.statistics import records
from isthmus.sandbox.statistics.records import GroupTally, packed_places
from tests.sandbox.column_tables import SCHEMA, STAGE, data_of, home_of, home_settings, packed_sums, table, write_csv, write_parquet


def small_chunks(patch: pytest.MonkeyPatch, size: int) -> None:
    for module in (records, ownerdata, columndata):
        patch.setattr(module, "CHUNK_RECORDS", size)


def with_arrow() -> None:
    pytest.importorskip("pyarrow")


@pytest.mark.parametrize(("seed", "rows", "group_max", "extra"), [(1, 230, 12, {}), (2, 150, 70, {}), (3, 500, 9, {"split": False})])
def test_all_sums_are_those_of_the_same_records_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, rows: int, group_max: int, extra: dict[str, bool]
) -> None:
    small_chunks(monkeypatch, 32)
    columns = table(seed, rows, group_max, **extra)
    folder = home_of(tmp_path / "one", write_csv(tmp_path / "folder" / "records.csv", columns).parent)
    whole = packed_sums(data_of(folder))
    walked = packed_sums(data_of(folder, whole_bytes_max=2 * STAGE.width * rows - 1))
    in_columns = home_of(tmp_path / "two", write_csv(tmp_path / "rows.csv", columns))
    assert in_columns.columns is not None and not in_columns.folder.files
    data = data_of(in_columns)
    assert packed_sums(data) == whole == walked
    assert packed_sums(data) == whole, "out of the feature file"
    assert data.groups() == data_of(folder).groups()
    assert packed_sums(data.shortening(20_000)) == packed_sums(data_of(folder).shortening(20_000))
    assert all(sum(map(abs, sums)) > 0 for sums in whole.values())
    for name in (
        "records_train",
        "records_holdout",
        "groups_train",
        "groups_holdout",
        "kinds_holdout",
        "groups_inferred",
        "splits_inferred",
    ):
        assert getattr(folder.asset, name) == getattr(in_columns.asset, name)
    assert folder.asset.commitment != in_columns.asset.commitment


@pytest.mark.parametrize("extra", [{}, {"group": False, "split": False, "kind": False, "certainty": False}])
def test_parquet_and_arrow_give_the_same_sums_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: dict[str, bool]) -> None:
    with_arrow()
    small_chunks(monkeypatch, 64)
    columns = table(4, 700, **extra)
    folder = data_of(home_of(tmp_path / "one", write_csv(tmp_path / "folder" / "records.csv", columns).parent))
    parquet = data_of(home_of(tmp_path / "two", write_parquet(tmp_path / "rows.parquet", columns)))
    assert packed_sums(folder) == packed_sums(parquet)
    halves = [{name: values[part] for name, values in columns.items()} for part in (slice(0, 333), slice(333, None))]
    write_parquet(tmp_path / "parts" / "part-2.parquet", halves[0])
    write_parquet(tmp_path / "parts" / "part-10.parquet", halves[1])
    assert packed_sums(data_of(home_of(tmp_path / "three", tmp_path / "parts"))) == packed_sums(folder)
    import pyarrow as pa
    import pyarrow.feather as feather

    feather.write_feather(pa.table(columns), tmp_path / "rows.feather", chunksize=90)
    assert packed_sums(data_of(home_of(tmp_path / "four", tmp_path / "rows.feather"))) == packed_sums(folder)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 8), st.integers(0, 10**6))
def test_parts_hold_whole_groups_and_a_tally_is_the_sums_by_group(groups: list[int], step: int, seed: int) -> None:
    codes = np.array(sorted(groups), dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        small_chunks(patch, step)
        parts = list(packed_places(np.random.default_rng(seed).permutation(codes)))
    assert sorted(np.concatenate([p for part in parts for p in part]).tolist() if parts else []) == list(range(len(codes)))
    assert all(len(part) == 1 or all(len(p) <= step for p in part) for part in parts)
    values = np.random.default_rng(seed).integers(-3, 4, (len(codes), 2))
    tally, other = GroupTally(2, contiguous=True), GroupTally(2)
    for start in range(0, len(codes), step):
        tally.add(values[start : start + step], codes[start : start + step])
        other.add(values[start : start + step], codes[start : start + step])
    sums = np.array([values[codes == code].sum(axis=0) for code in np.unique(codes)]).reshape(-1, 2)
    for done in (tally.finish(), other.finish()):
        assert done.groups == len(sums) and done.totals.tolist() == sums.sum(axis=0).tolist()
        assert done.products.tolist() == (sums.T @ sums).tolist() and done.present.tolist() == (sums > 0).sum(axis=0).tolist()


def changed(columns: dict[str, list[Any]], name: str, row: int, value: Any) -> dict[str, list[Any]]:
    return {**columns, name: [*columns[name][:row], value, *columns[name][row + 1 :]]}


def test_what_is_wrong_in_a_table_is_told_with_its_row(tmp_path: Path) -> None:
    good = table(6, 90)
    again = good["group"][0]
    for place, (columns, said) in enumerate(
        [
            ({name: values for name, values in good.items() if name != "dose"}, "has no column dose"),
            ({name: values for name, values in good.items() if name != "label"}, "no column label"),
            (changed(good, "label", 40, ""), "row 41: column label is empty"),
            (changed(good, "label", 40, "fine"), "row 41: column label is 'fine'"),
            (changed(good, "age", 7, "old"), "row 8: column age is 'old', which is no number"),
            (changed(good, "age", 7, None), "row 8: column age is empty"),
            (changed(good, "age", 7, float("inf")), "row 8: column age is 'inf'"),
            (changed(good, "site", 3, "West"), "row 4: column site is 'West'"),
            (changed(good, "group", 60, again), f"row 61: group {again} begins a second time"),
            (changed(good, "group", 60, ""), "row 61: column group is empty"),
            (changed(good, "split", 60, "test"), "row 61: split is 'test'"),
            ({**good, "label": ["defect"] * 90}, "all 90 rows are labelled defect"),
            ({name: [] for name in good}, "no rows"),
        ]
    ):
        path = write_csv(tmp_path / f"t{place}.csv", columns)
        with pytest.raises(FolderError) as told:
            home_of(tmp_path / f"s{place}", path)
        assert said in told.value.message and told.value.next_step, told.value


def test_a_column_with_the_answer_is_for_no_model(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", table(6, 90))
    layout = ColumnLayout(label="smokes", good=("FALSE", "False"))
    with pytest.raises(FolderError, match="smokes is label"):
        home_of(tmp_path / "state", path, layout=layout)
    home = init_home(tmp_path / "state", home_settings(path, layout=layout))
    with pytest.raises(RefusedError, match="what no model may see"):
        packed_sums(data_of(home))


def test_wrong_types_and_damaged_files_are_told(tmp_path: Path) -> None:
    with_arrow()
    good = table(6, 90)
    for columns, said in (
        ({**good, "age": ["12"] * 89 + ["x"]}, "row 90: column age is 'x'"),
        ({**good, "age": [[1.0]] * 90}, "of the type list"),
        (changed(good, "label", 4, None), "row 5: column label is empty"),
    ):
        with pytest.raises(FolderError) as told:
            home_of(tmp_path / "state", write_parquet(tmp_path / "t.parquet", columns))
        assert said in told.value.message, told.value
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(FolderError, match="cannot be read as a table"):
        home_of(tmp_path / "state", tmp_path / "t.parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(FolderError) as told:
        home_of(tmp_path / "state", tmp_path / "t.parquet")
    assert "pyarrow is not installed" in told.value.message and "save the table as CSV" in told.value.next_step


def test_a_file_that_changed_is_refused_when_opened_and_when_read(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", table(8, 400))
    raw = path.read_bytes()
    home = home_of(tmp_path / "state", path)
    data = data_of(home)
    assert isinstance(data, ColumnData)
    sums = packed_sums(data)
    home.store.close()
    path.write_bytes(raw)  # the same bytes at another time: read through once, and taken
    opened = open_home(tmp_path / "state")
    assert opened.asset == home.asset and packed_sums(data_of(opened)) == sums
    opened.store.close()
    path.write_bytes(raw.replace(b"North", b"South", 1))
    with pytest.raises(FolderError, match="not what the asset commits to"):
        open_home(tmp_path / "state")
    with pytest.raises(RefusedError, match="written to since"):
        data.training(STAGE, TrainingParams())
    with pytest.raises(RefusedError, match="no longer the one that the asset commits to"):
        list(data.held("holdout", [STAGE]).chunks())


def test_an_asset_file_names_the_columns(tmp_path: Path) -> None:
    columns = table(9, 200)
    plain = data_of(home_of(tmp_path / "one", write_csv(tmp_path / "plain.csv", columns)))
    renamed = {{"label": "state", "group": "lot", "split": "part"}.get(name, name): values for name, values in columns.items()}
    renamed["state"] = ["0" if label == "good" else "1" for label in renamed["state"]]
    root = write_csv(tmp_path / "named" / "b.csv", renamed).parent
    write_csv(root / "a.csv", {"nothing": [1]})
    (root / "asset.yaml").write_text("files: [b.csv]\nlabel: State\ngood: ['0']\ngroup: lot\nsplit: part\n")
    home = home_of(tmp_path / "two", root)
    assert packed_sums(data_of(home)) == packed_sums(plain)
    home.store.close()
    (root / "asset.yaml").write_text("files: [b.csv]\nlabel: state\ngood: ['1']\ngroup: lot\nsplit: part\n")
    with pytest.raises(FolderError, match="other columns"):
        open_home(tmp_path / "two")
    for text, said in (
        ("label: lables\n", "no column lables"),
        ("lable: x\n", "unknown field"),
        ("files: [c.csv]\n", "names c.csv"),
        ("- 1\n", "Expected"),
        ("{", "not YAML"),
    ):
        (root / "asset.yaml").write_text(text if "files" in text or text in ("- 1\n", "{") else f"files: [b.csv]\n{text}")
        with pytest.raises(FolderError) as told:
            home_of(tmp_path / "three", root)
        assert said in told.value.message, told.value


def test_statistics_that_need_all_records_at_once_say_when_they_are_too_many(tmp_path: Path) -> None:
    data = data_of(home_of(tmp_path / "one", write_csv(tmp_path / "t.csv", table(9, 200))), whole_bytes_max=1000)
    with pytest.raises(RefusedError, match="more than a node holds"):
        data.training(STAGE, TrainingParams(views=("identity",))).whole()
    assert MOMENTS == "moments/1"


CELL = st.one_of(
    st.sampled_from(
        ["", "NA", " 1.5 ", "1e3", "-0", "nan", "-nan", "inf", "1_000", "0x1", "1,5", "\u0663", "1e39", "TRUE", "north ", "South", "?"]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.text(max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=8), st.integers(0, 3))
def test_a_column_of_texts_is_read_as_each_row_would_be(texts: list[str], place: int) -> None:
    column = SCHEMA.columns[place]
    values = np.array(texts, dtype=object)
    try:
        expected = np.array([value_of(column, text) for text in texts], dtype=np.float64)
    except InputError as error:
        with pytest.raises(RowError) as told:
            numbers_of(column, values)
        with pytest.raises(InputError):
            value_of(column, texts[told.value.row])
        assert error.message.startswith("column")
        return
    assert np.array_equal(numbers_of(column, values), expected, equal_nan=True)


def test_typed_columns_are_read_as_what_they_are_written_as() -> None:
    smokes, age, dose = SCHEMA.columns[3], SCHEMA.columns[0], SCHEMA.columns[1]
    assert numbers_of(smokes, np.array([True, False])).tolist() == [1.0, 0.0]
    assert numbers_of(dose, np.array([True, None], dtype=object)).tolist()[0] == 1.0
    counted = Column(name="n", kind="category", levels=("0", "1", "12"))
    assert numbers_of(counted, np.array([12.0, 0.0])).tolist() == [2.0, 0.0] == numbers_of(counted, np.array([12, 0])).tolist()
    assert numbers_of(counted, np.array([True, False])).tolist() == [1.0, 0.0]
    with pytest.raises(RowError, match="empty") as told:
        numbers_of(age, np.array([1.0, np.nan]))
    assert told.value.row == 1
    with pytest.raises(RowError, match="no finite number"):
        numbers_of(dose, np.array([1e39]))


def test_features_are_kept_in_few_files_and_computed_anew_where_there_is_no_room(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.int16).reshape(6, 2)
    walked: list[int] = []

    def computed() -> Iterator[Any]:
        for start in (0, 4):
            walked.append(start)
            yield rows[start : start + 4]

    kept = FeatureFiles(tmp_path / "features", "asset")
    for place in range(FILES_MAX + 2):
        for _ in range(2):
            assert np.array_equal(np.concatenate(list(kept.chunks({"stage": str(place)}, 6, 2, 4, computed()))), rows)
    assert len(walked) == 2 * (FILES_MAX + 2) and len(list((tmp_path / "features").iterdir())) == FILES_MAX
    stopped = kept.chunks({"stage": "other"}, 6, 2, 4, computed())
    next(stopped)
    stopped.close()
    assert not list((tmp_path / "features").glob("*.part"))
    (tmp_path / "file").write_text("no folder")
    without = FeatureFiles(tmp_path / "file" / "below", "asset")
    assert np.array_equal(np.concatenate(list(without.chunks({"stage": "1"}, 6, 2, 4, computed()))), rows)


def test_a_sample_of_a_table_is_a_folder_of_records(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", table(9, 300))
    assert sampled(tmp_path, tmp_path / "none", 5) == tmp_path
    found = read_labels(sampled(path, tmp_path / "sample", 20))
    assert 15 <= len(found.files) <= 20 and {file.label for file in found.files} == {-1, 1}
