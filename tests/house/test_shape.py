"""Sizes and names of files and functions."""

from __future__ import annotations

import ast
import re

from tests.house.source import PACKAGE, against, functions, source_files

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500
VAGUE = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common|stuff)(_|$)")


def test_functions_are_short() -> None:
    found = {
        f"{file.name}:{name}"
        for file in source_files()
        for name, node in functions(file)
        if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES_MAX
    }
    assert not (wrong := against("function-length", found)), wrong


def test_files_are_short() -> None:
    kinds = {".py", ".sql", ".js", ".css", ".html"}
    paths = [p for p in PACKAGE.rglob("*") if p.suffix in kinds]
    found = {
        p.relative_to(PACKAGE.parents[1]).as_posix() for p in paths if len(p.read_text(encoding="utf-8").splitlines()) > FILE_LINES_MAX
    }
    assert not (wrong := against("file-length", found)), wrong


def test_files_are_nouns() -> None:
    vague = [p.as_posix() for p in PACKAGE.rglob("*") if VAGUE.search(p.stem)]
    assert not vague, f"name what is in it: {vague}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [file.name for file in source_files() if file.text.strip() and not ast.get_docstring(file.tree)]
    assert not silent, silent
