"""A table in columns as statistics see it (sandbox.held.Data): walked in chunks, with memory that depends on columns and not on rows.

Features of the training split are computed in one walk over the table and kept in a file of 16-bit integers; held-out records are walked
anew whenever they are judged, under all conditions at once. Every byte of the table is checked as it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import FolderError, RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.schema import Records as Matrix
from isthmus.contracts.schema import Schema
from isthmus.contracts.statistic import Corruption, TrainingParams, condition_name
from isthmus.contracts.targets import Target
from isthmus.kit.canonical import digest_of
from isthmus.sandbox.columnasset import DEFECT, UNSURE, ColumnAsset, answers_among
from isthmus.sandbox.columnfiles import Batch
from isthmus.sandbox.columnvalues import RowError, matrix_of
from isthmus.sandbox.featurefile import FeatureFiles
from isthmus.sandbox.folder import TRAIN, Groups
from isthmus.sandbox.held import WHOLE_BYTES_MAX
from isthmus.sandbox.ownerdata import silent
from isthmus.sandbox.ports import Artefact, Given, MatrixExtractor, Tools
from isthmus.sandbox.statistics.records import CHUNK_RECORDS, GroupBlock, Ints, Records, TrainingRecords, joined, kinds_in, shortened

Floats = NDArray[np.float64]
_NUMBERS = ("the asset is a table in columns with labels, not with numbers to foretell", "give a folder with records.csv")


@dataclass
class ColumnData:
    """The data of one asset in columns. columns: those that its owner has declared to be asked about: none yet, so that questions are
    refused. Raises RefusedError when a file is no longer the one that the asset commits to."""

    asset: ColumnAsset
    kept: FeatureFiles
    tools: Tools
    progress: Any = silent
    begun: dict[str, Floats] = field(default_factory=dict)
    norm_max: int = 0
    columns: Schema | None = None
    whole_bytes_max: int = WHOLE_BYTES_MAX

    def telling(self, progress: Any) -> ColumnData:
        """The same, which tells another of its progress."""
        return replace(self, progress=progress)

    def shortening(self, norm_max: int) -> ColumnData:
        """The same, with rows of features for training sums no longer than that; 0: as they are."""
        return replace(self, norm_max=norm_max)

    def count(self, split: str) -> int:
        """Records of a split."""
        return self.asset.count(split)

    def count_good(self, split: str) -> int:
        """Of them those labelled good."""
        index = self.asset.index
        return int((index.of_split(split) & (index.flags & DEFECT == 0)).sum())

    def count_of_kind(self, split: str, kind: str) -> int:
        """Of them those of one slice."""
        index = self.asset.index
        places = [place for place, text in enumerate(index.kind_names) if kind in kinds_in(text)]
        if not places:
            return 0
        return int((index.of_split(split) & np.isin(index.kinds, places)).sum())

    def groups(self) -> Groups:
        """How large groups are, and whether one stands in two splits."""
        return self.asset.index.groups

    def records(self, split: str) -> Records:
        """Labels, groups and kinds of a whole split."""
        return self.rows_of(split).records(0, self.count(split))

    def rows_of(self, split: str) -> SplitRows:
        """What is known of a split's rows without reading them."""
        return SplitRows(self.asset, split)

    def training(self, stage: Stage, params: TrainingParams) -> ColumnTraining:
        """The training split; features are computed, or taken out of their file, while it is walked."""
        changed = self.asset.changed_file()
        if changed is not None:
            what = f"the file {changed} of the asset was written to since the node was started"
            raise RefusedError("data", what, "start the node anew: it then says whether the file is still the same")
        if params.views != ("identity",):
            raise RefusedError("parameters", f"records of a table have no view {params.views[-1]!r}", "use identity only")
        if params.drawn_weight:
            raise RefusedError("parameters", "defects can be drawn into pictures only, by a node that draws", "set drawn_weight to 0")
        return ColumnTraining(self, stage, params)

    def held(self, split: str, stages: Sequence[Stage]) -> ColumnHeld:
        """A split's records in chunks, with the columns of the stages that may be asked for."""
        return ColumnHeld(self, split, stages)

    def features(self, stage: Stage, split: str) -> NDArray[np.int16]:
        """(n, width) of a whole split. Raises RefusedError when they are too many to be held."""
        check_whole(self.count(split), stage, 1, self.whole_bytes_max)
        found = [chunk.features(stage) for chunk in self.held(split, [stage]).chunks()]
        return np.concatenate(found) if found else np.zeros((0, stage.width), dtype=np.int16)

    def outcomes(self, split: str, targets: tuple[Target, ...]) -> Floats:
        """A table in columns has none yet."""
        raise RefusedError("data", *_NUMBERS)

    def newest(self, split: str, schema: Schema, column: str) -> Floats:
        """A table in columns has none yet."""
        raise RefusedError("data", *_NUMBERS)

    def foretold(self, artefact: Artefact, stage: Stage, split: str, corruption: Corruption | None) -> Floats:
        """A table in columns has none yet."""
        raise RefusedError("data", *_NUMBERS)

    def split_rows(self, split: str, columns: Sequence[str]) -> Iterator[tuple[Batch, int]]:
        """(columns, rows) of a split's rows, CHUNK_RECORDS at a time, the last ones fewer."""
        inside, at, held, waiting = self.asset.index.of_split(split), 0, dict[str, list[NDArray[Any]]](), 0
        wanted = list(dict.fromkeys([*columns, self.asset.layout.label]))
        for batch in self.asset.files.batches(wanted):
            count = len(batch[wanted[0]])
            mine = inside[at : at + count]
            if len(mine) != count:
                raise RefusedError("data", "the asset has more rows than it had", "make a new asset and agreement")
            at += count
            if not mine.any():
                continue
            for name in wanted:
                held.setdefault(name, []).append(batch[name] if mine.all() else batch[name][mine])
            waiting += int(mine.sum())
            if waiting >= CHUNK_RECORDS:
                whole = {name: np.concatenate(parts) if len(parts) > 1 else parts[0] for name, parts in held.items()}
                for start in range(0, waiting - CHUNK_RECORDS + 1, CHUNK_RECORDS):
                    yield {name: values[start : start + CHUNK_RECORDS] for name, values in whole.items()}, CHUNK_RECORDS
                rest = waiting % CHUNK_RECORDS
                held = {name: [values[waiting - rest :]] for name, values in whole.items()}
                waiting = rest
            self.progress(at, self.asset.index.rows, "reading rows")
        if at != self.asset.index.rows:
            raise RefusedError("data", "the asset has fewer rows than it had", "make a new asset and agreement")
        if waiting:
            yield {name: np.concatenate(parts) for name, parts in held.items()}, waiting

    def chunks_of(self, split: str, stages: Sequence[Stage]) -> Iterator[ColumnChunk]:
        """A split's chunks. Raises RefusedError."""
        names: dict[str, None] = {}
        for stage in stages:
            if stage.schema is None or stage.schema.steps > 1 or stage.schema.written:
                raise RefusedError("data", "the asset holds another kind of records than the scenario takes", "use a scenario of its kind")
            answer = answers_among(self.asset.layout, stage.schema)
            if answer is not None:
                what = f"the column {answer} says of the asset's records what no model may see"
                raise RefusedError("data", what, "use a scenario without that column")
            there = self.asset.files.names()
            names |= dict.fromkeys(column.name for column in stage.schema.columns if column.name in there)
        rows, start = self.rows_of(split), 0
        try:
            for batch, count in self.split_rows(split, list(names)):
                yield ColumnChunk(self, batch, rows.records(start, start + count))
                start += count
        except FolderError as error:
            raise RefusedError("data", "a record of the asset can no longer be read", "see the node's own log") from error


