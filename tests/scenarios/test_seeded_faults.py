"""Faults that newcomers make, through the real command: the very list that the bench prints as a bar."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

LIST = Path(__file__).parents[2] / "bench" / "seeded_faults.py"
FAULTS_MIN = 20


def listed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seeded_faults", LIST)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_seeded_fault_is_named_where_it_stands() -> None:
    module = listed()
    told = module.seeded()
    assert len({one.fault.name for one in told}) == len(told) >= FAULTS_MIN
    assert [(one.fault.name, one.lines) for one in told if not one.found] == []
    for one in told:
        assert len([line for line in one.lines if line["code"] != "lock-stale"]) <= 1, f"{one.fault.name} is told as several faults"
