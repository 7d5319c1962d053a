"""The guide docs/guide/whole-life.md, walked: its own commands, in a new folder, in its order. What it says is what is run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.inspection import Ended, arguments_of, environment, spoken

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "whole-life.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+)\n")
EXIT = re.compile(r"#.*exit code (\d+)")
ROLLBACK_S_MAX = 5.0
STOP_S = 30


def blocks() -> list[tuple[str, str]]:
    """(language, text) of the guide's code blocks, in order."""
    return BLOCK.findall(GUIDE.read_text(encoding="utf-8"))


def edited(path: Path, lines: list[str]) -> None:
    """The file with each line in the place of the one that has the same indent and key; a new file where there is none."""
    if not path.exists():
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    for line in lines:
        key = line.split(":")[0]
        text, count = re.subn(rf"^{re.escape(key)}:.*$", lambda _, new=line: new, text, flags=re.MULTILINE)
        assert count == 1, f"{path} has {count} lines {key}"
    path.write_text(text, encoding="utf-8")


class Walk:
    """A person who does what the page says. done: command -> how it ended, seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch, self.exchange = monkeypatch, None
        self.done: list[tuple[str, Ended, float]] = []

    def follow(self, language: str, text: str) -> None:
        if language == "sh":
            for line in text.splitlines():
                self.command(line)
            return
        path = Path(FILE.match(text)[1])  # type: ignore[index]
        lines = text.splitlines()[1:]
        if language == "python":
            path.write_text(text, encoding="utf-8")
        elif language == "yaml":
            edited(path, lines)
        elif language == "json":
            for line in lines:
                old, new = line.split(" -> ")
                content = path.read_text(encoding="utf-8")
                assert content.count(old) == 1, old
                path.write_text(content.replace(old, new), encoding="utf-8")

    def command(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        wanted = EXIT.search(line)
        began_s = time.monotonic()
        if words[0] == "cd":
            self.monkeypatch.chdir(words[1])
        elif words[:2] == ["isthmus", "up"]:
            self.exchange = self._up()
        elif words[0] == "isthmus":
            ended = spoken(*words[1:])
            self.done.append((line, ended, time.monotonic() - began_s))
            expected = int(wanted[1]) if wanted else 0
            assert ended.code == expected, f"{line}\n{ended.out}\n{ended.err}"
            assert "Traceback" not in ended.out + ended.err
        else:
            subprocess.run([sys.executable if words[0] == "python" else words[0], *words[1:]], check=True)

    def _up(self) -> subprocess.Popen[str]:
        words = arguments_of("up", "--port", "0", "--json", "--leash")
        child = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment()
        )
        assert child.stdout is not None
        json.loads(child.stdout.readline())
        return child

    def stop(self) -> None:
        if self.exchange is not None:
            self.exchange.terminate()
            self.exchange.wait(STOP_S)
            for stream in (self.exchange.stdin, self.exchange.stdout):
                if stream is not None:
                    stream.close()

    def of(self, *words: str) -> list[tuple[Ended, float]]:
        """How the commands that begin with these words ended, in order."""
        begins = " ".join(("isthmus", *words))
        return [(ended, took_s) for line, ended, took_s in self.done if line.startswith(begins)]


@contextmanager
def walking(folder: Path) -> Iterator[Walk]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for name in ("ISTHMUS_STATE", "ISTHMUS_HOST", "ISTHMUS_PORT"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        walk = Walk(monkeypatch)
        try:
            yield walk
        finally:
            walk.stop()


def steps_of(name: str, state: Path) -> list[dict[str, Any]]:
    ended = spoken("deployment", "history", name, "--state", state, "--json")
    assert ended.code == 0, ended.err
    found: list[dict[str, Any]] = ended.document["steps"]
    return found


def test_the_guide_leads_through_the_whole_life(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with walking(tmp_path) as walk:
        for language, text in blocks():
            walk.follow(language, text)
        state = tmp_path / "caps" / "isthmus-state"
        fleet, site = steps_of("bottle-caps", state), steps_of("bottle-caps-hall-2", state)
    assert [step["action"] for step in fleet] == ["deploy", "propose", "upgrade", "rollback", "rollback", "retire"]
    assert [step["action"] for step in site] == ["deploy", "propose", "upgrade"]
    assert site[1]["version"]["origin"]["values"] == {"price_micros": 1500}, "the site's own price went along"
    assert fleet[2]["proof"]["found"]["passed"] is True
    shown = walk.of("deployment", "shadow")[1][0].out
    assert "20 of 20 requests compared" in shown or "requests compared, 0 skipped" in shown
    (back, took_s), _ = walk.of("deployment", "rollback")
    assert "serves version 1 again" in back.out and took_s <= ROLLBACK_S_MAX
    assert "deployment-retired" in walk.of("judge")[-1][0].err
    with capsys.disabled():
        sys.stdout.write("\n" + "".join(f"{took_s:6.1f} s  {line}\n" for line, _, took_s in walk.done if took_s > 1.0))


def test_the_guide_names_every_step_of_a_life() -> None:
    commands = " ".join(text for language, text in blocks() if language == "sh")
    for words in ("scenario init", "scenario validate", "scenario show", "run ", "replicate ", "scenario diff", "--candidate"):
        assert f"isthmus {words}" in commands or words in commands, words
    for words in ("shadow", "upgrade", "rollback", "retire", "values", "history"):
        assert f"isthmus deployment {words}" in commands, words
    for words in ("package", "install"):
        assert f"isthmus scenario {words}" in commands, words
