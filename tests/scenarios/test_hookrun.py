"""A package's hook at its caller: right types, a process of its own, an end in time, and text alone."""

from __future__ import annotations

import time

import pytest

import isthmus.scenarios.hookrun as hookrun
from isthmus.contracts.errors import InputError, PackageError
from isthmus.scenarios.contents import HOOKS
from isthmus.scenarios.hookrun import action_of, actions, same_scenario

GOOD = b"""import math

LIMIT = 2.0


def action(verdict: str, score: float) -> str:
    print("told on the way")
    return "stop the line" if verdict == "defect" and math.fabs(score) > LIMIT else f"lane {verdict}"
"""
HEAD = b"def action(verdict: str, score: float) -> str:\n    "


def test_it_says_what_to_do_with_each_answer() -> None:
    source = action_of({HOOKS: GOOD})
    assert actions(source, [("good", -1.0), ("defect", 3.5), ("defect", 0.1)]) == ["lane good", "stop the line", "lane defect"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"def other(verdict: str, score: float) -> str:\n    return ''\n",
        b"def action(verdict: str) -> str:\n    return ''\n",
        b"def action(verdict: str, score: int) -> str:\n    return ''\n",
        b"def action(verdict: str, score: float) -> int:\n    return 1\n",
        b"def action(verdict: str, score: float = 1.0) -> str:\n    return ''\n",
        b"async def action(verdict: str, score: float) -> str:\n    return ''\n",
        b"import os\nos.remove('x')\n" + HEAD + b"return ''\n",
    ],
)
def test_another_function_is_not_called(raw: bytes) -> None:
    with pytest.raises(PackageError):
        action_of({HOOKS: raw})
    with pytest.raises(PackageError, match="no hooks"):
        action_of({})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"return 3", "something else than text"),
        (b"return 'x' * 500", "something else than text"),
        (b"return 'a\\nb'", "something else than text"),
        (b"raise ValueError('no lane')", "no lane"),
        (b"import sys; sys.exit(3)", "failed"),
        (b"import os; os._exit(0)", "no answer"),
        (b"return 'x' * (1 << 33)", "failed"),
    ],
)
def test_a_hook_that_fails_is_told_in_one_sentence(body: bytes, said: str) -> None:
    with pytest.raises(PackageError, match=said):
        actions(action_of({HOOKS: HEAD + body + b"\n"}), [("good", 0.0)])


def test_it_ends_in_time_and_sees_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "abc")
    peek = HEAD + b"import os; return ','.join(sorted(set(os.environ) - {'LC_CTYPE'})) + '|' + str(len(os.listdir()))\n"
    assert actions(action_of({HOOKS: peek}), [("good", 0.0)]) == ["|0"]
    monkeypatch.setattr(hookrun, "TIMEOUT_S", 1.0)
    began_s = time.monotonic()
    with pytest.raises(PackageError, match="took more than 1 s"):
        actions(action_of({HOOKS: HEAD + b"while True: pass\n"}), [("good", 0.0)])
    assert time.monotonic() - began_s < 5


def test_hooks_are_of_what_answered() -> None:
    same_scenario("caps@0.1.0", "caps@0.1.0")
    with pytest.raises(InputError, match=r"--hooks caps@0\.2\.0|0\.2\.0 answered"):
        same_scenario("caps@0.1.0", "caps@0.2.0")
