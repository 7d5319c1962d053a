"""A node process is killed at random moments around its noisy answers: python -m tests.sandbox.ledger_kills [--kills 50] [--seed 1].

Whatever the moment, each vector that is in the node's log or at the exchange has its release in the owner's ledger, and in the end each
answer was paid for once.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from isthmus.contracts.agreement import PrivacyTerms
from isthmus.kit.clock import SystemClock
from isthmus.sandbox.budget import LEDGER_NAME, PrivacyLedger
from isthmus.sandbox.nodestore import NodeStore
from isthmus.sandbox.outlog import verify_log
from tests.sandbox.test_http import Server, spawn
from tests.sandbox.test_privacy import MOMENT_NOISE
from tests.sandbox.world import World

TERMS = PrivacyTerms(epsilon=90.0, delta=1e-5)
LATEST_S = 1.2


def unpaid(world: World) -> list[str]:
    """Answers of alfa that left, or were about to, by its own log, and are not in its ledger."""
    state = world.root / "alfa" / "state"
    store, ledger = NodeStore(state / "node.sqlite"), PrivacyLedger(state / LEDGER_NAME)
    try:
        paid = {release.content for release in ledger.releases("alfa")}
        entries = verify_log(world.owners["alfa"].log, world.owners["alfa"].home.key.public_hex)
        stored = {entry.job: store.job(entry.job) for entry in entries if entry.kind == "vector"}
        return [digest for digest, job in stored.items() if job is None or job.past.content not in paid]
    finally:
        ledger.close()
        store.close()


def killed(root: Path, kills: int, seed: int, latest_s: float = LATEST_S) -> dict[str, int]:
    """Counts of what happened. Raises AssertionError when an answer left that the ledger does not know, or was paid for twice."""
    rng = random.Random(seed)
    world = World(root, clock=SystemClock(), terms={"privacy": TERMS, "allow_own_head": False, "runs_max": 10_000})  # type: ignore[arg-type]
    world.add("alfa", "bravo", "carol")
    server = Server(world)
    world.owners["alfa"].node._register()
    jobs: list[str] = []
    process = spawn(world, server, "alfa")
    try:
        for place in range(kills):
            world.steps(1, only=("bravo", "carol"))
            jobs.append(world.service.create_job(world.request(noise=MOMENT_NOISE, run_id=f"run-{place}")).id)
            until = time.monotonic() + rng.random() * latest_s
            while time.monotonic() < until:
                world.steps(1, only=("bravo", "carol"))
                time.sleep(0.01)
            process.kill()
            process.wait()
            assert not unpaid(world), "an answer left that the ledger does not know"
            process = spawn(world, server, "alfa")
        end = time.monotonic() + 60
        while time.monotonic() < end and any(world.service.job(job).phase != "done" for job in jobs):
            world.steps(1, only=("bravo", "carol"))
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
        server.close()
    ledger = PrivacyLedger(root / "alfa" / "state" / LEDGER_NAME)
    releases = ledger.releases("alfa")
    ledger.close()
    done = sum(world.service.job(job).phase == "done" for job in jobs)
    assert not unpaid(world)
    assert len({release.run_id for release in releases}) == len(releases) == done == kills, (len(releases), done, kills)
    return {"kills": kills, "done": done, "releases": len(releases)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(killed(Path(folder), given.kills, given.seed)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
