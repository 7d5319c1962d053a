"""The owner's ledger beside a node that is killed."""

from __future__ import annotations

from pathlib import Path

from tests.sandbox.ledger_kills import killed


def test_a_node_killed_around_its_answers_has_paid_for_each_once(tmp_path: Path) -> None:
    """Two kills here; the whole of it is python -m tests.sandbox.ledger_kills."""
    assert killed(tmp_path, 2, seed=4, latest_s=0.8)["releases"] == 2
