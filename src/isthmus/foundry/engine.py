"""Runs an artefact: scores, verdicts, and exact attributions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from scipy import ndimage

from isthmus.contracts.errors import InputError, ModelFileError
from isthmus.contracts.parts import GRID_SIDE
from isthmus.foundry.export import HEAT_OUTPUT, artefact_digest, artefact_metadata, parsed
from isthmus.foundry.forecast import FORECAST_OUTPUTS
from isthmus.foundry.runtime import RUNTIME_ERRORS, Given, checked_images, given_batches, session
from isthmus.foundry.stages import IMAGE_INPUT
from isthmus.foundry.textfeatures import TOKENS_INPUT, tokeniser_digest, tokens_of
from isthmus.foundry.treegraph import forest_in
from isthmus.foundry.treereasons import tree_attributions
from isthmus.kit.treewalk import forest_scores

EVEN_MAX = 1e-12
NEARNESS = 8.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Heat:
    """Where in the picture a score comes from.

    score = base + sum of contributions of the features. layers: for each part of the stage a (h, w) map whose mean is exactly the
    sum of that part's contributions before the features are clipped and rounded to integers; rounding_gap: what clipping and rounding
    changed in all. A mean is spread over the picture as its channel is, a largest value over the places that come near to it. picture:
    the layers drawn at the image's size (H, W) by bilinear interpolation and added; a drawing, only near to exact. A position's
    receptive field is larger than its square.
    """

    base: float
    score: float
    layers: tuple[Floats, ...]
    rounding_gap: float
    picture: Floats


class Scorer:
    """One artefact in this process.

    artefact: bytes from `export.build_artefact`. threads: within one batch. Raises ModelFileError when the bytes are no such graph.
    """

    def __init__(self, artefact: bytes, threads: int = 1) -> None:
        self._model = parsed(artefact)
        if is_forecast(self._model):
            raise ModelFileError("the model gives numbers, not verdicts", "use it as one that foretells")
        self._threads = threads
        self.digest = artefact_digest(artefact)
        self._session = session(artefact, threads)
        self.input = self._model.graph.input[0].name
        if self.input == TOKENS_INPUT and artefact_metadata(artefact).get("tokeniser") != tokeniser_digest():
            raise ModelFileError(
                "the model was made with another tokeniser than the one installed here", "install the release that made it"
            )
        constants = {c.name: c for c in self._model.graph.initializer}
        self.has_heat = any(output.name == HEAT_OUTPUT for output in self._model.graph.output)
        self.linear = "gaussian_pivot" not in constants
        self._inner: onnxruntime.InferenceSession | None = None
        self.coefficients: Floats = np.zeros(0)
        self.bias = 0.0
        self._pools: list[_Pool] = []
        if self.linear:
            self._read_linear(constants)

    def _read_linear(self, constants: dict[str, onnx.TensorProto]) -> None:
        try:
            self.coefficients = numpy_helper.to_array(constants["head_coefficients"]).copy()
            self.bias = float(numpy_helper.to_array(constants["head_bias"]))
            self.forest = forest_in(self._model)
            if self.input == IMAGE_INPUT:
                self._range_centre: Floats = numpy_helper.to_array(constants["range_centre"]).astype(np.float64)
                self._range_scale: Floats = numpy_helper.to_array(constants["range_scale"]).astype(np.float64)
        except KeyError as error:
            raise ModelFileError(f"the model's graph has no constant {error}", "export it again") from error
        try:
            self._pools = _pools(self._model) if self.input == IMAGE_INPUT else []
        except (KeyError, IndexError) as error:
            raise ModelFileError("the model's graph is not made of a stage's parts", "export it again") from error

    def _batches(self, given: Given) -> Iterator[tuple[list[int], NDArray[Any]]]:
        """As the graph takes them: texts cut into tokens first. Raises InputError for records of another kind than the model's."""
        if any((record.dtype == np.uint32) != (self.input == TOKENS_INPUT) for record in given):
            raise InputError("the records are not of the model's kind", "send texts to a model of texts, and to no other")
        for indices, batch in given_batches(given):
            yield indices, tokens_of(batch) if self.input == TOKENS_INPUT else batch

    def judged(self, given: Given) -> tuple[Floats, NDArray[np.int64]]:
        """Decoded records -> (scores (n,), verdicts (n,)): the graph's own outputs; verdict 0 good, 1 defect, 2 person."""
        scores = np.zeros(len(given))
        verdicts = np.zeros(len(given), dtype=np.int64)
        for indices, batch in self._batches(given):
            try:
                found, decided = self._session.run(["score", "verdict"], {self.input: batch})
            except RUNTIME_ERRORS as error:
                raise ModelFileError("the model's graph failed on a record", "send records of the model's kind") from error
            scores[indices], verdicts[indices] = found, decided
        return scores, verdicts

    def scores(self, given: Given) -> Floats:
        """(n,) scores of decoded records."""
        return self.judged(given)[0]

    def heats(self, given: Given) -> NDArray[np.float32]:
        """(n, h, w) distances of the places of pictures, 1 for a typical one: the graph's own output. Raises InputError if none."""
        if not self.has_heat:
            raise InputError("this model gives no heat map", "ask for score and verdict")
        found = np.zeros((len(given), GRID_SIDE, GRID_SIDE), dtype=np.float32)
        for indices, batch in given_batches(given):
            try:
                (found[indices],) = self._session.run([HEAT_OUTPUT], {self.input: batch})
            except RUNTIME_ERRORS as error:
                raise ModelFileError("the model's graph failed on a record", "send records of the model's kind") from error
        return found

    def _looked_into(self, batch: NDArray[Any]) -> tuple[Floats, list[Floats]]:
        """(quantised (n, d), one (n, c, h, w) map a part, whose mean over the picture is the part's value) from the same graph."""
        names = ["quantised", *(name for pool in self._pools for name in (pool.map, pool.value))]
        if self._inner is None:
            shown = onnx.ModelProto()
            shown.CopyFrom(self._model)
            known = {output.name for output in shown.graph.output}
            wanted = [name for name in dict.fromkeys(names) if name not in known]
            shown.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted)
            self._inner = session(shown.SerializeToString(deterministic=True), self._threads)
        found = [np.asarray(value).astype(np.float64) for value in self._inner.run(names, {self.input: batch})]
        maps = [_spread(pool, found[1 + 2 * i], found[2 + 2 * i]) for i, pool in enumerate(self._pools)]
        return found[0], maps

    def quantised(self, given: Given) -> NDArray[np.int16]:
        """(n, d) features of decoded records, as a linear artefact sees them. Raises InputError for a Gaussian."""
        self._reference(None)
        result = np.zeros((len(given), self.coefficients.shape[0]), dtype=np.int16)
        for indices, batch in self._batches(given):
            result[indices] = self._looked_into(batch)[0].astype(np.int16)
        return result

    def _reference(self, reference: NDArray[np.float64] | None) -> Floats:
        if not self.linear:
            raise InputError("a Gaussian's score is no sum over features", "ask for its heat map")
        if reference is None:
            return np.zeros_like(self.coefficients)
        if reference.shape != self.coefficients.shape or not bool(np.isfinite(reference).all()):
            raise InputError("the reference does not fit the model's features", f"give {self.coefficients.shape[0]} finite numbers")
        return reference.astype(np.float64)

    def base(self, reference: NDArray[np.float64] | None = None) -> float:
        """The score of the reference features; attributions add up from here."""
        against = self._reference(reference)
        trees = 0.0 if self.forest is None else float(forest_scores(self.forest, against[None, :])[0])
        return float(self.bias + self.coefficients @ against) + trees

    def attributions(self, given: Given, reference: NDArray[np.float64] | None = None) -> Floats:
        """(n, d) contributions; with `base` they add up to the score (of a logistic head, to its logit), exactly but for float32.

        Of a linear head: coefficient * (q - reference). Of trees: Shapley values against the reference. reference: (d,) features of a
        typical record, for instance the fleet's mean; default zeros, the middle of the public ranges.
        """
        return self.contributions(self.quantised(given), reference)

    def contributions(self, quantised: NDArray[np.int16], reference: NDArray[np.float64] | None = None) -> Floats:
        """`attributions` of (n, d) features."""
        against = self._reference(reference)
        found = np.asarray((quantised.astype(np.float64) - against) * self.coefficients)
        return found if self.forest is None else found + tree_attributions(self.forest, quantised, against)

    def heat(self, image: NDArray[np.uint8], reference: NDArray[np.float64] | None = None) -> Heat:
        """Exact linear attribution over space (class activation; Zhou et al., CVPR 2016)."""
        against = self._reference(reference)
        quantised, maps = self._looked_into(checked_images([image])[0][None])
        layers: list[Floats] = []
        picture = np.zeros(image.shape[:2])
        start = 0
        for tapped in maps:
            part = slice(start, start + tapped.shape[1])
            start = part.stop
            weights = self.coefficients[part] * self._range_scale[part]
            fixed = float(self.coefficients[part] @ against[part]) + float(weights @ self._range_centre[part])
            layer = np.tensordot(weights, tapped[0], axes=1) - fixed
            layers.append(layer)
            picture += _enlarged(layer, image.shape[0], image.shape[1])
        base = self.base(reference)
        score = float(self.bias + self.coefficients @ quantised[0])
        return Heat(base, score, tuple(layers), score - base - sum(float(m.mean()) for m in layers), picture)


