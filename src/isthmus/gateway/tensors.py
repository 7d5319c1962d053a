"""Tensor data of the Open Inference Protocol, as JSON and as bytes, to arrays and back. Strict, and free of I/O."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InferenceRequestError
from isthmus.gateway.limits import JSON_DATA_BYTES_MAX

_Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_FLAT = msgspec.json.Decoder(list[_Byte])
_NESTED = msgspec.json.Decoder(list[list[list[list[_Byte]]]])
_TEXTS = msgspec.json.Decoder(list[str])
_NUMBERS = msgspec.json.Decoder(list[Any])
_Kind = TypeVar("_Kind", bound=np.generic)
_STARTS_NESTED = re.compile(rb"\s*\[\s*\[")
_LENGTH = struct.Struct("<I")

USE_BINARY = "send the tensor as binary data (Inference-Header-Content-Length and binary_data_size)"


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes, what: str) -> Any:
    if len(raw) > JSON_DATA_BYTES_MAX:
        raise InferenceRequestError(f"{what} has {len(raw)} bytes of JSON data, more than the {JSON_DATA_BYTES_MAX} allowed", USE_BINARY)
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InferenceRequestError(f"{what} has data that does not fit its datatype: {error}", "see the model's metadata") from error


def uint8_from_json(raw: bytes, shape: Sequence[int], what: str) -> NDArray[np.uint8]:
    """JSON integers 0..255, flat or nested as `shape` (rank 4) says -> uint8 array of `shape`."""
    nested = _STARTS_NESTED.match(raw) is not None
    values = _decoded(_NESTED if nested else _FLAT, raw, what)
    try:
        array = np.array(values, dtype=np.uint8)
    except ValueError as error:
        raise InferenceRequestError(f"{what} has rows of unequal length", "give every row the length that the shape says") from error
    if nested and array.shape != tuple(shape):
        raise InferenceRequestError(f"{what} is nested as {list(array.shape)} and its shape says {list(shape)}", "make them agree")
    return _shaped(array, shape, what)


def uint8_from_bytes(raw: bytes | memoryview, shape: Sequence[int], what: str) -> NDArray[np.uint8]:
    """Row-major bytes -> uint8 array of `shape` (a view of raw)."""
    return _shaped(np.frombuffer(raw, dtype=np.uint8), shape, what)


def floats_from_json(raw: bytes, shape: Sequence[int], what: str) -> NDArray[np.float32]:
    """JSON numbers, null where a value is missing, flat or nested as `shape` says -> float32 array of `shape`."""
    values = _decoded(_NUMBERS, raw, what)
    try:
        array = np.array(values, dtype=np.float32)  # None becomes NaN
    except (ValueError, TypeError) as error:
        raise InferenceRequestError(f"{what} has rows of unequal length, or values that are no numbers", "see the shape") from error
    if array.ndim > 1 and array.shape != tuple(shape):
        raise InferenceRequestError(f"{what} is nested as {list(array.shape)} and its shape says {list(shape)}", "make them agree")
    return _shaped(array, shape, what)


def floats_from_bytes(raw: bytes | memoryview, shape: Sequence[int], what: str) -> NDArray[np.float32]:
    """Row-major little-endian FP32 -> float32 array of `shape`."""
    if len(raw) % 4:
        raise InferenceRequestError(f"{what} has {len(raw)} bytes, which is no whole number of FP32", "send 4 bytes a value")
    return _shaped(np.frombuffer(raw, dtype="<f4").astype(np.float32), shape, what)


def _shaped(array: NDArray[_Kind], shape: Sequence[int], what: str) -> NDArray[_Kind]:
    if array.size != math.prod(shape):
        raise InferenceRequestError(
            f"{what} has {array.size} elements and its shape {list(shape)} needs {math.prod(shape)}", "make them agree"
        )
    return array.reshape(tuple(shape))


def files_from_json(raw: bytes, count: int, what: str) -> list[bytes]:
    """JSON list of `count` base64 texts -> the files' bytes. JSON text cannot hold the bytes of an image in any other way."""
    texts = _decoded(_TEXTS, raw, what)
    _counted(len(texts), count, what)
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (binascii.Error, ValueError) as error:
        raise InferenceRequestError(
            f"{what} holds text that is not base64: {error}", f"encode each file in base64, or {USE_BINARY}"
        ) from error


def texts_from_json(raw: bytes, count: int, what: str) -> list[bytes]:
    """JSON list of `count` texts, as they are -> each in UTF-8."""
    texts = _decoded(_TEXTS, raw, what)
    _counted(len(texts), count, what)
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise InferenceRequestError(f"{what} holds half of a character pair", "send whole characters") from error


def files_from_bytes(raw: bytes | memoryview, count: int, what: str) -> list[bytes]:
    """`count` elements, each a 4-byte little-endian length and as many bytes -> the elements."""
    view = memoryview(raw)
    elements: list[bytes] = []
    offset = 0
    while offset < len(view):
        start = offset + _LENGTH.size
        if start > len(view):
            raise InferenceRequestError(f"{what} ends within an element's length", "send binary_data_size bytes in all")
        end = start + _LENGTH.unpack_from(view, offset)[0]
        if end > len(view):
            raise InferenceRequestError(f"element {len(elements)} of {what} is longer than the data", "give each its own length")
        if len(elements) == count:
            break
        elements.append(bytes(view[start:end]))
        offset = end
    if offset < len(view):
        raise InferenceRequestError(f"{what} holds more elements than the {count} that its shape says", "make them agree")
    _counted(len(elements), count, what)
    return elements


def _counted(found: int, count: int, what: str) -> None:
    if found != count:
        raise InferenceRequestError(f"{what} has {found} elements and its shape says {count}", "make them agree")


def files_to_bytes(elements: Sequence[bytes]) -> bytes:
    """Elements of a BYTES tensor as binary data; the inverse of `files_from_bytes`."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)
