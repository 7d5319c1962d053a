"""The public feature extractor of a window of a series: chosen parts (contracts.seriesparts) as 16-bit integers, the same at every node.

First of all the window becomes whole numbers: what is missing takes the column's last value (the middle of the range where there is none),
each value is clipped to its column's declared range, on a logarithmic scale where that is declared, and becomes an integer in
[-32767, 32767]. All that follows sums integers that a double (or, in the kernels, a float) holds exactly, and rounds once at the end: so
batch size, thread count and processor cannot change a feature. Ranges are declared, kernels and mixtures are drawn (foundry.serieskernels):
nothing is learned from anybody's data.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Stage
from isthmus.contracts.schema import Records, Schema
from isthmus.contracts.seriesparts import (
    CHANGES,
    HINGES,
    KERNEL_STEPS,
    KERNELS,
    LAST,
    MEMORY,
    SUMMARY,
    SeriesPart,
    checked_series_parts,
    numbers_of,
    series_part_size,
)
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.features import graph_definition
from isthmus.foundry.runtime import session
from isthmus.foundry.serieskernels import Kernel, kernels, mixtures
from isthmus.kit.canonical import digest_of

SERIES = "series"
"""The backbone's name in the stage of a series: there is none, only public parts."""
MEMORY_UNIT = 1 << 15
HINGE_MEMORIES = (2, 8)
DEVIATION_MIN = 32.0
"""Kernels measure in the window's deviations, but in no less than a thousandth of the range: a still sensor's last digit is no signal."""
BATCH_VALUES_MAX = 4_000_000
Floats = NDArray[np.float64]


