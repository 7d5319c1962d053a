"""Open Inference Protocol v2 over REST: its JSON objects, the tensors that inspection models take and give, and verdicts.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md, and Triton's extension_binary_data.md.
Field names are the protocol's own. `model_name` and `model_version` in a request are tolerated, as clients in use send them,
but must say what the URL says.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

IMAGE = "image"
RECORDS = "records"
TEXT = "text"
SCORE = "score"
VERDICT = "verdict"
VALUE, LOW, HIGH = "value", "low", "high"
VALUE_OUTPUTS = (VALUE, LOW, HIGH)
"""What a model of numbers answers: for each target a value and its band's ends, in the target's unit."""

HEAT = "heat"
"""Of models that look at places of a picture: how far each lies from good ones, FP32 (n, h, w), 1 for a typical place."""

PROBABILITY = "probability"
"""Of a defect: (score + 2) / 4, where the head's score tells one."""

Verdict = Literal["good", "defect", "person"]
VERDICTS: tuple[Verdict, ...] = ("good", "defect", "person")
"""By the number that a model's graph gives: 0 good, 1 defect, 2 a person decides."""

Parameter = str | int | float | bool
Parameters = dict[str, Parameter]
Dimension = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

DATATYPE_BYTES: dict[str, int] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
}
"""Size of one element in bytes; BYTES elements vary."""


class RequestInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input tensor: its data here as JSON, or after the JSON as `binary_data_size` bytes."""

    name: str
    datatype: str
    shape: list[Dimension]
    parameters: Parameters = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RequestOutput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An output that the client asks for."""

    name: str
    parameters: Parameters = {}


class InferenceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON object of POST /v2/models/NAME/infer. `id` makes the request safe to repeat."""

    inputs: list[RequestInput]
    outputs: list[RequestOutput] | None = None
    id: str | None = None
    parameters: Parameters = {}
    model_name: str | None = None
    model_version: str | None = None


class ResponseOutput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One output tensor: flat row-major data, or `binary_data_size` bytes after the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters = {}
    data: list[float | str] | msgspec.UnsetType = msgspec.UNSET


class InferenceResponse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer. `parameters` carries receipt, certificate, artefact, price, charge_micros, currency, lo and hi."""

    model_name: str
    model_version: str
    id: str
    parameters: Parameters
    outputs: list[ResponseOutput]


class TensorMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name, datatype and shape of a tensor; -1 stands for a size that varies."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GET /v2/models/NAME. `properties` is the protocol's place for text of our own: certificate, decoder, tier, price, limits."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str]


class ServerMetadata(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """GET /v2."""

    name: str
    version: str
    extensions: list[str]
