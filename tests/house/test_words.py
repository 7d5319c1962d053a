"""The project speaks of itself alone: no paths of somebody's machine, no package mirrors, no secrets."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.source import ROOT

LOOKED_AT = (
    "src",
    "tests",
    "bench",
    "docs",
    "scenarios",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Makefile",
    "pyproject.toml",
    ".ci",
)
SKIPPED_SUFFIXES = {".png", ".jpg", ".onnx", ".woff2", ".ico", ".pyc"}
SELF = Path(__file__).resolve()
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|tmp|home/\w+|root|Users/\w+|mnt|scratch)(?:/|\b)(?![\w-]*\()")
MIRROR = re.compile(
    r"(?:extra-)?index-url|PIP_INDEX|https?://[^/\s\"')]*(?:registry|mirror|proxy|artifactory|nexus|devpi|\.internal|\.local\b)[^\s\"')]*",
    re.I,
)
KEY_TEXT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{40}|\bAKIA[0-9A-Z]{16}\b|\bghp_[A-Za-z0-9]{30}")


def texts() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in LOOKED_AT:
        path = ROOT / entry
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix not in SKIPPED_SUFFIXES and "__pycache__" not in file.parts and file.resolve() != SELF:
                found.append((file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8", errors="replace")))
    return found


def hits(pattern: re.Pattern[str]) -> list[str]:
    return [f"{name}:{text.count(chr(10), 0, m.start()) + 1}: {m.group(0)}" for name, text in texts() for m in pattern.finditer(text)]


def test_patterns_bite() -> None:
    for place in ("tmp", "work"):
        assert MACHINE_PATH.search(f'see "/{place}/notes.md"')
        assert not MACHINE_PATH.search(f"docs/{place}/notes")
    assert MIRROR.search("https://registry.example.com/simple") and not MIRROR.search("https://pypi.org/project/numpy")


def test_no_machine_paths() -> None:
    assert not (found := hits(MACHINE_PATH)), found


def test_no_package_mirrors() -> None:
    assert not (found := hits(MIRROR)), found


def test_no_private_keys() -> None:
    assert not (found := hits(KEY_TEXT)), found


def test_no_image_or_model_is_kept_here() -> None:
    """The sample images are licensed for evaluation only; neither they nor heads trained on them are in the repository."""
    kept = [
        p
        for folder in ("src", "docs", "scenarios", "tests", "bench")
        for p in (ROOT / folder).rglob("*")
        if p.suffix in {".png", ".jpg", ".jpeg", ".onnx", ".npz", ".npy"}
    ]
    assert not kept, kept


def test_links_in_pages_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{p.relative_to(ROOT)}: {target}"
        for p in pages
        for target in link.findall(p.read_text(encoding="utf-8"))
        if not (p.parent / target).exists()
    ]
    assert not dead, dead


def test_paths_named_in_pages_are_there() -> None:
    named = re.compile(r"`((?:src|tests|bench|docs|scenarios)/[\w./-]+)`")
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{p.relative_to(ROOT)}: {path}"
        for p in pages
        for path in named.findall(p.read_text(encoding="utf-8"))
        if not (ROOT / path).exists()
    ]
    assert not dead, dead