class _Window:
    """The window inside a graph: `whole` (n, numbers, steps) float32 holding integers, `exact` the same in doubles."""

    def __init__(self, graph: GraphWriter, schema: Schema, records: str) -> None:
        self.graph, self.schema, self.numbers, self.steps = graph, schema, numbers_of(schema), schema.steps
        turned = graph.node("Transpose", [records], "series_turned", perm=[0, 2, 1])
        self.seen = self._filled(turned)
        self.whole, self.exact = "", ""
        if self.numbers:
            self.exact = self._integers()
            self.whole = graph.node("Cast", [self.exact], "series_whole", to=TensorProto.FLOAT)

    def value(self, name: str, value: Any, kind: type[np.generic] = np.float64) -> str:
        """A constant; its name must be used for one value only."""
        return self.graph.constant(f"series_{name}", np.asarray(value, dtype=kind))

    def node(self, op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        return self.graph.node(op, inputs, f"series_{name}", **attributes)

    def _filled(self, turned: str) -> str:
        """(n, columns, steps) float32 without gaps: NaN takes the last value before it, then the column's middle."""
        gap = self.node("IsNaN", [turned], "gap")
        self.value("nothing", -1.0, np.float32)
        self.value("step", np.arange(self.steps)[None, None, :], np.float32)
        newest = self.node("Where", [gap, "series_nothing", "series_step"], "seen_0")
        shift = 1
        while shift < self.steps:  # after k rounds an entry knows the newest seen step among the 2^k before it
            pads = self.value(f"pads_{shift}", [0, 0, shift, 0, 0, -shift], np.int64)
            older = self.node("Pad", [newest, pads, "series_nothing"], f"older_{shift}")
            newest = self.node("Max", [newest, older], f"seen_{shift}")
            shift *= 2
        self.value("begin", 0.0, np.float32)
        place = self.node("Cast", [self.node("Max", [newest, "series_begin"], "place_float")], "place", to=TensorProto.INT64)
        carried = self.node("GatherElements", [turned, place], "carried", axis=2)
        middle = [0.0 if c.kind == "category" else (c.low * c.high) ** 0.5 if c.log else (c.low + c.high) / 2 for c in self.schema.columns]
        self.value("middle", np.array(middle)[None, :, None], np.float32)
        return self.node("Where", [self.node("Less", [newest, "series_begin"], "unseen"), "series_middle", carried], "seen")

    def _integers(self) -> str:
        """(n, numbers, steps) doubles holding integers in [-FEATURE_MAX, FEATURE_MAX]."""
        places = [index for index, column in enumerate(self.schema.columns) if column.kind == "number"]
        self.value("number_places", places, np.int64)
        chosen = self.node("Gather", [self.seen, "series_number_places"], "numbers", axis=1)
        found = self.node("Cast", [chosen], "numbers_double", to=TensorProto.DOUBLE)
        low, high = (np.array([getattr(c, end) for c in self.numbers])[None, :, None] for end in ("low", "high"))
        found = self.node("Min", [self.node("Max", [found, self.value("low", low)], "above"), self.value("high", high)], "within")
        logged = np.array([c.log for c in self.numbers])[None, :, None]
        if logged.any():
            self.value("logged", logged, np.bool_)
            safe = self.node("Where", ["series_logged", found, self.value("one", 1.0)], "within_safe")
            found = self.node("Where", ["series_logged", self.node("Log", [safe], "log"), found], "scaled")
            low, high = (np.where(logged, np.log(np.where(logged, end, 1.0)), end) for end in (low, high))
        # As short as floats: the last bit of a logarithm may differ from machine to machine, and the digest with it.
        centre, unit = ((low + high) / 2).astype(np.float32), (2.0 * FEATURE_MAX / (high - low)).astype(np.float32)
        centred = self.node("Sub", [found, self.value("centre", centre)], "centred")
        large = self.node("Mul", [centred, self.value("unit", unit)], "large")
        kept = self.node("Max", [large, self.value("least", -float(FEATURE_MAX))], "large_above")
        return self.node("Round", [self.node("Min", [kept, self.value("most", float(FEATURE_MAX))], "large_within")], "exact")

    def flat(self, name: str, tag: str, width: int) -> str:
        """(n, numbers, k) -> (n, k * numbers): k varies slowest, so that more of a part only adds features behind."""
        turned = self.node("Transpose", [name], f"{tag}_turned", perm=[0, 2, 1])
        shape = self.value(f"shape_{width}", [0, width], np.int64)
        return self.node("Reshape", [turned, shape], f"{tag}_flat")

    def linear(self, weights: NDArray[np.int64], divisors: Floats, tag: str) -> str:
        """(n, k * numbers) of whole weights (steps, k) along the window, each over its divisor."""
        product = self.node("MatMul", [self.exact, self.value(f"{tag}_weights", weights)], f"{tag}_sums")
        divided = self.node("Div", [product, self.value(f"{tag}_divisors", divisors[None, None, :])], f"{tag}_means")
        return self.flat(divided, tag, weights.shape[1] * len(self.numbers))


def _last(window: _Window, number: int) -> str:
    steps = window.steps
    window.value(f"last_{number}", np.arange(steps - 1, steps - 1 - number, -1), np.int64)
    chosen = window.node("Gather", [window.exact, f"series_last_{number}"], "last_values", axis=2)
    return window.flat(chosen, "last", number * len(window.numbers))


def _memory_weights(steps: int, half_lives: list[int]) -> NDArray[np.int64]:
    """(steps, half-lives) whole weights; the newest weighs MEMORY_UNIT."""
    age = np.arange(steps - 1, -1, -1)[:, None]
    return np.asarray(np.rint(MEMORY_UNIT * 0.5 ** (age / np.array(half_lives)[None, :])), dtype=np.int64)


def _memory(window: _Window, half_lives: list[int], tag: str) -> str:
    weights = _memory_weights(window.steps, half_lives)
    return window.linear(weights, weights.sum(axis=0).astype(np.float64), tag)


def _moments(window: _Window) -> tuple[str, str]:
    """(mean, standard deviation), each (n, numbers, 1), in doubles."""
    if not any(node.output[0] == "series_deviation" for node in window.graph.nodes):
        window.value("along", [2], np.int64)
        steps = window.value("steps", float(window.steps))
        total = window.node("ReduceSum", [window.exact, "series_along"], "total", keepdims=1)
        mean = window.node("Div", [total, steps], "mean")
        squares = window.node(
            "ReduceSum", [window.node("Mul", [window.exact, window.exact], "squares"), "series_along"], "power", keepdims=1
        )
        spread = window.node(
            "Sub", [window.node("Div", [squares, steps], "power_mean"), window.node("Mul", [mean, mean], "mean_square")], "spread"
        )
        window.node("Sqrt", [window.node("Max", [spread, window.value("none", 0.0)], "variance")], "deviation")
    return "series_mean", "series_deviation"


def _summary(window: _Window) -> str:
    steps, count = window.steps, len(window.numbers)
    mean, deviation = _moments(window)
    window.value("along", [2], np.int64)
    wide = window.node(
        "Sub", [window.node("Mul", [deviation, window.value("two", 2.0)], "deviation_twice"), window.value("most", 32767.0)], "wide"
    )
    least = window.node("ReduceMin", [window.exact, "series_along"], "smallest", keepdims=1)
    largest = window.node("ReduceMax", [window.exact, "series_along"], "largest", keepdims=1)
    along = 2 * np.arange(steps) - (steps - 1)
    # The rise of the fitted line from end to end, halved, is 6 sum(along x) / (steps (steps + 1) 2); last less mean, halved.
    window.value("rise_weights", along[:, None], np.float64)
    sloped = window.node("MatMul", [window.exact, "series_rise_weights"], "rise_sum")
    rise = window.node("Div", [sloped, window.value("rise_divisor", [steps * (steps + 1) / 3.0])], "rise")
    newest = np.full((steps, 1), -1.0)
    newest[-1] += steps
    beyond = window.node("MatMul", [window.exact, window.value("beyond_weights", newest)], "beyond_sum")
    less = window.node("Div", [beyond, window.value("beyond_divisor", [2.0 * steps])], "beyond")
    joined = window.node("Concat", [mean, wide, least, largest, rise, less], "summaries", axis=2)
    return window.flat(joined, "summary", 6 * count)


def _changes(window: _Window, number: int) -> str:
    found = []
    for width in (2**k for k in range(number)):
        newest = np.zeros((window.steps, 1), dtype=np.int64)
        newest[-width:] = 1
        newest[-2 * width : -width] = -1
        found.append(window.linear(newest, np.array([2.0 * width]), f"change_{width}"))
        taps = np.concatenate([np.full(width, -1.0), np.full(width, 1.0)])
        weights = window.value(f"jump_{width}_taps", np.tile(taps, (len(window.numbers), 1))[:, None, :], np.float32)
        jumps = window.node("Conv", [window.whole, weights], f"jump_{width}", kernel_shape=[2 * width], group=len(window.numbers))
        most = window.node(
            "ReduceMax",
            [window.node("Abs", [jumps], f"jump_{width}_size"), window.value("along", [2], np.int64)],
            f"jump_{width}_most",
            keepdims=0,
        )
        size = window.node(
            "Div",
            [
                window.node("Cast", [most], f"jump_{width}_double", to=TensorProto.DOUBLE),
                window.value(f"jump_{width}_divisor", float(width)),
            ],
            f"jump_{width}_mean",
        )
        found.append(window.node("Sub", [size, window.value("most", float(FEATURE_MAX))], f"jump_{width}_centred"))
    return window.node("Concat", found, "changes", axis=1)


def _kernel_group(window: _Window, chosen: list[Kernel], tag: str, centred: str, deviation: str) -> str:
    """(n, chosen) shares above the biases, of kernels that share dilation and padding."""
    dilation, padded = chosen[0].dilation, chosen[0].padded
    weights = np.zeros((len(chosen), len(window.numbers), KERNEL_STEPS))
    for row, kernel in enumerate(chosen):
        weights[row, kernel.channel] = kernel.weights()
    reach = dilation * (KERNEL_STEPS - 1)
    pads = [reach // 2, reach // 2] if padded else [0, 0]
    positions = window.steps if padded else window.steps - reach
    answer = window.node(
        "Conv",
        [centred, window.value(f"{tag}_weights", weights, np.float32)],
        f"{tag}_answer",
        kernel_shape=[KERNEL_STEPS],
        dilations=[dilation],
        pads=pads,
    )
    places = window.value(f"{tag}_channels", [kernel.channel for kernel in chosen], np.int64)
    scale = window.node("Gather", [deviation, places], f"{tag}_scale", axis=1)
    above = window.node("Mul", [scale, window.value(f"{tag}_biases", np.array([k.bias for k in chosen])[None, :, None])], f"{tag}_bias")
    # Answers are whole numbers: they exceed a bias where they exceed its floor, which a float holds exactly.
    limit = window.node("Cast", [window.node("Floor", [above], f"{tag}_floor")], f"{tag}_limit", to=TensorProto.FLOAT)
    beyond = window.node("Cast", [window.node("Greater", [answer, limit], f"{tag}_beyond")], f"{tag}_ones", to=TensorProto.DOUBLE)
    count = window.node("ReduceSum", [beyond, window.value("along", [2], np.int64)], f"{tag}_count", keepdims=0)
    scaled = window.node("Mul", [count, window.value(f"{tag}_span", 2.0 * FEATURE_MAX / positions)], f"{tag}_share")
    return window.node("Sub", [scaled, window.value("most", float(FEATURE_MAX))], f"{tag}_centred")


def _kernels(window: _Window, number: int) -> str:
    mean, deviation = _moments(window)
    whole_mean = window.node("Cast", [window.node("Round", [mean], "mean_round")], "mean_whole", to=TensorProto.FLOAT)
    centred = window.node("Sub", [window.whole, whole_mean], "kernel_input")
    floor = window.node("Max", [deviation, window.value("deviation_min", DEVIATION_MIN)], "deviation_floor")
    chosen = kernels(window.steps, len(window.numbers), number)
    groups: dict[tuple[int, bool], list[int]] = {}
    for place, kernel in enumerate(chosen):
        groups.setdefault((kernel.dilation, kernel.padded), []).append(place)
    found = [
        _kernel_group(window, [chosen[place] for place in places], f"kernel_{dilation}_{'same' if padded else 'inner'}", centred, floor)
        for (dilation, padded), places in groups.items()
    ]
    joined = window.node("Concat", found, "kernels_grouped", axis=1)
    order = np.argsort(np.concatenate(list(groups.values())))
    return window.node("Gather", [joined, window.value("kernel_order", order, np.int64)], "kernels", axis=1)


def _hinges(window: _Window, number: int) -> str:
    newest = np.zeros((window.steps, 1), dtype=np.int64)
    newest[-1] = 1
    seen = [window.linear(newest, np.ones(1), "hinge_newest"), _memory(window, list(HINGE_MEMORIES), "hinge_memory")]
    inputs = window.node("Round", [window.node("Concat", seen, "hinge_seen", axis=1)], "hinge_inputs")
    weights, offsets = mixtures(len(window.numbers) * (1 + len(HINGE_MEMORIES)), number)
    size = np.maximum(np.abs(weights).sum(axis=0), 1)
    mixed = window.node("MatMul", [inputs, window.value("hinge_weights", weights)], "hinge_mixed")
    shifted = window.node("Sub", [mixed, window.value("hinge_offsets", np.rint(offsets * size * (FEATURE_MAX / 1024.0)))], "hinge_shifted")
    above = window.node("Max", [shifted, window.value("none", 0.0)], "hinge_above")
    # A mixture is at most 1.25 half ranges above its offset: from nothing to the largest, over the whole of the feature's range.
    scaled = window.node("Mul", [above, window.value("hinge_span", 2.0 / 1.25 / size)], "hinge_scaled")
    return window.node("Sub", [scaled, window.value("most", float(FEATURE_MAX))], "hinges")


def _levels(window: _Window) -> str:
    found = []
    for place, column in enumerate(window.schema.columns):
        if column.kind != "category":
            continue
        window.value(f"level_place_{place}", [place], np.int64)
        one = window.node("Gather", [window.seen, f"series_level_place_{place}"], f"level_seen_{place}", axis=1)
        codes = window.value(f"level_codes_{len(column.levels)}", np.arange(len(column.levels))[None, :, None], np.float32)
        same = window.node(
            "Cast", [window.node("Equal", [one, codes], f"level_same_{place}")], f"level_ones_{place}", to=TensorProto.DOUBLE
        )
        count = window.node("ReduceSum", [same, window.value("along", [2], np.int64)], f"level_count_{place}", keepdims=0)
        share = window.node("Mul", [count, window.value("level_span", 2.0 * FEATURE_MAX / window.steps)], f"level_share_{place}")
        found.append(window.node("Sub", [share, window.value("most", float(FEATURE_MAX))], f"level_{place}"))
    return window.node("Concat", found, "levels", axis=1)


def _add_part(window: _Window, part: SeriesPart) -> str:
    """The name of its (n, size) doubles."""
    if part.family == LAST:
        return _last(window, part.number)
    if part.family == SUMMARY:
        return _summary(window)
    if part.family == MEMORY:
        return _memory(window, [2**k for k in range(part.number)], "memory")
    if part.family == CHANGES:
        return _changes(window, part.number)
    if part.family == KERNELS:
        return _kernels(window, part.number)
    return _hinges(window, part.number) if part.family == HINGES else _levels(window)


def feature_count(schema: Schema, parts: tuple[str, ...]) -> int:
    """Features of a stage with these parts. Raises InputError."""
    return sum(series_part_size(schema, part) for part in checked_series_parts(schema, parts))


def record_input(schema: Schema, name: str = "records") -> onnx.ValueInfoProto:
    """FLOAT (n, steps, columns)."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", schema.steps, len(schema.columns)])


def add_series_features(graph: GraphWriter, schema: Schema, parts: tuple[str, ...], input_name: str) -> str:
    """Adds preprocessing, parts and quantisation; returns the name of the (n, features) float32 output that holds integers.

    input_name: a FLOAT (n, steps, columns) tensor, NaN where missing. Raises InputError when the schema has no such parts.
    """
    chosen = checked_series_parts(schema, parts)
    window = _Window(graph, schema, input_name)
    joined = window.node("Concat", [_add_part(window, part) for part in chosen], "features", axis=1)
    least = window.node("Max", [joined, window.value("least", -float(FEATURE_MAX))], "features_above")
    within = window.node("Min", [least, window.value("most", float(FEATURE_MAX))], "features_within")
    return graph.node("Cast", [window.node("Round", [within], "features_round")], "quantised", to=TensorProto.FLOAT)


def checked_windows(schema: Schema, records: Records) -> Records:
    """The records if they are float32 (n, steps, columns) and fit the schema's columns; raises InputError that names the column."""
    wanted = (schema.steps, len(schema.columns))
    if records.ndim != 3 or records.shape[1:] != wanted or records.dtype != np.float32:
        raise InputError(
            f"the windows are {records.shape} of {records.dtype}", f"give float32 of (n, {wanted[0]} steps, {wanted[1]} columns)"
        )
    for place, column in enumerate(schema.columns):
        values = records[:, :, place]
        if not column.missing and bool(np.isnan(values).any()):
            raise InputError(f"column {column.name} is missing in a window", "fill it, or declare the column as one that may be missing")
        if bool(np.isinf(values).any()):
            raise InputError(f"column {column.name} holds a number that is not finite", "leave the field empty if it is missing")
        seen = values[~np.isnan(values)]
        if column.kind == "category" and bool(((seen != np.floor(seen)) | (seen < 0) | (seen >= len(column.levels))).any()):
            raise InputError(f"column {column.name} holds a number that is none of its levels", f"use 0 to {len(column.levels) - 1}")
    return records


class SeriesExtractor:
    """Chosen parts of a window, quantised; what `contracts.ports.Extractor` is for images.

    threads: processor threads within one batch. The session is made at first use. Raises InputError when the schema has no such parts.
    """

    def __init__(self, schema: Schema, parts: tuple[str, ...], threads: int = 1) -> None:
        self.schema, self.parts, self._threads = schema, tuple(parts), threads
        self._dimension = feature_count(schema, self.parts)
        graph = GraphWriter()
        output = add_series_features(graph, schema, self.parts, "records")
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", self._dimension])
        model = graph.model("isthmus_series", [record_input(schema)], [result])
        self._model = model.SerializeToString(deterministic=True)
        document = {"kind": "isthmus-series/1", "schema": msgspec.to_builtins(schema), "parts": list(self.parts)}
        self._digest = digest_of({**document, **graph_definition(model)})
        self._session: onnxruntime.InferenceSession | None = None

    @property
    def digest(self) -> str:
        """sha256 of the whole graph's definition: columns, ranges, filling, parts and quantisation."""
        return self._digest

    @property
    def dimension(self) -> int:
        return self._dimension

    def stage(self) -> Stage:
        """The extractor as a document."""
        return Stage(backbone=SERIES, parts=self.parts, dimension=self.dimension, digest=self.digest)

    def quantised(self, records: Records) -> NDArray[np.int16]:
        """(n, steps, columns) float32, NaN where missing -> (n, dimension) int16 in [-32767, 32767]. Raises InputError."""
        known = checked_windows(self.schema, records)
        if self._session is None:
            self._session = session(self._model, self._threads)
        result = np.zeros((len(known), self.dimension), dtype=np.int16)
        step = max(1, BATCH_VALUES_MAX // (self.schema.steps * (self.dimension + 4 * len(self.schema.columns))))
        for start in range(0, len(known), step):
            (found,) = self._session.run(["quantised"], {"records": known[start : start + step]})
            result[start : start + step] = found.astype(np.int16)
        return result
