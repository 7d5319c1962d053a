"""Writes one deterministic ONNX graph from decoded record to score and verdict.

Input `image`: UINT8 (n, h, w, 3), any size; or `records`: FLOAT (n, columns) or (n, steps, columns), NaN where a value is missing; or
`tokens`: INT64 (n, windows, tokens), a text cut by the tokeniser that the file's notes name.
Outputs `score`: FLOAT (n,); `verdict`: INT64 (n,), one of the constants below; of a Gaussian over patches also `heat`: FLOAT (n, h, w).
A head that foretells numbers has other outputs, see foundry.forecast.
The head runs in doubles on integers; a head from `ridge.head_from` sums there exactly; trees add their sum as a float32. Of a logistic head
the sum is the logarithm of the odds, and the score is 4 p - 2 (foundry.linkgraph).
The verdict is decided from the published float32 score, so that whoever holds the score and the thresholds can check it. The defect side
wins when both thresholds are met; a score that is no number goes to a person.
"""

from __future__ import annotations

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from isthmus.contracts.errors import DocumentError, InputError, ModelFileError
from isthmus.contracts.head import Head
from isthmus.contracts.parts import GRID_SIDE
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.features import Tensors, load_tensors
from isthmus.foundry.forecast import FORECAST_OUTPUTS, add_forecast
from isthmus.foundry.gaussian import add_gaussian
from isthmus.foundry.linkgraph import add_logistic_score
from isthmus.foundry.stages import IMAGE_INPUT, RECORDS_INPUT, add_stage, checked_source, stage_of
from isthmus.foundry.textfeatures import TOKENS_INPUT, tokeniser_digest
from isthmus.foundry.treegraph import add_forest
from isthmus.kit.canonical import digest_of, sha256_hex

GOOD, DEFECT, PERSON = 0, 1, 2
VERDICTS = ("good", "defect", "person")
HEAT_OUTPUT = "heat"
OUTPUTS = ({"score", "verdict"}, {"score", "verdict", HEAT_OUTPUT}, set(FORECAST_OUTPUTS))


def head_digest(head: Head) -> str:
    """sha256 of the head's canonical JSON."""
    return digest_of(head)


def _add_head(graph: GraphWriter, quantised: str, head: Head) -> None:
    coefficients = head.coefficients.array().astype(np.float64)
    if head.gaussian is None and coefficients.shape != (head.stage.dimension,):
        raise DocumentError(f"the head has coefficients {coefficients.shape} for {head.stage.dimension} features", "fit it again")
    if not (np.isfinite([head.bias, head.lo, head.hi]).all() and head.lo <= head.hi):
        raise DocumentError("the head's bias or thresholds cannot be used", "fit it again")
    if head.gaussian is None:
        graph.constant("head_coefficients", coefficients)
        graph.constant("head_bias", np.array(head.bias, np.float64))
    graph.constant("head_lo", np.array(head.lo, np.float64))
    graph.constant("head_hi", np.array(head.hi, np.float64))
    if head.gaussian is None:
        graph.constant("feature_axis", np.array([1], np.int64))
    for name, value in (("good", GOOD), ("defect", DEFECT), ("person", PERSON)):
        graph.constant(f"verdict_{name}", np.array(value, np.int64))
    made = _add_sum(graph, quantised, head) if head.gaussian is None else add_gaussian(graph, quantised, head.stage, head.gaussian)
    score = graph.node("Cast", [made], "score", to=TensorProto.FLOAT)
    published = graph.node("Cast", [score], "score_published", to=TensorProto.DOUBLE)
    is_good = graph.node("LessOrEqual", [published, "head_lo"], "is_good")
    is_defect = graph.node("GreaterOrEqual", [published, "head_hi"], "is_defect")
    sure = graph.node("Where", [is_good, "verdict_good", "verdict_person"], "good_or_person")
    graph.node("Where", [is_defect, "verdict_defect", sure], "verdict")


