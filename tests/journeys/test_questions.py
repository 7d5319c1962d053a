"""Questions through the real command lines: three hospitals' nodes as processes, an exchange, SQL in, and pooled DuckDB as the judge."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from isthmus.contracts.errors import FolderError
from isthmus.scenarios.sample_tables import TABLES, table_folders
from tests.journeys.inspection import Ended, arguments_of, environment, spoken
from tests.journeys.state import STOP_S, exchange_up

OWNERS = ("budapest", "cleveland", "zurich-basel")
STUDY = tuple(f"{party}-study" for party in OWNERS)
"""The same hospitals once more, under a budget: beside exact answers none would hold."""
TABLE = '"heart-screening"'
REGISTER_S = 60


class World:
    """The running exchange and nodes. folders: party -> its data."""

    def __init__(self, state: Path, folders: dict[str, Path], nodes: dict[str, subprocess.Popen[str]], url: str) -> None:
        self.state, self.folders, self.nodes, self.url = state, folders, nodes, url

    def ask(self, *words: object) -> Ended:
        return spoken("ask", *words, "--state", self.state, "--url", self.url)

    def answer(self, *words: object) -> dict[str, Any]:
        ended = self.ask(*words, "--json")
        assert ended.code == 0, ended.err
        return ended.document

    def pooled(self, text: str) -> list[tuple[Any, ...]]:
        """Over all hospitals' rows, as the package declares the columns: in thousandths, and clipped to their ranges."""
        files = [str(self.folders[party] / "records.csv") for party in OWNERS]
        database = duckdb.connect(":memory:")
        database.execute("CREATE TABLE raw AS SELECT * FROM read_csv($1, all_varchar = true, header = true)", [files])
        ranges = {"age": (20, 90), "trestbps": (80, 200), "chol": (100, 600), "thalch": (60, 220), "oldpeak": (-2, 6)}
        numbers = [f"least(greatest(CAST({name} AS DECIMAL(18,3)), {low}), {high}) AS {name}" for name, (low, high) in ranges.items()]
        cleaned = [
            number.replace("least(", f"CASE WHEN {name} IS NULL THEN NULL ELSE least(")
            for name, number in zip(ranges, numbers, strict=True)
        ]
        listed = ", ".join(
            [*(one.replace(f" AS {name}", f" END AS {name}") for name, one in zip(ranges, cleaned, strict=True)), "sex", "cp", "label"]
        )
        database.execute(f"CREATE TABLE heart AS SELECT {listed} FROM raw")
        return database.execute(text).fetchall()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("questions")
    try:
        folders = table_folders(TABLES["heart"], root / "data")
    except FolderError as error:
        pytest.skip(f"the hospitals' rows cannot be had here: {error}")
    state = root / "state"
    with ExitStack() as stack:
        url, _ = stack.enter_context(exchange_up(state))
        nodes = {
            **_started(stack, state, url, {party: folders[party] for party in OWNERS}, "heart-screening", ()),
            **_started(
                stack,
                state,
                url,
                {name: folders[party] for name, party in zip(STUDY, OWNERS, strict=True)},
                "heart-study",
                ("--epsilon", 4.0),
            ),
        }
        found = World(state, folders, nodes, url)
        deadline_s = time.monotonic() + REGISTER_S
        for more in ((), ("--purpose", "heart-study", "--epsilon", 0.1)):
            while len(_owners(found, more)) < 3 and time.monotonic() < deadline_s:
                time.sleep(0.2)
        yield found


def _owners(world: World, more: tuple[object, ...]) -> list[str]:
    """Who would be asked; none while nobody has registered."""
    ended = world.ask("SELECT count(*) FROM " + TABLE, *more, "--preview", "--json")
    return list(ended.document["owners"]) if ended.code == 0 else []


def _started(
    stack: ExitStack, state: Path, url: str, folders: dict[str, Path], purpose: str, more: tuple[object, ...]
) -> dict[str, subprocess.Popen[str]]:
    """One node for each folder, agreed with the others to answer questions for the purpose."""
    keys, nodes = {}, {}
    for party, folder in folders.items():
        words: tuple[object, ...] = ("node", "init", folder, "--state", state / "nodes" / party, "--id", party)
        keys[party] = spoken(*words, "--scenario", "heart-screening", "--json").document["public_key"]
    for party in folders:
        others = [word for name in folders if name != party for word in ("--participant", f"{name}={keys[name]}")]
        words = ("node", "agree", "--state", state / "nodes" / party, "--exchange", url, "--operation", "query/1", *others)
        ended = spoken(*words, "--purpose", purpose, "--least-group-size", 5, *more, "--json")
        assert ended.code == 0, ended.err
        start = arguments_of("node", "start", "--state", state / "nodes" / party, "--exchange", url)
        nodes[party] = stack.enter_context(
            subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env=environment())
        )
        stack.callback(_stop, nodes[party])
    return nodes


def _stop(child: subprocess.Popen[str]) -> None:
    child.terminate()
    child.wait(STOP_S)


