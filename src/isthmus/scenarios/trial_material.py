"""The material of a trial: which images of a folder count, what was set aside and why, and which half proves."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.assurance.bounds import needed_samples
from isthmus.contracts.errors import FolderError
from isthmus.contracts.ports import Progress
from isthmus.scenarios.folder import CLASS_IMAGES_MIN, GROUPS_MIN, ImageFile, Survey, name_groups, survey
from isthmus.scenarios.trial_images import ImageReader, Reading, Unread, read_all
from isthmus.scenarios.trial_model import Integers

UNREADABLE_SHARE_MAX = 0.2


@dataclass(frozen=True)
class TrialSettings:
    """error, confidence: of the promise, 0..1. images_max: images looked at. light_budget_s: time for the light levels."""

    error: float = 0.05
    confidence: float = 0.95
    images_max: int = 2000
    light_budget_s: float = 40.0


@dataclass(frozen=True)
class Gathered:
    """Images that count, and what was set aside. classes: (n,) index into `answers`. groups: (n,) group numbers."""

    survey: Survey
    answers: tuple[str, ...]
    readings: tuple[Reading, ...]
    classes: Integers
    groups: Integers
    grouped_by: str
    unread: tuple[Unread, ...]
    copies: tuple[str, ...]
    conflicts: tuple[tuple[str, ...], ...]
    skipped: int


def usable(folder: Path, settings: TrialSettings) -> Survey:
    """Surveys a folder and counts. Raises FolderError when it cannot be used, before any image is opened."""
    found = survey(folder)
    _check_counts(Counter(f.class_name for f in found.files), found, settings)
    return found


def gather(found: Survey, settings: TrialSettings, reader: ImageReader, progress: Progress) -> Gathered:
    """Reads what was surveyed. Raises FolderError when too much cannot be read or too little is left."""
    files, skipped = _limited(found, settings.images_max)
    readings, unread = read_all(files, reader, progress)
    if len(unread) > max(2, UNREADABLE_SHARE_MAX * len(files)):
        first = unread[0]
        raise FolderError(
            f"{len(unread)} of {len(files)} image files cannot be read, for example {first.name}: {first.reason}",
            "replace or remove the damaged files",
        )
    kept, copies, conflicts = _without_copies(readings)
    _check_counts(
        Counter(r.file.class_name for r in kept), found, settings, unread=len(unread), copies=len(copies), conflicts=len(conflicts)
    )
    answers = (found.good, "not " + found.good if len(found.classes) > 2 else found.classes[1]) if found.good else found.classes
    index = {name: (i if found.good is None else int(name != found.good)) for i, name in enumerate(found.classes)}
    grouping = name_groups([r.file for r in kept])
    keys, how = grouping if grouping else ([r.digest for r in kept], "")
    numbers = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    return Gathered(
        survey=replace(found, notes=(*found.notes, *_lot_notes(kept, bool(grouping)))),
        answers=tuple(answers),
        readings=tuple(kept),
        classes=np.array([index[r.file.class_name] for r in kept], dtype=np.int64),
        groups=np.array([numbers[key] for key in keys], dtype=np.int64),
        grouped_by=how,
        unread=tuple(unread),
        copies=tuple(copies),
        conflicts=tuple(conflicts),
        skipped=skipped,
    )


def gather_good(
    found: Survey, settings: TrialSettings, reader: ImageReader, progress: Progress
) -> tuple[Gathered, tuple[Reading, ...], tuple[Unread, ...]]:
    """(good images, those without a label, files without a label that cannot be read). Raises FolderError when too few are left."""
    labelled = replace(found, files=tuple(f for f in found.files if f.class_name == found.good))
    files, skipped = _limited(labelled, settings.images_max)
    readings, unread = read_all(files, reader, progress)
    kept, copies, _ = _without_copies(readings)
    if len(kept) < 2 * CLASS_IMAGES_MIN:
        needed = needed_samples(settings.error, settings.confidence)
        lost = f" ({len(unread)} unreadable and {len(copies)} copies set aside)" if unread or copies else ""
        raise FolderError(
            f"the folder '{found.good}' has {len(kept)} images{lost}; {2 * CLASS_IMAGES_MIN} are the least: one half teaches, one proves",
            f"add good images; proving {100 * settings.error:.3g} % false alarms takes {needed} in the half that proves",
        )
    grouping = name_groups([r.file for r in kept])
    keys, how = grouping if grouping else ([r.digest for r in kept], "")
    numbers = {key: n for n, key in enumerate(dict.fromkeys(keys))}
    groups = np.array([numbers[key] for key in keys], dtype=np.int64)
    classes = np.zeros(len(kept), dtype=np.int64)
    gathered = Gathered(labelled, found.classes, tuple(kept), classes, groups, how, tuple(unread), tuple(copies), (), skipped)
    rest = [f for f in found.files if f.class_name != found.good][: settings.images_max]
    others, unread_rest = read_all(rest, reader, progress)
    known = {r.digest for r in kept}
    return gathered, tuple(r for r in others if r.digest not in known), tuple(unread_rest)


def _lot_notes(kept: list[Reading], grouped: bool) -> list[str]:
    lots = {r.file.group for r in kept if r.file.group}
    if grouped or len(lots) < 2:
        return []
    return [f"The classes hold {len(lots)} deeper folders; {GROUPS_MIN} are needed to count them as lots, so each image counts as its own."]


def _check_counts(
    counts: Counter[str], found: Survey, settings: TrialSettings, unread: int = 0, copies: int = 0, conflicts: int = 0
) -> None:
    least = min(found.classes, key=lambda name: counts[name])
    if counts[least] >= CLASS_IMAGES_MIN:
        return
    lost = [f"{n} {what}" for n, what in ((unread, "unreadable"), (copies, "copies"), (conflicts, "lying in two folders")) if n]
    after = f" left ({', '.join(lost)} set aside)" if lost else ""
    needed = needed_samples(settings.error, settings.confidence)
    raise FolderError(
        f"the folder '{least}' has {counts[least]} images{after}, and at least {CLASS_IMAGES_MIN} per folder are needed to learn anything",
        f"add images; proving {100 * settings.error:.3g} % errors takes {needed} right answers at {settings.confidence:.0%} confidence"
        f" ({needed_samples(0.01, settings.confidence)} for 1 %), so about {2 * needed} images in all, as half of them teach",
    )


def _limited(found: Survey, images_max: int) -> tuple[list[ImageFile], int]:
    """At most images_max files, classes in proportion (CLASS_IMAGES_MIN at least), chosen by the digest of their names."""
    if len(found.files) <= images_max:
        return list(found.files), 0
    by_class: dict[str, list[ImageFile]] = defaultdict(list)
    for file in sorted(found.files, key=lambda f: hashlib.sha256(f.name.encode()).digest()):
        by_class[file.class_name].append(file)
    share = images_max / len(found.files)
    chosen = {f.path for files in by_class.values() for f in files[: max(CLASS_IMAGES_MIN, round(share * len(files)))]}
    kept = [f for f in found.files if f.path in chosen]
    return kept, len(found.files) - len(kept)


def _without_copies(readings: list[Reading]) -> tuple[list[Reading], list[str], list[tuple[str, ...]]]:
    """(one of each file, names of further copies in the same class, names of equal files in different classes: none is kept)."""
    same: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        same[reading.digest].append(reading)
    kept: list[Reading] = []
    copies: list[str] = []
    conflicts: list[tuple[str, ...]] = []
    for equal in same.values():
        if len({r.file.class_name for r in equal}) > 1:
            conflicts.append(tuple(r.file.name for r in equal))
        else:
            kept.append(equal[0])
            copies.extend(r.file.name for r in equal[1:])
    return kept, copies, conflicts


def tested_half(gathered: Gathered) -> NDArray[np.bool_]:
    """(n,) True for images of the half that proves. Whole groups, in the order of their digests, to the side where their class lacks."""
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(gathered.groups):
        members[int(group)].append(row)
    digest = {g: min(gathered.readings[row].digest for row in rows) for g, rows in members.items()}
    tested = np.zeros(len(gathered.readings), dtype=bool)
    counts = np.zeros((2, len(gathered.answers)))
    for group in sorted(members, key=lambda g: digest[g]):
        rows = members[group]
        own = np.bincount(gathered.classes[rows], minlength=len(gathered.answers))
        main = int(own.argmax())
        side = int(counts[1, main] < counts[0, main])
        counts[side] += own
        tested[rows] = bool(side)
    return tested
