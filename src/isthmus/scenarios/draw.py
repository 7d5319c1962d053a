"""Draws a site's samples: which of its labelled records fit the model, which prove it, and which are only measured."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
from pathlib import Path

from isthmus.contracts.errors import FolderError, StorageError
from isthmus.sandbox.folder import AUDIT, HOLDOUT, TRAIN, LabelledFile, read_folder
from isthmus.sandbox.labelbook import chosen_paths
from isthmus.sandbox.rowfiles import rows_named

FIT_MIN = 8
SAMPLES_NAME = ".samples"
NOBODY: frozenset[str] = frozenset()


def draw(files: tuple[LabelledFile, ...], fit: int, proof: int, seed: int, chosen: frozenset[str] = NOBODY) -> dict[str, str]:
    """path -> split. Records are ranked by a hash of seed and path, so that a draw is random, repeatable, and grows by adding.

    chosen: records that a model picked to be labelled. They are no random sample, so they come first among those to fit on, all of them,
    also beyond `fit`, and never prove or measure.

    Raises FolderError when there are too few, or the drawn ones for fitting are all of one class; a folder of good ones alone may be drawn
    from.
    """
    if fit < FIT_MIN or proof < 0:
        raise FolderError(f"{fit} samples to fit on and {proof} for proof cannot be drawn", f"ask for at least {FIT_MIN} to fit on")
    if fit + proof > len(files):
        raise FolderError(f"{fit + proof} samples are asked for, the folder has {len(files)}", "label more, or ask for fewer")
    ranked = sorted(files, key=lambda f: (f.path not in chosen, hashlib.sha256(f"{seed}\n{f.path}".encode()).digest()))
    fit = max(fit, sum(f.path in chosen for f in files))
    if fit + proof > len(files):
        raise FolderError(
            f"{fit} samples were chosen by a model and can only be fitted on; {proof} others for proof are asked for, the folder has"
            f" {len(files) - fit}",
            "label more drawn at random, or ask for fewer with --proof",
        )
    drawn = {f.label for f in ranked[:fit]}
    if drawn == {1} or drawn < {f.label for f in files}:
        raise FolderError(f"the {fit} samples drawn to fit on are all of one class", "give more samples, or use another --seed")
    places = {f.path: place for place, f in enumerate(ranked)}
    return {f.path: TRAIN if places[f.path] < fit else HOLDOUT if places[f.path] < fit + proof else AUDIT for f in files}


def _paths(files: tuple[LabelledFile, ...]) -> list[str]:
    """The files that hold the records, each once."""
    named = [(rows_named(file.path), file.path) for file in files]
    return list(dict.fromkeys(path if rows is None else rows[0] for rows, path in named))


def samples_behind(folder: Path) -> Path:
    """The samples that a site's folder was drawn from; any other folder is its own. Raises FolderError when it cannot be read."""
    pointer = folder / SAMPLES_NAME
    try:
        return Path(pointer.read_text(encoding="utf-8").strip()) if pointer.is_file() else folder
    except (OSError, UnicodeDecodeError) as error:
        raise FolderError(f"{pointer} cannot be read", "remove it, then run isthmus replicate again") from error


def _stands(samples: Path, target: Path, files: tuple[LabelledFile, ...], labels: str) -> bool:
    """Whether the folder is laid out already, with these labels and the images as they are now."""
    try:
        if (target / "labels.csv").read_text(encoding="utf-8") != labels:
            return False
        if (target / SAMPLES_NAME).read_text(encoding="utf-8") != str(samples.absolute()):
            return False
        for path in _paths(files):
            here, there = (samples / path).stat(), (target / path).stat()
            if (here.st_size, here.st_mtime_ns) != (there.st_size, there.st_mtime_ns):
                return False
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    return True


def site_folder(samples: Path, target: Path, fit: int, proof: int, seed: int) -> Path:
    """Lays the site's folder out for its node: links to the files, and labels with the draw. Each record is its own group,
    because records are drawn one by one. Raises FolderError, StorageError.
    """
    folder = read_folder(samples)
    split_of = draw(folder.files, fit, proof, seed, chosen_paths(samples))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "label", "certainty", "group", "kind", "split"])
    for file in folder.files:
        label, certainty = "defect" if file.label > 0 else "good", "sure" if file.sure else "unsure"
        writer.writerow([file.path, label, certainty, file.path, file.kind, split_of[file.path]])
    labels = out.getvalue()
    try:
        if _stands(samples, target, folder.files, labels):
            return target
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        for path in _paths(folder.files):
            place = part / path
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(samples / path, place)
            except OSError:
                shutil.copy2(samples / path, place)
        (part / "labels.csv").write_text(labels, encoding="utf-8")
        (part / SAMPLES_NAME).write_text(str(samples.absolute()), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    except OSError as error:
        raise StorageError(f"the site's folder {target} cannot be written: {error.strerror}", "check the folder and the disk") from error
    return target
