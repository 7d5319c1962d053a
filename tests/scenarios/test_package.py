"""Finding and reading a scenario package."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.contracts.errors import DocumentError, NotFoundError
from isthmus.scenarios.package import MANIFEST, find_package, load_package, shipped, shipped_folder

NAME = "solar-cell-inspection"


def copied(folder: Path, old: str = "", new: str = "") -> Path:
    folder.mkdir(parents=True)
    text = (shipped_folder() / NAME / MANIFEST).read_text(encoding="utf-8")
    assert old in text
    (folder / MANIFEST).write_text(text.replace(old, new) if old else text, encoding="utf-8")
    return folder


def test_what_ships_loads() -> None:
    assert NAME in shipped()
    for name in shipped():
        assert load_package(find_package(name)).id == name


def test_a_package_by_path_with_spaces(tmp_path: Path) -> None:
    folder = copied(tmp_path / "mein Paket ü")
    assert find_package(str(folder)) == folder and load_package(folder).id == NAME


@pytest.mark.parametrize("name", ["no-such-thing", "", "..", f"../{NAME}", f"x/../{NAME}"])
def test_an_unknown_name_is_told_what_ships(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError) as caught:
        find_package(name)
    assert NAME in caught.value.next_step


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tier: T2", "tier: T9", "tier"),
        ("purpose: solar", "purposes: solar", "purposes"),
        ("parts: [defects/max, defects/mean, texture/24]", "parts: ten", "parts"),
        ("deep/8]", "block/7]", "could be subtracted"),
        ("id: solar-cell-inspection", "id: [", "not YAML"),
        ("id: solar-cell-inspection", "id: !!python/object:os.system x", "not YAML"),
    ],
)
def test_a_bad_manifest_names_the_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder = copied(tmp_path / "p", old, new)
    with pytest.raises(DocumentError) as caught:
        load_package(folder)
    assert said in str(caught.value) and MANIFEST in str(caught.value)


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        load_package(tmp_path)
    (tmp_path / MANIFEST).write_bytes(b"id: \xff\xfe")
    with pytest.raises(DocumentError):
        load_package(tmp_path)
