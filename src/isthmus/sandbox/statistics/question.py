"""query/1 at the node: a question's tree over the owner's rows, in cells that the schema declares.

DuckDB finds each record's cell and adds up; which cells may be answered at all is decided between the two, from what was answered before
(sandbox.atoms). In a noisy answer nothing is left out, because leaving out by true counts would itself tell: every number carries noise
instead, and the flags are not told.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError, RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.question import (
    LABEL,
    PLACES_MAX,
    Measure,
    QuestionParams,
    cell_count,
    cell_sizes,
    check_params,
    flags_size,
    span_of,
    table_columns,
    unit_exponent,
)
from isthmus.contracts.schema import Column, Schema
from isthmus.kit.canonical import digest_of
from isthmus.sandbox.askedbook import Answered, World, record_keys, version_of
from isthmus.sandbox.atoms import OUTSIDE, Family, Labels, answerable, following
from isthmus.sandbox.duckrows import DuckRows
from isthmus.sandbox.folder import SPLITS
from isthmus.sandbox.held import Data
from isthmus.sandbox.ownerdata import OwnerData
from isthmus.sandbox.questionsql import NULL, Writer, cells_statement, sums_statement
from isthmus.sandbox.statistics.sensitivity import Block, Unit

BACKBONE, ROWS = "rows", "rows"


def table_stage(schema: Schema) -> Stage:
    """The stage of a question: the declared columns themselves, with no features."""
    return Stage(backbone=BACKBONE, parts=(), dimension=1, digest=digest_of({"table": schema}), schema=schema)


def check_question(params: QuestionParams, stage: Stage) -> None:
    """Raises RefusedError unless the tree fits the schema and the stage is that schema's."""
    if stage.schema is None or stage != table_stage(stage.schema):
        raise RefusedError("stage", "a question's stage is the table itself", "use the schema's own stage")
    try:
        check_params(params, stage.schema)
    except InputError as error:
        raise RefusedError("parameters", error.message, error.next_step) from error


def declared(stage: Stage, data: Data) -> tuple[Schema, OwnerData]:
    """The question's columns, which must be those that the owner has declared, and its rows. Raises RefusedError, clause `columns`."""
    if not isinstance(data, OwnerData):
        raise RefusedError("columns", "a table in columns answers no questions yet", "give a folder with records.csv")
    if stage.schema is None or data.columns is None or data.columns != stage.schema:
        why = "this owner has declared no columns" if data.columns is None else "this owner has declared other columns than the question's"
        raise RefusedError("columns", why, "the owner runs isthmus node init with --scenario; ask with that package's present version")
    return stage.schema, data


def question(params: QuestionParams, stage: Stage, given: Data, least: int) -> NDArray[np.int64]:
    """The owner's share, exact. Raises RefusedError."""
    schema, data = declared(stage, given)
    writer = Writer(schema)
    statement = cells_statement(writer, params)
    rows = Rows(data, schema)
    with DuckRows() as duck:
        found = duck.run({"records": rows.columns(writer.used)}, [statement])[0]
        cells = found["cell"].astype(np.int64)
        histograms = [one for one in params.measures if one.kind == "histogram"]
        bins = [found[f"b{place}"].astype(np.int64) for place in range(len(histograms))]
        if params.noisy:
            kept = Answered(cells, {}, ())
            binned = [_within(cells, bin, one) for one, bin in zip(histograms, bins, strict=True)]
        else:
            kept, binned = _allowed(params, stage, data, rows, least, cells, bins)
        sums = duck.run({"labels": {"place": rows.places, "cell": kept.cells}}, [sums_statement(writer, params)])[0]
    return _share(
        params, schema, cells, kept.cells, sums, [_within(kept.cells, b, h) for h, b in zip(histograms, bins, strict=True)], binned, least
    )


