"""Jobs that owners with tables in columns and an owner with a folder answer together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from isthmus.contracts.errors import FolderError
from isthmus.contracts.statistic import FOLD_OUT, IRLS, MOMENTS, TrainingParams
from isthmus.contracts.sums import moments_size
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import NodeSettings, init_home, open_home
from isthmus.sandbox.outlog import OutLog, undeclared, verify_log
from isthmus.sandbox.statistics.moments import moments
from tests.sandbox import world as worlds
from tests.sandbox.column_tables import SCHEMA, STAGE, TOOLS, all_params, data_of, table, write_csv

NAMES = ("alfa", "bravo", "carol")


class ColumnWorld(worlds.World):
    """The small world, with real features of tables."""

    def paths(self) -> dict[str, Path]:
        found = {name: self.root / name / "rows.csv" for name in NAMES}
        found["carol"] = self.root / "carol" / "folder" / "records.csv"
        return found

    def begin(self) -> None:
        homes = {}
        for seed, (name, path) in enumerate(self.paths().items()):
            write_csv(path, table(20 + seed, 260))
            data = path.parent if name == "carol" else path
            settings = NodeSettings(id=name, name=name, kind="owner", data=str(data), licence="test", sample=True)
            homes[name] = init_home(self.root / name / "state", settings, schema=SCHEMA)
        keys = {name: home.key.public_hex for name, home in homes.items()}
        for name, home in homes.items():
            home.agree(self.agreement(home, keys))
            self.owners[name] = self.owner(home)

    def owner(self, home: Any) -> worlds.Owner:
        uplink = worlds.DirectUplink(self.service, home.settings.id)
        events: list[tuple[str, dict[str, Any]]] = []
        identity = Identity(home.settings.id, home.key, home.party_envelope, home.asset_envelope)
        told = lambda event, fields: events.append((event, fields))  # noqa: E731
        log = OutLog(home.log_path, home.key, self.clock)
        return worlds.Owner(home, uplink, Node(identity, home.owner_data(TOOLS), home.store, log, uplink, self.clock, told), events)


@pytest.fixture
def world(tmp_path: Path) -> ColumnWorld:
    found = ColumnWorld(tmp_path, terms={"operations": (MOMENTS, FOLD_OUT, IRLS)})
    found.begin()
    found.steps(1)
    return found


def test_tables_and_a_folder_add_up_and_a_killed_node_sends_the_same_bytes(world: ColumnWorld) -> None:
    plain = TrainingParams(sure_weight=1, unsure_weight=1)
    job = world.service.create_job(world.request(MOMENTS, msgspec.to_builtins(plain), stage=STAGE))
    world.steps(1)
    world.restart("alfa")
    world.steps(2)
    found = world.service.job(job.id)
    assert found.phase == "done" and found.total is not None
    shares = [moments(data_of(owner.home).training(STAGE, plain)).packed() for owner in world.owners.values()]
    assert np.array_equal(found.total.array().astype(np.int64), np.sum(shares, axis=0))
    for owner in world.owners.values():
        entries = verify_log(owner.log, owner.home.key.public_hex)
        assert not undeclared(entries) and [e.shape for e in entries if e.kind == "vector"] == [(moments_size(STAGE.dimension),)]


def test_a_file_that_changes_while_the_node_runs_is_refused_by_the_clause_of_data(world: ColumnWorld) -> None:
    path = world.paths()["bravo"]
    path.write_bytes(path.read_bytes().replace(b"North", b"South", 3))
    weight = 3 * 3 * 260
    params = msgspec.to_builtins(all_params(weight)[IRLS])
    job = world.service.create_job(world.request(IRLS, params, stage=STAGE))
    world.steps(3)
    found = world.service.job(job.id)
    assert found.phase == "failed" and {(r.party, r.clause) for r in found.refusals} == {("bravo", "data")}
    assert not any("North" in r.message or "South" in r.message for r in found.refusals)
    world.owners["bravo"].home.store.close()
    with pytest.raises(FolderError, match="not what the asset commits to"):
        open_home(world.root / "bravo" / "state")
