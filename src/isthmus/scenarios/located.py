"""YAML with places: the value of a document, and line and column of every field and item in it.

Only what reads the same everywhere is taken: no anchors, no tags, no merge keys, no key twice. Nothing of it runs code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from isthmus.contracts.package import Finding
from isthmus.scenarios.contents import fault

YAML_BYTES_MAX = 256 * 1024
"""One YAML or JSON file of a scenario package."""

DEPTH_MAX = 40
Steps = tuple[str | int, ...]
"""Where a value stands in a document: names of fields and places in lists."""

Place = tuple[int, int]
PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map"))


@dataclass(frozen=True)
class Document:
    """value: plain data. values, keys: line and column, from 1, of each value and of the name of each field."""

    file: str
    value: Any
    values: dict[Steps, Place] = field(default_factory=dict)
    keys: dict[Steps, Place] = field(default_factory=dict)

    def place(self, steps: Steps) -> Place:
        """Of the value, or of the nearest that holds it; (0, 0) when the document has no places."""
        for length in range(len(steps), -1, -1):
            if steps[:length] in self.values:
                return self.values[steps[:length]]
        return (0, 0)

    def key_place(self, steps: Steps) -> Place:
        """Of the name of a field."""
        return self.keys.get(steps) or self.place(steps)


def dotted(steps: Steps) -> str:
    """`certify.promises_ppm[1]`."""
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def decoded(file: str, raw: bytes) -> tuple[str, list[Finding]]:
    """The text, or what keeps it from being one."""
    if len(raw) > YAML_BYTES_MAX:
        return "", [fault("file-size", file, f"{file} has {len(raw)} bytes, more than the {YAML_BYTES_MAX} allowed", "make it shorter")]
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        what = f"{file} cannot be read: byte {error.start} is not UTF-8"
        return "", [fault("not-utf8", file, what, "save the file as UTF-8", line, column)]


def read_yaml(file: str, raw: bytes) -> tuple[Document | None, list[Finding]]:
    """The document, or None and why not. Faults that leave a value (a key twice) give both."""
    text, found = decoded(file, raw)
    if found:
        return None, found
    loader = yaml.SafeLoader("")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return None, [fault("yaml-empty", file, f"{file} holds nothing", "write its fields, or remove the file", 1, 1)]
        document = Document(file, None)
        found = list(_walked(file, root, (), document, set()))
        if found and any(one.code != "yaml-duplicate-key" for one in found):
            return None, found
        value = loader.construct_document(root)
    except yaml.YAMLError as error:
        return None, [_syntax(file, text, error)]
    except (RecursionError, ValueError, TypeError, OverflowError) as error:
        what = f"{file} is not YAML that can be read here: {' '.join(str(error).split())[:200]}"
        return None, [fault("yaml-syntax", file, what, "write plain fields and lists", 1, 1)]
    finally:
        loader.dispose()
    return Document(file, value, document.values, document.keys), found


def _syntax(file: str, text: str, error: yaml.YAMLError) -> Finding:
    said = " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split())
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        line, column = mark.line + 1, mark.column + 1
    else:
        position = min(int(getattr(error, "position", 0) or 0), len(text))
        line, column = text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1
    lines = text.splitlines()
    if "\\t" in said or (line <= len(lines) and "\t" in lines[line - 1][: column + 1]):
        return fault("yaml-tab", file, f"{file} is not YAML: a tab stands where spaces are needed", "indent with spaces", line, column)
    opened = getattr(error, "context_mark", None)
    todo = "mend the line it names"
    if opened is not None and opened.line + 1 <= line and (begun := _opened(lines, opened.line, opened.column)):
        todo = f"close the {begun} that line {opened.line + 1} opens, or mend this line"
    return fault("yaml-syntax", file, f"{file} is not YAML: {said}", todo, line, column)


def _opened(lines: list[str], line: int, column: int) -> str:
    """What stands open there: a bracket, a brace or a quote; empty when it is none of them."""
    sign = lines[line][column : column + 1] if line < len(lines) else ""
    return {"[": "bracket [", "{": "brace {", "'": "quote '", '"': 'quote "'}.get(sign, "")


def _walked(file: str, node: yaml.Node, steps: Steps, into: Document, seen: set[int]) -> Iterator[Finding]:
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    if id(node) in seen:
        where = into.keys.get(steps) or into.place(steps[:-1])  # the node's own mark is that of the part which is repeated
        yield fault("yaml-alias", file, f"{dotted(steps)} repeats another part by *name", "write the value out", *where)
        return
    into.values[steps] = (line, column)
    seen.add(id(node))
    if len(steps) > DEPTH_MAX:
        yield fault("yaml-syntax", file, f"{file} is nested more than {DEPTH_MAX} deep", "write it flatter", line, column)
    elif node.tag not in PLAIN_TAGS:
        yield _odd_tag(file, node, steps, line, column)
    elif isinstance(node, yaml.MappingNode):
        yield from _walked_fields(file, node, steps, into, seen)
    elif isinstance(node, yaml.SequenceNode):
        for place, inner in enumerate(node.value):
            yield from _walked(file, inner, (*steps, place), into, seen)


def _walked_fields(file: str, node: yaml.MappingNode, steps: Steps, into: Document, seen: set[int]) -> Iterator[Finding]:
    for key, value in node.value:
        line, column = key.start_mark.line + 1, key.start_mark.column + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            shown = getattr(key, "value", "") if isinstance(key, yaml.ScalarNode) else "a list or table"
            yield fault("yaml-key", file, f"the field {shown!r} is not text", "put the name in quotes", line, column)
            continue
        inner = (*steps, str(key.value))
        if inner in into.keys:
            first = into.keys[inner][0]
            what = f"{dotted(inner)} is given twice, first in line {first}; only one could count"
            yield fault("yaml-duplicate-key", file, what, "remove one of the two", line, column)
        into.keys[inner] = (line, column)
        yield from _walked(file, value, inner, into, seen)


def _odd_tag(file: str, node: yaml.Node, steps: Steps, line: int, column: int) -> Finding:
    kind = node.tag.rpartition(":")[2]
    if kind == "timestamp":
        what, next_step = f"{dotted(steps)} reads as a date", "put it in quotes"
    else:
        what, next_step = (
            f"{file} is not YAML that is taken here: {dotted(steps) or 'it'} has the tag {kind!r}",
            "write plain data, without !",
        )
    return fault("yaml-tag", file, what, next_step, line, column)


def read_json(file: str, raw: bytes) -> tuple[Document | None, list[Finding]]:
    """The same for JSON. Places are found by reading it as YAML; where that fails there are none."""
    text, found = decoded(file, raw)
    if found:
        return None, found
    twice: list[str] = []

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice.extend(sorted({name for name in names if names.count(name) > 1}))
        return dict(pairs)

    def no_number(word: str) -> Any:
        raise ValueError(f"{word} is no number in JSON")

    try:
        value = json.loads(text, object_pairs_hook=fields, parse_constant=no_number)
    except json.JSONDecodeError as error:
        what = f"{file} is not JSON: {error.msg}"
        return None, [fault("json-syntax", file, what, "mend the line it names", error.lineno, error.colno)]
    except (ValueError, RecursionError) as error:
        return None, [fault("json-syntax", file, f"{file} is not JSON: {error}", "write plain JSON", 1, 1)]
    if twice:
        what = f"{file} gives {twice[0]!r} twice; only one could count"
        found = [fault("yaml-duplicate-key", file, what, "remove one of the two", *_second(text, twice[0]))]
    places, _ = read_yaml(file, raw)
    return Document(file, value, places.values if places else {}, places.keys if places else {}), found


def _second(text: str, name: str) -> Place:
    quoted = json.dumps(name)
    first = text.find(quoted)
    at = max(text.find(quoted, first + 1), 0)
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1
