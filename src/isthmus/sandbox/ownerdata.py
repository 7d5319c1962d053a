"""An owner's records as arrays: the only place where they are read.

Records are decoded in batches and forgotten; features and scores are kept in the cache. Every record is checked against the digest
that the asset's commitment covers before it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import FolderError, InputError, RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.ports import Progress
from isthmus.contracts.schema import Schema
from isthmus.contracts.statistic import CLEAN, Corruption, TrainingParams, condition_name
from isthmus.contracts.targets import Target
from isthmus.kit.canonical import digest_of
from isthmus.kit.decoders import decoded_record, decoder_named, row_text
from isthmus.kit.pictures import decode
from isthmus.kit.writing import decode_text
from isthmus.sandbox.featurecache import FeatureCache
from isthmus.sandbox.folder import TRAIN, DataFolder, LabelledFile, is_text_file
from isthmus.sandbox.ports import Artefact, Given, Tools
from isthmus.sandbox.rowfiles import RowFiles, rows_named
from isthmus.sandbox.statistics.records import Records, TrainingRecords, group_codes, shortened

BATCH_IMAGES, BATCH_ROWS = 16, 1024
"""Records between two words of progress; texts take as long as pictures."""
DRAWN = "drawn-defects/1"
"""The name that features of pictures with drawn defects are kept under."""
Record = NDArray[Any]
Compute = Callable[[Given], NDArray[np.generic]]

FLIPS: Mapping[str, Callable[[Record], Record]] = {
    "identity": lambda record: record,
    "flip-left-right": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "flip-up-down": lambda image: np.ascontiguousarray(image[::-1]),
    "rotate-180": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
}


def silent(done: int, total: int, label: str) -> None:
    """A Progress that says nothing."""


def file_digests(folder: DataFolder, on_progress: Progress = silent, check: bool = True, schema: Schema | None = None) -> dict[str, str]:
    """sha256 hex of each record, by relative path; with `check`, each must also decode, rows where their schema is known.

    Raises FolderError, PictureError, InputError.
    """
    digests = {}
    tables = RowFiles(folder.root)
    for index, file in enumerate(folder.files):
        raw = record_of(folder.root, file, tables)
        if check and schema is not None:
            _check_kind(folder.root, file, schema, tables)
        if check and schema is not None:
            decoded_record(sent_bytes(raw, file, schema), file.path, schema)
        elif check and rows_named(file.path) is None:
            _ = decode_text(raw, file.path) if is_text_file(file.path) else decode(raw, file.path)
        digests[file.path] = hashlib.sha256(raw).hexdigest()
        on_progress(index + 1, len(folder.files), "reading")
    return digests


def _check_kind(root: Path, file: LabelledFile, schema: Schema, tables: RowFiles) -> None:
    """Rows, of a table that has all columns: one that is misspelt in the header would count as missing everywhere."""
    rows = rows_named(file.path)
    if rows is None and schema.written and is_text_file(file.path):
        return
    if rows is None and schema.written:
        raise FolderError(f"{file.path} is no text, and the scenario takes texts", "give .txt files, or name rows of a CSV file")
    if rows is None:
        raise FolderError(f"{file.path} is a file, and the scenario takes rows of tables", "name rows of a CSV file, as in records.csv#1")
    absent = [column.name for column in schema.columns if column.name not in tables.columns(rows[0])]
    if absent:
        there = ", ".join(tables.columns(rows[0]))
        raise FolderError(f"{root / rows[0]} has no column {absent[0]}", f"add it, empty where it was not measured; the header has {there}")


def record_of(root: Path, file: LabelledFile, tables: RowFiles) -> bytes:
    """A record's bytes: its file's, or its rows as JSON. Raises FolderError."""
    rows = rows_named(file.path)
    if rows is not None:
        return tables.record(*rows)
    try:
        return (root / file.path).read_bytes()
    except OSError as error:
        raise FolderError(
            f"{root / file.path} cannot be read: {error.strerror}", "put the file back, or remove it from the labels"
        ) from error


def sent_bytes(raw: bytes, file: LabelledFile, schema: Schema | None) -> bytes:
    """A record's bytes as its decoder takes them: of a text in a row of a table, the text alone. Raises InputError."""
    of_row = schema is not None and schema.written and rows_named(file.path) is not None
    return row_text(raw, file.path, schema) if of_row and schema is not None else raw


