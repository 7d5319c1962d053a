"""Twenty-four faults that newcomers make, each put into a package that was just begun, to see whether `isthmus scenario validate` names it.

A fault is found when the command ends with exit code 1 (a doubt: 0), and one line names the file, the line where the fault stands, what is
wrong and what to do, with the words that this fault asks for. The package without a fault must give no line at all.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.cli.main import main

MANIFEST, SCHEMA, README, VALUES, PROBES, HOOKS = (
    "scenario.yaml",
    "values.schema.json",
    "README.md",
    "values.yaml",
    "probes/probes.yaml",
    "hooks.py",
)
Edit = Callable[[Path], None]


@dataclass(frozen=True)
class Fault:
    """name: what the newcomer did. file, mark: where it stands; no mark, the file as a whole. words: all must be in what is said."""

    name: str
    edit: Edit
    file: str
    mark: str
    words: tuple[str, ...]
    doubt: bool = False


@dataclass(frozen=True)
class Told:
    """What the command said of one fault. found: whether it was that."""

    fault: Fault
    found: bool
    lines: tuple[dict[str, Any], ...]


def swapped(old: str, new: str, file: str = MANIFEST) -> Edit:
    """Other text in a file."""

    def edit(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert text.count(old) >= 1, f"{file} has no {old!r}"
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def added(file: str, raw: bytes) -> Edit:
    """One more file."""

    def edit(folder: Path) -> None:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(raw)

    return edit


def removed(file: str) -> Edit:
    return lambda folder: (folder / file).unlink()


FAULTS = (
    Fault("a field's name misspelt", swapped("validity_days", "validity_day"), MANIFEST, "validity_day:", ("did you mean validity_days?",)),
    Fault("a field left out", swapped("  groups_min: 8\n", ""), MANIFEST, "promises_ppm", ("add groups_min", "whole number")),
    Fault("a share instead of parts per million", swapped("950000", "0.95"), MANIFEST, "0.95", ("parts per million", "write 950000")),
    Fault("per cent instead of parts per million", swapped("950000", "95%"), MANIFEST, "95%", ("parts per million", "write 950000")),
    Fault("a price in euros", swapped("2000  ", "0.002  "), MANIFEST, "0.002", ("write 2000",)),
    Fault("a unit behind a number", swapped("validity_days: 90", "validity_days: 90 days"), MANIFEST, "90 days", ("write 90",)),
    Fault(
        "a version that YAML reads as a number",
        swapped('version: "0.1.0"', "version: 0.1"),
        MANIFEST,
        "version: 0.1",
        ("put it in quotes",),
    ),
    Fault("a tier that there is not", swapped("tier: T2", "tier: T4"), MANIFEST, "tier: T4", ("T1, T2, T3",)),
    Fault("shares that do not add up", swapped("owners_ppm: 450000", "owners_ppm: 400000"), MANIFEST, "compute_ppm", ("+50000",)),
    Fault("promises in the wrong order", swapped("[100000, 75000, 50000]", "[50000, 75000, 100000]"), MANIFEST, "[50000", ("descending",)),
    Fault("bars that a coin meets", swapped("auc_ppm_min: 600000", "auc_ppm_min: 400000"), MANIFEST, "auc_ppm_min", ("500000 or more",)),
    Fault(
        "a backbone that is not here",
        swapped("efficientnet-lite0-dim", "resnet50"),
        MANIFEST,
        "resnet50",
        ("use one of", "efficientnet-lite0"),
    ),
    Fault("a feature that is not here", swapped("[defects/max,", "[defects/most,"), MANIFEST, "defects/most", ("defects/",)),
    Fault("a disturbance that is not here", swapped("[brightness,", "[fog,"), MANIFEST, "fog", ("brightness",)),
    Fault("a field twice", swapped("tier: T2\n", "tier: T2\ntier: T1\n"), MANIFEST, "tier: T1", ("remove one",)),
    Fault("a tab to indent", swapped("  output: verdict", "\toutput: verdict"), MANIFEST, "\toutput", ("spaces",)),
    Fault("a bracket left open", swapped("tier: T2", "tier: [T2"), MANIFEST, "task:", ("line",)),
    Fault(
        "a knob that sets no field",
        swapped('"serve.micros_per_inference"', '"serve.micros"', SCHEMA),
        SCHEMA,
        '"serve.micros"',
        ("no field", "serve.micros_per_inference"),
    ),
    Fault(
        "a knob's default that is not the manifest's",
        swapped('"default": 2000', '"default": 1500', SCHEMA),
        SCHEMA,
        '"default": 1500',
        ("the manifest says 2000",),
    ),
    Fault(
        "a value for a knob that there is not", added(VALUES, b"price_micro: 5\n"), VALUES, "price_micro", ("did you mean price_micros?",)
    ),
    Fault(
        "a probe without its picture",
        added(PROBES, b"cases:\n  - file: a.png\n    expect: good\n    why: clean\n"),
        PROBES,
        "a.png",
        ("a.png",),
    ),
    Fault("code that would run", added(HOOKS, b"import os\nos.remove('x')\n"), HOOKS, "os.remove", ("function",)),
    Fault("no README", removed(README), README, "", ("README.md",)),
    Fault("a file changed after it was locked", swapped("tier: T2", "tier: T1"), MANIFEST, "", ("isthmus scenario lock",)),
)
"""The last two stand for a file as a whole; a line says nothing there."""


def spoken(*words: str) -> tuple[int, dict[str, Any]]:
    """(exit code, the one JSON object) of the real command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main([*words, "--json"])
    document: dict[str, Any] = json.loads(out.getvalue())
    return code, document


def found_in(fault: Fault, folder: Path) -> Told:
    """What is said of one fault in a fresh package."""
    code, _ = spoken("scenario", "init", "bottle-caps", "--into", str(folder))
    assert code == 0
    fault.edit(folder)
    code, told = spoken("scenario", "validate", str(folder))
    lines = tuple(told["findings"])
    line = _line_of(folder / fault.file, fault.mark)
    return Told(fault, code == (0 if fault.doubt else 1) and any(_is_it(one, fault, line) for one in lines), lines)


def _line_of(path: Path, mark: str) -> int:
    if not mark:
        return 0
    return next(number for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1) if mark in text)


def _is_it(one: dict[str, Any], fault: Fault, line: int) -> bool:
    said = f"{one['what']}; {one['next']}"
    here = one["file"] == fault.file and one["line"] == line
    return here and bool(one["what"].strip() and one["next"].strip()) and all(word in said for word in fault.words)


def seeded() -> list[Told]:
    """Every fault, and first that a package without one gives no line."""
    with tempfile.TemporaryDirectory() as root:
        assert spoken("scenario", "init", "bottle-caps", "--into", f"{root}/sound")[0] == 0
        code, told = spoken("scenario", "validate", f"{root}/sound")
        if code or told["findings"]:
            raise SystemExit(f"a package without a fault gives {told['findings']}")
        return [found_in(fault, Path(root) / f"p{place}") for place, fault in enumerate(FAULTS)]
