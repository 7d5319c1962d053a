"""The knobs of a package: what a site may set, within which limits, and where in the manifest each value goes.

`values.schema.json` is JSON Schema (draft 2020-12), one object. What is not understood here is refused, because a limit that one reader
skips is no limit. A knob's `x-path` names one field of the manifest; what a scenario is, and what it is for, has no knob.
"""

from __future__ import annotations

import copy
import math
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from isthmus.contracts.package import Finding
from isthmus.contracts.scenario import Scenario
from isthmus.scenarios.contents import SCHEMA, fault
from isthmus.scenarios.located import Document, Steps, dotted
from isthmus.scenarios.structure import kind_of, nearest, quoted, unit_hint

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TOP_WORDS = frozenset({"$schema", "$id", "title", "description", "type", "properties", "additionalProperties"})
SAID = frozenset({"title", "description", "default", "x-path"})
LIMITS = frozenset({"type", "enum", "minimum", "maximum", "minItems", "maxItems", "items", "pattern"})
TYPES = ("integer", "number", "string", "boolean", "array")
FIXED = ("id", "version", "title", "tier", "task", "purpose", "intended_use", "prohibited_use", "interface", "sample_data")
"""Fields that no site sets: with another value it would be another scenario."""

TEXT_CHARS_MAX = 200
"""A site value that is text, and a pattern that it must match."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_QUANTIFIERS_MAX = 3
_LIMIT_KINDS: dict[str, tuple[str, ...]] = {
    "minimum": ("integer", "number"),
    "maximum": ("integer", "number"),
    "minItems": ("array",),
    "maxItems": ("array",),
    "items": ("array",),
    "pattern": ("string",),
}


@dataclass(frozen=True)
class Knob:
    """One property of the schema. path: the field of the manifest. limits: its keywords that bound a value."""

    name: str
    title: str
    path: Steps
    default: Any
    limits: Mapping[str, Any]


def is_of(value: Any, kind: str) -> bool:
    """Whether a plain value is of a JSON Schema type. A whole number written with a point is an integer to JSON Schema; here it is not,
    because a manifest's whole numbers are integers."""
    if kind == "boolean":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if kind == "number":
        return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, {"integer": int, "string": str, "array": list}[kind])


def value_faults(value: Any, limits: Mapping[str, Any], name: str) -> Iterator[tuple[Steps, str, str]]:
    """(steps within the value, what is wrong, what to do) of each limit that a value breaks. limits: understood ones, see LIMITS."""
    kind = limits["type"]
    if not is_of(value, kind):
        hint = unit_hint(name, value) or f"write {kind}"
        yield (), f"it is {quoted(value)}, {kind_of(value)}; {kind} is expected", hint
        return
    if "enum" in limits and not any(type(value) is type(choice) and value == choice for choice in limits["enum"]):
        yield (), f"it is {quoted(value)}, which is no choice", "write one of " + ", ".join(map(quoted, limits["enum"]))
    if "minimum" in limits and value < limits["minimum"]:
        yield (), f"it is {quoted(value)}, below the least that is allowed", f"write {limits['minimum']} or more"
    if "maximum" in limits and value > limits["maximum"]:
        yield (), f"it is {quoted(value)}, above the most that is allowed", f"write {limits['maximum']} or less"
    if kind == "string" and len(value) > TEXT_CHARS_MAX:
        yield (), f"it has more than {TEXT_CHARS_MAX} characters", "write it shorter"
    elif "pattern" in limits and not re.fullmatch(limits["pattern"][1:-1], value, re.ASCII):
        yield (), f"it is {quoted(value)}, which has not the form {limits['pattern']}", "write it in that form"
    if kind != "array":
        return
    if len(value) < limits.get("minItems", 0):
        yield (), f"it has {len(value)} items, fewer than {limits['minItems']}", "add items"
    if len(value) > limits.get("maxItems", len(value)):
        yield (), f"it has {len(value)} items, more than {limits['maxItems']}", "remove items"
    if "items" in limits:
        for place, item in enumerate(value):
            for steps, what, next_step in value_faults(item, limits["items"], name):
                yield (place, *steps), what, next_step


