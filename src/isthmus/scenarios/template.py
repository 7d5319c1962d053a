"""Begins a package: the files of a template with names and classes filled in. Pure but for reading the template."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import msgspec

from isthmus.contracts.errors import FolderError
from isthmus.contracts.schema import Column
from isthmus.kit.ids import slug
from isthmus.sandbox.folder import GOOD_NAMES, LABELS_NAME, read_labels
from isthmus.scenarios.columns import Proposed
from isthmus.scenarios.contents import LOCK, MANIFEST, README, SCHEMA
from isthmus.scenarios.folder import survey
from isthmus.scenarios.lock import lock_bytes, lock_of

IMAGES, TABLE, TEXT = "image-inspection", "table-inspection", "text-inspection"
VERSION = "0.1.0"
DEFAULT_CLASSES = ("good", "defect")
INTENDED = "Sorts images of {subject} into {good} and {defect}, and leaves doubtful ones to a person."
TABLE_INTENDED = "Sorts records of {subject} into {good} and {defect}, and leaves doubtful ones to a person."
TEXT_INTENDED = "Sorts texts of {subject} into {good} and {defect}, and leaves doubtful ones to a person."
TEXT_PROHIBITED = (
    "Not for texts of another kind than those it was certified on, not for judging the people who wrote them, and not without a person for"
    " the texts that it does not answer."
)
TABLE_PROHIBITED = (
    "Not for records measured in another way than those it was certified on, not for deciding about people, and not without a person"
    " for the records that it does not answer."
)
PROHIBITED = (
    "Not for images taken in another way than those it was certified on, not for deciding about people, and not without a person for the"
    " images that it does not answer."
)

USES = {IMAGES: (INTENDED, PROHIBITED), TABLE: (TABLE_INTENDED, TABLE_PROHIBITED), TEXT: (TEXT_INTENDED, TEXT_PROHIBITED)}


@dataclass(frozen=True)
class Sized:
    """Features that suit so many images in one folder. features: how many they are; records_per_feature: training images that must stand
    behind what becomes visible, for each."""

    images_min: int
    parts: tuple[str, ...]
    parts_after_leaving: tuple[str, ...]
    features: int
    records_per_feature: int

    @property
    def records(self) -> int:
        """Training images that are needed beside those of the largest owner."""
        return self.features * self.records_per_feature


_FEW = ("defects/max", "texture/12"), ("defects/share", "deep/8")
SIZES = (
    Sized(512, ("defects/max", "defects/mean", "texture/24"), ("defects/share", "defects/spread", "deep/8"), 38, 20),
    Sized(256, *_FEW, 19, 20),
    Sized(128, *_FEW, 19, 10),
    Sized(0, *_FEW, 19, 4),
)
"""Largest first. images_min: with three owners of as many, a quarter held out, what becomes visible is one and a half times that."""


def size_of(classes: Mapping[str, int] | None) -> Sized:
    """The largest features that so many images bear; the largest of all where none were seen."""
    images = sum((classes or {}).values())
    return next(one for one in SIZES if not images or images >= one.images_min)


def classes_of(images: Path) -> Mapping[str, int]:
    """Sub-folder -> images, the good one first; of a folder with labels.csv and no such sub-folders, good and defect.

    Raises FolderError: no sub-folders of images, or none that says which are good.
    """
    try:
        return _subfolders(images)
    except FolderError:
        if not (images / LABELS_NAME).is_file():
            raise
    counts = Counter(file.label for file in read_labels(images).files)
    return {DEFAULT_CLASSES[0]: counts[-1], DEFAULT_CLASSES[1]: counts[1]}


def _subfolders(images: Path) -> Mapping[str, int]:
    found = survey(images)
    good = next((name for name in found.classes if name.strip().lower() in GOOD_NAMES), None)
    if good is None:
        names = ", ".join(found.classes)
        raise FolderError(
            f"none of the sub-folders of {images} ({names}) says which images are good",
            f"rename that one to {' or '.join(sorted(GOOD_NAMES))}",
        )
    counts = Counter(file.class_name for file in found.files)
    return {name: counts[name] for name in sorted(found.classes, key=lambda name: name != good)}


def text_classes_of(folder: Path) -> Mapping[str, int]:
    """As `classes_of`, of sub-folders of texts. Raises FolderError."""
    counts = Counter(file.path.split("/")[0] for file in read_labels(folder).files)
    if not any(name.strip().lower() in GOOD_NAMES for name in counts):
        what = f"none of the sub-folders of {folder} ({', '.join(sorted(counts))}) says which texts are good"
        raise FolderError(what, f"rename that one to {' or '.join(sorted(GOOD_NAMES))}")
    return {name: counts[name] for name in sorted(counts, key=lambda name: (name.strip().lower() not in GOOD_NAMES, name))}


def begun(name: str, title: str = "", classes: Mapping[str, int] | None = None, table: Proposed | None = None) -> dict[str, bytes]:
    """Path -> bytes of a new package, its lock among them. classes: as classes_of counts them; none, good and defect. table: the columns of
    its records, where they are rows, or the one that holds a text.

    Raises InputError when the name is none.
    """
    slug(name, "the scenario's name")
    plain = " ".join("".join(c if c.isprintable() else " " for c in title).split())
    subject = plain or name.replace("-", " ")
    counted = classes or dict.fromkeys(DEFAULT_CLASSES, 0)
    good, *others = counted
    pair = (good, others[0] if len(others) == 1 else DEFAULT_CLASSES[1])
    kind = IMAGES if table is None else TEXT if any(column.kind == "text" for column in table.columns) else TABLE
    intended, prohibited = USES[kind]
    size = size_of(classes)
    uses = intended.format(subject=subject, good=pair[0], defect=pair[1]), prohibited
    words = {
        "id": name,
        "quoted_id": _scalar(name),
        "title": _scalar(plain or subject[:1].upper() + subject[1:]),
        "heading": _line(plain or subject[:1].upper() + subject[1:]),
        "classes": json.dumps(pair, ensure_ascii=False),
        "intended_use": _scalar(uses[0]),
        "prohibited_use": _scalar(uses[1]),
        "intended_text": _line(uses[0]),
        "prohibited_text": uses[1],
        "class_lines": _class_lines(counted, others, "images" if table is None else "texts")
        if table is None or classes
        else _column_lines(table),
        "parts": ", ".join(size.parts),
        "parts_after_leaving": ", ".join(size.parts_after_leaving),
        "records_per_feature": str(size.records_per_feature),
        "size_text": _size_text(size, sum(counted.values())),
        "columns": "" if table is None else "\n".join(_column_yaml(column) for column in table.columns),
        "families": "[noise, missing]" if table is not None and any(c.missing for c in table.columns) else "[noise, drift]",
    }
    folder = resources.files("isthmus") / "scenarios" / "templates" / kind
    texts = {path: (folder / path).read_text(encoding="utf-8") for path in (MANIFEST, README)}
    contents = {path: Template(text).substitute(words).encode() for path, text in texts.items()}
    contents[SCHEMA] = (folder / SCHEMA).read_bytes()
    return {**contents, LOCK: lock_bytes(lock_of(contents, name, VERSION))}


def _size_text(size: Sized, images: int) -> str:
    seen = f" It was chosen for {images} images, as many as one folder has, and three owners alike." if images else ""
    more = " With more images, begin anew: more features tell more defects, and more images a feature hide each image better."
    asked = f"{size.records_per_feature} training images for each: {size.records} beside those of the owner who has most."
    return f"The recipe looks at {size.features} features and asks for {asked}{seen}{'' if size == SIZES[0] else more}"


def _column_yaml(column: Column) -> str:
    fields = {name: value for name, value in msgspec.to_builtins(column).items() if name != "kind" or value != "number"}
    if column.kind == "number":  # a range is said even where it begins at 0
        fields |= {"low": column.low, "high": column.high, "unit": column.unit}
    return "    - {" + ", ".join(f"{name}: {_field(value)}" for name, value in fields.items()) + "}"


def _field(value: Any) -> str:
    """As YAML reads it: a number with an exponent needs a point there."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if isinstance(value, float) else text


def _column_lines(table: Proposed) -> str:
    lines = [f"Proposed from {table.records} rows.", "", "| column | holds |", "|---|---|"]
    for column in table.columns:
        ranged = f"{column.low:g} to {column.high:g}"
        holds = {"text": "text", "number": ranged}.get(column.kind) or _line(", ".join(column.levels))
        lines.append(f"| {column.name} | {holds}{', may be missing' if column.missing else ''} |")
    lines += [f"| {_line(name)} | left out: {why} |" for name, why in table.left_out.items()]
    return "\n".join(lines)


def _scalar(text: str) -> str:
    """As YAML reads it, whatever it holds: a string of JSON is one of YAML."""
    return json.dumps(text, ensure_ascii=False)


def _line(text: str) -> str:
    """As a line of Markdown: nothing in it makes a heading, a link or a tag."""
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", text)


def _class_lines(counted: Mapping[str, int], others: list[str], kind: str) -> str:
    lines = [f"| folder | means | {kind} seen |", "|---|---|---|"]
    for name, count in counted.items():
        lines.append(f"| {_line(name)} | {'defect' if name in others else 'good'} | {count or '–'} |")
    return "\n".join(lines)
