"""The sample owners: whole groups, nothing shared, all there or not there, and readable by a node."""

from __future__ import annotations

import builtins
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from isthmus.contracts.errors import FolderError, StorageError
from isthmus.sandbox.folder import AUDIT, HOLDOUT, TRAIN, read_folder
from isthmus.scenarios import sample_owners
from isthmus.scenarios.package import find_package, load_package
from isthmus.scenarios.sample_owners import PARTIES, Cell, cells, dataset_root, inferred_groups, labels_csv, splits, write_folder

LEAST_TRAINING = 320
LEAST_NEW_LINE = 700
LEAST_HELD_OUT_GROUPS = 11


def all_cells() -> list[Cell]:
    pytest.importorskip("elpv_dataset")
    return cells(dataset_root())


def made_up(folder: Path, count: int) -> list[Cell]:
    """Cells with tiny images."""
    folder.mkdir()
    found = []
    for place in range(count):
        path = folder / f"cell{place:04d}.png"
        Image.new("L", (8, 8), place).save(path)
        found.append(Cell(path, (0.0, 1 / 3, 2 / 3, 1.0)[place % 4], "mono", f"0000-{place // 8:02d}"))
    return found


@given(st.lists(st.tuples(st.sampled_from(["mono", "poly"]), st.integers(1, 300)), min_size=1, max_size=8))
def test_groups_are_runs_of_one_kind_and_about_a_module_long(runs: list[tuple[str, int]]) -> None:
    kinds = [kind for kind, length in runs for _ in range(length)]
    names = inferred_groups(kinds)
    assert len(names) == len(kinds)
    blocks = [(name, len(list(part))) for name, part in groupby(names)]
    assert len({name for name, _ in blocks}) == len(blocks)
    assert all(len({kind for kind, own in zip(kinds, names, strict=True) if own == name}) == 1 for name, _ in blocks)
    assert all(length <= 90 for _, length in blocks)
    for _, part in groupby(zip(kinds, names, strict=True), key=lambda pair: pair[0]):
        sizes = Counter(name for _, name in part)
        assert max(sizes.values()) - min(sizes.values()) <= 1
        assert len(sizes) == 1 or min(sizes.values()) >= 40


@given(st.lists(st.integers(0, 40), max_size=200))
def test_every_third_group_is_held_out_whole(codes: list[int]) -> None:
    groups = [str(code) for code in codes]
    found = splits(groups)
    assert set(found) == set(groups)
    held = [name for name in dict.fromkeys(groups) if found[name] == HOLDOUT]
    assert held == list(dict.fromkeys(groups))[1::3]


def test_the_parties_share_no_cell_and_no_group_and_use_them_all() -> None:
    listed = all_cells()
    taken = Counter(index for party in PARTIES for part in party.cells for index in part)
    assert set(taken.values()) == {1}
    assert sorted(taken) == list(range(len(listed)))
    owners_of: dict[str, set[str]] = {}
    for party in PARTIES:
        for part in party.cells:
            for index in part:
                owners_of.setdefault(listed[index].group, set()).add(party.party)
    assert all(len(owners) == 1 for owners in owners_of.values())


def test_owners_are_unequal_unlike_and_large_enough_for_the_dimension_rule() -> None:
    listed, kinds, training, held = all_cells(), {}, [], 0
    for party in PARTIES:
        chosen = [listed[index] for part in party.cells for index in part]
        if party.kind == "site":
            assert len(chosen) >= LEAST_NEW_LINE
            continue
        split_of = splits([cell.group for cell in chosen])
        kinds[party.party] = {cell.kind for cell in chosen}
        training.append(sum(split_of[cell.group] == TRAIN for cell in chosen))
        held += sum(split == HOLDOUT for split in split_of.values())
        for split in (TRAIN, HOLDOUT):
            assert {cell.label for cell in chosen if split_of[cell.group] == split} == {"good", "defect"}
    assert kinds == {"maker-mono": {"mono"}, "maker-poly": {"poly"}, "maker-mixed": {"mono", "poly"}}
    assert len(set(training)) == 3
    assert min(training) >= LEAST_TRAINING
    assert held >= LEAST_HELD_OUT_GROUPS