class Forecaster:
    """One artefact that foretells numbers, in this process. threads: within one batch. Raises ModelFileError when the bytes are no such
    graph."""

    def __init__(self, artefact: bytes, threads: int = 1) -> None:
        model = parsed(artefact)
        if not is_forecast(model):
            raise ModelFileError("the model gives verdicts, not numbers", "use it as one")
        self.digest = artefact_digest(artefact)
        self._session = session(artefact, threads)
        self._input = model.graph.input[0].name
        self._targets = int(model.graph.output[0].type.tensor_type.shape.dim[1].dim_value)

    def outputs(self, given: Given) -> Floats:
        """Decoded records -> (n, 4, targets) in the order of FORECAST_OUTPUTS: the graph's own single-precision numbers."""
        found = np.zeros((len(given), len(FORECAST_OUTPUTS), self._targets))
        for indices, batch in given_batches(given):
            try:
                parts = self._session.run(list(FORECAST_OUTPUTS), {self._input: batch})
            except RUNTIME_ERRORS as error:
                raise ModelFileError("the model's graph failed on a record", "send records of the model's kind") from error
            found[indices] = np.stack(parts, axis=1)
        return found

    def foretold(self, given: Given) -> NDArray[np.float32]:
        """Decoded records -> (n, 3, targets): value, low and high."""
        return self.outputs(given)[:, 1:].astype(np.float32)


