"""Requests and answers of the Open Inference Protocol v2 (REST, with binary tensors), bytes to values and back. Pure.

Source: kserve/open-inference-protocol, inference_rest.md; binary data and raw binary requests as in Triton's
extension_binary_data.md. What is not understood is refused, never skipped: unknown fields and parameters, repeated keys,
data left over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import BodyTooLargeError, InferenceRequestError, InputError
from isthmus.contracts.head import Link
from isthmus.contracts.inference import (
    HEAT,
    IMAGE,
    PROBABILITY,
    RECORDS,
    SCORE,
    TEXT,
    VALUE_OUTPUTS,
    VERDICT,
    InferenceRequest,
    InferenceResponse,
    Parameters,
    RequestInput,
    RequestOutput,
    ResponseOutput,
)
from isthmus.contracts.lot import lot_name
from isthmus.contracts.schema import Schema
from isthmus.gateway.limits import (
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    IMAGES_MAX,
    INPUTS_MAX,
    JSON_DEPTH_MAX,
    NAME_CHARS_MAX,
    OUTPUTS_MAX,
    PARAMETERS_MAX,
    REQUEST_PIXELS_MAX,
)
from isthmus.gateway.tensors import (
    files_from_bytes,
    files_from_json,
    files_to_bytes,
    floats_from_bytes,
    floats_from_json,
    texts_from_json,
    uint8_from_bytes,
    uint8_from_json,
)
from isthmus.kit.logits import stated
from isthmus.kit.pictures import SIDE_MIN

HEADER_LENGTH = "Inference-Header-Content-Length"
OUTPUT_NAMES = (SCORE, VERDICT)
OUTPUT_KINDS = {SCORE: "FP32", VERDICT: "BYTES", PROBABILITY: "FP32"}
REQUEST_PARAMETERS = frozenset({"binary_data_output", "lot"})
INPUT_PARAMETERS = frozenset({"binary_data_size", "content_type"})
OUTPUT_PARAMETERS = frozenset({"binary_data"})

_REQUEST = msgspec.json.Decoder(InferenceRequest)
_RESPONSE = msgspec.json.Decoder(InferenceResponse)
_ID = re.compile(r"[^\x00-\x1f\x7f]*")
_LARGE = 256


@dataclass(frozen=True)
class OutputChoice:
    """An output to return, and whether as binary data."""

    name: str
    binary: bool


@dataclass(frozen=True)
class RecordRequest:
    """A parsed request for `count` records: either values, pixels (count, height, width, 3) uint8 or rows (count, [steps,] columns)
    float32, or files to decode. lot: the name under which they are judged, if any."""

    request_id: str | None
    count: int
    values: NDArray[Any] | None
    files: tuple[bytes, ...] | None
    outputs: tuple[OutputChoice, ...]
    lot: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a request gets: scores (n,) float32, a verdict for each, and the response's parameters. values: of a model that foretells
    numbers instead, (n, 3, targets) float32 in the order of VALUE_OUTPUTS. heats: (n, h, w), where asked for."""

    model: str
    version: str
    request_id: str
    parameters: Parameters
    scores: NDArray[np.float32]
    verdicts: tuple[str, ...]
    values: NDArray[np.float32] | None = None
    heats: NDArray[np.float32] | None = None

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(n,) of a defect, as a logistic head's scores tell them."""
        return stated(self.scores).astype(np.float32)


def output_names(link: Link) -> tuple[str, ...]:
    """What a model gives: a logistic head's score states a probability, which is given too."""
    return (*OUTPUT_NAMES, PROBABILITY) if link == "logistic" else OUTPUT_NAMES


def input_name(schema: Schema | None) -> str:
    """What the input of a model of such records is called. schema: None for pictures."""
    if schema is None:
        return IMAGE
    return TEXT if schema.written else RECORDS


def header_length(value: str | None, body_bytes: int) -> int | None:
    """The Inference-Header-Content-Length of a body: None where absent, 0 for a raw binary request."""
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", value.strip()) or int(value) > body_bytes:
        raise InferenceRequestError(
            f"{HEADER_LENGTH} is {value[:20]!r} and the body has {body_bytes} bytes", "give the number of bytes of the JSON"
        )
    return int(value)