class SplitRows:
    """Labels, groups, kinds and sureness of a split's rows, out of the index: a byte a row."""

    def __init__(self, asset: ColumnAsset, split: str) -> None:
        index, inside = asset.index, asset.index.of_split(split)
        self._flags, self.size = index.flags[inside], int(inside.sum())
        self._kinds = index.kinds[inside] if index.kind_names else None
        self._kind_names, self._starts, self._codes = index.kind_names, index.starts[split], index.codes[split]

    def records(self, start: int, end: int) -> Records:
        """Of rows start to end, counted within the split."""
        y = np.where(self._flags[start:end] & DEFECT, 1, -1).astype(np.int64)
        groups = self._codes[np.searchsorted(self._starts, np.arange(start, end), side="right") - 1]
        if self._kinds is None:
            return Records(y, groups, ("",) * (end - start))
        return Records(y, groups, tuple(self._kind_names[place] for place in self._kinds[start:end].tolist()))

    def weights(self, start: int, end: int, params: TrainingParams) -> Ints:
        """(n,) of those rows."""
        return np.where(self._flags[start:end] & UNSURE, params.unsure_weight, params.sure_weight).astype(np.int64)

    @property
    def group_list(self) -> Ints:
        return np.arange(len(self._codes), dtype=np.int64)


