"""Packages for tests: the template's, with one thing changed."""

from __future__ import annotations

from pathlib import Path

from isthmus.contracts.package import Finding
from isthmus.scenarios.contents import LOCK, MANIFEST
from isthmus.scenarios.lock import lock_bytes, lock_of
from isthmus.scenarios.shelves import write_contents
from isthmus.scenarios.template import begun
from isthmus.scenarios.validation import content_findings

NAME = "bottle-caps"
Files = dict[str, bytes]


def package(**more: bytes) -> Files:
    """A package without a fault. more: files beside those of the template; `__` stands for a slash, `_dot_` for a dot."""
    extra = {name.replace("__", "/").replace("_dot_", "."): raw for name, raw in more.items()}
    return locked({**begun(NAME), **extra})


def locked(files: Files, name: str = NAME, version: str = "0.1.0") -> Files:
    """The files with a lock that is theirs."""
    return {**files, LOCK: lock_bytes(lock_of(files, name, version))}


def changed(old: str, new: str, path: str = MANIFEST) -> Files:
    """The package with one text replaced, locked anew."""
    files = package()
    text = files[path].decode()
    assert text.count(old) == 1, (old, text.count(old))
    return locked({**files, path: text.replace(old, new).encode()})


def on_disk(folder: Path, files: Files) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_contents(folder, files)
    return folder


def errors(files: Files) -> list[Finding]:
    return [one for one in content_findings(files) if one.level == "error"]


def line_of(files: Files, mark: str, path: str = MANIFEST) -> int:
    """The one line that holds a mark, from 1."""
    lines = [place for place, text in enumerate(files[path].decode().splitlines(), 1) if mark in text]
    assert len(lines) == 1, (mark, lines)
    return lines[0]
