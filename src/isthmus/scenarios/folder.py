"""A folder of sub-folders of images: what is in it, whether it can be used, and what belongs together.

Each sub-folder is a class. Deeper folders belong to their class. Nothing is opened here but directories.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from isthmus.contracts.errors import FolderError
from isthmus.kit.pictures import SUFFIXES
from isthmus.sandbox.folder import RECORDS_NAME, UNLABELLED, is_unlabelled

FILES_MAX = 200_000
DEPTH_MAX = 12
CLASSES_MAX = 50
CLASS_IMAGES_MIN = 6
GROUPS_MIN = 16
GROUP_IMAGES_MEAN_MIN = 1.5
FOREIGN_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raw", ".npy", ".dcm", ".pdf", ".mp4", ".avi"}
)
PART_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "holdout", "groundtruth", "eval"})
_GOOD = (
    "good ok okay pass passed accept accepted normal fine nodefect nodefects defectfree nondefective faultfree intact "
    "gut io inordnung bon conforme buono bueno bom goed 良品 合格 正常"
)
GOOD_NAMES = frozenset(_GOOD.split())


@dataclass(frozen=True)
class ImageFile:
    """name: path below the folder, for people. group: the deeper folder it lies in, or ''."""

    path: Path
    name: str
    class_name: str
    group: str


@dataclass(frozen=True)
class Survey:
    """classes: names in order, the good one first when there is one. good: that class, or None. notes: sentences for people."""

    folder: Path
    classes: tuple[str, ...]
    good: str | None
    files: tuple[ImageFile, ...]
    others: int
    notes: tuple[str, ...]


def shown(name: str) -> str:
    """A file name as text that can be printed anywhere, whatever its bytes are."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def is_good(name: str) -> bool:
    """Whether a class name means 'good'."""
    return re.sub(r"[\W_]+", "", name.casefold()) in GOOD_NAMES


@dataclass
class _Walk:
    """Files below one class folder; loops, odd files and other files are counted."""

    files: list[tuple[Path, str]]
    others: Counter[str]
    loops: list[str]

    def visit(self, folder: Path, below: tuple[str, ...], ancestors: frozenset[tuple[int, int]]) -> None:
        """Raises FolderError when a directory cannot be listed or there are more than FILES_MAX files."""
        for entry in _listed(folder):
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if _is_dir(entry):
                stat = path.stat()
                mark = (stat.st_dev, stat.st_ino)
                if mark in ancestors or len(below) >= DEPTH_MAX:
                    self.loops.append(shown(str(path)))
                    continue
                self.visit(path, (*below, entry.name), ancestors | {mark})
            elif path.suffix.lower() in SUFFIXES and (entry.is_symlink() or entry.is_file()):
                self.files.append((path, "/".join(below)))
            else:
                self.others[path.suffix.lower()] += 1
            if len(self.files) + self.others.total() > FILES_MAX:
                raise FolderError(f"{shown(str(folder))} and its neighbours hold more than {FILES_MAX} files", "give a smaller folder")


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda e: os.fsencode(e.name))
    except PermissionError as error:
        raise FolderError(f"no permission to list {shown(str(folder))}", "ask for read permission, or copy the images elsewhere") from error
    except OSError as error:
        raise FolderError(f"{shown(str(folder))} cannot be listed: {error.strerror}", "check the disk and the path") from error


def survey(folder: Path) -> Survey:
    """Looks at a folder. Raises FolderError with one clear sentence when it cannot be used."""
    name = shown(str(folder))
    try:
        exists, is_dir = folder.exists(), folder.is_dir()
    except OSError as error:
        raise FolderError(f"{name} cannot be looked at: {error.strerror}", "check the path and its permissions") from error
    if not exists:
        raise FolderError(f"there is no folder {name}", "check the spelling, or give the full path")
    if not is_dir:
        raise FolderError(f"{name} is a file, not a folder", "give the folder that holds one sub-folder of images per class")
    entries = [e for e in _listed(folder) if not e.name.startswith(".") and e.name != "__MACOSX"]
    classes = [e for e in entries if _is_dir(e) and not is_unlabelled(e.name)]
    loose = sum(Path(e.name).suffix.lower() in SUFFIXES for e in entries if not _is_dir(e))
    if not classes and not loose and any(e.name == RECORDS_NAME for e in entries):
        raise FolderError(f"{name} holds {RECORDS_NAME}, rows of a table", f"begin with: isthmus scenario init NAME --from {name}")
    _check_layout(name, [e.name for e in classes], loose)
    walks: dict[str, _Walk] = {}
    root = folder.stat()
    for entry in classes:
        stat, walk = Path(entry.path).stat(), _Walk([], Counter(), [])
        if (stat.st_dev, stat.st_ino) == (root.st_dev, root.st_ino):
            walk.loops.append(shown(entry.path))
        else:
            walk.visit(Path(entry.path), (), frozenset({(root.st_dev, root.st_ino), (stat.st_dev, stat.st_ino)}))
        walks[entry.name] = walk
    return _survey_of(folder, name, walks, loose)