def parse_request(
    body: bytes, header_bytes: int | None, model: str, version: str, schema: Schema | None = None, names: Sequence[str] = OUTPUT_NAMES
) -> RecordRequest:
    """A request's body -> what it asks for. header_bytes as from `header_length`. schema: of the model's records, where they are not
    pictures. names: of the model's outputs. Raises only IsthmusError.

    With header_bytes = 0 the whole body is one record's file and all outputs are returned as JSON.
    """
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLargeError(f"the body has {len(body)} bytes, more than the {BODY_BYTES_MAX} allowed", "send fewer records at once")
    outputs = tuple(OutputChoice(name, False) for name in names)
    if header_bytes == 0:
        if not body:
            raise InferenceRequestError("the body is empty", "send one record's file as the body")
        return RecordRequest(None, 1, None, (body,), outputs)
    view = memoryview(body)
    header = body if header_bytes is None else body[:header_bytes]
    document = _header(header)
    _named(document, model, version)
    entry = _only_input(document.inputs, input_name(schema))
    _known(document.parameters, REQUEST_PARAMETERS, "the request")
    choices = _choices(document, names)
    binary = None if header_bytes is None else view[header_bytes:]
    values, files = _tensor(entry, binary, schema)
    count = len(files) if files is not None else int(entry.shape[0])
    return RecordRequest(document.id or None, count, values, files, choices, _lot(document.parameters))


