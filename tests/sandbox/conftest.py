from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandbox.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.add("alfa", "bravo", "carol")
    found.steps(1)
    return found
