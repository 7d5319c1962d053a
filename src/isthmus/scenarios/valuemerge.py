"""Carries a site's values from one version of a package to the next: a three-way merge of old defaults, site values and new knobs. Pure.

A knob is known by the field that it sets, so a renamed knob keeps its value. Where a site has the old default it never meant to differ,
and it follows the new default. What it did set differently is kept if the new limits allow it; else it is a conflict, because a price or a
validity that is silently lost or bent is worse than a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from isthmus.contracts.errors import ConflictError
from isthmus.scenarios.contents import Contents
from isthmus.scenarios.located import dotted
from isthmus.scenarios.structure import quoted
from isthmus.scenarios.validation import knobs_of
from isthmus.scenarios.values import Knob, value_faults


@dataclass(frozen=True)
class Note:
    """What became of one site value. knob: its name in the old package. to: its name in the new one, empty where it has none."""

    knob: str
    to: str
    sentence: str


@dataclass(frozen=True)
class Merge:
    """values: for the new package; valid for it when there is no conflict. Every old value is in exactly one of the three lists."""

    values: dict[str, Any]
    kept: tuple[Note, ...]
    dropped: tuple[Note, ...]
    conflicts: tuple[Note, ...]


def same(one: Any, other: Any) -> bool:
    """Equal in type and value: 1, 1.0 and true are three."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)


def merged_values(old: Sequence[Knob], values: Mapping[str, Any], new: Sequence[Knob]) -> Merge:
    """The site's values for the new package's knobs. old, new: knobs of the two packages; values: what the site gave the old one."""
    merged: dict[str, Any] = {}
    notes: dict[str, list[Note]] = {"kept": [], "dropped": [], "conflict": []}
    before, by_path = {knob.name: knob for knob in old}, {knob.path: knob for knob in new}
    by_name = {knob.name: knob for knob in new}
    for name, value in values.items():
        knob = before.get(name)
        after = None if knob is None else by_path.get(knob.path)
        fate, sentence = _fate(name, value, knob, after, by_name.get(name))
        if fate == "kept" and after is not None:
            merged[after.name] = value
        notes[fate].append(Note(name, after.name if after is not None else "", sentence))
    return Merge(merged, tuple(notes["kept"]), tuple(notes["dropped"]), tuple(notes["conflict"]))


def _fate(
    name: str, value: Any, knob: Knob | None, after: Knob | None, namesake: Knob | None
) -> tuple[Literal["kept", "dropped", "conflict"], str]:
    """What becomes of a value. after: the new knob of the same field. namesake: the new knob of the same name."""
    if knob is None:
        return "conflict", f"the old package has no knob {name}, so what {quoted(value)} was meant for is not known; remove it"
    untouched = same(value, knob.default)
    if after is None:
        if untouched:
            return "dropped", f"{name} is no knob any more, and the site had left it at its default {quoted(value)}"
        where = dotted(knob.path)
        if namesake is not None:
            return "conflict", (
                f"{name} was {where} and is {dotted(namesake.path)} now; the site's {quoted(value)} was meant for the first: set it anew"
            )
        return "conflict", f"no knob sets {where} any more, and the site had {quoted(value)} there: remove it, or stay with the old package"
    called = f"{name} is called {after.name} now" if after.name != name else name
    if untouched and not same(after.default, knob.default):
        return "dropped", f"{called}: the site had left it at the default, which is {quoted(after.default)} now and was {quoted(value)}"
    wrong = next(iter(value_faults(value, after.limits, str(after.path[-1]))), None)
    if wrong is not None:
        return "conflict", f"{called}: {wrong[1]}; {wrong[2]}"
    changed = (
        "" if same(after.default, knob.default) else f", also beside the new default {quoted(after.default)} (was {quoted(knob.default)})"
    )
    return "kept", f"{called}: the site's {quoted(value)} is kept{changed}"


def refuse_conflicts(merge: Merge) -> None:
    """Raises ConflictError with a sentence for each value that cannot be carried over."""
    if merge.conflicts:
        said = "; ".join(note.sentence for note in merge.conflicts)
        what = f"{len(merge.conflicts)} of the site's values cannot be carried over: {said}"
        raise ConflictError(what, "settle each in the site's values")


def values_text(values: Mapping[str, Any]) -> str:
    """A file of site values."""
    return yaml.safe_dump(dict(values), sort_keys=True, allow_unicode=True) if values else "{}\n"


def package_merge(old: Contents, values: Mapping[str, Any], new: Contents) -> Merge:
    """The same, of two packages that were read."""
    return merged_values(knobs_of(old)[1], values, knobs_of(new)[1])
