"""A run goes on without an owner whose sums do not belong, and that owner's node is told, over real jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.app.screening import check_total
from isthmus.contracts.asset import Asset
from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.job import NodeTask
from isthmus.contracts.notice import Notice
from isthmus.contracts.statistic import TrainingParams
from isthmus.foundry.foldout import moments_of
from isthmus.kit.signing import SigningKey, seal
from isthmus.sandbox.notices import NOTICE_TYPE, notices_of, taken_notice
from tests.app.town import Town

INDIVIDUAL = {"visibility": "individual", "least_participants": 1, "contribution": True}


def turn_labels(town: Town, name: str) -> None:
    """Good is defect at this owner: a mistake of whoever exported the table."""
    path = town.root / "data" / name / "records.csv"
    text = path.read_text("utf-8").replace(",good", ",GOOD").replace(",defect", ",good").replace(",GOOD", ",defect")
    path.write_text(text, "utf-8")


def spoilt_town(root: Path, monkeypatch: pytest.MonkeyPatch) -> Town:
    """dogwood's table is turned before its node first reads it."""
    town = Town(root, INDIVIDUAL)
    made = town.add

    def add(*names: str, **more: Any) -> None:
        original = __import__("tests.app.town", fromlist=["table_folder"]).table_folder

        def table_folder(folder: Path, seed: int, count: int = 300, **more: Any) -> Path:
            found: Path = original(folder, seed, count, **more)
            if folder.name == "dogwood":
                turn_labels(town, "dogwood")
            return found

        monkeypatch.setattr("tests.app.town.table_folder", table_folder)
        made(*names, **more)

    monkeypatch.setattr(town, "add", add)
    return town


def test_the_run_goes_on_without_turned_labels_and_their_owner_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with spoilt_town(tmp_path / "town", monkeypatch) as town:
        town.add("alder", "birch", "cedar", "dogwood")
        found = town.run("build", town.request("alder", "birch", "cedar", "dogwood"))
        assert found.result is not None, found.error
        assert found.state == "certified", found.result["failures"]
        told = found.result["screening"]
        assert told["left_out"] == ["dogwood"] and told["suspicions"][0]["kind"] == "turned"
        assert any(note.startswith("dogwood was left out: its labels say the opposite") for note in found.result["notes"])
        assert set(found.result["owners"]) == {"alder", "birch", "cedar"}
        town.until(lambda: notices_of(town.homes["dogwood"].store))
        (notice,) = notices_of(town.homes["dogwood"].store)
        assert notice.left_out and notice.kind == "turned" and notice.run == found.id
        town.until(lambda: town.exchange.notices.of_run(found.id)[0][1])
        assert not town.exchange.notices.tasks("dogwood") and not notices_of(town.homes["alder"].store)
        assert [f["kind"] for e, f in town.events["dogwood"] if e == "notice"] == ["turned"]
        sums = found.result["sums"]
    with Town(tmp_path / "fresh", INDIVIDUAL) as fresh:
        fresh.add("alder", "birch", "cedar")
        again = fresh.run("build", fresh.request("alder", "birch", "cedar"))
        assert again.result["sums"]["moments/1"] == sums["moments/1"] and again.result["screening"]["left_out"] == []


def test_in_aggregate_it_is_said_what_cannot_be_seen(tmp_path: Path) -> None:
    with Town(tmp_path / "town") as town:
        town.add("alder", "birch", "cedar")
        found = town.run("build", town.request("alder", "birch", "cedar"))
        assert found.result is not None, found.error
        assert "cannot be seen" in found.result["screening"]["blind"][0] and not found.result["screening"]["suspicions"]


def test_a_total_that_no_records_have_ends_the_run() -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(-2000, 2000, (50, 6)).astype(np.int16)
    total = moments_of(q, np.full(50, 2), rng.choice([-1, 1], 50), np.arange(50))
    counts = {"records_train": 25, "records_holdout": 5, "groups_train": 25, "groups_holdout": 5}
    asset = Asset(owner="a", schema="s", licence="l", commitment="c", groups_inferred=False, **counts)
    check_total(total, TrainingParams(), {"a": asset, "b": asset})
    with pytest.raises(InputError, match="no records have"):
        check_total(replace(total, sum_wyx=total.sum_wyx * 50), TrainingParams(), {"a": asset, "b": asset})
    with pytest.raises(InputError, match="50 records, the asset has 25"):
        check_total(total, TrainingParams(), {"a": asset})


def test_a_node_takes_no_notice_of_strangers_or_for_others(tmp_path: Path) -> None:
    with Town(tmp_path / "town", INDIVIDUAL) as town:
        town.add("alder")
        store, key = town.homes["alder"].store, SigningKey.generate()
        fields = {"run": "r", "scenario": "s", "purpose": "p", "kind": "turned", "says": "x", "left_out": True, "chance_ppm": 1, "at_s": 1}
        notice = Notice(party="alder", next="n", **fields)
        pinned = {town.exchange.key.public_hex}
        for document in (seal(key, NOTICE_TYPE, notice), {"payload": "?"}, None):
            with pytest.raises(RefusedError):
                taken_notice(store, document, "alder", pinned)
        with pytest.raises(RefusedError, match="birch"):
            taken_notice(store, seal(town.exchange.key, NOTICE_TYPE, Notice(party="birch", next="n", **fields)), "alder", pinned)
        with town.stepping:
            town.nodes["alder"]._do(NodeTask(phase="notice", job={"payload": "?"}))
        assert not notices_of(store) and town.events["alder"][-1][0] == "notice-not-taken"
