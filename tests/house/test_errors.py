"""Every error that a user may see has a code of its own, a status, and a line in the reference."""

from __future__ import annotations

import ast
import re
from collections import Counter

from isthmus.cli.main import EDGE_CODES
from isthmus.cli.reference import error_classes
from isthmus.contracts.errors import IsthmusError
from tests.house.source import ROOT, dotted, source_files

TREE = "src/isthmus/contracts/errors.py"


def test_codes_are_kebab_case_and_unique() -> None:
    codes = [of.code for of in error_classes()] + list(EDGE_CODES)
    assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", code) for code in codes), codes
    assert not [code for code, times in Counter(codes).items() if times > 1]


def test_every_class_gives_its_own_code() -> None:
    inherited = [of.__name__ for of in error_classes() if "code" not in vars(of)]
    assert not inherited, f"give each a code: {inherited}"


def test_statuses_and_exit_codes() -> None:
    for of in error_classes():
        assert 400 <= of.http_status <= 599, of
        assert 1 <= of.exit_code <= 64, of


def test_every_code_has_a_line_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    missing = [of.code for of in error_classes() if f"| `{of.code}` | {of.http_status} | {of.exit_code} |" not in page]
    missing += [code for code in EDGE_CODES if f"| `{code}` |" not in page]
    assert not missing, f"run make reference: {missing}"


def test_every_class_says_when() -> None:
    assert not [of.__name__ for of in error_classes() if not (of.__doc__ or "").strip()]


def test_the_tree_stands_in_one_file() -> None:
    names = {of.__name__ for of in error_classes()}
    strays = {
        f"{file.name}:{node.name}"
        for file in source_files()
        if file.name != TREE
        for node in ast.walk(file.tree)
        if isinstance(node, ast.ClassDef) and any(dotted(base).split(".")[-1] in names for base in node.bases)
    }
    assert not strays, f"move them to {TREE}: {strays}"


def test_an_error_says_what_and_what_next() -> None:
    error = IsthmusError("the disk is full", "free some space")
    assert str(error) == "the disk is full (free some space)"
    assert error.as_dict() == {"code": "isthmus-error", "message": "the disk is full", "next": "free some space"}
    assert str(IsthmusError("the disk is full")) == "the disk is full"
