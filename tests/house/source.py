"""The source tree as the house rules see it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "isthmus"
EXCEPTIONS = Path(__file__).with_name("exceptions.txt")


@dataclass(frozen=True)
class SourceFile:
    """One Python file. name: its path from the root, with slashes."""

    name: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


def source_files(folder: Path = PACKAGE) -> list[SourceFile]:
    return [SourceFile(p.relative_to(ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in sorted(folder.rglob("*.py"))]


def functions(file: SourceFile) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(name with its classes and outer functions, node) of every function."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            name = prefix + (getattr(child, "name", "") or "")
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, child
            scope = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            yield from walk(child, name + "." if scope else prefix)

    yield from walk(file.tree, "")


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or attribute, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def listed_exceptions() -> dict[str, set[str]]:
    """Rule -> places where it does not hold, from exceptions.txt: `rule place  # why`."""
    found: dict[str, set[str]] = {}
    for line in EXCEPTIONS.read_text(encoding="utf-8").splitlines():
        entry = line.partition("#")[0].split()
        if entry:
            rule, place = entry
            found.setdefault(rule, set()).add(place)
    return found


def against(rule: str, found: set[str]) -> str:
    """What is wrong with a rule: places that break it unlisted, and listed places that no longer do. Empty when all is well."""
    listed = listed_exceptions().get(rule, set())
    new = [f"{place}: breaks the rule {rule}" for place in sorted(found - listed)]
    old = [f"{place}: listed in exceptions.txt for {rule}, but keeps the rule now; remove the line" for place in sorted(listed - found)]
    return "\n".join(new + old)
