"""`isthmus deployment`: what its commands say, over real records and without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import isthmus.cli.deployment as command
from isthmus.app.comparison import Comparison, comparison_request
from isthmus.app.deploy import Made
from isthmus.cli.main import main
from isthmus.contracts.life import ComparisonOrder, Origin, RetireOrder, RollbackOrder, UpgradeOrder
from isthmus.scenarios.workbench import digest_of_contents
from tests.app.test_lives import NAME, serves
from tests.app.versions import RECORDS, Versions
from tests.scenarios.package_parts import changed, on_disk, package

WHO = "exchange/k1"


class Exchange:
    """Answers as the exchange's routes do. up: the nodes that answer."""

    def __init__(self, versions: Versions) -> None:
        self.versions, self.up = versions, ["alba", "brio", "cora"]
        self.runs: dict[str, Any] = {}

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def get(self, path: str) -> Any:
        lives = self.versions.lives
        if path == "/v1/nodes":
            return [{"party": party, "alive": True} for party in self.up]
        if path.startswith("/v1/runs/"):
            return self.runs[path.rpartition("/")[2]]
        found: Any = lives.views() if path == "/v1/deployments" else lives.history(path.removeprefix("/v1/deployments/"))
        return msgspec.json.decode(msgspec.json.encode(found))

    def post(self, path: str, body: Any) -> Any:
        name, act = path.removeprefix("/v1/deployments/").split("/")
        lives = self.versions.lives
        if act == "comparison":
            wanted = comparison_request(lives, name, msgspec.convert(body, ComparisonOrder))
            run_id = f"cmp_{len(self.runs)}"
            self.versions.house.catalogue.begin(run_id, "comparison", wanted)
            passed, result = Comparison(self.versions.house.shop, lives, run_id, wanted).walk()
            state = "certified" if passed else "refused"
            self.runs[run_id] = {"id": run_id, "scenario": "", "state": state, "step": "", "steps": [], "result": result}
            return self.runs[run_id]
        if act == "upgrade":
            order = msgspec.convert(body, UpgradeOrder)
            found = self.runs[order.comparison]["result"] if order.comparison else None
            step = lives.upgrade(name, order, WHO, found)
        elif act == "rollback":
            step = lives.rollback(name, msgspec.convert(body, RollbackOrder), WHO)
        else:
            step = lives.retire(name, msgspec.convert(body, RetireOrder), WHO)
        return msgspec.to_builtins(step)


@pytest.fixture
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    versions = Versions(tmp_path / "state" / "exchange")
    versions.put("run_1", 100_000)
    versions.put("run_2", 200_000, candidate=True)
    found = Exchange(versions)
    monkeypatch.setattr(command, "operator", lambda url, key, state: found)
    monkeypatch.setenv("ISTHMUS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    yield found
    versions.close()


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert main(["deployment", *words, "--json"]) == code, capsys.readouterr()
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def table(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(["deployment", *words]) == code, capsys.readouterr()
    return capsys.readouterr().out


def test_list_and_history_say_what_serves_and_why(exchange: Exchange, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = told(capsys, "list")["deployments"]
    assert (row["name"], row["current"], row["state"], row["ready"]) == (NAME, 1, "serving", True)
    assert "1 deployment" in table(capsys, "list") and NAME in table(capsys, "list")
    said = table(capsys, "history", NAME)
    assert "2 steps, each signed by key" in said and "propose" in said and "the run run_2 was certified" in said
    assert [step["action"] for step in told(capsys, "history", NAME)["steps"]] == ["deploy", "propose"]
    assert told(capsys, "history", NAME, "--public-key", "0" * 64, code=1)["error"]["code"] == "log-tampered"


def test_upgrade_tells_then_does(exchange: Exchange, capsys: pytest.CaptureFixture[str]) -> None:
    said = table(capsys, "upgrade", NAME, "--dry-run", "--margin", "0.1", code=1)
    assert "not shown" in said and "held-out records would show it" in said and serves(exchange.versions) == 1
    assert told(capsys, "upgrade", NAME, "--dry-run", "--margin", "20", "--lost", "20")["step"] is None
    assert told(capsys, "upgrade", NAME, "--margin", "0.1", "--why", "x", code=1)["step"] is None and serves(exchange.versions) == 1
    found = told(capsys, "upgrade", NAME, "--margin", "20", "--lost", "20", "--why", "more owners")
    assert found["comparison"]["passed"] and found["step"]["after"] == 2 == serves(exchange.versions)
    assert "serves version 1 again" in table(capsys, "rollback", NAME, "--why", "trying")
    found = told(capsys, "upgrade", NAME, "--to", "2", "--margin", "0.1", "--why", "x", "--accept-worse", "the lamp is gone")
    assert found["step"]["proof"]["accepted"] == "the lamp is gone" and serves(exchange.versions) == 2
    assert "is retired" in table(capsys, "retire", NAME, "--why", "sold")


def test_upgrade_names_the_nodes_that_are_not_up(exchange: Exchange, capsys: pytest.CaptureFixture[str]) -> None:
    exchange.up = ["brio"]
    error = told(capsys, "upgrade", NAME, "--dry-run", code=1)["error"]
    assert error["code"] == "job-failed" and "the nodes of alba, cora are not up" in error["message"]
    assert told(capsys, "upgrade", NAME, "--why", "x", "--accept-worse", "they left")["step"]["after"] == 2


def test_values_are_carried_to_the_next_package(exchange: Exchange, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = on_disk(tmp_path / "old", package())
    new = on_disk(tmp_path / "new", changed('"price_micros"', '"fee_micros"', "values.schema.json"))
    wanted, head, digests = exchange.versions.certified("run_3", 150_000)
    made = Made("run_3", origin=Origin(package=digest_of_contents(package()), values={"price_micros": 5000}))
    exchange.versions.deployer.deploy(wanted.scenario, "fleet", head, digests, RECORDS, 1, made)
    found = told(capsys, "values", NAME, str(new), "--from", str(old), "--out", "site.yaml")
    assert found["values"] == {"fee_micros": 5000} and (tmp_path / "site.yaml").read_text() == "fee_micros: 5000\n"
    assert told(capsys, "values", NAME, str(new), "--from", str(new), code=1)["error"]["code"] == "conflict"
    assert told(capsys, "values", NAME, str(new), code=2)["error"]["code"] == "not-found"


@pytest.mark.parametrize("words", [("history", "No Such"), ("rollback", "a/b", "--why", "x"), ("upgrade", "x"), ("retire", "x")])
def test_what_cannot_be_used_is_told(exchange: Exchange, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert told(capsys, *words, code=2)["error"]["code"] in ("bad-input", "bad-usage")


@pytest.mark.parametrize("name", ["list", "history", "values", "shadow", "upgrade", "rollback", "retire"])
def test_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = table(capsys, name, "--help")
    assert "Example" in said and f"isthmus deployment {name}" in said