def _header(raw: bytes) -> InferenceRequest:
    try:
        document = _REQUEST.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InferenceRequestError(
            f"the request's JSON is not an inference request: {error}", "see the protocol's request object"
        ) from error
    skeleton = raw
    for entry in document.inputs:
        data = b"" if entry.data is msgspec.UNSET else bytes(entry.data)
        if len(data) > _LARGE:
            skeleton = skeleton.replace(data, b"0", 1)
    if len(skeleton) > HEADER_BYTES_MAX:
        raise InferenceRequestError(
            f"the request's JSON without tensor data has {len(skeleton)} bytes, more than the {HEADER_BYTES_MAX} allowed", "send less"
        )
    try:
        tree = json.loads(skeleton, object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as error:
        raise InferenceRequestError(f"the request's JSON is malformed: {error}", "send UTF-8 JSON") from error
    _shallow(tree, JSON_DEPTH_MAX)
    return document


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InferenceRequestError("the request's JSON has an object with the same key twice", "give each key once")
    return found


def _shallow(tree: Any, levels: int) -> None:
    if isinstance(tree, dict | list):
        if levels == 0:
            raise InferenceRequestError(f"the request's JSON is nested more than {JSON_DEPTH_MAX} deep", "flatten it")
        for branch in tree.values() if isinstance(tree, dict) else tree:
            _shallow(branch, levels - 1)


def _named(document: InferenceRequest, model: str, version: str) -> None:
    for said, meant, what in ((document.model_name, model, "model_name"), (document.model_version, version, "model_version")):
        if said is not None and said != meant:
            raise InferenceRequestError(f"{what} in the body is {said[:NAME_CHARS_MAX]!r} and the URL says {meant!r}", "make them agree")
    check_request_id(document.id)


def check_request_id(request_id: str | None) -> None:
    """Raises InferenceRequestError unless the id is absent or short text without control characters."""
    if request_id is not None and (len(request_id) > NAME_CHARS_MAX or not _ID.fullmatch(request_id)):
        raise InferenceRequestError(
            f"the request id is longer than {NAME_CHARS_MAX} characters, or has control characters", "use a short printable id"
        )


def _known(parameters: Parameters, known: frozenset[str], what: str) -> None:
    if len(parameters) > PARAMETERS_MAX:
        raise InferenceRequestError(f"{what} has more than {PARAMETERS_MAX} parameters", "send fewer")
    unknown = sorted(set(parameters) - known)
    if unknown:
        names = ", ".join(name[:NAME_CHARS_MAX] for name in unknown)
        raise InferenceRequestError(f"{what} has parameters that are not understood: {names}", f"use only {', '.join(sorted(known))}")


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InferenceRequestError(f"{name} is not a boolean", "say true or false")
    return value


def _lot(parameters: Parameters) -> str | None:
    value = parameters.get("lot")
    if value is None:
        return None
    if not isinstance(value, str):
        raise InferenceRequestError("lot is not text", "give the name of the lot")
    try:
        return lot_name(value)
    except InputError as error:
        raise InferenceRequestError(error.message, error.next_step) from error


def _only_input(inputs: Sequence[RequestInput], wanted: str) -> RequestInput:
    if len(inputs) > INPUTS_MAX:
        raise InferenceRequestError(f"the request has {len(inputs)} inputs, more than {INPUTS_MAX}", f"send one, {wanted!r}")
    names = [entry.name[:NAME_CHARS_MAX] for entry in inputs]
    if len(set(names)) != len(names):
        raise InferenceRequestError(f"the request has an input twice: {', '.join(names)}", "send each input once")
    if names != [wanted]:
        raise InferenceRequestError(f"the request has the inputs {names} and this model takes [{wanted!r}]", "see the model's metadata")
    return inputs[0]


def _choices(document: InferenceRequest, names: Sequence[str]) -> tuple[OutputChoice, ...]:
    default = _flag(document.parameters, "binary_data_output", False)
    wanted = document.outputs or [RequestOutput(name=name) for name in names]
    if len(wanted) > OUTPUTS_MAX or len({output.name for output in wanted}) != len(wanted):
        raise InferenceRequestError("the request asks for an output twice, or for too many", f"ask for {', '.join(names)}")
    choices: list[OutputChoice] = []
    for output in wanted:
        if output.name not in names and (output.name != HEAT or SCORE not in names):
            raise InferenceRequestError(f"there is no output {output.name[:NAME_CHARS_MAX]!r}", f"ask for {', '.join(names)}")
        _known(output.parameters, OUTPUT_PARAMETERS, f"output {output.name}")
        choices.append(OutputChoice(output.name, _flag(output.parameters, "binary_data", default)))
    return tuple(choices)


def _tensor(entry: RequestInput, binary: memoryview | None, schema: Schema | None) -> tuple[NDArray[Any] | None, tuple[bytes, ...] | None]:
    what = f"input {entry.name!r}"
    _known(entry.parameters, INPUT_PARAMETERS, what)
    if schema is None:
        _checked_shape(entry)
    elif schema.written:
        _checked_text_shape(entry)
    else:
        _checked_record_shape(entry, schema)
    size = entry.parameters.get("binary_data_size")
    if (size is None) == (entry.data is msgspec.UNSET):
        raise InferenceRequestError(f"{what} needs either data or binary_data_size, and not both", "send the tensor once")
    if size is None:
        if binary:
            raise InferenceRequestError(f"{len(binary)} bytes follow the JSON and no input has binary_data_size", "send nothing after it")
        raw = b"" if entry.data is msgspec.UNSET else bytes(entry.data)
        if entry.datatype == "BYTES":
            plain = schema is not None and schema.written and "content_type" not in entry.parameters
            return None, tuple((texts_from_json if plain else files_from_json)(raw, entry.shape[0], what))
        return (uint8_from_json if schema is None else floats_from_json)(raw, entry.shape, what), None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InferenceRequestError(f"{what} has a binary_data_size that is not a number of bytes", "give a whole number")
    if binary is None:
        raise InferenceRequestError(f"{what} has binary_data_size and the request has no {HEADER_LENGTH}", "send that header")
    if size != len(binary):
        raise InferenceRequestError(f"{what} has {size} bytes and {len(binary)} follow the JSON", "send exactly binary_data_size bytes")
    if entry.datatype == "BYTES":
        return None, tuple(files_from_bytes(binary, entry.shape[0], what))
    return (uint8_from_bytes if schema is None else floats_from_bytes)(binary, entry.shape, what), None


def _checked_shape(entry: RequestInput) -> None:
    """The shape and datatype that the model takes: UINT8 [n, height, width, 3], or BYTES [n]."""
    shape, kind = entry.shape, entry.datatype
    if kind not in ("UINT8", "BYTES"):
        raise InferenceRequestError(
            f"input {IMAGE!r} has datatype {kind[:NAME_CHARS_MAX]!r}", "send UINT8 pixels, or BYTES holding image files"
        )
    right = len(shape) == 1 if kind == "BYTES" else len(shape) == 4 and shape[3] == 3
    if not right:
        wanted = "BYTES of shape [n]" if kind == "BYTES" else "UINT8 of shape [n, height, width, 3]"
        raise InferenceRequestError(f"input {IMAGE!r} has shape {shape[:8]}", f"send {wanted}")
    if not 1 <= shape[0] <= IMAGES_MAX:
        raise InferenceRequestError(f"the request has {shape[0]} images; 1 to {IMAGES_MAX} are taken", "send several requests")
    if kind == "UINT8" and min(shape[1], shape[2]) < SIDE_MIN:
        raise InferenceRequestError(
            f"the images have {shape[1]} x {shape[2]} pixels; each side needs at least {SIDE_MIN}", "send larger ones"
        )
    if kind == "UINT8" and shape[0] * shape[1] * shape[2] > REQUEST_PIXELS_MAX:
        raise InferenceRequestError(f"the images have more than {REQUEST_PIXELS_MAX} pixels in all", "send several requests")
    _checked_content_type(entry)


def _checked_content_type(entry: RequestInput) -> None:
    if entry.parameters.get("content_type", "base64") != "base64" or ("content_type" in entry.parameters and entry.datatype != "BYTES"):
        raise InferenceRequestError("content_type may only be base64, on a BYTES input", "leave it out")


def _checked_text_shape(entry: RequestInput) -> None:
    """The shape and datatype that a model of texts takes: BYTES [n]."""
    shape, kind = entry.shape, entry.datatype
    if kind != "BYTES" or len(shape) != 1:
        raise InferenceRequestError(
            f"input {TEXT!r} has datatype {kind[:NAME_CHARS_MAX]!r} and shape {shape[:8]}", "send BYTES of shape [n], each a text in UTF-8"
        )
    if not 1 <= shape[0] <= IMAGES_MAX:
        raise InferenceRequestError(f"the request has {shape[0]} texts; 1 to {IMAGES_MAX} are taken", "send several requests")
    _checked_content_type(entry)


def _checked_record_shape(entry: RequestInput, schema: Schema) -> None:
    """The shape and datatype that a model of records takes: FP32 [n, columns] or [n, steps, columns], or BYTES [n] of JSON."""
    shape, kind = entry.shape, entry.datatype
    columns = len(schema.columns)
    wanted = [columns] if schema.steps == 1 else [schema.steps, columns]
    if kind not in ("FP32", "BYTES"):
        raise InferenceRequestError(
            f"input {RECORDS!r} has datatype {kind[:NAME_CHARS_MAX]!r}", "send FP32 values, or BYTES holding each record as JSON"
        )
    if (len(shape) != 1) if kind == "BYTES" else (shape[1:] != wanted or not shape):
        said = "BYTES of shape [n]" if kind == "BYTES" else f"FP32 of shape [n, {', '.join(map(str, wanted))}]"
        raise InferenceRequestError(f"input {RECORDS!r} has shape {shape[:8]}", f"send {said}")
    if not 1 <= shape[0] <= IMAGES_MAX:
        raise InferenceRequestError(f"the request has {shape[0]} records; 1 to {IMAGES_MAX} are taken", "send several requests")
    _checked_content_type(entry)


def format_answer(answer: Answer, outputs: Sequence[OutputChoice]) -> tuple[bytes, int | None]:
    """An answer -> the response's body, and the length of its JSON where binary data follows (else None)."""
    tail: list[bytes] = []
    tensors: list[ResponseOutput] = []
    count = len(answer.verdicts)
    for output in outputs:
        if answer.values is not None:
            tensors.append(_numbers(answer.values[:, VALUE_OUTPUTS.index(output.name)], output, tail))
            continue
        if output.name == HEAT and answer.heats is not None:
            tensors.append(_numbers(answer.heats, output, tail))
            continue
        kind = OUTPUT_KINDS[output.name]
        numbers = answer.probabilities if output.name == PROBABILITY else answer.scores
        if not output.binary:
            data: list[float | str] = list(answer.verdicts) if output.name == VERDICT else [float(v) for v in numbers]
            tensors.append(ResponseOutput(name=output.name, datatype=kind, shape=[count], data=data))
            continue
        raw = files_to_bytes([v.encode() for v in answer.verdicts]) if output.name == VERDICT else numbers.astype("<f4").tobytes()
        tail.append(raw)
        tensors.append(ResponseOutput(name=output.name, datatype=kind, shape=[count], parameters={"binary_data_size": len(raw)}))
    header = msgspec.json.encode(
        InferenceResponse(
            model_name=answer.model, model_version=answer.version, id=answer.request_id, parameters=answer.parameters, outputs=tensors
        )
    )
    return b"".join([header, *tail]), len(header) if tail else None


def _numbers(values: NDArray[np.float32], output: OutputChoice, tail: list[bytes]) -> ResponseOutput:
    """Numbers of any shape as FP32; binary ones are added to `tail`."""
    shape = [int(size) for size in values.shape]
    if not output.binary:
        return ResponseOutput(name=output.name, datatype="FP32", shape=shape, data=[float(one) for one in values.reshape(-1)])
    raw = np.ascontiguousarray(values).astype("<f4").tobytes()
    tail.append(raw)
    return ResponseOutput(name=output.name, datatype="FP32", shape=shape, parameters={"binary_data_size": len(raw)})


def format_request(
    given: NDArray[Any] | Sequence[bytes],
    request_id: str | None = None,
    binary: bool = True,
    outputs: Sequence[OutputChoice] = (),
    name: str = IMAGE,
    lot: str | None = None,
) -> tuple[bytes, int | None]:
    """What a client sends: pixels (n, height, width, 3) uint8, rows (n, ...) float32, or records' files -> body and length of its JSON;
    inverse of `parse_request`. name: of the model's input. lot: as in RecordRequest."""
    files = None if isinstance(given, np.ndarray) else list(given)
    shape = [len(given)] if files is not None else [int(v) for v in np.shape(given)]
    kind = "BYTES" if files is not None else "UINT8" if name == IMAGE else "FP32"
    entry: dict[str, Any] = {"name": name, "datatype": kind, "shape": shape}
    raw = b""
    if binary:
        raw = files_to_bytes(files) if files is not None else np.ascontiguousarray(given).tobytes()
        entry["parameters"] = {"binary_data_size": len(raw)}
    else:
        # msgspec writes bytes as base64, which is what a JSON BYTES tensor holds; of texts that is said, as they may also stand plainly
        entry["data"] = files if files is not None else np.asarray(given).reshape(-1).tolist()
        entry |= {"parameters": {"content_type": "base64"}} if name == TEXT else {}
    document: dict[str, Any] = {"inputs": [entry]}
    if request_id is not None:
        document["id"] = request_id
    if lot is not None:
        document["parameters"] = {"lot": lot}
    if outputs:
        document["outputs"] = [{"name": output.name, "parameters": {"binary_data": output.binary}} for output in outputs]
    header = msgspec.json.encode(document)
    return header + raw, len(header) if binary else None


def parse_answer(body: bytes, header_bytes: int | None) -> Answer:
    """A response's body -> the answer; inverse of `format_answer` where all outputs were asked for. Raises InferenceRequestError."""
    try:
        document = _RESPONSE.decode(body if header_bytes is None else body[:header_bytes])
        rest = memoryview(b"" if header_bytes is None else body)[header_bytes or 0 :]
        scores = np.zeros(0, dtype=np.float32)
        verdicts: tuple[str, ...] = ()
        values: dict[str, NDArray[np.float32]] = {}
        for output in document.outputs:
            size = int(output.parameters.get("binary_data_size", 0))
            raw, rest = rest[:size], rest[size:]
            inline = None if output.data is msgspec.UNSET else output.data
            if output.name in (*VALUE_OUTPUTS, HEAT):
                flat = np.array(inline, dtype=np.float32) if inline is not None else np.frombuffer(raw, dtype="<f4").astype(np.float32)
                values[output.name] = flat.reshape(tuple(output.shape))
            elif output.name == SCORE:
                scores = np.array(inline, dtype=np.float32) if inline is not None else np.frombuffer(raw, dtype="<f4").astype(np.float32)
            elif output.name == PROBABILITY:
                continue  # it follows from the score
            elif inline is not None:
                verdicts = tuple(str(v) for v in inline)
            else:
                verdicts = tuple(element.decode() for element in files_from_bytes(raw, output.shape[0], VERDICT))
    except (msgspec.MsgspecError, RecursionError, ValueError, IndexError) as error:
        raise InferenceRequestError(f"the answer is not an inference response: {error}", "check what answers at this address") from error
    foretold = np.stack([values[name] for name in VALUE_OUTPUTS], axis=1) if set(values) == set(VALUE_OUTPUTS) else None
    heat = values.get(HEAT)
    return Answer(document.model_name, document.model_version, document.id, document.parameters, scores, verdicts, foretold, heat)