def read_knobs(document: Document) -> tuple[tuple[Knob, ...], list[Finding]]:
    """(the knobs that can be used, what is wrong with the schema)."""
    schema = document.value
    if not isinstance(schema, dict):
        return (), [fault("bad-schema", SCHEMA, f"{SCHEMA} is no object", "write one JSON Schema object")]
    found = [
        _fault(document, (word,), f"the keyword {word!r} is not understood", f"use {', '.join(sorted(TOP_WORDS))}")
        for word in schema
        if word not in TOP_WORDS
    ]
    if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
        what = 'it must say "type": "object" and "additionalProperties": false, so that a misspelt knob is refused'
        found.append(_fault(document, (), what, "add both"))
    if schema.get("$schema", DIALECT) != DIALECT:
        found.append(_fault(document, ("$schema",), "it is of another dialect", f"write {DIALECT}"))
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        return (), [*found, _fault(document, ("properties",), "properties is no object", "give one schema a knob")]
    knobs: list[Knob] = []
    for name, words in properties.items():
        wrong = list(_knob_faults(document, name, words))
        found += wrong
        if not wrong:
            path = tuple(words["x-path"].split("."))
            title = words.get("title") or words["description"]
            knobs.append(Knob(name, title, path, words["default"], {k: v for k, v in words.items() if k in LIMITS}))
    for place, knob in enumerate(knobs):
        if any(knob.path == other.path for other in knobs[:place]):
            what = f"{knob.name} sets {dotted(knob.path)}, and so does another knob"
            found.append(_fault(document, ("properties", knob.name, "x-path"), what, "keep one of them"))
    return tuple(knobs), found


def _fault(document: Document, steps: Steps, what: str, next_step: str, code: str = "bad-schema") -> Finding:
    return fault(code, SCHEMA, f"{dotted(steps) or SCHEMA}: {what}", next_step, *document.place(steps))


def _knob_faults(document: Document, name: str, words: Any) -> Iterator[Finding]:
    at: Steps = ("properties", name)
    if not _NAME.fullmatch(name):
        yield _fault(document, at, "a knob's name has lower-case letters, digits and underscores", "rename it")
    if not isinstance(words, dict):
        yield _fault(document, at, "it is no object", "give type, title, default and x-path")
        return
    for word in sorted(words.keys() - LIMITS - SAID):
        yield _fault(document, (*at, word), f"the keyword {word!r} is not understood", f"use {', '.join(sorted(LIMITS | SAID))}")
    for word in ("type", "default", "x-path"):
        if word not in words:
            yield _fault(document, at, f"it has no {word}", f"add {word}")
    if not any(isinstance(words.get(word), str) and words[word].strip() for word in ("title", "description")):
        yield _fault(document, at, "it has neither title nor description", "say what the knob does")
    wrong = list(_limit_faults(document, at, {k: v for k, v in words.items() if k in LIMITS}))
    yield from wrong
    path = words.get("x-path")
    if "x-path" in words:
        yield from _path_faults(document, at, path, words.get("type"))
    if not wrong and "default" in words and "type" in words:
        for steps, what, next_step in value_faults(words["default"], words, str(path).rpartition(".")[2]):
            yield _fault(document, (*at, "default", *steps), f"the default: {what}", next_step)


def _limit_faults(document: Document, at: Steps, limits: Mapping[str, Any]) -> Iterator[Finding]:
    kind = limits.get("type")
    if kind not in TYPES:
        yield _fault(document, (*at, "type"), f"the type {quoted(kind)} is not understood", f"use {', '.join(TYPES)}")
        return
    for word, kinds in _LIMIT_KINDS.items():
        if word in limits and kind not in kinds:
            yield _fault(document, (*at, word), f"{word} bounds {' or '.join(kinds)}, not {kind}", "remove it")
    for word in ("minimum", "maximum"):
        if word in limits and not is_of(limits[word], "number"):
            yield _fault(document, (*at, word), f"{word} is no number", "write a number")
    for word in ("minItems", "maxItems"):
        if word in limits and not (is_of(limits[word], "integer") and limits[word] >= 0):
            yield _fault(document, (*at, word), f"{word} is no count", "write a whole number")
    if "enum" in limits and not (isinstance(limits["enum"], list) and limits["enum"]):
        yield _fault(document, (*at, "enum"), "enum lists no choice", "list the choices")
    if "pattern" in limits and (why := pattern_fault(limits["pattern"])):
        yield _fault(document, (*at, "pattern"), why, "write ^[A-Z]{3}$ or as plain")
    if "items" in limits:
        items = limits["items"]
        if not isinstance(items, dict) or items.keys() - LIMITS or items.get("type") == "array":
            yield _fault(document, (*at, "items"), "items is no plain schema of one item", f"use {', '.join(sorted(LIMITS))}")
        else:
            yield from _limit_faults(document, (*at, "items"), items)


