"""The files of a package as bytes: read from a folder once, within limits, and never through a link.

Names are what every file system can hold and none confuses: ASCII letters, digits, dot, hyphen and underscore, and no two that differ in
case only. What begins with a dot, and `__pycache__`, is no part of a package: it is not read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from isthmus.contracts.package import Finding

FILE_BYTES_MAX = 4 * 1024 * 1024
"""One file of a scenario package."""

PACKAGE_BYTES_MAX = 32 * 1024 * 1024
"""All files of a scenario package together."""

PACKAGE_FILES_MAX = 256
"""Files of a scenario package."""

PATH_CHARS_MAX = 160
"""A file's path in a scenario package."""

DEPTH_MAX = 4
MANIFEST, SCHEMA, VALUES, README, HOOKS, LOCK = (
    "scenario.yaml",
    "values.schema.json",
    "values.yaml",
    "README.md",
    "hooks.py",
    "scenario.lock",
)
PROBES, PROMPTS = "probes", "prompts"
PROBES_FILE = f"{PROBES}/probes.yaml"
LEFT_OUT = "__pycache__"
Contents = Mapping[str, bytes]
"""Path -> bytes, the lock among them."""

_STEP = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.I)


def fault(code: str, file: str, what: str, next_step: str, line: int = 0, column: int = 0) -> Finding:
    """A finding that makes the package unusable."""
    return Finding(level="error", code=code, file=file, line=line, column=column, what=what, next=next_step)


def warning(code: str, file: str, what: str, next_step: str, line: int = 0, column: int = 0) -> Finding:
    """A finding that the package can be used with."""
    return Finding(level="warning", code=code, file=file, line=line, column=column, what=what, next=next_step)


def path_fault(path: str) -> str:
    """Why a path cannot be a file's in a package; empty when it can."""
    steps = path.split("/")
    if len(path) > PATH_CHARS_MAX or len(steps) > DEPTH_MAX:
        return f"it has more than {PATH_CHARS_MAX} characters or {DEPTH_MAX} steps"
    for step in steps:
        if not _STEP.fullmatch(step) or step.endswith("."):
            return "a name may hold ASCII letters, digits, dot, hyphen and underscore, and must not begin or end with a dot"
        if _DEVICES.fullmatch(step):
            return f"{step} is the name of a device on some systems"
    return ""


def contents_faults(contents: Contents) -> list[Finding]:
    """What is wrong with names, sizes and count, wherever the files came from."""
    found = [
        fault("file-name", printable(path), f"the path cannot be in a package: {why}", "rename the file")
        for path in contents
        if (why := path_fault(path))
    ]
    seen: dict[str, str] = {}
    for path in contents:
        other = seen.setdefault(path.lower(), path)
        if other != path:
            found.append(fault("file-name", printable(path), f"it differs from {other} in case only", "rename one of the two"))
    found += [
        fault("file-size", path, f"it has {len(raw)} bytes, more than the {FILE_BYTES_MAX} allowed", "make it smaller, or leave it out")
        for path, raw in contents.items()
        if len(raw) > FILE_BYTES_MAX
    ]
    total = sum(len(raw) for raw in contents.values())
    if len(contents) > PACKAGE_FILES_MAX or total > PACKAGE_BYTES_MAX:
        what = f"the package has {len(contents)} files of {total} bytes; {PACKAGE_FILES_MAX} files of {PACKAGE_BYTES_MAX} bytes are allowed"
        found.append(fault("package-size", ".", what, "leave out what the scenario does not need"))
    return found


def printable(text: str) -> str:
    """The text with nothing in it that a terminal or a log would act on."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in os.fsencode(text).decode("utf-8", "replace"))


def read_contents(folder: Path) -> tuple[dict[str, bytes], list[Finding]]:
    """(path -> bytes in order of path, what cannot be in a package or cannot be read). Never raises for what lies in the folder; links are
    not followed, and no more than the limits is read."""
    found: list[Finding] = []
    contents: dict[str, bytes] = {}
    waiting, budget = [folder], PACKAGE_BYTES_MAX
    while waiting:
        for entry in _listed(waiting.pop(), folder, found):
            path = Path(entry.path).relative_to(folder).as_posix()
            if entry.name.startswith(".") or entry.name == LEFT_OUT:
                continue
            if entry.is_symlink():
                found.append(
                    fault("symlink", printable(path), "it is a link, which may lead out of the package", "put the file itself there")
                )
            elif entry.is_dir(follow_symlinks=False):
                deep = path.count("/") + 1 >= DEPTH_MAX
                if deep:
                    found.append(fault("file-name", printable(path), f"folders are more than {DEPTH_MAX - 1} deep", "move its files up"))
                else:
                    waiting.append(Path(entry.path))
            elif len(contents) > PACKAGE_FILES_MAX or budget < 0:
                return dict(sorted(contents.items())), [*found, *contents_faults(contents)]
            else:
                raw = _bytes_of(Path(entry.path), path, found)
                if raw is not None:
                    contents[path] = raw
                    budget -= len(raw)
    ordered = dict(sorted(contents.items()))
    return ordered, [*found, *contents_faults(ordered)]


def _listed(folder: Path, root: Path, found: list[Finding]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        name = folder.relative_to(root).as_posix()
        found.append(fault("unreadable", printable(name), f"the folder cannot be listed: {error.strerror}", "check its permissions"))
        return []


def _bytes_of(file: Path, path: str, found: list[Finding]) -> bytes | None:
    """Up to one byte more than is allowed, so that a file that is too large is known as such."""
    name = printable(path)
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                found.append(fault("file-kind", name, "it is no plain file", "leave it out"))
                return None
            if status.st_size > FILE_BYTES_MAX:
                what = f"it has {status.st_size} bytes, more than the {FILE_BYTES_MAX} allowed"
                found.append(fault("file-size", name, what, "make it smaller, or leave it out"))
                return None
            return opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        found.append(fault("unreadable", name, f"it cannot be read: {error.strerror}", "check the file and its permissions"))
        return None
