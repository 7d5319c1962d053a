"""Wires the check of an owner's folder to a scenario and its extractor; keeps the report in the node's state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.ports import Progress
from isthmus.contracts.quality import QualityReport
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.schema import MISSING, Column, Schema
from isthmus.foundry.stages import extractor_of
from isthmus.foundry.tablefeatures import TABLE_BACKBONE
from isthmus.kit.pictures import read_picture
from isthmus.kit.writing import coded
from isthmus.sandbox.folder import read_folder, read_labels
from isthmus.sandbox.nodehome import open_home
from isthmus.sandbox.ownerdata import silent
from isthmus.sandbox.quality.check import Checked, Plan, check_folder
from isthmus.sandbox.quality.material import Material, numbers_of

QUALITY_FACT = "quality"
"""Under which a node's store keeps the newest report of its asset."""
PICTURE_BACKBONE, PICTURE_PARTS = "efficientnet-lite0-dim", ("defects/max", "defects/mean", "texture/24")
PAIRED_COLUMNS_MAX = 24
BATCH = 16


@dataclass(frozen=True)
class Refining:
    """What a check is made with. scenario: None where columns and features follow from the data. threads: of the extractor."""

    scenario: Scenario | None = None
    threads: int = 1
    progress: Progress = silent

    @property
    def schema(self) -> Schema | None:
        return None if self.scenario is None else self.scenario.interface.schema

    def check(self, root: Path, asset: str = "") -> Checked:
        """Checks one folder. Raises FolderError, and InputError where the scenario takes another kind of records."""
        targets = () if self.scenario is None else self.scenario.interface.foretold
        folder = read_folder(root, targets) if targets else read_labels(root)
        if not folder.files:
            folder = read_folder(root)  # says what is missing
        named = "" if self.scenario is None else f"{self.scenario.id}@{self.scenario.version}"
        return check_folder(folder, Plan(self.schema, named, asset), self.features, self.progress)

    def features(self, material: Material, schema: Schema | None) -> NDArray[np.int16] | None:
        """(n, d) features of all readable records: the scenario's, or richer ones of a table's columns, as nothing of them leaves."""
        if material.kind == "image":
            return self._of_pictures(material)
        if material.kind == "texts":
            return self._of_texts(material)
        if schema is None or material.table is None:
            return None
        steps = {int(count) for count in material.table.steps.tolist()}
        if steps != {schema.steps}:
            return None
        filled, values = filled_values(material, schema)
        if schema.steps > 1:
            if self.scenario is None:
                return None
            extractor = extractor_of(self.scenario.recipe.backbone, self.scenario.recipe.parts, filled, self.threads)
            return extractor.select(extractor.rows(list(values)))
        many = sum(column.kind == "number" for column in schema.columns) > PAIRED_COLUMNS_MAX
        table = extractor_of(TABLE_BACKBONE, ("columns", "bins/6") if many else ("columns", "bins/6", "pairs"), filled, self.threads)
        return table.select(table.rows([row[0] for row in values]))

    def _of_pictures(self, material: Material) -> NDArray[np.int16]:
        scenario = self.scenario
        if scenario is not None and scenario.interface.input != "image":
            raise InputError(f"{scenario.id} takes {scenario.interface.input} records, and these are pictures", "name another scenario")
        plain = scenario is None or scenario.recipe.head == "gaussian"
        recipe = (PICTURE_BACKBONE, PICTURE_PARTS) if scenario is None or plain else (scenario.recipe.backbone, scenario.recipe.parts)
        extractor = extractor_of(*recipe, None, self.threads)
        rows = []
        for start in range(0, material.size, BATCH):
            batch: list[NDArray[Any]] = [read_picture(material.folder.root / file.path) for file in material.files[start : start + BATCH]]
            rows.append(extractor.select(extractor.rows(batch)))
            self.progress(min(material.size, start + BATCH), material.size, "features")
        return np.concatenate(rows)

    def _of_texts(self, material: Material) -> NDArray[np.int16] | None:
        scenario = self.scenario
        if scenario is None or self.schema is None or not self.schema.written:
            return None
        extractor = extractor_of(scenario.recipe.backbone, scenario.recipe.parts, self.schema, self.threads)
        texts: list[NDArray[Any]] = [coded(text) for text in material.texts]
        return extractor.select(extractor.rows(texts))


def filled_values(material: Material, schema: Schema) -> tuple[Schema, NDArray[np.float32]]:
    """(the schema with every column as one that may be missing, (n, steps, columns) float32): what is no value counts as missing."""
    table = material.table
    assert table is not None
    columns = tuple(msgspec.structs.replace(column, missing=True) for column in schema.columns)
    parts = [_coded(column, table.cells.get(column.name), table.rows) for column in columns]
    places = table.first[:, None] + np.arange(schema.steps)
    return Schema(columns=columns, steps=schema.steps), np.stack(parts, axis=1).astype(np.float32)[places]


def _coded(column: Column, texts: list[str] | None, rows: int) -> NDArray[np.float64]:
    if texts is None:
        return np.full(rows, np.nan)
    if column.kind == "number":
        values = numbers_of(texts)
        return np.where(np.isfinite(values) & (np.abs(values) < 1e30), values, np.nan)
    places = {level.strip().casefold(): float(place) for place, level in enumerate(column.levels)}
    return np.array([places.get(text.strip().casefold(), np.nan) if text.strip().casefold() not in MISSING else np.nan for text in texts])


def kept_report(state: Path, refining: Refining, keep: bool = True) -> Checked:
    """Checks the data of a node's state folder and keeps the report there. Raises InputError, FolderError."""
    home = open_home(state)
    try:
        if home.columns is not None:
            raise InputError(
                f"the node in {state} keeps a table in columns, which is not checked yet", "check some of its rows in a folder"
            )
        checked = refining.check(home.folder.root, home.asset_digest)
        if keep:
            home.store.put_fact(QUALITY_FACT, msgspec.json.encode(checked.report))
        return checked
    finally:
        home.store.close()


def report_of(raw: bytes | None) -> QualityReport | None:
    """What a node's store keeps under QUALITY_FACT. Raises InputError when it is damaged."""
    try:
        return None if raw is None else msgspec.json.decode(raw, type=QualityReport)
    except msgspec.DecodeError as error:
        raise InputError("the kept quality report is damaged", "run isthmus asset check again") from error
