"""Doubtful cases that a person has judged become training records in the owner's own folder.

The pictures are copied into the sub-folder `reviewed`, named by the digest of their bytes, and their labels go into `labels.csv` as
`sandbox.labelbook` writes them: split train, and marked as chosen, because what a model doubted is no random sample. A picture that is in
the folder already is not added again; one whose group is held out is not added at all. Killed in the middle, the same call goes on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from isthmus.contracts.errors import FolderError
from isthmus.contracts.ports import Clock
from isthmus.kit.pictures import decode
from isthmus.kit.writing import decode_text
from isthmus.sandbox.folder import TRAIN, DataFolder, is_text_file, read_folder, read_labels
from isthmus.sandbox.labelbook import open_book, write_whole
from isthmus.sandbox.ownerdata import file_digests

FOLDER_NAME = "reviewed"
NAME_CHARS = 32


@dataclass(frozen=True)
class Added:
    """reviews: judged cases that were given. added: new training records; here_before: their pictures are in the folder already; held_back:
    their groups are held out. training: all reviewed records that teach now."""

    reviews: int
    added: int
    here_before: int
    held_back: int
    training: int


def add_reviewed(root: Path, reviewed: Path, clock: Clock) -> Added:
    """Adds the labelled pictures, or files of text, of the folder `reviewed` to the owner's folder. Raises FolderError, PictureError,
    StorageError."""
    if reviewed.resolve() == root.resolve() or root.resolve() in reviewed.resolve().parents:
        raise FolderError(
            f"the reviews {reviewed} lie inside the owner's folder", "give the folder that the reviewed pictures were put into"
        )
    read_folder(root)
    given = read_labels(reviewed)
    if not given.files:
        raise FolderError(f"{reviewed} holds no judged pictures", "sort them into good and defect, or list them in labels.csv")
    added = here_before = held_back = 0
    with open_book(root, clock) as book:
        own = read_labels(root)
        known = set(file_digests(own, check=False).values())
        away = {file.group for file in own.files if file.split != TRAIN}
        for file in given.files:
            raw = _bytes(reviewed, file.path)
            digest, group = hashlib.sha256(raw).hexdigest(), file.group if not given.groups_inferred else f"{FOLDER_NAME}-{file.group}"
            if digest in known:
                here_before += 1
                continue
            if group in away:
                held_back += 1
                continue
            _ = decode_text(raw, file.path) if is_text_file(file.path) else decode(raw, file.path)
            path = f"{FOLDER_NAME}/{digest[:NAME_CHARS]}{Path(file.path).suffix.lower()}"
            (root / FOLDER_NAME).mkdir(exist_ok=True)
            write_whole(root / path, raw)
            book.write(path, file.label, file.sure, "chosen", group)
            known.add(digest)
            added += 1
        return Added(len(given.files), added, here_before, held_back, _teaching(read_labels(root)))


def _teaching(folder: DataFolder) -> int:
    return sum(file.path.startswith(f"{FOLDER_NAME}/") and file.split == TRAIN for file in folder.files)


def _bytes(root: Path, path: str) -> bytes:
    try:
        return (root / path).read_bytes()
    except OSError as error:
        raise FolderError(f"{root / path} cannot be read: {error.strerror}", "put the file back, or remove it from the labels") from error
