"""The public feature extractor of tables: a record's columns seen through public parts, as 16-bit integers, the same at every node.

Everything follows from the declared schema: ranges, levels, knots and the weights of Fourier features (drawn from SHAKE-256 of a fixed
text, so the same on every machine). Nothing is learned from data, so the extractor tells nothing of anybody.

Preprocessing stands inside the graph: numbers go from their range (on a logarithmic scale where declared) to -1..1, values beyond an end
count as the end, what is missing counts as the centre; then rounding to integers in [-32767, 32767], half to even. A missing number that
may be missing sets a feature of its own; a missing category, or a code that is no level, leaves all its levels at zero.

Bits. Sums run in doubles over integers and weights on a grid so fine and so short that every sum is exact; the cosine is a polynomial of
single IEEE operations. So neither batch, nor threads, nor processor change a digit; only a logarithm's last bit may differ between
processors, far below what rounding keeps.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Stage
from isthmus.contracts.schema import Column, Records, Schema, checked_schema
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.contracts.tableparts import BINS, COLUMNS, FOURIER, PAIRS, TablePart, parsed_table_part
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.features import graph_definition
from isthmus.foundry.ridge import snapped
from isthmus.foundry.runtime import session
from isthmus.kit.canonical import digest_of

TABLE_BACKBONE = "table"
RECORD_INPUT = "records"
FEATURES_MAX = 4096
BATCH_RECORDS_MAX = 4096
FOURIER_SEED = "isthmus fourier features 1"
SINE_TERMS = 9
"""Of the Taylor series up to x^17: within 1e-12 on a quarter turn."""
Floats = NDArray[np.float64]


def checked_table_parts(parts: tuple[str, ...]) -> tuple[TablePart, ...]:
    """The parts if they can be made and none says what another does; raises InputError."""
    found = tuple(parsed_table_part(text) for text in parts)
    if not found or len({part.shelf for part in found}) < len(found):
        raise InputError(f"the features {list(parts)} cannot be used together", "name at least one part, and none twice")
    return found


def _numbers(schema: Schema) -> list[int]:
    return [place for place, column in enumerate(schema.columns) if column.kind == "number"]


def _indicated(schema: Schema) -> list[int]:
    return [place for place in _numbers(schema) if schema.columns[place].missing]


def _shown_levels(column: Column) -> list[int]:
    """Levels that get a feature: the last of two says all there is, where nothing may be missing."""
    return [1] if len(column.levels) == 2 and not column.missing else list(range(len(column.levels)))


def _levels(schema: Schema) -> list[tuple[int, int]]:
    """(column, code) of each level that gets a feature."""
    categories = [(place, column) for place, column in enumerate(schema.columns) if column.kind == "category"]
    return [(place, code) for place, column in categories for code in _shown_levels(column)]


def part_features(schema: Schema, part: TablePart) -> list[str]:
    """What each of a part's features is, for people. Raises InputError when the schema has nothing that the part is made of."""
    names = [column.name for column in schema.columns]
    numbers = [names[place] for place in _numbers(schema)]
    if part.family == COLUMNS:
        levels = [f"{names[place]} is {schema.columns[place].levels[code]}" for place, code in _levels(schema)]
        return [*numbers, *levels, *(f"{names[place]} is missing" for place in _indicated(schema))]
    if part.family == FOURIER:
        return [f"wave {place} of width {part.width}" for place in range(part.number)]
    if not numbers:
        raise InputError(f"{part.text} is made of numbers, and the record has none", f"use {COLUMNS}")
    if part.family == PAIRS:
        return [f"{one} times {other}" for place, one in enumerate(numbers) for other in numbers[place:]]
    return [f"{name} near {_knot_text(schema, name, k, part.number)}" for name in numbers for k in range(part.number)]


def _knot_text(schema: Schema, name: str, knot: int, count: int) -> str:
    column = next(c for c in schema.columns if c.name == name)
    share = knot / (count - 1)
    low, high = (math.log(column.low), math.log(column.high)) if column.log else (column.low, column.high)
    value = low + share * (high - low)
    return f"{math.exp(value) if column.log else value:.4g} {column.unit}".rstrip()