class ColumnChunk:
    """Some of a table's records; see sandbox.held.HeldChunk."""

    def __init__(self, data: ColumnData, batch: Batch, records: Records) -> None:
        self._data, self._batch, self.records = data, batch, records
        self._decoded: dict[str, Matrix] = {}

    def features(self, stage: Stage, corruption: Corruption | None = None) -> NDArray[np.int16]:
        """(n, width)."""
        given, extractor = self._matrix(stage), self._data.tools.extractor(stage)
        if corruption is not None and len(given):
            given = self._corrupted(given, corruption, stage)
        whole = hasattr(extractor, "matrix")  # then records of a table need not be taken apart and put together again
        found = extractor.select(cast(MatrixExtractor, extractor).matrix(given) if whole else extractor.rows(list(given)))
        if found.shape != (len(given), stage.width):
            raise RefusedError("stage", f"the extractor gives {found.shape[1]} features, not {stage.width}", "use the same release")
        return found

    def _corrupted(self, given: Matrix, corruption: Corruption, stage: Stage) -> Matrix:
        tools, how = self._data.tools, (corruption.family, corruption.severity)
        if tools.corrupt_rows is not None and stage.schema is not None:
            return tools.corrupt_rows(given, *how, stage.schema)
        return np.stack([tools.corrupt(row, *how, stage.schema) for row in given])

    def artefact_scores(self, artefact: Artefact, stage: Stage) -> Floats:
        """(n,) of the artefact itself."""
        given: Given = list(self._matrix(stage))
        return np.asarray(artefact.scores(given), dtype=np.float64)

    def _matrix(self, stage: Stage) -> Matrix:
        schema = stage.schema
        if schema is None:
            raise RefusedError("data", "the asset holds another kind of records than the scenario takes", "use a scenario of its kind")
        known = digest_of(schema)
        if known not in self._decoded:
            try:
                self._decoded[known] = matrix_of(schema, self._batch, self.records.size)
            except RowError as error:
                raise RefusedError("data", "a record of the asset cannot be decoded", "see the node's own log") from error
        return self._decoded[known]


class ColumnHeld:
    """A split of a table in chunks, see sandbox.held.Held."""

    contiguous = True

    def __init__(self, data: ColumnData, split: str, stages: Sequence[Stage]) -> None:
        self._data, self._split, self._stages = data, split, stages

    def chunks(self) -> Iterator[ColumnChunk]:
        yield from self._data.chunks_of(self._split, self._stages)


def check_whole(records: int, stage: Stage, views: int, bytes_max: int) -> None:
    """Raises RefusedError when so many records cannot be held at once."""
    if records * views * stage.width * 2 > bytes_max:
        what = f"this statistic takes {records} records of {stage.width} features at once, more than a node holds"
        raise RefusedError("data", what, "use one that is computed in chunks, or fewer features")


