"""Every way in which a folder cannot be used gives one clear sentence and an exit code other than 0."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.cli.main import main
from isthmus.contracts.errors import FolderError, StorageError
from isthmus.kit.clock import SetClock
from isthmus.scenarios import folder as folder_room
from isthmus.scenarios import trial_images
from isthmus.scenarios.folder import ImageFile, is_good, name_groups, survey
from isthmus.scenarios.trial import run_trial
from isthmus.scenarios.trial_material import TrialSettings
from isthmus.scenarios.trial_page import check_writable, write_page
from tests.scenarios.trial_parts import CoarseExtractor, folder_of_parts, part, save


def missing(root: Path) -> Path:
    return root / "nothing here"


def a_file(root: Path) -> Path:
    return save(part(1, False), root / "one.png")


def empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


def images_directly(root: Path) -> Path:
    for i in range(4):
        save(part(i, False), root / "flat" / f"{i}.png")
    return root / "flat"


def one_class(root: Path) -> Path:
    save(part(1, False), root / "single" / "parts" / "a.png")
    return root / "single"


def one_empty_class(root: Path) -> Path:
    (root / "half" / "bad").mkdir(parents=True)
    for i in range(9):
        save(part(i, False), root / "half" / "good" / f"{i}.png")
    return root / "half"


def parts_of_a_set(root: Path) -> Path:
    for name in ("train", "test", "ground_truth"):
        save(part(1, False), root / "set" / name / "good" / "a.png")
    return root / "set"


def too_few(root: Path) -> Path:
    return folder_of_parts(root / "few", 20, 3)


def other_formats(root: Path) -> Path:
    made = folder_of_parts(root / "raw", 9, 0)
    (made / "bad").mkdir()
    (made / "bad" / "a.HEIC").write_bytes(b"heic")
    return made


def damaged(root: Path) -> Path:
    made = folder_of_parts(root / "cut", 12, 12)
    for path in sorted((made / "good").iterdir())[:6]:
        path.write_bytes(path.read_bytes()[:60])
    return made


def same_in_both(root: Path) -> Path:
    made = folder_of_parts(root / "twice", 8, 8)
    for path in sorted((made / "good").iterdir())[:5]:
        shutil.copy(path, made / "scratched")
    return made


def copies_only(root: Path) -> Path:
    made = folder_of_parts(root / "copies", 20, 1)
    source = next((made / "scratched").iterdir())
    for i in range(20):
        shutil.copy(source, made / "scratched" / f"copy {i}.png")
    return made


def link_to_itself(root: Path) -> Path:
    made = folder_of_parts(root / "loop", 9, 0)
    (made / "bad").symlink_to(made, target_is_directory=True)
    return made


def linked_twice(root: Path) -> Path:
    made = folder_of_parts(root / "linked", 9, 0)
    (made / "bad").symlink_to(made / "good", target_is_directory=True)
    return made


def too_many_classes(root: Path) -> Path:
    for i in range(folder_room.CLASSES_MAX + 1):
        (root / "many" / f"{i:03}").mkdir(parents=True)
    return root / "many"


BAD: list[tuple[Callable[[Path], Path], str]] = [
    (missing, "there is no folder"),
    (a_file, "is a file, not a folder"),
    (empty, "is empty"),
    (images_directly, "lie directly in"),
    (one_class, "only one sub-folder"),
    (one_empty_class, "'bad' in .* holds no images"),
    (parts_of_a_set, "parts of a data set"),
    (too_few, "'scratched' has 3 images.*at least 6.*59 right answers.*299 for 1 %"),
    (other_formats, r"\.heic, which cannot be read"),
    (damaged, "6 of 24 image files cannot be read, for example good/"),
    (same_in_both, "'good' has 3 images left.*lying in two folders"),
    (copies_only, "'scratched' has 1 images left.*20 copies"),
    (link_to_itself, "leads back into the folder itself"),
    (linked_twice, "lying in two folders"),
    (too_many_classes, "more than the 50 classes"),
]


def quiet(_done: int, _total: int, _label: str) -> None: ...


@pytest.mark.parametrize(("build", "sentence"), BAD, ids=[b.__name__ for b, _ in BAD])
def test_a_folder_that_cannot_be_used_is_refused_in_one_sentence(build: Callable[[Path], Path], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=sentence) as caught:
        run_trial(build(tmp_path), CoarseExtractor, TrialSettings(), SetClock(), quiet)
    assert "\n" not in str(caught.value)
    assert caught.value.next_step


@pytest.mark.parametrize("build", [missing, empty, images_directly, one_class, too_few], ids=lambda b: b.__name__)
def test_the_command_says_so_and_leaves_with_another_code_than_zero(
    build: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["try", str(build(tmp_path)), "--out", str(tmp_path / "page.html")])
    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1
    assert told.err.startswith("error [bad-folder]")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("arguments", [["--error", "0"], ["--error", "many"], ["--confidence", "100%"], ["--limit", "1"]])
def test_shares_that_make_no_sense_are_refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", str(tmp_path), *arguments]) == 2
    assert "error [bad-usage]" in capsys.readouterr().err


def test_a_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder_of_parts(tmp_path / "closed", 8, 8)
    real = os.scandir

    def refusing(path: str | Path) -> object:
        if Path(path).name == "scratched":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(folder_room.os, "scandir", refusing)
    with pytest.raises(FolderError, match=r"no permission to list .*scratched"):
        survey(made)


def test_a_page_that_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no page can be written"):
        check_writable(tmp_path / "not there" / "page.html")
    with pytest.raises(StorageError, match="is a folder"):
        check_writable(tmp_path)


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    write_page("first", target)
    with pytest.raises(StorageError):
        write_page("second", tmp_path / "gone" / "page.html")
    assert target.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_some_damaged_and_odd_files_are_skipped_and_counted(tmp_path: Path) -> None:
    made = folder_of_parts(tmp_path / "odd", 14, 14)
    (made / "good" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (made / "good" / "huge.ppm").write_bytes(b"P6 100000 100000 255\n")
    (made / "good" / "gone.png").symlink_to(made / "nowhere.png")
    (made / "good" / "notes.txt").write_text("not an image")
    (made / "good" / ".DS_Store").write_bytes(b"x")
    os.mkfifo(made / "good" / "pipe.png")
    (made / "good" / "back").symlink_to(made, target_is_directory=True)
    (made / "good" / "folder.png").mkdir()
    found = run_trial(made, CoarseExtractor, TrialSettings(light_budget_s=0), SetClock(), quiet).gathered
    assert len(found.readings) == 28
    assert {u.name for u in found.unread} == {"good/cut.png", "good/huge.ppm", "good/gone.png"}
    assert found.survey.others == 2  # the note and the pipe
    assert any("lead back" in note for note in found.survey.notes)


def test_names_in_any_script_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    made = tmp_path / "Прüfung 部品"
    for i in range(8):
        save(part(i, False), made / "良品" / f"část {i} 🔩.png")
        save(part(50 + i, True), made / "Kratzer & <b>" / f"{i}.png")
    raw = os.fsencode(made / "良品") + b"/\xff\xfe.png"
    with open(raw, "wb") as file:  # noqa: PTH123  a name that is no text
        file.write((made / "良品" / "část 0 🔩.png").read_bytes()[:-1] + b"\x83")
    found = survey(made)
    assert found.good == "良品"
    assert found.classes[0] == "良品"
    for file in found.files:
        file.name.encode("utf-8")


@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "CMYK", "P", "I;16", "1", "LA", "F"])
def test_every_common_kind_of_pixel_is_read(kind: str, tmp_path: Path) -> None:
    grey = part(3, True, (70, 50))
    suffix = {"CMYK": "jpg", "F": "tiff"}.get(kind, "png")
    image = Image.fromarray(np.asarray(grey).astype("uint16") * 257) if kind == "I;16" else grey.convert(kind)
    path = save(image, tmp_path / f"x.{suffix}")
    read = trial_images.ImageReader(CoarseExtractor()).read(ImageFile(path, path.name, "good", ""))
    assert isinstance(read, trial_images.Reading)
    assert (read.width, read.height) == (70, 50)
    if kind not in ("1", "P", "CMYK"):
        assert abs(read.light - float(np.asarray(grey).mean())) < 4


def test_huge_images_are_refused_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (9_000, 9_000)).save(path)
    read = trial_images.ImageReader(CoarseExtractor()).read(ImageFile(path, path.name, "good", ""))
    assert isinstance(read, trial_images.Unread)
    assert "pixels" in read.reason


def files_named(names: list[str]) -> list[ImageFile]:
    return [ImageFile(Path(n), n, "good", str(Path(n).parent) if "/" in n else "") for n in names]


def test_lots_are_seen_in_file_names_and_deeper_folders_but_not_where_there_are_none() -> None:
    lots = name_groups(files_named([f"lot{lot:02}_{i:03}.png" for lot in range(20) for i in range(5)]))
    assert lots is not None
    assert len(set(lots[0])) == 20
    views = name_groups(files_named([f"part-{p}-cam{c}.png" for p in range(40) for c in range(2)]))
    assert views is not None
    assert len(set(views[0])) == 40
    deeper = name_groups(files_named([f"shift {s}/{i}.png" for s in range(16) for i in range(3)]))
    assert deeper is not None
    assert deeper[1].startswith("the folders")
    assert name_groups(files_named([f"IMG_{i:04}.png" for i in range(200)])) is None
    assert name_groups(files_named([f"cell{i:04}.png" for i in range(200)])) is None
    assert name_groups(files_named([f"lot{lot}_{i}.png" for lot in range(4) for i in range(20)])) is None


def test_what_counts_as_good() -> None:
    assert all(is_good(n) for n in ("good", "OK", "i.O.", "No_Defect", "pass", "良品"))
    assert not any(is_good(n) for n in ("bad", "nio", "not good", "nok", "defect", "goods", ""))
