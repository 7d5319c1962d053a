"""The generated reference: every file under docs/reference, made from the code that it describes.

A test holds the committed files to what this module makes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import msgspec
from starlette.routing import BaseRoute

import isthmus.app as app
import isthmus.contracts as contracts
from isthmus import __version__
from isthmus.app.openapi import document
from isthmus.cli.main import COMMANDS, EDGE_CODES, isthmus
from isthmus.contracts.documentschemas import agreement_document_schema, asset_description_schema, profile_document
from isthmus.contracts.errors import IsthmusError
from isthmus.kit.config import setting_lines
from isthmus.kit.signing import Envelope
from isthmus.kit.texts import load_texts

HELP_WIDTH = 100
GENERATED = "<!-- Written by `make reference` from the code. Edit the code, not this page. -->\n\n"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMAS = "schemas"
LIMIT_ENDINGS = ("_MAX", "_MIN", "_LEAST")


def nouns() -> list[type[msgspec.Struct]]:
    """Every contract Struct, and the envelope that signed ones travel in, by name."""
    return [Envelope, *_structs(contracts)]


def spoken_nouns() -> list[type[msgspec.Struct]]:
    """What docstrings of routes may name: contract nouns, and bodies that only the API itself has."""
    return [*nouns(), *_structs(app)]


def _structs(package: ModuleType) -> list[type[msgspec.Struct]]:
    found: dict[str, type[msgspec.Struct]] = {}
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"{package.__name__}.{module.name}")
        for name, value in vars(loaded).items():
            if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == loaded.__name__ and name[0] != "_":
                found[name] = value
    return [found[name] for name in sorted(found)]


class _Absent:
    """Stands in for every service while routes are only read, never called."""

    def __getattr__(self, name: str) -> _Absent:
        return self

    def __call__(self, *_: object, **__: object) -> _Absent:
        return self


def documented_routes() -> list[BaseRoute]:
    """Every route of the exchange: of each function `..._routes` in a module of `isthmus.app`, made without its services."""
    found: list[BaseRoute] = []
    for module in sorted(entry.name for entry in pkgutil.iter_modules(app.__path__)):
        loaded = importlib.import_module(f"{app.__name__}.{module}")
        for name, factory in sorted(inspect.getmembers(loaded, inspect.isfunction)):
            if name.endswith("_routes") and not name.startswith("_") and factory.__module__ == loaded.__name__:
                needed = [p for p in inspect.signature(factory).parameters.values() if p.default is p.empty]
                found += factory(*(_Absent() for _ in needed))
    return found


def error_classes() -> list[type[IsthmusError]]:
    """Every error a user may see, in the order of the tree's file."""
    found: list[type[IsthmusError]] = []
    waiting: list[type[IsthmusError]] = [IsthmusError]
    while waiting:
        of = waiting.pop(0)
        found.append(of)
        waiting += of.__subclasses__()
    return sorted({of for of in found if of.__module__ == IsthmusError.__module__}, key=lambda of: of.code)


def errors_page() -> str:
    """docs/reference/errors.md."""
    lines = [
        "Every failure says what happened, why, and what to do next, under a code that never changes its meaning.",
        "",
        '- The API answers with the HTTP status and `{"code": ..., "message": ..., "next": ...}`.',
        "- The command line prints `error [code]: what; next: what to do` on standard error and ends with the exit code.",
        '  With `--json` it also prints `{"error": {"code": ..., "message": ..., "next": ...}}` on standard output.',
        "",
        "| code | HTTP | exit | when |",
        "|---|---|---|---|",
    ]
    for of in error_classes():
        lines.append(f"| `{of.code}` | {of.http_status} | {of.exit_code} | {_first_line(of.__doc__)} |")
    lines += ["", "## Only at the command line", "", "| code | exit | when |", "|---|---|---|"]
    lines += [f"| `{code}` | {exit_code} | {sentence} |" for code, (exit_code, sentence) in sorted(EDGE_CODES.items())]
    return "# Errors\n\n" + GENERATED + "\n".join(lines) + "\n"