def feature_names(schema: Schema, parts: tuple[str, ...]) -> list[str]:
    """Of all features of a stage, in order. Raises InputError when schema or parts cannot be used."""
    checked_schema(schema)
    if schema.steps != 1:
        raise InputError(f"a record has {schema.steps} steps", "a table's record has one; use features of series")
    found = [name for part in checked_table_parts(parts) for name in part_features(schema, part)]
    if len(found) > FEATURES_MAX:
        raise InputError(f"the features {list(parts)} are {len(found)}", f"use at most {FEATURES_MAX}")
    return found


def feature_count(schema: Schema, parts: tuple[str, ...]) -> int:
    """Features of a stage with these parts. Raises InputError."""
    return len(feature_names(schema, parts))


def fourier_weights(inputs: int, count: int, width: float) -> tuple[Floats, Floats]:
    """(inputs, count) turns for each whole unit of an input, and (count,) phases in turns, both on binary grids.

    Frequencies are normal with deviation 1 / width, by Box and Muller from SHAKE-256 of FOURIER_SEED and the feature's number: the first
    features of a larger count are those of a smaller one.
    """
    weights, phases = np.empty((inputs, count)), np.empty(count)
    for place in range(count):
        raw = hashlib.shake_256(f"{FOURIER_SEED}/{place}".encode()).digest(8 * (2 * inputs + 1))
        drawn = (np.frombuffer(raw, dtype="<u8") >> np.uint64(11)).astype(np.float64)
        uniform = [(float(value) + 0.5) * 2.0**-53 for value in drawn]
        radius = [math.sqrt(-2.0 * math.log(u)) for u in uniform[1 : inputs + 1]]
        normal = [r * math.cos(2.0 * math.pi * u) for r, u in zip(radius, uniform[inputs + 1 :], strict=True)]
        weights[:, place] = np.array(normal) / (2.0 * math.pi * width * FEATURE_MAX)
        phases[place] = np.round(uniform[0] * 2.0**20) * 2.0**-20
    largest = float(np.abs(weights).sum(axis=0).max(initial=0.0)) * FEATURE_MAX * 2.0
    return snapped(weights, largest), phases