def test_an_exact_answer_is_that_of_the_pooled_rows(world: World) -> None:
    found = world.answer(f"SELECT avg(age), count(*), avg(thalch), sum(oldpeak) FROM {TABLE} GROUP BY label", "--owners", ",".join(OWNERS))
    expected = world.pooled("SELECT avg(age), count(*), avg(thalch), sum(oldpeak) FROM heart GROUP BY label ORDER BY label DESC")
    assert found["exact"] and found["owners"] == list(OWNERS)
    for row, line in zip(found["rows"], expected, strict=True):
        assert [told["value"] for told in row["told"]] == pytest.approx([float(value) for value in line], rel=1e-12)
        assert row["withheld"] == 0 and all(told["low"] == told["value"] == told["high"] for told in row["told"])


def test_what_one_hospital_left_out_is_said_and_within_the_bounds(world: World) -> None:
    found = world.answer(f"SELECT count(*), avg(age) FROM {TABLE} WHERE cp = 'atypical angina' GROUP BY sex")
    lines = world.pooled("SELECT sex, count(*), avg(age) FROM heart WHERE cp = 'atypical angina' GROUP BY sex")
    truth = {sex: (count, age) for sex, count, age in lines}
    assert any(row["withheld"] for row in found["rows"])
    for row in found["rows"]:
        for told, value in zip(row["told"], truth[row["groups"][0]], strict=True):
            assert told["low"] is None or told["low"] - 1e-9 <= float(value)
            assert told["high"] is None or float(value) <= told["high"] + 1e-9


def test_a_noisy_answer_is_within_the_error_that_its_preview_said(world: World) -> None:
    words = (f"SELECT count(*), avg(age) FROM {TABLE} GROUP BY bins(thalch, 4)", "--purpose", "heart-study", "--epsilon", 1)
    preview = world.answer(*words, "--preview")["preview"]
    error = next(one["error"] for one in preview["noise"] if one["kind"] == "rows")
    assert {cost["epsilon_total"] for cost in preview["costs"]} == {4.0} and all(
        0.9 < cost["epsilon"] <= 1.001 for cost in preview["costs"]
    )
    found = world.answer(*words)
    truth = dict(
        world.pooled(
            "SELECT CASE WHEN thalch IS NULL THEN 4 ELSE least(floor((thalch - 60) / 40), 3) END AS b, count(*) FROM heart GROUP BY b"
        )
    )
    misses = [row["told"][0]["value"] - truth.get(place, 0) for place, row in enumerate(found["rows"]) if row["shown"]]
    assert not found["exact"] and np.abs(misses).max() < 2.5 * error and np.abs(misses).max() > 0
    assert world.answer(*words) == found, "the same question is answered with the same noise"


def test_it_is_told_for_people_and_refusals_name_their_clause(world: World) -> None:
    told = world.ask(f"SELECT avg(age), count(*) FROM {TABLE} GROUP BY label")
    assert told.code == 0 and "unremarkable" in told.out and "narrowed" in told.out and "█" in told.out, told
    cost = world.ask(f"SELECT avg(age) FROM {TABLE}", "--purpose", "heart-study", "--epsilon", 0.5, "--preview")
    assert "of 4" in cost.out and "Nothing was computed" in cost.out, cost
    for words, code, said in (
        ((f"SELECT avg(age) FROM {TABLE}", "--purpose", "heart-study"), "job-refused", "clause privacy-budget"),
        ((f"SELECT avg(age) FROM {TABLE}", "--purpose", "marketing", "--owners", "cleveland"), "job-refused", "clause purpose"),
        ((f"SELECT avg(age) FROM {TABLE}", "--owners", "cleveland,budapest"), "job-failed", "least-participants"),
        ((f"SELECT avg(age) FROM {TABLE}", "--owners", "nobody"), "not-found", "nobody"),
        ((f"SELECT max(age) FROM {TABLE}",), "bad-input", "one record's value"),
        (("SELECT count(*) FROM nowhere",), None, "nowhere"),
    ):
        error = world.ask(*words).err
        assert said in error and "Traceback" not in error and (code is None or f"[{code}]" in error), error


def test_nothing_but_sums_left_and_a_node_that_is_away_is_named(world: World) -> None:
    for party in OWNERS:
        shown = spoken("node", "log", "--state", world.state / "nodes" / party, "--json").document
        assert shown["images_left"] == 0
        vectors = [entry for entry in shown["entries"] if entry["kind"] == "vector"]
        assert vectors and all(entry["statistic"] == "query/1" for entry in vectors)
        assert sum(entry["bytes"] for entry in vectors) < 20_000
    _stop(world.nodes["cleveland"])
    ended = world.ask(f"SELECT avg(chol) FROM {TABLE}", "--timeout", 1)
    assert ended.code == 1 and "cleveland did not answer within 1 s" in ended.err, ended.err
    assert json.loads(world.ask(f"SELECT avg(chol) FROM {TABLE}", "--preview", "--json").out)["phase"] == "preview"