class Rows:
    """The owner's records of all splits, in order, as columns of whole numbers."""

    def __init__(self, data: OwnerData, schema: Schema) -> None:
        self._schema = schema
        parts = [data.table(split, schema) for split in SPLITS]
        self._values = np.concatenate(parts)
        self.splits = np.concatenate([np.full(len(part), place, dtype=np.int64) for place, part in enumerate(parts)])
        files = [file for split in SPLITS for file in data.folder.of_split(split)]
        self._labels = np.array([file.label for file in files], dtype=np.int64)
        self.keys = record_keys([f"{data.digests[file.path]} {file.label}" for file in files])
        self.places = np.arange(len(files), dtype=np.int64)
        self._foretold = bool(data.folder.targets)

    def columns(self, names: list[str]) -> dict[str, NDArray[np.int64]]:
        """place, and c0, c1, ... of the named columns; NULL where a value is missing."""
        found = {"place": self.places}
        declared = table_columns(self._schema)
        for number, name in enumerate(names):
            found[f"c{number}"] = self._label() if name == LABEL.name else self._in_units(declared[name])
        return found

    def _label(self) -> NDArray[np.int64]:
        if self._foretold:
            raise RefusedError("data", "the asset's records end in numbers, not in labels", "ask about its columns")
        return (self._labels > 0).astype(np.int64)

    def _in_units(self, column: Column) -> NDArray[np.int64]:
        values = self._values[:, [one.name for one in self._schema.columns].index(column.name)].astype(np.float64)
        if column.kind == "number":
            exponent = unit_exponent(column)
            values = values * 10.0**-exponent if exponent < 0 else values / 10.0**exponent
        whole = np.rint(np.clip(np.where(np.isnan(values), 0.0, values), -float(PLACES_MAX), float(PLACES_MAX))).astype(np.int64)
        return np.where(np.isnan(values), NULL, whole)

    def known(self, name: str) -> NDArray[np.bool_]:
        """(n,) which records have a value of a column."""
        return np.asarray(self.columns([name])["c0"] != NULL, dtype=bool)


def _within(cells: Labels, bins: Labels, one: Measure) -> Labels:
    """The bin of each record, counted through all cells; OUTSIDE where it is in no cell or has no value."""
    return np.where((cells >= 0) & (bins >= 0), cells * one.bins + bins, OUTSIDE)


def _allowed(
    params: QuestionParams, stage: Stage, data: OwnerData, rows: Rows, least: int, cells: Labels, bins: list[Labels]
) -> tuple[Answered, list[Labels]]:
    """The sets that may be summed, noted in the owner's book before they are."""
    book = data.asked
    if book is None:
        raise RefusedError("questions", "this node keeps no book of what it answered", "use a node with a state folder")
    asked, version = digest_of({"stage": stage.digest, "params": params}), version_of(rows.keys)
    histograms = [one for one in params.measures if one.kind == "histogram"]
    known = book.answered(asked, version, least)
    if known is None:
        known = _sets(params, declared(stage, data)[0], book.world(rows.keys, rows.splits), rows, least, cells, bins)
        book.keep(asked, version, least, rows.keys, rows.splits, known)
    return known, [known.bins[f"{one.column} {one.bins}"] for one in histograms]


def _sets(params: QuestionParams, schema: Schema, world: World, rows: Rows, least: int, cells: Labels, bins: list[Labels]) -> Answered:
    """Cells, then bins within them, without those whose sums beside earlier ones would show fewer than `least` records."""
    summed = tuple(sorted({one.column for one in params.measures}))
    splits = _large(world.splits, least)
    families = {"": _family(world, rows, "", splits)}
    for column in sorted({*summed, *(name for one in world.earlier for name in one.columns)}):
        families[column] = _family(world, rows, column, splits)
    wanted = np.where(splits == OUTSIDE, OUTSIDE, world.widened(cells))
    condition, names = digest_of({"where": params.where}), tuple(digest_of(group) for group in params.groups)
    same_records = world.present == world.splits.size and not (splits == OUTSIDE).any()
    whole = [frozenset(one.groups) for one in world.earlier if one.whole == condition] if same_records else []
    whole += [frozenset()] if same_records and params.where is None else []
    by_form = following(list(zip(names, cell_sizes(params, schema), strict=True)), whole)
    kept = answerable(wanted, cell_count(params, schema), list(families.values()), least, by_form)
    found: dict[str, Labels] = {}
    for one, inner in zip([m for m in params.measures if m.kind == "histogram"], bins, strict=True):
        family = families[one.column]
        family = Family(family.universe, (*family.told, kept))
        asked = world.widened(_within(kept[: world.present], inner, one))
        cells_kept = int(np.unique(kept[kept != OUTSIDE]).size)
        chosen = answerable(asked, cells_kept * one.bins, [family], least, cells_kept)
        families[one.column] = Family(family.universe, (*family.told, chosen))
        found[f"{one.column} {one.bins}"] = chosen
    told = condition if same_records and np.array_equal(kept, wanted) else ""
    return Answered(kept[: world.present], {name: labels[: world.present] for name, labels in found.items()}, summed, told, names)


