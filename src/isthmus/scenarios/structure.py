"""Holds a document against the type that it should have, field by field, and says every difference with its place.

msgspec stops at the first difference and knows no lines; a person who mends a file wants all of them, with lines.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from isthmus.contracts.bars import PPM
from isthmus.contracts.package import Finding
from isthmus.scenarios.contents import fault
from isthmus.scenarios.located import Document, Steps, dotted

PPM_END, MICROS_START, DAYS_END = "_ppm", "micros", "_days"
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "array": "a list",
    "object": "a table of fields",
    "bool": "true or false",
    "null": "nothing",
}
_EXPECTED = re.compile(r"Expected `(?P<wanted>[^`]+)`(?: of length (?P<length>\d+))?(?:, got `?(?P<got>[^`\s]+)`?)?")
_AT = re.compile(r" - at `\$(?P<path>[^`]*)`")
_SHOWN_CHARS = 60


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean x?`, or what there is."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"the fields here are {', '.join(names)}"


def quoted(value: Any) -> str:
    """A value as a sentence may show it."""
    text = "true" if value is True else "false" if value is False else "nothing" if value is None else repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def kind_of(value: Any) -> str:
    """What a plain value is, in words."""
    if isinstance(value, bool):
        return KINDS["bool"]
    for kind, of in (("int", int), ("float", float), ("str", str), ("array", list), ("object", dict), ("null", type(None))):
        if isinstance(value, of):
            return KINDS[kind]
    return type(value).__name__


def unit_hint(name: str, value: Any) -> str:
    """What to write instead, when a value looks as if it had another unit than its field; else empty. name: ends with the unit."""
    share, text = None, value.strip() if isinstance(value, str) else ""
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*[a-z]*", text)
    if PPM_END in name:
        if isinstance(value, float) and math.isfinite(value):
            share = value if 0 < value <= 1 else value / 100 if 1 < value <= 100 else None
        elif percent:
            share = float(percent.group(1)) / 100
        return f"parts per million: write {round(share * PPM)}" if share is not None else ""
    if name.startswith(MICROS_START) and isinstance(value, float) and 0 < value < 1000:
        return f"micro-units, a millionth of the currency: write {round(value * 1_000_000)}"
    if name.endswith(DAYS_END) and number:
        return f"whole days: write {round(float(number.group(1)))}"
    return ""


def structure_faults(document: Document, wanted: type[msgspec.Struct]) -> list[Finding]:
    """Every field that is unknown, missing or of the wrong type, in the order of the file."""
    found = list(_struct(document, document.value, wanted, ()))
    return sorted(found, key=lambda one: (one.line, one.column))


def _struct(document: Document, value: Any, wanted: type[msgspec.Struct], steps: Steps) -> Iterator[Finding]:
    where = dotted(steps) or document.file
    if not isinstance(value, dict):
        what = f"{where} is {quoted(value)}, {kind_of(value)}; a table of fields is expected"
        yield fault("wrong-type", document.file, what, f"write its fields: {', '.join(_names(wanted))}", *document.place(steps))
        return
    hints, known = {name: stated(hint) for name, hint in typing.get_type_hints(wanted).items()}, _names(wanted)
    meant: set[str] = set()
    for name in value:
        if name not in known:
            absent = [field for field in known if field not in value and field not in meant]
            near = difflib.get_close_matches(name, absent, n=1)
            meant.update(near)
            what, next_step = f"there is no field {dotted((*steps, name))}", nearest(name, near or known)
            yield fault("unknown-field", document.file, what, next_step, *document.key_place((*steps, name)))
    for field in msgspec.structs.fields(wanted):
        if field.name in value:
            yield from _value(document, value[field.name], hints[field.name], (*steps, field.name))
        elif field.required and field.name not in meant:
            what = f"{where} has no field {field.name}"
            yield fault("missing-field", document.file, what, f"add {field.name}: {_wish(hints[field.name])}", *document.place(steps))


def stated(hint: Any) -> Any:
    """The type of a field that may be left out, without the mark that it may."""
    kept = [part for part in typing.get_args(hint) if part is not msgspec.UnsetType]
    return kept[0] if len(kept) == 1 and msgspec.UnsetType in typing.get_args(hint) else hint


def _names(wanted: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(wanted)]


def _value(document: Document, value: Any, wanted: Any, steps: Steps) -> Iterator[Finding]:
    wanted = _struct_or_none(wanted) if value is not None else wanted
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        yield from _struct(document, value, wanted, steps)
        return
    inner = _struct_of_list(wanted)
    if inner is not None and isinstance(value, list):
        for place, item in enumerate(value):
            yield from _struct(document, item, inner, (*steps, place))
        return
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        yield _differs(document, value, wanted, steps, str(error))


def _struct_or_none(wanted: Any) -> Any:
    """The struct of a part that may be left out, such as Trees of Trees | None; any other type as it is."""
    structs = [one for one in typing.get_args(wanted) if isinstance(one, type) and issubclass(one, msgspec.Struct)]
    return structs[0] if isinstance(wanted, types.UnionType) and len(structs) == 1 else wanted


def _struct_of_list(wanted: Any) -> type[msgspec.Struct] | None:
    """The struct that a type lists, such as Probe of tuple[Probe, ...]."""
    given = typing.get_args(wanted)
    if typing.get_origin(wanted) is tuple and len(given) == 2 and isinstance(given[0], type) and issubclass(given[0], msgspec.Struct):
        return given[0]
    return None


def _differs(document: Document, value: Any, wanted: Any, steps: Steps, said: str) -> Finding:
    at = _AT.search(said)
    for place in re.findall(r"\[(\d+)\]", at.group("path") if at else ""):
        steps, value, wanted = (*steps, int(place)), value[int(place)], _item(wanted)
    line, column = document.place(steps)
    expected = _EXPECTED.search(said)
    if expected and expected.group("length"):
        got = len(value) if isinstance(value, list) else 0
        what, next_step = f"{dotted(steps)} has {got} items; {expected.group('length')} are expected", "add or remove items"
    else:
        what = f"{dotted(steps)} is {quoted(value)}, {kind_of(value)}; {_wish(wanted)} is expected"
        name = next(step for step in reversed(steps) if isinstance(step, str))
        next_step = unit_hint(name, value) or _mended(value, wanted)
    return fault("wrong-type", document.file, what, next_step, line, column)


def _item(wanted: Any) -> Any:
    given = typing.get_args(wanted)
    return given[0] if typing.get_origin(wanted) is tuple and given else wanted


def _wish(wanted: Any) -> str:
    """A type, in words."""
    if typing.get_origin(wanted) is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(wanted))
    if typing.get_origin(wanted) is tuple:
        return KINDS["array"]
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return KINDS["object"]
    return KINDS.get(getattr(wanted, "__name__", ""), str(wanted))


def _mended(value: Any, wanted: Any) -> str:
    if typing.get_origin(wanted) is typing.Literal:
        choices = [str(choice) for choice in typing.get_args(wanted)]
        near = difflib.get_close_matches(str(value), choices, n=1)
        return f"did you mean {near[0]}?" if near else f"write one of {', '.join(choices)}"
    if wanted is str and not isinstance(value, str | list | dict):
        return "put it in quotes"
    if typing.get_origin(wanted) is tuple and not isinstance(value, list):
        return "write a list: [" + ("..." if isinstance(value, dict) else str(value)[:_SHOWN_CHARS]) + "]"
    if wanted is int and isinstance(value, str) and value.strip().isdecimal():
        return "remove the quotes"
    return f"write {_wish(wanted)}"
