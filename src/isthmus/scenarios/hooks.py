"""Checks `hooks.py` of a package by reading it. It is never imported here, and no data node ever sees it.

A file of hooks may hold a docstring, imports, constants that are literals, and functions whose every argument and result has a type.
Importing such a file does nothing but import what it names, so those imports are bounded too: the standard library and numpy.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from isthmus.contracts.package import Finding
from isthmus.scenarios.contents import HOOKS, fault

IMPORTED = frozenset(sys.stdlib_module_names) | {"numpy"}
BEFORE_EFFECT = frozenset({"antigravity", "this", "idlelib", "turtledemo", "__main__"})
"""Modules of the standard library whose import alone does something."""

_TYPE_NODES = (ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List, ast.BinOp, ast.BitOr, ast.Load)


def hook_faults(raw: bytes) -> Iterator[Finding]:
    """What keeps a file of hooks from being one, with its line."""
    try:
        tree = ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line, column = getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1
        yield fault("hooks-syntax", HOOKS, f"{HOOKS} is not Python: {getattr(error, 'msg', error)}", "mend the line", line, max(column, 1))
        return
    for place, node in enumerate(tree.body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _import_faults(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function_faults(node)
        elif not (_is_constant(node) or (place == 0 and _is_text(node))):
            what = f"line {node.lineno} does something when the file is imported"
            yield _fault("hooks-effect", node, what, "keep imports, constants that are literals, and functions")


def _fault(code: str, node: ast.stmt | ast.expr | ast.arg, what: str, next_step: str) -> Finding:
    return fault(code, HOOKS, what, next_step, node.lineno, node.col_offset + 1)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_literal(node: ast.expr | None) -> bool:
    if node is None:
        return True
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


def _is_constant(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) for target in node.targets) and _is_literal(node.value)
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and _is_type(node.annotation) and _is_literal(node.value)
    return False


def _is_type(node: ast.expr) -> bool:
    return all(isinstance(inner, _TYPE_NODES) for inner in ast.walk(node))


def _import_faults(node: ast.Import | ast.ImportFrom) -> Iterator[Finding]:
    if isinstance(node, ast.ImportFrom) and (node.level or any(alias.name == "*" for alias in node.names)):
        yield _fault("hooks-import", node, "it imports from its own folder, or everything there is", "name what is imported, from a module")
        return
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    for name in names:
        top = name.partition(".")[0]
        if top not in IMPORTED or top in BEFORE_EFFECT:
            what = f"it imports {name}, which a package cannot count on"
            yield _fault("hooks-import", node, what, "use the standard library or numpy")


def _function_faults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    if node.decorator_list:
        yield _fault("hooks-effect", node, f"{node.name} is decorated, which runs code at import", "remove the decorator")
    given = node.args
    starred = [arg for arg in (given.vararg, given.kwarg) if arg is not None]
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *starred]
    for arg in arguments:
        if arg.annotation is None:
            yield _fault("hooks-untyped", arg, f"{node.name}: the argument {arg.arg} has no type", f"write {arg.arg}: TYPE")
    if node.returns is None:
        yield _fault("hooks-untyped", node, f"{node.name} does not say what it returns", "write -> TYPE behind its arguments")
    types = [arg.annotation for arg in arguments if arg.annotation is not None] + ([node.returns] if node.returns else [])
    for found in types:
        if not _is_type(found):
            yield _fault("hooks-effect", found, f"{node.name}: a type is worked out when the file is imported", "write the type's name")
    for default in [*given.defaults, *given.kw_defaults]:
        if not _is_literal(default):
            yield _fault("hooks-effect", default or node, f"{node.name}: a default is worked out at import", "write a literal default")
