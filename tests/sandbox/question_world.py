"""Three clinics with tables, an exchange in this process, and questions to them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from isthmus.app.nodetools import node_tools
from isthmus.app.questions import Questions
from isthmus.cli.asksql import Table, question_of
from isthmus.contracts.answer import QuestionAnswer, QuestionRequest
from isthmus.contracts.question import QUESTION
from isthmus.contracts.schema import Column, Schema
from isthmus.sandbox.duckworker import answered, opened
from isthmus.sandbox.node import Identity, Node
from isthmus.sandbox.nodehome import NodeHome, NodeSettings, init_home
from isthmus.sandbox.outlog import OutLog
from tests.sandbox.world import DirectUplink, Owner, World

SCHEMA = Schema(
    columns=(
        Column(name="age", unit="a", low=20, high=90),
        Column(name="sex", kind="category", levels=("Female", "Male")),
        Column(name="chol", unit="mg/dL", low=100, high=600, missing=True),
        Column(name="pain", kind="category", levels=("no", "some", "much"), missing=True),
        Column(name="shift", low=-2, high=6),
    )
)
TABLE = Table("clinic", SCHEMA, ("unremarkable", "narrowed"))
CLINICS = ("alfa", "bravo", "carol")


def lines(seed: int, count: int) -> list[dict[str, str]]:
    """Rows of one clinic; some ages lie beyond the declared range."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        sex = "Male" if rng.random() < 0.6 else "Female"
        pain = ["no", "some", "much", ""][int(rng.choice(4, p=[0.4, 0.25, 0.25, 0.1]))]
        found.append(
            {
                "age": str(int(np.clip(rng.normal(54, 12), 15, 95))),
                "sex": sex,
                "chol": "" if rng.random() < 0.15 else str(int(np.clip(rng.normal(240, 60), 100, 600))),
                "pain": pain,
                "shift": f"{rng.normal(1, 1):.1f}",
                "label": "defect" if rng.random() < 0.45 else "good",
            }
        )
    return found


def write_table(folder: Path, rows: list[dict[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "records.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


class Clinics(World):
    """A world whose owners hold tables. rows: of each clinic."""

    def fill(self, rows: dict[str, list[dict[str, str]]], **terms: Any) -> Clinics:
        self.rows = rows
        terms = {"operations": (QUESTION,), "least_group_size": 5, "runs_max": 100, "allow_own_head": False, **terms}
        homes = {name: self.home(name, found) for name, found in rows.items()}
        keys = {name: home.key.public_hex for name, home in homes.items()}
        for name, home in homes.items():
            home.agree(self.agreement(home, keys, **terms))
            self.owners[name] = self.owner(home)
        self.questions = Questions(self.root, self.service, self.clock)
        self.steps(1)
        return self

    def home(self, name: str, rows: list[dict[str, str]], schema: Schema | None = SCHEMA) -> NodeHome:
        data = write_table(self.root / name / "data", rows)
        settings = NodeSettings(id=name, name=name, kind="owner", data=str(data), licence="test", sample=True)
        return init_home(self.root / name / "state", settings, schema=schema)

    def owner(self, home: NodeHome) -> Owner:
        uplink = DirectUplink(self.service, home.settings.id)
        events: list[tuple[str, dict[str, Any]]] = []
        identity = Identity(home.settings.id, home.key, home.party_envelope, home.asset_envelope, home.rotations)
        log = OutLog(home.log_path, home.key, self.clock)

        def report(event: str, fields: dict[str, Any]) -> None:
            events.append((event, fields))

        data = home.owner_data(node_tools())
        return Owner(home, uplink, Node(identity, data, home.store, log, uplink, self.clock, report), events)

    def restart_clinic(self, name: str, rows: list[dict[str, str]] | None = None, **terms: Any) -> Owner:
        """The node as a new process; with rows, over changed data and a new agreement of its own."""
        home = self.owners[name].home
        home.store.close()
        found = self.home(name, rows or self.rows[name])
        if rows is not None:
            keys = {other: owner.home.key.public_hex for other, owner in self.owners.items()}
            self.clock.advance(1)
            found.agree(
                self.agreement(found, keys, operations=(QUESTION,), least_group_size=5, runs_max=100, allow_own_head=False, **terms)
            )
            self.rows[name] = rows
        self.owners[name] = self.owner(found)
        self.owners[name].node.step(0)
        return self.owners[name]

    def request(self, text: str, **fields: Any) -> QuestionRequest:  # type: ignore[override]
        values: dict[str, Any] = {"table": "clinic", "schema": SCHEMA, "question": question_of(text, TABLE), "purpose": "inspect"}
        return QuestionRequest(**{**values, **fields})

    def ask(self, text: str, **fields: Any) -> QuestionAnswer:
        request = self.request(text, **fields)
        for _ in range(6):
            found = self.questions.ask(request)
            if found.phase != "waiting":
                return found
            self.steps(1)
        return found

    def pooled(self, text: str, owners: tuple[str, ...] = CLINICS) -> list[tuple[Any, ...]]:
        """The same question to DuckDB over all rows together, values clipped as the columns declare. bins is defined as a macro."""
        rows = [row for name in owners for row in self.rows[name]]
        database = duckdb.connect(":memory:")
        database.register("given", {name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]})
        exact = {"age": (20, 90), "chol": (100, 600), "shift": (-2, 6)}
        columns = [
            f"CASE WHEN {name} = '' THEN NULL ELSE least(greatest(CAST({name} AS DECIMAL(18,4)), {exact[name][0]}), {exact[name][1]}) END"
            if name in exact
            else f"nullif({name}, '')"
            for name in rows[0]
        ]
        listed = ", ".join(f"{column} AS {name}" for column, name in zip(columns, rows[0], strict=True))
        database.execute(f"CREATE TABLE clinic AS SELECT {listed} FROM given")
        return database.execute(text).fetchall()


class DuckHere:
    """sandbox.duckrows.DuckRows in this process: quick, for tests that are not about the process."""

    def __enter__(self) -> DuckHere:
        self._database = opened(256)
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def run(self, tables: dict[str, Any], statements: list[Any]) -> list[Any]:
        arrays = {f"{table}.{name}": values for table, columns in tables.items() for name, values in columns.items()}
        arrays["statements"] = np.frombuffer(json.dumps(statements).encode(), dtype=np.uint8)
        found = answered(self._database, arrays)
        split = [(int(key.partition(".")[0]), key.partition(".")[2], value) for key, value in found.items()]
        return [{name: value for number, name, value in split if number == place} for place in range(len(statements))]
