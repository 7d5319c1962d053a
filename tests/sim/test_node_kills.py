"""kill -9 of a node or of the exchange at random moments of a job: it ends done with the right sum, or it is plainly failed.

`make sim SEEDS=n` kills at n moments (at least MOMENTS_MIN), in one chain over one exchange and three nodes that are never cleaned up.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journeys.plant import Plant
from tests.sim.kills import Chain

MOMENTS_MIN = 6


def test_a_job_survives_kills_at_random_moments(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    moments = max(MOMENTS_MIN, int(request.config.getoption("--seeds")))
    with Plant(tmp_path) as plant:
        chain = Chain(plant, 41)
        for number in range(moments):
            chain.disturb(number)
        assert len(chain.found) == moments and chain.done >= 0.8 * moments, chain.found
