"""Reviewed cases become training records: once, never held out, and again after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isthmus.contracts.errors import FolderError, PictureError
from isthmus.kit.clock import SetClock
from isthmus.kit.pictures import encode_png
from isthmus.sandbox import reviewed
from isthmus.sandbox.folder import read_folder
from isthmus.sandbox.labelbook import LabelBook, chosen_paths
from isthmus.sandbox.reviewed import add_reviewed


def picture(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8))


def write(root: Path, rows: dict[str, tuple[int, str]]) -> Path:
    """name -> (seed, the rest of its line)."""
    root.mkdir(parents=True, exist_ok=True)
    for name, (seed, _) in rows.items():
        (root / name).write_bytes(picture(seed))
    lines = [f"{name},{rest}" for name, (_, rest) in rows.items()]
    (root / "labels.csv").write_text("\n".join(["path,label,certainty,group,split", *lines]) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def owner(tmp_path: Path) -> Path:
    rows = {"a.png": (1, "good,sure,g1,train"), "b.png": (2, "defect,sure,g2,train"), "c.png": (3, "defect,sure,g3,holdout")}
    return write(tmp_path / "owner", rows)


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    return write(
        tmp_path / "judged",
        {
            "new.png": (10, "defect,sure,g9,train"),
            "doubt.png": (11, "good,unsure,g9,holdout"),
            "known.png": (1, "defect,sure,g9,train"),
            "test.png": (3, "good,sure,g9,train"),
            "twice.png": (10, "good,sure,g9,train"),
            "away.png": (12, "good,sure,g3,train"),
        },
    )


def test_they_teach_and_are_never_held_out(owner: Path, judged: Path) -> None:
    before = {file.path: file for file in read_folder(owner).files}
    found = add_reviewed(owner, judged, SetClock())
    assert (found.reviews, found.added, found.here_before, found.held_back, found.training) == (6, 2, 3, 1, 2)
    after = {file.path: file for file in read_folder(owner).files}
    new = [file for path, file in after.items() if path not in before]
    assert {path: after[path] for path in before} == before
    assert sorted((f.label, f.sure, f.split, f.group) for f in new) == [(-1, False, "train", "g9"), (1, True, "train", "g9")]
    assert {file.path for file in new} == chosen_paths(owner)
    assert {(owner / file.path).read_bytes() for file in new} == {picture(10), picture(11)}


def test_again_adds_nothing(owner: Path, judged: Path) -> None:
    add_reviewed(owner, judged, SetClock())
    raw = (owner / "labels.csv").read_bytes()
    again = add_reviewed(owner, judged, SetClock())
    assert (again.added, again.training) == (0, 2) and (owner / "labels.csv").read_bytes() == raw


def test_killed_in_the_middle_it_goes_on(owner: Path, judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = LabelBook.write, []

    def killed(self: LabelBook, *given: object) -> object:
        if calls:
            raise KeyboardInterrupt
        calls.append(given)
        return whole(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(LabelBook, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        add_reviewed(owner, judged, SetClock())
    monkeypatch.undo()
    assert len(read_folder(owner).files) == 4
    assert add_reviewed(owner, judged, SetClock()).training == 2 and len(read_folder(owner).files) == 5


def test_inferred_groups_of_reviews_get_names_of_their_own(owner: Path, tmp_path: Path) -> None:
    for kind, seed in (("good", 20), ("scratched", 21)):
        (tmp_path / "sorted" / kind).mkdir(parents=True)
        (tmp_path / "sorted" / kind / "x.png").write_bytes(picture(seed))
    assert add_reviewed(owner, tmp_path / "sorted", SetClock()).added == 2
    assert {file.group for file in read_folder(owner).files if file.path.startswith(reviewed.FOLDER_NAME)} == {"reviewed-run-00000"}


def test_what_cannot_be_is_one_sentence(owner: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="inside the owner's folder"):
        add_reviewed(owner, owner, SetClock())
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="no judged pictures"):
        add_reviewed(owner, tmp_path / "empty", SetClock())
    torn = write(tmp_path / "torn", {"t.png": (5, "good,sure,g,train")})
    (torn / "t.png").write_bytes(b"torn")
    raw = (owner / "labels.csv").read_bytes()
    with pytest.raises(PictureError):
        add_reviewed(owner, torn, SetClock())
    assert (owner / "labels.csv").read_bytes() == raw