def _large(splits: Labels, least: int) -> Labels:
    """The splits with enough records; the records of a smaller one take part in nothing, or the other splits' sums would show them."""
    found, counts = np.unique(splits, return_counts=True)
    return np.where(np.isin(splits, found[counts >= least]), splits, OUTSIDE)


def _family(world: World, rows: Rows, column: str, splits: Labels) -> Family:
    """All records, or those with a value of a column; records that are gone count as having one."""
    known = rows.known(column) if column else np.ones(world.present, dtype=bool)
    universe = np.concatenate([known, np.ones(world.splits.size - world.present, dtype=bool)])
    told = [one.cells for one in world.earlier]
    if column:
        told += [labels for one in world.earlier for name, labels in one.bins.items() if name.partition(" ")[0] == column]
    return Family(universe, (splits, *told))


def _flags(wanted: Labels, kept: Labels, size: int, least: int) -> NDArray[np.int64]:
    """(size, 2): whether a cell has fewer than the least group, none included, and whether more was left out of it."""
    before, after = (np.bincount(labels[labels >= 0], minlength=size) for labels in (wanted, kept))
    few = before < least
    return np.stack([few, (after < before) & ~few], axis=1).astype(np.int64)


def _share(
    params: QuestionParams,
    schema: Schema,
    wanted: Labels,
    kept: Labels,
    sums: dict[str, NDArray[np.generic]],
    wanted_bins: list[Labels],
    kept_bins: list[Labels],
    least: int,
) -> NDArray[np.int64]:
    """The declared layout; see contracts.question.QuestionParams."""
    count = cell_count(params, schema)
    rows = sums["cell"].astype(np.int64)

    def spread(name: str) -> NDArray[np.int64]:
        found = np.zeros(count, dtype=np.int64)
        found[rows] = sums[name].astype(np.int64)
        return found

    flags, parts, plain = [_flags(wanted, kept, count, least)], [spread("rows")], 0
    if not np.array_equal(parts[0], np.bincount(kept[kept >= 0], minlength=count)):
        raise RefusedError("limits", "the counts of this node do not agree with each other", "see the node's own log")
    binned = iter(zip(wanted_bins, kept_bins, strict=True))
    for one in params.measures:
        if one.kind == "histogram":
            before, after = next(binned)
            flags.append(_flags(before, after, count * one.bins, least))
            parts.append(np.bincount(after[after >= 0], minlength=count * one.bins))
        else:
            parts.append(spread(f"m{plain}"))
            plain += 1
    return np.concatenate([part.reshape(-1) for part in (*flags, *parts)]).astype(np.int64)


def question_blocks(params: QuestionParams, stage: Stage, unit: Unit, norm_max: int) -> tuple[Block, ...]:
    """Of the packed answer. A record is in one cell, and in one bin of it; a value counts from the middle of its declared range."""
    schema = stage.schema
    if schema is None or not params.noisy:
        raise RefusedError("noise", "the question is not one for noisy answers", "ask it as noisy")
    columns, cells, found = table_columns(schema), cell_count(params, schema), []
    for one in params.measures:
        power = {"sum": 1, "squares": 2}.get(one.kind, 0)
        most = float(span_of(columns[one.column]).half) ** power if power else 1.0
        found.append(Block(measure_name(one), cells * max(1, one.bins), unit.records * most))
    flags = Block("left out", flags_size(params, schema), math.inf)
    return (flags, Block(ROWS, cells, float(unit.records)), *found)


def measure_name(one: Measure) -> str:
    """What the entries of a measure are called beside those of others."""
    return f"{one.kind} {one.column}{f' in {one.bins}' if one.bins else ''}"
