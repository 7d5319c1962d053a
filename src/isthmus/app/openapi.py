"""OpenAPI 3.1 from the table of routes itself: path, methods, and what each handler's docstring promises.

A handler's docstring is its documentation: the first line is the summary, the rest the description. Lines of the form
`Body: Noun`, `Answers: Noun` and `Status: 201` name the contract of the request, of the answer, and a status other than
200; `Noun` is the name of a contract Struct. Every route may answer with the one error body.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.routing import BaseRoute, Mount, Route

VERSION = "3.1.0"
REFERENCE = "#/components/schemas/{name}"
_LINE = re.compile(r"^(Body|Answers|Status):\s*(\S+)\s*$", re.MULTILINE)
_PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_KINDS = {"int": {"type": "integer"}, "float": {"type": "number"}, "uuid": {"type": "string", "format": "uuid"}}
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "What failed, why, and what to do next. The codes are listed in errors.md.",
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "next": {"type": "string"}},
    "required": ["code", "message", "next"],
}


@dataclass(frozen=True)
class Operation:
    """What one handler's docstring says. body and answers are names of contract nouns, or empty."""

    summary: str
    description: str
    body: str
    answers: str
    status: int


def operation_of(docstring: str | None) -> Operation:
    """Reads a handler's docstring. Raises ValueError when there is none: an undocumented route is a fault."""
    text = inspect.cleandoc(docstring or "")
    if not text:
        raise ValueError("a handler has no docstring")
    said = dict(_LINE.findall(text))
    summary, _, description = _LINE.sub("", text).strip().partition("\n")
    return Operation(
        summary.strip().rstrip("."), description.strip(), said.get("Body", ""), said.get("Answers", ""), int(said.get("Status", 200))
    )


def flattened(routes: Iterable[BaseRoute], prefix: str = "") -> list[tuple[str, Route]]:
    """(full path, route) of every HTTP route, mounts included, sorted by path and method."""
    found: list[tuple[str, Route]] = []
    for route in routes:
        if isinstance(route, Mount):
            found += flattened(route.routes or [], prefix + route.path)
        elif isinstance(route, Route) and route.include_in_schema:
            found.append((prefix + route.path, route))
    return sorted(found, key=lambda pair: (pair[0], sorted(pair[1].methods or ())))


def document(routes: Sequence[BaseRoute], nouns: Sequence[type[msgspec.Struct]], title: str, version: str) -> dict[str, Any]:
    """The OpenAPI document.

    nouns: contract Structs that docstrings may name. Raises ValueError when a docstring is missing or names an unknown noun.
    """
    _, components = msgspec.json.schema_components(nouns, ref_template=REFERENCE)
    paths: dict[str, Any] = {}
    for path, route in flattened(routes):
        shown = _PARAMETER.sub(r"{\1}", path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            try:
                paths.setdefault(shown, {})[method.lower()] = _operation(path, method, route, components)
            except ValueError as error:
                raise ValueError(f"{method} {path}: {error}") from error
    return {
        "openapi": VERSION,
        "info": {"title": title, "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": {**dict(sorted(components.items())), "Error": ERROR_SCHEMA}},
    }


def _operation(path: str, method: str, route: Route, components: dict[str, Any]) -> dict[str, Any]:
    said = operation_of(route.endpoint.__doc__)
    for noun in (said.body, said.answers):
        if noun and noun not in components:
            raise ValueError(f"the docstring names {noun!r}, which is no contract noun")
    answer: dict[str, Any] = {"description": "Done."}
    if said.answers:
        answer["content"] = _json(said.answers)
    result: dict[str, Any] = {
        "operationId": f"{method.lower()}-{re.sub(r'[^a-z0-9]+', '-', path.lower()).strip('-')}",
        "summary": said.summary,
        "responses": {str(said.status): answer, "default": {"description": "It failed.", "content": _json("Error")}},
    }
    if said.description:
        result["description"] = said.description
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _KINDS.get(kind, {"type": "string"})}
        for name, kind in _PARAMETER.findall(path)
    ]
    if parameters:
        result["parameters"] = parameters
    if said.body:
        result["requestBody"] = {"required": True, "content": _json(said.body)}
    return result


def _json(noun: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REFERENCE.format(name=noun)}}}
