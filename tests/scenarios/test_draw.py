"""Drawing a site's samples: repeatable, growing, disjoint, and laid out from the images as they are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import FolderError, StorageError
from isthmus.kit.pictures import encode_png
from isthmus.sandbox.folder import AUDIT, HOLDOUT, TRAIN, LabelledFile, read_folder
from isthmus.scenarios import draw as draw_module
from isthmus.scenarios.draw import FIT_MIN, draw, site_folder


def labelled(path: str, label: int) -> LabelledFile:
    return LabelledFile(path=path, label=label, sure=True, group="g", kind="", split=TRAIN)


def stock(count: int) -> tuple[LabelledFile, ...]:
    return tuple(labelled(f"c{place:03d} ü.png", 1 if place % 3 == 0 else -1) for place in range(count))


def of(split: dict[str, str], name: str) -> set[str]:
    return {path for path, found in split.items() if found == name}


@given(count=st.integers(30, 80), fit=st.integers(12, 20), proof=st.integers(0, 10), seed=st.integers(0, 1000), more=st.integers(0, 8))
def test_a_draw_is_repeatable_complete_and_grows_by_adding(count: int, fit: int, proof: int, seed: int, more: int) -> None:
    files = tuple(labelled(f"{place}", 1 if place % 2 else -1) for place in range(count))
    if count < fit + proof + more:
        return
    try:
        one = draw(files, fit, proof, seed)
    except FolderError as error:
        assert "one class" in str(error)
        return
    assert one == draw(tuple(reversed(files)), fit, proof, seed), "the order of files does not matter"
    assert set(one) == {f.path for f in files}
    assert (len(of(one, TRAIN)), len(of(one, HOLDOUT)), len(of(one, AUDIT))) == (fit, proof, count - fit - proof)
    grown = draw(files, fit, proof + more, seed)
    assert of(grown, TRAIN) == of(one, TRAIN) and of(grown, HOLDOUT) >= of(one, HOLDOUT)
    assert of(draw(files, fit + more, proof, seed), TRAIN) >= of(one, TRAIN)


def test_another_seed_is_another_draw() -> None:
    assert draw(stock(60), 20, 10, 1) != draw(stock(60), 20, 10, 2)


def test_every_record_is_as_likely_to_be_drawn() -> None:
    files = tuple(labelled(str(place), 1 if place % 2 else -1) for place in range(40))
    counts = dict.fromkeys((f.path for f in files), 0)
    for seed in range(400):
        for path in of(draw(files, 20, 0, seed), TRAIN):
            counts[path] += 1
    assert min(counts.values()) > 140 and max(counts.values()) < 260, "200 are expected, with a standard deviation of 10"


@pytest.mark.parametrize(("fit", "proof"), [(FIT_MIN - 1, 0), (10, -1), (20, 11), (31, 0)])
def test_what_cannot_be_drawn_is_refused(fit: int, proof: int) -> None:
    with pytest.raises(FolderError):
        draw(stock(30), fit, proof, 0)


def test_one_class_is_refused() -> None:
    with pytest.raises(FolderError, match="all of one class"):
        draw(tuple(labelled(str(place), 1) for place in range(30)), 10, 5, 0)
    assert draw(tuple(labelled(str(place), -1) for place in range(30)), 10, 5, 0), "good ones alone are enough for a Gaussian"


def picture(level: int) -> bytes:
    return encode_png(np.full((6, 6, 3), level, np.uint8))


def samples(root: Path, count: int = 24) -> Path:
    for place in range(count):
        folder = root / ("gut" if place % 2 else "good")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"Zelle {place:02d} é.png").write_bytes(picture(place))
    return root


def splits(folder: Path) -> dict[str, str]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file)}


def test_a_site_folder_holds_the_draw_and_each_record_is_a_group(tmp_path: Path) -> None:
    target = site_folder(samples(tmp_path / "Linie 4 ü"), tmp_path / "site data" / "line-4", 10, 6, 0)
    found = read_folder(target)
    assert [len(found.of_split(name)) for name in (TRAIN, HOLDOUT, AUDIT)] == [10, 6, 8]
    assert len({f.group for f in found.files}) == 24 and {f.label for f in found.files} == {-1, 1}
    assert [p.name for p in target.parent.iterdir()] == ["line-4"]


def test_the_same_draw_leaves_the_folder_and_another_replaces_it(tmp_path: Path) -> None:
    source, target = samples(tmp_path / "in"), tmp_path / "out"
    site_folder(source, target, 10, 6, 0)
    before = target.stat().st_ino
    site_folder(source, target, 10, 6, 0)
    assert target.stat().st_ino == before
    first = splits(target)
    site_folder(source, target, 10, 8, 0)
    assert of(splits(target), HOLDOUT) > of(first, HOLDOUT)


@pytest.mark.parametrize("linked", [True, False])
def test_an_image_that_was_replaced_is_taken_anew(tmp_path: Path, linked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise OSError("another disk")

    if not linked:
        monkeypatch.setattr(draw_module.os, "link", no_link)
    source, target = samples(tmp_path / "in"), tmp_path / "out"
    site_folder(source, target, 10, 6, 0)
    path = read_folder(source).files[0].path
    before = target.stat().st_ino
    assert site_folder(source, target, 10, 6, 0).stat().st_ino == before
    (tmp_path / "new.png").write_bytes(picture(200) + b"more")
    (tmp_path / "new.png").replace(source / path)
    site_folder(source, target, 10, 6, 0)
    assert (target / path).read_bytes() == (source / path).read_bytes()


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        site_folder(samples(tmp_path / "in"), tmp_path / "file" / "out", 10, 6, 0)