def _add_sum(graph: GraphWriter, quantised: str, head: Head) -> str:
    """The score of a linear head in doubles, (n,), with the sum of its trees, where it has any."""
    exact = graph.node("Cast", [quantised], "quantised_double", to=TensorProto.DOUBLE)
    products = graph.node("Mul", [exact, "head_coefficients"], "contributions")
    summed = graph.node("ReduceSum", [products, "feature_axis"], "contribution_sum", keepdims=0)
    total = graph.node("Add", [summed, "head_bias"], "score_double")
    if head.link == "logistic":
        return add_logistic_score(graph, total)
    if head.forest is None:
        return total
    trees = add_forest(graph, exact, head.forest, head.stage.dimension)
    return graph.node("Add", [total, graph.node("Cast", [trees], "tree_sum_double", to=TensorProto.DOUBLE)], "score_with_trees")


def build_artefact(head: Head, tensors: Tensors | None = None) -> bytes:
    """ONNX bytes of the head with its backbone; the same head gives the same bytes on one machine type and release of onnx.

    Raises DocumentError when the head does not fit this build's extractor, ModelFileError when the weights are missing.
    """
    wanted = head.stage
    try:
        checked_source(wanted.backbone, wanted.schema)
        known = None if wanted.schema is not None else tensors or load_tensors()
        here = stage_of(wanted.backbone, wanted.parts, wanted.schema, known)
    except InputError as error:
        raise DocumentError(error.message, error.next_step) from error
    if here != wanted:
        raise DocumentError(
            f"the head was fitted on features {wanted.digest[:19]}, this build makes {here.digest[:19]}",
            "use the same release and weights",
        )
    graph = GraphWriter()
    quantised, given = add_stage(graph, wanted, known)
    if head.outputs:
        outputs = add_forecast(graph, quantised, RECORDS_INPUT, head)
    else:
        _add_head(graph, quantised, head)
        outputs = [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("verdict", TensorProto.INT64, ["n"]),
        ]
        if head.gaussian is not None and wanted.positions > 1:
            outputs.append(helper.make_tensor_value_info(HEAT_OUTPUT, TensorProto.FLOAT, ["n", GRID_SIDE, GRID_SIDE]))
    texts = wanted.schema is not None and wanted.schema.written
    model = graph.model("isthmus_inspection", [given], outputs, check=not texts)
    notes = {"decoder": head.decoder, "head_digest": head_digest(head), "stage_digest": head.stage.digest}
    if texts:
        notes["tokeniser"] = tokeniser_digest()
    helper.set_model_props(model, notes)
    return bytes(model.SerializeToString(deterministic=True))


def artefact_digest(artefact: bytes) -> str:
    """sha256 of the artefact's bytes, as `sha256:<hex>`."""
    return "sha256:" + sha256_hex(artefact)


def artefact_metadata(artefact: bytes) -> dict[str, str]:
    """The artefact's own notes: decoder, head_digest, stage_digest, of texts the tokeniser's digest. Raises ModelFileError when it is not
    such a graph."""
    model = parsed(artefact)
    return {item.key: item.value for item in model.metadata_props}


def parsed(artefact: bytes) -> onnx.ModelProto:
    """The artefact's graph. Raises ModelFileError."""
    try:
        model = onnx.load_model_from_string(artefact)
    except (ValueError, TypeError, RuntimeError, DecodeError) as error:
        raise ModelFileError("the model's bytes are not an ONNX graph", "export it again") from error
    inputs = [i.name for i in model.graph.input]
    if {o.name for o in model.graph.output} not in OUTPUTS or inputs not in ([IMAGE_INPUT], [RECORDS_INPUT], [TOKENS_INPUT]):
        raise ModelFileError("the model's graph is not one from record to score and verdict, or to value and band", "export it again")
    if any(c.data_location == TensorProto.EXTERNAL for c in model.graph.initializer):
        raise ModelFileError("the model's graph points to other files", "export it again, in one piece")
    return model