def pattern_fault(pattern: Any) -> str:
    """Why a pattern is refused; empty when it is taken. Without groups and with few quantifiers no text makes it slow."""
    if not isinstance(pattern, str) or len(pattern) > TEXT_CHARS_MAX or len(pattern) < 2 or pattern[0] != "^" or pattern[-1] != "$":
        return "a pattern begins with ^ and ends with $"
    body = re.sub(r"\\.", "x", pattern[1:-1])
    outside = re.sub(r"\[[^\]]*\]", "x", body)
    if re.search(r"[()|]", outside) or len(re.findall(r"[*+?{]", outside)) > _QUANTIFIERS_MAX or re.search(r"\\[0-9A-Za-z]", pattern):
        return f"a pattern has no groups, no choices, no escaped letters, and at most {_QUANTIFIERS_MAX} of * + ? {{}}"
    if not pattern.isascii() or re.search(r"\{[^}]*\d{4}", outside):
        return "a pattern is ASCII, and counts up to 999"
    try:
        re.compile(pattern)
    except re.error as error:
        return f"the pattern is none: {error}"
    return ""


def field_type(path: Steps) -> Any:
    """The type of a field of the manifest, or None when there is none or it has fields of its own."""
    wanted: Any = Scenario
    for step in path:
        if not (isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)):
            return None
        wanted = typing.get_type_hints(wanted).get(str(step))
    return None if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct) else wanted


def field_paths() -> list[str]:
    """Every field of the manifest that a knob may set, as x-path names it."""
    found = []
    for name, wanted in typing.get_type_hints(Scenario).items():
        if name in FIXED:
            continue
        inner = wanted if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct) else None
        found += [f"{name}.{field}" for field in inner.__struct_fields__] if inner else [name]
    return found


def _path_faults(document: Document, at: Steps, path: Any, kind: Any) -> Iterator[Finding]:
    steps = tuple(path.split(".")) if isinstance(path, str) else ()
    wanted = field_type(steps) if steps else None
    if steps and steps[0] in FIXED:
        what = f"{path} is what the scenario is, and no site sets it"
        yield _fault(document, (*at, "x-path"), what, f"use one of {', '.join(field_paths())}", "knob-fixed")
    elif wanted is None:
        what = f"the manifest has no field {path!r}"
        yield _fault(document, (*at, "x-path"), what, nearest(str(path), field_paths()), "knob-path")
    else:
        fits = {int: ("integer",), float: ("integer", "number"), str: ("string",), bool: ("boolean",)}.get(wanted, ("array",))
        literal = typing.get_origin(wanted) is typing.Literal
        if kind in TYPES and kind not in (("string",) if literal else fits):
            what = f"{path} takes {' or '.join(fits)}, the knob gives {kind}"
            yield _fault(document, (*at, "type"), what, f"write {fits[0]}", "knob-type")


def at_path(manifest: Any, path: Steps) -> Any:
    """The value of a field; raises KeyError when the manifest leaves it out."""
    for step in path:
        if not isinstance(manifest, dict):
            raise KeyError(step)
        manifest = manifest[step]
    return manifest


def default_faults(document: Document, knobs: tuple[Knob, ...], manifest: Any) -> Iterator[Finding]:
    """Where the schema's default is not what the manifest says: a reader of the one would be wrong about the other."""
    for knob in knobs:
        try:
            said = at_path(manifest, knob.path)
        except KeyError:  # the manifest lacks a field that it must have, and that was said
            continue
        if said != knob.default or type(said) is not type(knob.default):
            what = f"the default is {quoted(knob.default)}, the manifest says {quoted(said)}"
            yield _fault(document, ("properties", knob.name, "default"), what, "write the same in both files", "knob-default")


def given_faults(values: Document, knobs: tuple[Knob, ...]) -> Iterator[Finding]:
    """What is wrong with site values. values: the document that gives them."""
    if not isinstance(values.value, dict):
        what = f"{values.file} is {kind_of(values.value)}; a table of knobs is expected"
        yield fault("bad-values", values.file, what, "write one line a knob: name: value", *values.place(()))
        return
    known = {knob.name: knob for knob in knobs}
    for name, value in values.value.items():
        if name not in known:
            what = f"there is no knob {name}" if known else "the package has no knobs"
            next_step = nearest(name, known).replace("fields", "knobs") if known else "remove the values, or use a package that has some"
            yield fault("unknown-knob", values.file, what, next_step, *values.key_place((name,)))
            continue
        for steps, what, next_step in value_faults(value, known[name].limits, str(known[name].path[-1])):
            yield fault("bad-value", values.file, f"{dotted((name, *steps))}: {what}", next_step, *values.place((name, *steps)))


def applied(manifest: dict[str, Any], knobs: tuple[Knob, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with site values in place; the given one is left as it was. values: checked by given_faults."""
    made = copy.deepcopy(manifest)
    for knob in knobs:
        if knob.name in values:
            holder = made
            for step in knob.path[:-1]:
                holder = holder[str(step)]
            holder[str(knob.path[-1])] = copy.deepcopy(values[knob.name])
    return made
