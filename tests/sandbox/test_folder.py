from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import FolderError, IsthmusError, PictureError
from isthmus.kit.pictures import encode_png
from isthmus.sandbox.commitment import commitment, merkle_root
from isthmus.sandbox.folder import name_order, read_folder
from isthmus.sandbox.nodehome import NodeSettings, init_home, only_one, open_home
from isthmus.sandbox.ownerdata import file_digests

PNG = encode_png(np.full((8, 8, 3), 100, dtype=np.uint8))


def folder(root: Path, labels: str | bytes, files: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG)
    (root / "labels.csv").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
    return root


def test_labels_in_full(tmp_path: Path) -> None:
    text = "path,label,certainty,group,kind,split\nb.png,defect,unsure,m1,mono,holdout\na.png,good,,m0,poly,train\n"
    found = read_folder(folder(tmp_path, text))
    a, b = found.files
    assert (a.path, a.label, a.sure, a.group, a.kind, a.split) == ("a.png", -1, True, "m0", "poly", "train")
    assert (b.path, b.label, b.sure, b.group, b.kind, b.split) == ("b.png", 1, False, "m1", "mono", "holdout")
    assert not found.groups_inferred and not found.splits_inferred


def test_byte_order_mark_backslashes_and_unicode_names(tmp_path: Path) -> None:
    text = "\ufeffPath,Label\r\nZellen\\größe 1.png,good\r\n图/二.png,Defect\r\n"
    found = read_folder(folder(tmp_path, text, ("Zellen/größe 1.png", "图/二.png")))
    assert {f.path for f in found.files} == {"Zellen/größe 1.png", "图/二.png"} and found.groups_inferred


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for index in range(130):
        path = tmp_path / ("OK" if index % 3 else "scratch") / f"cell{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG)
    (tmp_path / "OK" / "notes.txt").write_text("not an image")
    found = read_folder(tmp_path)
    assert [Path(f.path).name for f in found.files] == [f"cell{i}.png" for i in range(130)]
    assert [f.label for f in found.files] == [-1 if i % 3 else 1 for i in range(130)]
    assert found.groups_inferred and found.groups("train") + found.groups("holdout") == 3 and found.groups("holdout") == 1
    assert len(found.of_split("holdout")) == 10


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ("path,label\na.png,good\nmissing.png,defect\n", "missing.png"),
        ("path,label\na.png,defect\nb.png,defect\n", "all 2 records"),
        ("path,label\na.png,good\na.png,defect\n", "twice"),
        ("path,label\na.png,fine\nb.png,defect\n", "fine"),
        ("path,label,certainty\na.png,good,maybe\nb.png,defect,sure\n", "maybe"),
        ("path,label,split\na.png,good,test\nb.png,defect,train\n", "test"),
        ("path,label,group\na.png,good,\nb.png,defect,m\n", "group"),
        ("path,label\n../a.png,good\nb.png,defect\n", "inside"),
        ("path,label\n/etc/passwd,good\nb.png,defect\n", "inside"),
        ("path,label\n,good\nb.png,defect\n", "inside"),
        ("name,label\na.png,good\n", "path"),
        ("path,label,colour\na.png,good,red\n", "colour"),
        ("path,label,label\na.png,good,good\n", "repeated"),
        ("path,label\na.png,good,m1\n", "more fields"),
        ('path,label\na.png,"good\n', "not CSV"),
        ("path,label\n", "no records"),
        ("", "no column"),
        (b"path,label\na.png,g\xfc\n", "UTF-8"),
        (b"path,label\na\0.png,good\n", "inside"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, labels: str | bytes, word: str) -> None:
    with pytest.raises(FolderError) as caught:
        read_folder(folder(tmp_path, labels))
    assert word in str(caught.value) and caught.value.next_step


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for name in ("missing", "empty", "file"):
        with pytest.raises(FolderError):
            read_folder(tmp_path / name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=80), st.binary(max_size=80), st.text('pathlbe,\n"agod.n', max_size=60).map(lambda t: "path,label\n" + t)))
def test_any_labels_give_a_folder_or_a_sentence(tmp_path: Path, labels: str | bytes) -> None:
    raw = labels if isinstance(labels, bytes) else labels.encode("utf-8", "surrogatepass")
    try:
        read_folder(folder(tmp_path, raw))
    except IsthmusError as error:
        assert error.message and error.next_step


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=5, unique=True))
def test_numbers_in_names_count_as_numbers(numbers: list[int]) -> None:
    assert sorted((f"cell{n}.png" for n in numbers), key=name_order) == [f"cell{n}.png" for n in sorted(numbers)]


def test_commitment_changes_with_everything_and_hides(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, "path,label\na.png,good\nb.png,defect\n"))
    digests = file_digests(found)
    base = commitment(found, digests, b"s" * 32)
    other = read_folder(folder(tmp_path, "path,label\na.png,defect\nb.png,good\n"))
    seen = {base, commitment(other, digests, b"s" * 32), commitment(found, {**digests, "a.png": "0" * 64}, b"s" * 32)}
    assert len(seen | {commitment(found, digests, b"t" * 32)}) == 4 and base == commitment(found, digests, b"s" * 32)
    assert len({merkle_root([bytes([i]) * 32 for i in range(n)]) for n in range(7)}) == 7


def settings_of(data: Path, party: str = "alfa") -> NodeSettings:
    return NodeSettings(id=party, name=party, kind="owner", data=str(data), licence="test", sample=True)


def test_home_keeps_key_and_asset_and_notices_change(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", "path,label\na.png,good\nb.png,defect\n")
    first = init_home(tmp_path / "state", settings_of(data))
    first.store.close()
    again = open_home(tmp_path / "state")
    assert (again.asset, again.key.public_hex) == (first.asset, first.key.public_hex)
    again.store.close()
    (data / "a.png").write_bytes(encode_png(np.full((8, 8, 3), 7, dtype=np.uint8)))
    with pytest.raises(FolderError):
        open_home(tmp_path / "state")
    renewed = init_home(tmp_path / "state", settings_of(data))
    assert renewed.asset_digest != first.asset_digest and renewed.key.public_hex == first.key.public_hex
    renewed.store.close()
    with pytest.raises(IsthmusError):
        init_home(tmp_path / "state", settings_of(data, "bravo"))
    with pytest.raises(IsthmusError):
        open_home(tmp_path / "nothing")


def test_unreadable_image_is_named_at_init(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", "path,label\na.png,good\nb.png,defect\n")
    (data / "b.png").write_bytes(PNG[:40])
    with pytest.raises(PictureError) as caught:
        init_home(tmp_path / "state", settings_of(data))
    assert "b.png" in str(caught.value)


def test_one_process_a_state_folder(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(IsthmusError), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_state_folder_is_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(IsthmusError), only_one(tmp_path / "nowhere"):
        pass
    assert not (tmp_path / "nowhere").exists()
    with only_one(tmp_path / "new", make=True):
        assert (tmp_path / "new").is_dir()