class _Record:
    """Pieces of the graph that parts are made of, each added once: columns as integers in doubles."""

    def __init__(self, graph: GraphWriter, schema: Schema, records: str) -> None:
        self._graph, self._schema, self._input = graph, schema, records
        self._numbers: str | None = None
        graph.constant("record_axis", np.array([1], np.int64))
        graph.constant("quantum_max", np.array(FEATURE_MAX, np.float64))
        graph.constant("none", np.array(0.0, np.float64))

    def _gathered(self, places: list[int], tag: str) -> str:
        self._graph.constant(f"{tag}_places", np.array(places, np.int64))
        return self._graph.node("Gather", [self._input, f"{tag}_places"], f"{tag}_fields", axis=1)

    def _flags(self, condition: str, tag: str) -> str:
        return self._graph.node("Where", [condition, "quantum_max", "none"], f"{tag}_flags")

    @property
    def numbers(self) -> str:
        """(n, numbers) integers in [-32767, 32767]."""
        if self._numbers is not None:
            return self._numbers
        graph, columns = self._graph, [self._schema.columns[place] for place in _numbers(self._schema)]
        fields = self._gathered(_numbers(self._schema), "number")
        graph.constant("number_low", np.array([column.low for column in columns], np.float64))
        graph.constant("number_high", np.array([column.high for column in columns], np.float64))
        graph.node("IsNaN", [fields], "number_missing")
        exact = graph.node("Cast", [fields], "number_double", to=TensorProto.DOUBLE)
        graph.node("Where", ["number_missing", "number_high", exact], "number_filled")
        x = graph.node("Min", [graph.node("Max", ["number_filled", "number_low"], "number_raised"), "number_high"], "number_clipped")
        ends = [(math.log(c.low), math.log(c.high)) if c.log else (c.low, c.high) for c in columns]
        if any(column.log for column in columns):
            graph.constant("number_is_log", np.array([column.log for column in columns]))
            graph.constant("one", np.array(1.0, np.float64))
            safe = graph.node("Where", ["number_is_log", x, "one"], "number_positive")
            x = graph.node("Where", ["number_is_log", graph.node("Log", [safe], "number_log"), x], "number_scale")
        graph.constant("number_centre", np.array([(low + high) / 2.0 for low, high in ends]))
        graph.constant("number_quanta", np.array([2.0 * FEATURE_MAX / (high - low) for low, high in ends]))
        graph.constant("quantum_min", np.array(-FEATURE_MAX, np.float64))
        scaled = graph.node("Mul", [graph.node("Sub", [x, "number_centre"], "number_centred"), "number_quanta"], "number_scaled")
        whole = graph.node("Round", [graph.node("Clip", [scaled, "quantum_min", "quantum_max"], "number_within")], "number_whole")
        self._numbers = graph.node("Where", ["number_missing", "none", whole], "numbers")
        return self._numbers

    def columns(self) -> str:
        """(n, features of `columns`)."""
        graph, pieces = self._graph, []
        if "columns_known" in {node.name for node in graph.nodes}:
            return "columns_known"
        if _numbers(self._schema):
            pieces.append(self.numbers)
        if levels := _levels(self._schema):
            fields = self._gathered([place for place, _ in levels], "level")
            graph.constant("level_codes", np.array([code for _, code in levels], np.float32))
            pieces.append(self._flags(graph.node("Equal", [fields, "level_codes"], "level_is"), "level"))
        if indicated := _indicated(self._schema):
            pieces.append(self._flags(graph.node("IsNaN", [self._gathered(indicated, "maybe")], "maybe_missing"), "maybe"))
        return graph.node("Concat", pieces, "columns_known", axis=1)

    def bins(self, part: TablePart) -> str:
        """(n, numbers * count) hats; all zero where a number is missing."""
        graph, count = self._graph, part.number
        numbers = graph.node("Unsqueeze", [self.numbers, self._last()], "hat_numbers")
        graph.constant("hat_knots", np.linspace(-FEATURE_MAX, FEATURE_MAX, count))
        graph.constant("hat_slope", np.array((count - 1) / 2.0))
        away = graph.node("Abs", [graph.node("Sub", [numbers, "hat_knots"], "hat_off")], "hat_away")
        height = graph.node("Sub", ["quantum_max", graph.node("Mul", [away, "hat_slope"], "hat_fall")], "hat_height")
        missing = graph.node("Unsqueeze", ["number_missing", self._last()], "hat_missing")
        hats = graph.node("Where", [missing, "none", graph.node("Max", [height, "none"], "hat_above")], "hats")
        return graph.node("Flatten", [hats], "part_bins", axis=1)

    def pairs(self) -> str:
        """(n, products): of two numbers, over 32767."""
        graph, count = self._graph, len(_numbers(self._schema))
        first, second = np.triu_indices(count)
        for tag, places in (("pair_first", first), ("pair_second", second)):
            graph.constant(f"{tag}_places", places.astype(np.int64))
            graph.node("Gather", [self.numbers, f"{tag}_places"], tag, axis=1)
        return graph.node("Div", [graph.node("Mul", ["pair_first", "pair_second"], "pair_products"), "quantum_max"], "part_pairs")

    def fourier(self, part: TablePart) -> str:
        """(n, count): cosines, 32767 high."""
        graph, tag = self._graph, f"wave_{part.width.replace('.', '_')}"
        inputs = len(part_features(self._schema, TablePart(COLUMNS)))
        weights, phases = fourier_weights(inputs, part.number, float(part.width))
        graph.constant(f"{tag}_weights", weights)
        graph.constant(f"{tag}_phases", phases)
        turned = graph.node("MatMul", [self.columns(), f"{tag}_weights"], f"{tag}_turned")
        turns = graph.node("Add", [turned, f"{tag}_phases"], f"{tag}_turns")
        within = graph.node("Sub", [turns, graph.node("Round", [turns], f"{tag}_full")], f"{tag}_within")
        graph.constant("quarter", np.array(0.25))
        graph.constant("full_turn", np.array(2.0 * math.pi))
        quarter = graph.node("Sub", ["quarter", graph.node("Abs", [within], f"{tag}_fold")], f"{tag}_quarter")
        return self._sine(graph.node("Mul", [quarter, "full_turn"], f"{tag}_angle"), tag)

    def _sine(self, angle: str, tag: str) -> str:
        """32767 times the sine of an angle within a quarter turn, by Horner's rule."""
        graph = self._graph
        square = graph.node("Mul", [angle, angle], f"{tag}_square")
        for term in range(SINE_TERMS):
            graph.constant(f"sine_{term}", np.array((-1.0) ** term / math.factorial(2 * term + 1)))
        total = f"sine_{SINE_TERMS - 1}"
        for term in reversed(range(SINE_TERMS - 1)):
            product = graph.node("Mul", [total, square], f"{tag}_product_{term}")
            total = graph.node("Add", [product, f"sine_{term}"], f"{tag}_sum_{term}")
        sine = graph.node("Mul", [total, angle], f"{tag}_sine")
        return graph.node("Mul", [sine, "quantum_max"], f"part_{tag}")

    def _last(self) -> str:
        return self._graph.constant("last_axis", np.array([2], np.int64))

    def part(self, part: TablePart) -> str:
        if part.family == COLUMNS:
            return self.columns()
        if part.family == BINS:
            return self.bins(part)
        return self.pairs() if part.family == PAIRS else self.fourier(part)


