"""kill -9 of owners' nodes and of the exchange at random moments of a job.

    .venv/bin/python bench/kills.py [--json] [--moments 50] [--seed 41]

Three nodes beside small tables and an exchange, all processes of their own with state folders of their own. One job after the other is
asked for; each time a victim (sometimes two) is killed at a moment drawn from the time that an undisturbed job takes, and started again on
what it left behind; nothing is cleaned up in between. After each, tests/sim/kills.py checks: the job is done with the very sum of an
undisturbed one and signed countersignatures of its whole roster, or it is failed with a reason; no node has sent two shares for one job or
fixed two sums for the same content; each share that came is in its owner's log; each log verifies; what an owner's store knows to have been
released has not become less.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.journeys.plant import Plant
from tests.sim.kills import Chain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=41)
    given = parser.parse_args()
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as folder, Plant(Path(folder)) as plant:
        chain = Chain(plant, given.seed)
        for number in range(given.moments):
            try:
                chain.disturb(number)
            except AssertionError as error:
                broken.append(f"moment {number}: {error}")
                break
            print(f"\r{number + 1} of {given.moments}, {chain.done} done", end="", file=sys.stderr, flush=True)
    victims = Counter(victim for kill in chain.found for victim in kill.victims)
    phases = Counter(kill.phase for kill in chain.found)
    figures = {
        "moments": len(chain.found),
        "undisturbed_s": round(chain.job_s, 2),
        "victims": dict(victims),
        "done": phases["done"],
        "failed": phases["failed"],
        "reasons": sorted({kill.reason for kill in chain.found if kill.reason}),
        "wall_s": {
            "median": round(statistics.median(k.wall_s for k in chain.found), 2),
            "max": round(max(k.wall_s for k in chain.found), 2),
        }
        if chain.found
        else {},
        "broken": broken,
    }
    bars = [
        {
            "name": "moments that kept every promise",
            "value": len(chain.found),
            "goal": given.moments,
            "unit": "moments",
            "holds": not broken,
        },
        {
            "name": "jobs that were done or plainly failed",
            "value": sum(phases.values()),
            "goal": given.moments,
            "unit": "jobs",
            "holds": not broken,
        },
    ]
    if given.json:
        machine = {"python": platform.python_version(), "system": platform.system(), "processor": platform.machine()}
        print(json.dumps({"bench": "kills", "machine": machine, "figures": figures, "bars": bars}))
        return
    for name, value in figures.items():
        print(f"{name:16}{value}")
    for bar in bars:
        print(f"{'holds' if bar['holds'] else 'FAILS'}: {bar['name']} {bar['value']} of {bar['goal']}")


if __name__ == "__main__":
    main()
