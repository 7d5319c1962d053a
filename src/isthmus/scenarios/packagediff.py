"""What differs between two packages, and whether a certificate of the one could stand for the other. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from isthmus.scenarios.contents import HOOKS, LOCK, MANIFEST, PROMPTS, SCHEMA, VALUES, Contents
from isthmus.scenarios.lock import lock_of
from isthmus.scenarios.package import scenario_of
from isthmus.scenarios.validation import knobs_of

CERTIFIED = (
    "id",
    "tier",
    "task",
    "purpose",
    "intended_use",
    "prohibited_use",
    "interface",
    "recipe",
    "certify",
    "replicate.weightings",
    "replicate.families",
    "replicate.severities",
)
"""Fields that a certificate is about: what the model is made of, what it must prove, and what for."""

Part = Literal["manifest", "knob", "file"]
ABSENT = None


@dataclass(frozen=True)
class Change:
    """where: a field of the manifest, a knob and its keyword, or a file. before, after: None where there is none."""

    part: Part
    where: str
    before: Any
    after: Any
    certificate: bool


@dataclass(frozen=True)
class PackageDiff:
    """names: `id version digest` of both. clash: one name and version, other content, so that the second cannot be installed
    beside the first."""

    names: tuple[str, str]
    changes: tuple[Change, ...]
    clash: bool

    @property
    def certificate(self) -> bool:
        """Whether the second package needs a new certificate."""
        return any(change.certificate for change in self.changes)


def package_diff(before: Contents, after: Contents) -> PackageDiff:
    """By field of the manifest with the package's own values in place, by knob, and by file. Raises DocumentError when one of the two
    cannot be loaded."""
    manifests = [scenario_of(contents, where=where) for contents, where in ((before, "the first"), (after, "the second"))]
    flat = [_flat(msgspec.json.decode(msgspec.json.encode(manifest))) for manifest in manifests]
    changes = [Change("manifest", path, old, new, _certified(path)) for path, old, new in _pairs(*flat)]
    changes += [Change("knob", path, old, new, False) for path, old, new in _pairs(_knobs(before), _knobs(after))]
    locks = [lock_of(c, m.id, m.version) for c, m in zip((before, after), manifests, strict=True)]
    files = [{file.path: file.sha256 for file in lock.files} for lock in locks]
    for path, old, new in _pairs(*files):
        changes.append(Change("file", path, old, new, path == HOOKS or path.startswith(f"{PROMPTS}/")))
    same_name = (manifests[0].id, manifests[0].version) == (manifests[1].id, manifests[1].version)
    names = tuple(f"{lock.id} {lock.version} {lock.digest}" for lock in locks)
    return PackageDiff((names[0], names[1]), tuple(changes), same_name and locks[0].digest != locks[1].digest)


def _certified(path: str) -> bool:
    return any(path == field or path.startswith(field + ".") for field in CERTIFIED)


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Field -> value; a list is one value."""
    if not isinstance(value, dict):
        return {path: value}
    found: dict[str, Any] = {}
    for name, inner in value.items():
        found |= _flat(inner, f"{path}.{name}" if path else name)
    return found


def _knobs(contents: Contents) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for knob in knobs_of(contents)[1]:
        words = {"x-path": ".".join(map(str, knob.path)), "title": knob.title, "default": knob.default, **knob.limits}
        found |= {f"{knob.name}.{word}": value for word, value in words.items()}
    return found


def _pairs(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    names = [*before, *(name for name in after if name not in before)]
    return [
        (name, before.get(name, ABSENT), after.get(name, ABSENT)) for name in names if before.get(name, ABSENT) != after.get(name, ABSENT)
    ]


def told_elsewhere(change: Change) -> bool:
    """Files whose change is told field by field already, or follows from every other."""
    return change.part == "file" and change.where in (MANIFEST, SCHEMA, VALUES, LOCK)