def is_forecast(model: onnx.ModelProto) -> bool:
    """Whether a graph foretells numbers instead of giving a verdict."""
    return {output.name for output in model.graph.output} == set(FORECAST_OUTPUTS)


@dataclass(frozen=True)
class _Pool:
    """One part's pooling in the graph. map, value: names of the map (n, c, h, w) and of the pooled (n, c, 1, 1). strongest: its largest."""

    map: str
    value: str
    strongest: bool


def _pools(model: onnx.ModelProto) -> list[_Pool]:
    """The pools of the graph's parts, in the order of the features."""
    made = {output: node for node in model.graph.node for output in node.output}
    found = []
    for flat in made["features"].input:
        value = made[flat].input[0]
        pool = made[value] if made[value].op_type != "Sqrt" else made[made[value].input[0]]
        found.append(_Pool(pool.input[0], value, pool.op_type == "GlobalMaxPool"))
    return found


def _spread(pool: _Pool, shown: Floats, value: Floats) -> Floats:
    """(n, c, h, w): the pooled value laid out over the picture, so that its mean there is the value."""
    mean = shown.mean(axis=(2, 3), keepdims=True)
    if pool.strongest:
        below = (shown - value) / np.maximum(value - mean, EVEN_MAX)  # 0 at the strongest, -1 at the mean
        near = np.exp(NEARNESS * below)
        return np.asarray(value * near / near.mean(axis=(2, 3), keepdims=True))
    even = np.abs(mean) < EVEN_MAX  # nothing to lay out by
    return np.where(even, value, shown * (value / np.where(even, 1.0, mean)))


def _enlarged(layer: Floats, height: int, width: int) -> Floats:
    """Bilinear enlargement of a (h, w) map, pixel centres aligned, edges held."""
    rows = (np.arange(height) + 0.5) * layer.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * layer.shape[1] / width - 0.5
    grid = np.meshgrid(rows, columns, indexing="ij")
    return np.asarray(ndimage.map_coordinates(layer, grid, order=1, mode="nearest"))