def survey_good(folder: Path) -> Survey | None:
    """Of a folder whose only class is the good one: its files, and after them those without a label, of class UNLABELLED. None for any
    other folder, which `survey` then takes or refuses. Raises FolderError when it cannot be listed."""
    if not folder.is_dir():
        return None
    entries = [e for e in _listed(folder) if not e.name.startswith(".") and e.name != "__MACOSX"]
    classes = [e for e in entries if _is_dir(e) and not is_unlabelled(e.name)]
    if len(classes) != 1 or not is_good(classes[0].name):
        return None
    root = folder.stat()
    walks = {name: _Walk([], Counter(), []) for name in (classes[0].name, UNLABELLED)}
    for entry in entries:
        if _is_dir(entry):
            stat, kind = Path(entry.path).stat(), UNLABELLED if is_unlabelled(entry.name) else entry.name
            walks[kind].visit(Path(entry.path), (), frozenset({(root.st_dev, root.st_ino), (stat.st_dev, stat.st_ino)}))
        elif Path(entry.name).suffix.lower() in SUFFIXES:
            walks[UNLABELLED].files.append((Path(entry.path), ""))
    good = shown(classes[0].name)
    if not walks[classes[0].name].files:
        return None
    files = tuple(
        ImageFile(path, shown(str(path.relative_to(folder))), shown(kind), shown(group))
        for kind, walk in walks.items()
        for path, group in walk.files
    )
    return Survey(folder, (good,), good, files, sum(w.others.total() for w in walks.values()), ())


def _check_layout(name: str, classes: list[str], loose: int) -> None:
    sort = "make one sub-folder per class, such as good/ and defect/, and put the images there"
    if not classes and not loose:
        raise FolderError(f"{name} is empty: it has neither sub-folders nor images", sort)
    if not classes:
        raise FolderError(f"the {loose} images lie directly in {name}, so nothing says which are good", sort)
    if all(re.sub(r"[\W_]+", "", c.casefold()) in PART_NAMES for c in classes):
        raise FolderError(
            f"the sub-folders of {name} ({_names(classes)}) are parts of a data set, not classes",
            f"give one of them: {name}/{shown(classes[0])}",
        )
    if len(classes) == 1:
        raise FolderError(f"{name} has only one sub-folder, {_names(classes)}; telling apart needs two or more classes", sort)
    if len(classes) > CLASSES_MAX:
        raise FolderError(
            f"{name} has {len(classes)} sub-folders, more than the {CLASSES_MAX} classes allowed", "give the folder of the classes"
        )


def _names(names: list[str]) -> str:
    quoted = [f"'{shown(n)}'" for n in names[:6]]
    return ", ".join(quoted) + (", ..." if len(names) > 6 else "")


def _survey_of(folder: Path, name: str, walks: dict[str, _Walk], loose: int) -> Survey:
    notes: list[str] = []
    empty = [c for c, w in walks.items() if not w.files]
    if len(walks) - len(empty) < 2:
        raise FolderError(*_no_images(name, walks, empty))
    if empty:
        notes.append(f"Left out, no images inside: {_names(empty)}.")
    if loose:
        notes.append(f"Left out: {loose} images that lie beside the sub-folders and have no class.")
    loops = [loop for w in walks.values() for loop in w.loops]
    if loops:
        notes.append(f"Not followed: {len(loops)} links that lead back or too deep, such as {loops[0]}.")
    good = next((shown(c) for c in sorted(walks, key=os.fsencode) if c not in empty and is_good(c)), None)
    used = sorted((c for c in walks if c not in empty), key=lambda c: (shown(c) != good, os.fsencode(c)))
    files = tuple(
        ImageFile(path, shown(str(path.relative_to(folder))), shown(c), shown(group)) for c in used for path, group in walks[c].files
    )
    others = sum(w.others.total() for w in walks.values())
    return Survey(folder, tuple(shown(c) for c in used), good, files, others, tuple(notes))


def _no_images(name: str, walks: dict[str, _Walk], empty: list[str]) -> tuple[str, str]:
    if any(walk.others[".txt"] for walk in walks.values()):
        return (f"{name} holds texts, and a trial looks at images only", f"begin with: isthmus scenario init NAME --from {name}")
    kinds: Counter[str] = Counter()
    for walk in walks.values():
        kinds.update({k: n for k, n in walk.others.items() if k in FOREIGN_SUFFIXES})
    formats = "PNG, JPEG, TIFF, BMP, WebP, GIF or PPM"
    if kinds:
        kind, count = kinds.most_common(1)[0]
        return (
            f"{_names(empty)} in {name} holds {count} files of the kind {kind}, which cannot be read here",
            f"convert them to {formats}",
        )
    if any(walk.loops for walk in walks.values()):
        return (f"{_names(empty)} in {name} is a link that leads back into the folder itself", "put real folders of images there")
    return (f"{_names(empty)} in {name} holds no images, so fewer than two classes are left", f"put images ({formats}) there")


def name_groups(files: list[ImageFile]) -> tuple[list[str], str] | None:
    """Which images come from one part or lot, judging by deeper folders or the beginnings of file names.

    Returns (a key for each file, how it was found), or None when nothing suggests groups. Groups count as found when
    there are GROUPS_MIN or more of them, of GROUP_IMAGES_MEAN_MIN images or more on average.
    """
    folders = [f.group for f in files]
    if all(folders) and _plausible(folders):
        return folders, "the folders inside the classes"
    tokens = [[t for t in re.split(r"[\s_\-.]+", f.path.stem) if t] for f in files]
    for length in range(1, max((len(t) for t in tokens), default=1)):
        keys = ["_".join(t[:length]) if len(t) > length else "_".join(t) for t in tokens]
        if _plausible(keys) and sum(len(t) > length for t in tokens) >= 0.8 * len(tokens):
            return [shown(k) for k in keys], "the beginnings of the file names"
    return None


def _plausible(keys: list[str]) -> bool:
    distinct = len(set(keys))
    return distinct >= GROUPS_MIN and len(keys) / distinct >= GROUP_IMAGES_MEAN_MIN