def test_the_shipped_recipe_keeps_the_dimension_rule_for_the_sample_owners() -> None:
    from isthmus.contracts.agreement import AGGREGATE_RATIO_MIN
    from isthmus.contracts.parts import sources_of
    from isthmus.foundry.stageparts import feature_count

    listed, recipe = all_cells(), load_package(find_package("solar-cell-inspection")).recipe
    training = []
    for party in PARTIES:
        if party.kind == "owner":
            groups = [listed[index].group for part in party.cells for index in part]
            split_of = splits(groups)
            training.append(sum(split_of[group] == TRAIN for group in groups))
    assert feature_count(recipe.parts) * recipe.records_per_feature <= sum(training) - max(training)
    for parts in (recipe.parts, recipe.parts_after_leaving):
        assert feature_count(parts) * AGGREGATE_RATIO_MIN <= min(training)
    assert not sources_of(recipe.parts) & sources_of(recipe.parts_after_leaving)


def test_a_node_reads_the_folders_and_a_second_call_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = made_up(tmp_path / "data", 24)
    monkeypatch.setattr(sample_owners, "dataset_root", lambda: tmp_path / "data")
    monkeypatch.setattr(sample_owners, "cells", lambda root: chosen)
    parties = (
        sample_owners.SampleParty("owner-a", "A", "owner", (range(0, 16),)),
        sample_owners.SampleParty("line", "L", "site", (range(16, 24),)),
    )
    monkeypatch.setattr(sample_owners, "PARTIES", parties)
    folders = sample_owners.sample_folders(tmp_path / "out")
    owner, line = read_folder(folders["owner-a"]), read_folder(folders["line"])
    assert not owner.groups_inferred and not owner.splits_inferred
    assert [(len(owner.of_split(split)), owner.groups(split)) for split in (TRAIN, HOLDOUT)] == [(8, 1), (8, 1)]
    assert {file.split for file in line.files} == {AUDIT}
    assert Counter((file.label, file.sure) for file in owner.files) == {(-1, True): 4, (-1, False): 4, (1, False): 4, (1, True): 4}
    note = (folders["owner-a"] / "LICENCE.txt").read_text(encoding="utf-8")
    assert "CC BY-NC-SA 4.0" in note and "inferred" in note
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    sample_owners.sample_folders(tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_images_are_copies_byte_for_byte_and_a_stale_folder_is_replaced(tmp_path: Path) -> None:
    chosen = made_up(tmp_path / "data", 4)
    target = tmp_path / "owner"
    target.mkdir()
    (target / "labels.csv").write_text("path,label\n", encoding="utf-8")
    (target / "stale.png").write_bytes(b"old")
    write_folder(target, chosen, labels_csv(chosen, {"0000-00": TRAIN}))
    assert sorted(path.name for path in target.iterdir()) == ["LICENCE.txt", *(cell.path.name for cell in chosen), "labels.csv"]
    assert all((target / cell.path.name).read_bytes() == cell.path.read_bytes() for cell in chosen)
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_folder_that_cannot_be_finished_is_not_there(tmp_path: Path) -> None:
    chosen = made_up(tmp_path / "data", 3)
    chosen[2].path.unlink()
    with pytest.raises(StorageError, match="cannot be written"):
        write_folder(tmp_path / "owner", chosen, labels_csv(chosen, {"0000-00": TRAIN}))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "elpv_dataset":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FolderError, match=r"pip install 'isthmus\[samples\]'"):
        dataset_root()


@pytest.mark.parametrize(
    ("text", "said"), [("cell1.png 0.0 mono\n", "lists 1 cells"), ("cell1.png zero mono\n", "cannot be read"), (None, "cannot be read")]
)
def test_a_package_that_is_not_as_expected_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FolderError, match=said):
        cells(tmp_path)
