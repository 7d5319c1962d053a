"""What an owner is shown of its privacy budget, and an issuer's word from its node to another's."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from isthmus.cli.node import node
from tests.sandbox.test_privacy import noisy_request, private_world


def told(*command: str, code: int = 0) -> str:
    result = CliRunner().invoke(node, command, catch_exceptions=True)
    assert (result.exit_code == 0) == (code == 0), result.output
    return result.output if code == 0 else result.output + str(result.exception or "")


def test_budget_and_vouching(tmp_path: Path) -> None:
    world = private_world(tmp_path)
    alfa, bravo = str(tmp_path / "alfa" / "state"), str(tmp_path / "bravo" / "state")
    before = json.loads(told("budget", "--state", alfa, "--json"))
    assert (before["answers"], before["rho"], before["exact_answers"]) == ([], 0.0, 0)
    world.service.create_job(noisy_request(world))
    world.steps()
    found = json.loads(told("budget", "--state", alfa, "--json"))
    assert [(a["statistic"], a["split"], a["purpose"], a["run"]) for a in found["answers"]] == [("moments/1", "train", "inspect", "run-1")]
    one = found["budgets"][0]
    assert 0 < one["epsilon_spent"] < one["epsilon"] == 1.0 and found["exact_answers"] == 0
    assert abs(found["rho"] + one["rho_left"] - 0.030556595) < 1e-8
    assert "moments/1" in told("budget", "--state", alfa) or "moments" in told("budget", "--state", alfa)
    key = world.owners["bravo"].home.key.public_hex
    word = told("vouch", "--state", alfa, "--party", "bravo", "--key", key, "--days", "5")
    file = tmp_path / "word.json"
    file.write_text(word, encoding="utf-8")
    assert told("vouched", str(file), "--state", bravo).strip() == "alfa vouches for bravo"
    assert "no issuer's word" in told("vouched", str(file), "--state", alfa, code=1)
    file.write_text("{}", encoding="utf-8")
    assert "no signed word" in told("vouched", str(file), "--state", bravo, code=1)
    assert "no public key" in told("vouch", "--state", alfa, "--party", "bravo", "--key", "abc", code=1)


def test_a_unit_that_is_none_is_told(tmp_path: Path) -> None:
    world = private_world(tmp_path)
    state = str(tmp_path / "alfa" / "state")
    asked = ("agree", "--state", state, "--purpose", "p", "--exchange-key", world.exchange_key.public_hex, "--epsilon", "2")
    assert "is none" in told(*asked, "--privacy-unit", "patient", code=1)
    assert "alfa agreed" in told(*asked, "--privacy-unit", "group:40")