class ColumnTraining:
    """The training split of a table; see sandbox.statistics.records.Training."""

    def __init__(self, data: ColumnData, stage: Stage, params: TrainingParams) -> None:
        self._data, self._stage, self._params, self._rows = data, stage, params, data.rows_of(TRAIN)

    @property
    def dimension(self) -> int:
        return self._stage.width

    @property
    def size(self) -> int:
        return self._rows.size

    @property
    def group_list(self) -> Ints:
        return self._rows.group_list

    def whole(self) -> TrainingRecords:
        """All at once. Raises RefusedError when they are too many."""
        check_whole(self.size, self._stage, 1 + len(self._params.augmentations), self._data.whole_bytes_max)
        return joined(list(self.chunks()))

    def chunks(self) -> Iterator[TrainingRecords]:
        """See Training."""
        views = [self._features(corruption) for corruption in (None, *self._params.augmentations)]
        start = 0
        for found in zip(*views, strict=True):
            end = start + len(found[0])
            rows = tuple(shortened(q, self._data.norm_max) for q in found)
            yield TrainingRecords(self._rows.records(start, end), rows, self._rows.weights(start, end, self._params))
            start = end

    def _features(self, corruption: Corruption | None) -> Iterator[NDArray[np.int16]]:
        """(CHUNK_RECORDS, width) at a time."""
        stage = self._stage
        condition = "clean" if corruption is None else condition_name(corruption)
        key = {"stage": stage.digest, "extractor": self._data.tools.extractor(stage).digest, "split": TRAIN, "condition": condition}
        computed = (chunk.features(stage, corruption) for chunk in self._data.chunks_of(TRAIN, [stage]))
        return self._data.kept.chunks(key, self.size, stage.width, CHUNK_RECORDS, computed)

    def parts(self) -> Iterator[tuple[GroupBlock, ...]]:
        """See Training. Groups come in the order of the table, in which each stands together."""
        waiting: list[TrainingRecords] = []
        begin = 0
        for chunk in self.chunks():
            groups = chunk.records.groups
            last = int(np.flatnonzero(groups != groups[-1])[-1]) + 1 if bool((groups != groups[-1]).any()) else 0
            if waiting and int(waiting[-1].records.groups[-1]) != int(groups[0]):
                count = sum(one.size for one in waiting)
                yield from _blocks(waiting, begin)
                begin += count
            if last:
                waiting.append(chunk.cut(0, last))
                count = sum(one.size for one in waiting)
                yield from _blocks(waiting, begin)
                begin, waiting = begin + count, [chunk.cut(last, chunk.size)]
            else:
                waiting.append(chunk)
            check_whole(sum(one.size for one in waiting), self._stage, 2 * len(chunk.views), self._data.whole_bytes_max)
        yield from _blocks(waiting, begin)


def _blocks(waiting: list[TrainingRecords], begin: int) -> Iterator[tuple[GroupBlock, ...]]:
    """Records of whole groups, from `begin` among all: small groups as one block, each large one in slices. Empties `waiting`."""
    if not waiting:
        return
    records = joined(waiting)
    waiting.clear()
    bounds = np.flatnonzero(np.diff(records.records.groups)) + 1
    starts, ends = [0, *bounds.tolist()], [*bounds.tolist(), records.size]
    small = 0
    for start, end in zip(starts, ends, strict=True):
        if end - start <= CHUNK_RECORDS:
            continue
        if start > small:
            yield (_block(records, small, start, begin),)
        yield tuple(_block(records, at, min(at + CHUNK_RECORDS, end), begin) for at in range(start, end, CHUNK_RECORDS))
        small = end
    if records.size > small:
        yield (_block(records, small, records.size, begin),)


def _block(records: TrainingRecords, start: int, end: int, begin: int) -> GroupBlock:
    return GroupBlock(records.cut(start, end), np.arange(begin + start, begin + end))