@dataclass
class OwnerData:
    """The data of one asset. digests: relative path -> sha256 hex, as committed to. kept: features of the training split that were asked
    for last, by stage and view: trees ask for them some hundred times in a row. begun: scores that trees begin at, likewise. norm_max: rows
    of features for the training sums are shortened to this length (records.shortened); 0: they are as they are."""

    folder: DataFolder
    digests: Mapping[str, str]
    cache: FeatureCache
    tools: Tools
    progress: Progress = silent
    kept: dict[tuple[str, str], NDArray[np.int16]] = field(default_factory=dict)
    begun: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    norm_max: int = 0

    def records(self, split: str) -> Records:
        """Labels, groups and kinds of one split, in order."""
        files = self.folder.of_split(split)
        y = np.array([file.label for file in files], dtype=np.int64)
        return Records(y, group_codes([file.group for file in files]), tuple(file.kind for file in files))

    def training(self, stage: Stage, params: TrainingParams) -> TrainingRecords:
        """The training split with the features of each view, and then of each augmentation."""
        files = self.folder.of_split(TRAIN)
        if self.folder.targets:
            raise RefusedError("data", "the asset's records end in numbers, not in labels", "use a scenario that foretells them")
        w = np.array([params.sure_weight if file.sure else params.unsure_weight for file in files], dtype=np.int64)
        views = [self._training_features(stage, view) for view in params.views]
        changed = [self._training_features(stage, "identity", one) for one in params.augmentations]
        records = self.records(TRAIN)
        rows = tuple(shortened(q, self.norm_max) for q in (*views, *changed))
        if not params.drawn_weight:
            return TrainingRecords(records, rows, w)
        return TrainingRecords(records, rows, w, shortened(self.drawn(stage, records.y < 0), self.norm_max), params.drawn_weight)

    def drawn(self, stage: Stage, chosen: NDArray[np.bool_]) -> NDArray[np.int16]:
        """(n, d) features of the chosen training pictures with drawn defects."""
        spoilt, extractor = self.tools.spoilt, self.tools.extractor(stage)
        if spoilt is None or stage.schema is not None:
            raise RefusedError("parameters", "defects can be drawn into pictures only, by a node that draws", "set drawn_weight to 0")
        make = spoilt

        def compute(given: Given) -> NDArray[np.generic]:
            return extractor.rows([make(picture) for picture in given])

        found = self._each(TRAIN, extractor.digest, DRAWN, compute, f"features {DRAWN}", None, chosen)
        return (
            extractor.select(np.array(found, dtype=np.int16).reshape(len(found), -1)) if found else np.zeros((0, stage.dimension), np.int16)
        )

    def _training_features(self, stage: Stage, view: str, corruption: Corruption | None = None) -> NDArray[np.int16]:
        name = view if corruption is None else condition_name(corruption)
        if (stage.digest, name) not in self.kept:
            if any(digest != stage.digest for digest, _ in self.kept):
                self.kept.clear()
            self.kept[stage.digest, name] = self.features(stage, TRAIN, view, corruption)
        return self.kept[stage.digest, name]

    def features(self, stage: Stage, split: str, view: str = "identity", corruption: Corruption | None = None) -> NDArray[np.int16]:
        """(n, d) int16 of one split under one view, corrupted first if so asked; (n, positions * d) where the stage has positions."""
        extractor = self.tools.extractor(stage)
        flip = FLIPS[view]
        condition = view if corruption is None else condition_name(corruption)

        def compute(given: Given) -> NDArray[np.generic]:
            if corruption is not None:
                given = [self.tools.corrupt(record, corruption.family, corruption.severity, stage.schema) for record in given]
            return extractor.rows([flip(record) for record in given])

        if stage.schema is not None and view != "identity":
            raise RefusedError("parameters", f"records of a table have no view {view!r}", "use identity only")
        found = self._each(split, extractor.digest, condition, compute, f"features {condition}", stage.schema)
        rows = np.array(found, dtype=np.int16).reshape(len(found), -1)
        rows = extractor.select(rows) if found else rows
        if found and rows.shape[1] != stage.width:
            raise RefusedError("stage", f"the extractor gives {rows.shape[1]} features, not {stage.width}", "use the same release")
        return rows.reshape(len(found), stage.width)

    def artefact_scores(self, artefact: Artefact, stage: Stage, split: str) -> NDArray[np.float64]:
        """(n,) scores of the artefact itself, run on the decoded records of one split as they are."""

        def compute(given: Given) -> NDArray[np.generic]:
            return np.asarray(artefact.scores(given), dtype=np.float64)

        found = self._each(split, artefact.digest, CLEAN, compute, "artefact", stage.schema)
        return np.array(found, dtype=np.float64).reshape(len(found))

    def outcomes(self, split: str, targets: tuple[Target, ...]) -> NDArray[np.float64]:
        """(n, targets) outcomes of one split, in the targets' units. Raises RefusedError when the asset declares other targets."""
        known = {target.name: place for place, target in enumerate(self.folder.targets)}
        for target in targets:
            if target.name not in known:
                raise RefusedError("data", f"the asset's records have no outcome {target.name}", "prepare the asset for this scenario")
            if self.folder.targets[known[target.name]] != target:
                what = f"the asset declares another range or scale of {target.name} than the job"
                raise RefusedError("data", what, "prepare the asset by the scenario's present version")
        places = [known[target.name] for target in targets]
        found = [[file.values[place] for place in places] for file in self.folder.of_split(split)]
        return np.array(found, dtype=np.float64).reshape(len(found), len(targets))

    def newest(self, split: str, schema: Schema, column: str) -> NDArray[np.float64]:
        """(n,) newest values of a number column; NaN where it is missing."""
        place = [one.name for one in schema.columns].index(column)
        source = f"newest {column} {digest_of(schema)}"
        found = self._each(split, source, CLEAN, lambda given: np.array([np.atleast_2d(one)[-1, place] for one in given]), "newest", schema)
        return np.array(found, dtype=np.float64).reshape(len(found))

    def foretold(self, artefact: Artefact, stage: Stage, split: str, corruption: Corruption | None) -> NDArray[np.float64]:
        """(n, 4, targets) score, value, low and high: the artefact itself, run on the records of one split, corrupted if so asked."""
        run = artefact.foretold
        if run is None:
            raise RefusedError("artefact", "the artefact foretells no numbers", "send a head that does")

        def compute(given: Given) -> NDArray[np.generic]:
            if corruption is not None:
                given = [self.tools.corrupt(record, corruption.family, corruption.severity, stage.schema) for record in given]
            return np.asarray(run(given), dtype=np.float64)

        condition = CLEAN if corruption is None else condition_name(corruption)
        found = self._each(split, artefact.digest, condition, compute, f"artefact {condition}", stage.schema)
        return np.array(found, dtype=np.float64).reshape(len(found), 4, -1)

    def _each(
        self,
        split: str,
        digest: str,
        condition: str,
        compute: Compute,
        label: str,
        schema: Schema | None,
        chosen: NDArray[np.bool_] | None = None,
    ) -> list[NDArray[Any]]:
        """One array for each record, or for each chosen one, from the cache or computed in batches."""
        files = [file for place, file in enumerate(self.folder.of_split(split)) if chosen is None or chosen[place]]
        condition = f"{decoder_named(schema)}/{condition}"
        found: dict[str, NDArray[Any]] = self.cache.found(digest, condition)
        missing = [file for file in files if self.digests[file.path] not in found]
        step = BATCH_IMAGES if schema is None or schema.written else BATCH_ROWS
        tables = RowFiles(self.folder.root)
        for start in range(0, len(missing), step):
            batch = missing[start : start + step]
            values = compute([self._decoded(file, tables, schema) for file in batch])
            new = {self.digests[file.path]: np.asarray(value) for file, value in zip(batch, values, strict=True)}
            self.cache.keep(digest, condition, new)
            found.update(new)
            self.progress(start + len(batch), len(missing), label)
        return [found[self.digests[file.path]] for file in files]

    def _decoded(self, file: LabelledFile, tables: RowFiles, schema: Schema | None) -> Record:
        try:
            raw = record_of(self.folder.root, file, tables)
        except FolderError as error:
            raise RefusedError("data", "a record of the asset can no longer be read", "see the node's own log") from error
        if hashlib.sha256(raw).hexdigest() != self.digests[file.path]:
            raise RefusedError("data", "a record is no longer the one that the asset commits to", "make a new asset and agreement")
        texts = schema is not None and schema.written and is_text_file(file.path)
        if not texts and (schema is None) != (rows_named(file.path) is None):
            raise RefusedError("data", "the asset holds another kind of records than the scenario takes", "use a scenario of its kind")
        try:
            return decoded_record(sent_bytes(raw, file, schema), file.path, schema)
        except InputError as error:
            raise RefusedError("data", "a record of the asset cannot be decoded", "see the node's own log") from error