def record_input(schema: Schema, name: str = RECORD_INPUT) -> onnx.ValueInfoProto:
    """FLOAT (n, columns): numbers in their units, categories as the index of their level, NaN for what is missing."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(schema.columns)])


def add_table_features(graph: GraphWriter, schema: Schema, parts: tuple[str, ...], input_name: str = RECORD_INPUT) -> str:
    """Adds preprocessing, parts and quantisation; returns the name of the (n, features) float32 output that holds integers.

    Raises InputError when schema or parts cannot be used.
    """
    feature_count(schema, parts)
    record = _Record(graph, schema, input_name)
    found = [record.part(part) for part in checked_table_parts(parts)]
    joined = graph.node("Concat", found, "features", axis=1)
    whole = graph.node("Round", [joined], "features_whole")
    return graph.node("Cast", [whole], "quantised", to=TensorProto.FLOAT)


def checked_records(schema: Schema, records: Records) -> Records:
    """The records if they are (n, columns) float32; raises InputError."""
    if records.dtype != np.float32 or records.ndim != 2 or records.shape[1] != len(schema.columns):
        raise InputError(
            f"the records are {records.shape} of {records.dtype}",
            f"give (n, {len(schema.columns)}) float32, a column for each declared one",
        )
    return records


class TableExtractor:
    """Chosen parts (contracts.tableparts) of a table's columns, quantised. threads: processor threads within one batch.

    The session is made at first use. Raises InputError when schema or parts cannot be used.
    """

    def __init__(self, schema: Schema, parts: tuple[str, ...], threads: int = 1) -> None:
        self.schema, self.parts = schema, tuple(parts)
        self._names = tuple(feature_names(schema, self.parts))
        self._threads = threads
        graph = GraphWriter()
        output = add_table_features(graph, schema, self.parts)
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", self.dimension])
        model = graph.model("isthmus_table_stage", [record_input(schema)], [result])
        self._model = bytes(model.SerializeToString(deterministic=True))
        names: dict[str, Any] = {"kind": "isthmus-table-stage/1", "schema": msgspec.to_builtins(schema), "parts": list(self.parts)}
        self._digest = digest_of({**names, **graph_definition(model)})
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def digest(self) -> str:
        """sha256 of the schema and the whole graph's definition: preprocessing, weights, parts and quantisation."""
        return self._digest

    @property
    def dimension(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """What each feature is, for people."""
        return self._names

    def stage(self) -> Stage:
        """The extractor as a document."""
        return Stage(backbone=TABLE_BACKBONE, parts=self.parts, dimension=self.dimension, digest=self.digest, schema=self.schema)

    def quantised(self, records: Records) -> NDArray[np.int16]:
        """(n, columns) float32, NaN where missing -> (n, dimension) int16 in [-32767, 32767]. Raises InputError."""
        given = checked_records(self.schema, records)
        if self._session is None:
            self._session = session(self._model, self._threads)
        result = np.zeros((given.shape[0], self.dimension), dtype=np.int16)
        for start in range(0, given.shape[0], BATCH_RECORDS_MAX):
            (found,) = self._session.run(["quantised"], {RECORD_INPUT: given[start : start + BATCH_RECORDS_MAX]})
            result[start : start + BATCH_RECORDS_MAX] = found.astype(np.int16)
        return result