def _first_line(docstring: str | None) -> str:
    paragraph = (docstring or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def settings_page() -> str:
    """docs/reference/settings.md."""
    lines = [
        "A setting comes from its environment variable, else from `settings.toml` in the state folder (there under its name),",
        "else it has its default. A name that is not listed here is refused.",
        "",
        "| name | variable | default | unit | what it does |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| `{s.name}` | `{s.variable}` | `{s.default}` | {s.unit} | {s.sentence} |" for s in setting_lines()]
    return "# Settings\n\n" + GENERATED + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Limit:
    """A named limit of the code: module-level constant, its value as written, and its sentence."""

    name: str
    value: str
    sentence: str
    file: str


def limits() -> list[Limit]:
    """Every constant whose name ends in _MAX, _MIN or _LEAST and that has a sentence (the string right below it)."""
    found: list[Limit] = []
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, after in itertools.pairwise(body):
            sentence = _sentence(after)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and sentence:
                name = node.targets[0].id
                if name.endswith(LIMIT_ENDINGS) and not name.startswith("_"):
                    found.append(Limit(name, ast.unparse(node.value), sentence, path.relative_to(root).as_posix()))
    return found


def _sentence(node: ast.stmt) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return _first_line(node.value.value)
    return ""


def limits_page() -> str:
    """docs/reference/limits.md."""
    lines = ["Limits that are part of the release. Beyond one, the answer is a coded refusal.", ""]
    lines += ["| limit | value | what it bounds | in |", "|---|---|---|---|"]
    lines += [f"| `{one.name}` | `{one.value}` | {one.sentence} | `isthmus/{one.file}` |" for one in limits()]
    return "# Limits\n\n" + GENERATED + "\n".join(lines) + "\n"


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    """As the command line makes it, so that its own settings hold; in a fixed width."""
    given = {**command.context_settings, "terminal_width": HELP_WIDTH, "max_content_width": HELP_WIDTH}
    return click.Context(command, info_name=name, parent=parent, **given)


def cli_page() -> str:
    """docs/reference/cli.md: the help of every command and sub-command."""
    texts = load_texts("en")
    parts = ["# Commands\n\n" + GENERATED + _help_block(isthmus, "isthmus", None)]
    for section, names in COMMANDS.items():
        parts.append(f"## {texts(f'cli.section.{section}')}\n")
        context = _context(isthmus, "isthmus", None)
        for name in names:
            command = isthmus.get_command(context, name)
            if command is not None:
                parts += _command_parts(command, name, context)
    return "\n".join(parts)


def _command_parts(command: click.Command, name: str, parent: click.Context) -> list[str]:
    context = _context(command, name, parent)
    parts = [f"### {context.command_path}\n\n" + _help_block(command, name, parent)]
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None and not found.hidden:
                parts += _command_parts(found, inner, context)
    return parts


def _help_block(command: click.Command, name: str, parent: click.Context | None) -> str:
    context = _context(command, name, parent)
    shown = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    return f"```text\n{shown.strip()}\n```\n"


def schema_files() -> dict[str, str]:
    """File name -> JSON Schema of one contract noun."""
    files: dict[str, str] = {}
    for noun in nouns():
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", noun.__name__).lower()
        files[f"{SCHEMAS}/{name}.json"] = _json_text({"$schema": DIALECT, "$id": f"isthmus/{name}", **msgspec.json.schema(noun)})
    for name, schema in (("agreement-document", agreement_document_schema()), ("asset-description", asset_description_schema())):
        files[f"{SCHEMAS}/{name}.json"] = _json_text({"$schema": DIALECT, "$id": f"isthmus/{name}", **schema})
    return files


def _json_text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def reference_files(routes: list[BaseRoute] | None = None) -> dict[str, str]:
    """Every generated file: path under the reference folder -> text. routes: those of the exchange unless others are given."""
    return {
        "errors.md": errors_page(),
        "settings.md": settings_page(),
        "limits.md": limits_page(),
        "cli.md": cli_page(),
        "agreement-profile.jsonld": _json_text(profile_document()),
        "openapi.json": _json_text(
            document(documented_routes() if routes is None else routes, spoken_nouns(), "Isthmus exchange", __version__)
        ),
        **schema_files(),
    }


def differing(folder: Path, files: dict[str, str]) -> list[str]:
    """Names of files whose committed text is not what the code says, or that should not be there."""
    wrong = [name for name, text in files.items() if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text]
    there = {path.relative_to(folder).as_posix() for path in (folder / SCHEMAS).glob("*.json")}
    return sorted(wrong + [name for name in there if name not in files])
