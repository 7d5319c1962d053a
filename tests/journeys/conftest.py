"""One undisturbed run that the journeys share: it is made once, and others are compared with it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.journeys.inspection import Ended, isthmus, run_words, scenario_folder, three_owners
from tests.journeys.state import artefacts, sum_digests

SEED = 7


@dataclass(frozen=True)
class Walked:
    """A run that ended. words: of its command line, for `isthmus`. sums, models: digests as they stood then; other journeys add to the
    state later."""

    scenario: Path
    folders: list[Path]
    state: Path
    words: list[object]
    ended: Ended
    wall_s: float
    sums: set[str]
    models: set[str]

    @property
    def report(self) -> Path:
        return self.state.parent / "report.html"


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Walked:
    root = tmp_path_factory.mktemp("walked")
    folders, scenario, state = three_owners(root / "data", SEED), scenario_folder(root / "plates"), root / "state"
    words = run_words(scenario, folders, state)
    began = time.monotonic()
    ended = isthmus(*words, cwd=root)
    wall_s = time.monotonic() - began
    return Walked(scenario, folders, state, words, ended, wall_s, sum_digests(state), artefacts(state))
