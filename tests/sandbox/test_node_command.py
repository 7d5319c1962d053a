"""`isthmus node`: what a person types and sees."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from isthmus.cli.node import node
from isthmus.contracts.errors import AgreementError, FolderError, InputError, IsthmusError, UnreachableError
from isthmus.contracts.head import Array
from isthmus.contracts.statistic import SITE_HEAD, SiteHeadParams, SiteHeads, site_heads_from
from isthmus.kit.signing import SigningKey
from isthmus.sandbox.ports import SiteRows, Tools
from isthmus.sandbox.statistics.moments import moments
from tests.sandbox.world import VIEWS, D, World, tiny_stage, tiny_tools, write_folder

EXCHANGE = SigningKey.from_seed(b"x" * 32).public_hex


def said(*arguments: str) -> str:
    return CliRunner().invoke(node, list(arguments), catch_exceptions=False).output


def init(tmp_path: Path, *more: str) -> dict[str, object]:
    data = write_folder(tmp_path / "data", 1, records=24)
    found: dict[str, object] = json.loads(said("init", str(data), "--state", str(tmp_path / "state"), "--id", "alfa", "--json", *more))
    return found


def test_init_agree_log(tmp_path: Path) -> None:
    first = init(tmp_path)
    assert (first["party"], first["records_train"], first["records_holdout"]) == ("alfa", 18, 6)
    state = str(tmp_path / "state")
    others = ["--participant", f"bravo={'1' * 64}", "--participant", f"carol={'2' * 64}"]
    agreed = json.loads(said("agree", "--state", state, "--purpose", "inspect", "--exchange-key", EXCHANGE, *others, "--json"))
    assert agreed["agreement"].startswith("sha256:") and agreed["exchange"] == EXCHANGE
    assert json.loads(said("log", "--state", state, "--json"))["messages"] == 0
    assert "0 messages, 0 bytes" in said("log", "--state", state)
    again = said("init", str(tmp_path / "data"), "--state", state, "--id", "alfa")
    assert str(first["public_key"]) in again and str(first["asset"]) in again


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("init", "MISSING", "--state", "STATE", "--id", "alfa"), FolderError),
        (("init", "DATA", "--state", "STATE", "--id", "Alfa!"), InputError),
        (("init", "DATA", "--state", "STATE", "--id", "bravo"), InputError),
        (("agree", "--state", "NOWHERE", "--purpose", "p", "--exchange-key", EXCHANGE), InputError),
        (("agree", "--state", "STATE", "--purpose", "p"), InputError),
        (("agree", "--state", "STATE", "--purpose", "p", "--exchange", "http://127.0.0.1:9"), UnreachableError),
        (("agree", "--state", "STATE", "--purpose", "p", "--exchange-key", "xyz"), AgreementError),
        (("agree", "--state", "STATE", "--purpose", "p", "--exchange-key", EXCHANGE, "--participant", "bravo"), InputError),
        (("agree", "--state", "STATE", "--purpose", "p", "--exchange-key", EXCHANGE, "--contribution"), AgreementError),
        (("agree", "--state", "STATE", "--purpose", "p", "--exchange-key", EXCHANGE, "--least-participants", "2"), AgreementError),
        (("log", "--state", "NOWHERE"), InputError),
        (("start", "--state", "NOWHERE", "--exchange", "http://127.0.0.1:9"), InputError),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], kind: type[IsthmusError]) -> None:
    init(tmp_path)
    paths = {"MISSING": "missing", "STATE": "state", "DATA": "data", "NOWHERE": "nowhere"}
    given = [str(tmp_path / paths[a]) if a in paths else a for a in arguments]
    with pytest.raises(kind) as caught:
        CliRunner().invoke(node, given, catch_exceptions=False)
    assert caught.value.message and caught.value.next_step and caught.value.exit_code != 0


def test_edited_log_is_not_shown(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("alfa", "bravo", "carol")
    world.steps(1)
    log = world.owners["alfa"].log
    log.write_bytes(log.read_bytes().replace(b'"kind":"asset"', b'"kind":"party"'))
    with pytest.raises(IsthmusError) as caught:
        CliRunner().invoke(node, ["log", "--state", str(log.parent)], catch_exceptions=False)
    assert caught.value.code == "log-tampered" and "line 2" in caught.value.message


def test_site_head_joins_the_fleet_with_own_rows(tmp_path: Path) -> None:
    seen: list[tuple[int, SiteRows]] = []

    def fitter(fleet, rows, stage, params) -> SiteHeads:
        seen.append((fleet.records, rows))
        heads = np.arange(3.0 * (D + 1)).reshape(3, D + 1)
        return SiteHeads(1, np.array([True, True, False]), np.ones(3), np.ones(3), np.zeros(3), heads, np.ones((3, 2, 256), dtype=np.int64))

    terms = {"visibility": "individual", "least_participants": 1, "dimension_records_min_ratio": 0, "operations": (SITE_HEAD,)}
    world = World(tmp_path, terms=terms)
    world.add("line-4")
    owner = world.owners["line-4"]
    tools = tiny_tools()
    owner.node._data.tools = Tools(tools.extractor, tools.artefact, tools.corrupt, fitter)
    world.steps(1)
    fleet = Array.of(
        moments(
            owner.node._data.training(
                tiny_stage(), SiteHeadParams(fleet=Array.of(np.zeros(1)), fleet_penalty=1.0, factors=(1.0,), penalties=(1.0,))
            )
        ).packed()
    )
    params = SiteHeadParams(views=tuple(VIEWS), fleet=fleet, fleet_penalty=0.1, factors=(1.0,), penalties=(1.0,))
    status = world.service.create_job(world.request(SITE_HEAD, msgspec.to_builtins(params)))
    world.steps()
    status = world.service.job(status.id)
    assert status.phase == "done", status.reason
    found = site_heads_from(status.heads["line-4"].array(), D)
    assert found.best == 1 and found.known.tolist() == [True, True, False] and found.heads[2, D] == 3 * (D + 1) - 1
    records, rows = seen[0]
    assert records == rows.records == owner.home.asset.records_train and rows.q.shape == (4 * records, D)
