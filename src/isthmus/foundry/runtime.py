"""ONNX Runtime as the foundry uses it: sessions that give the same bits every time, and batches of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from isthmus.contracts.errors import InputError, ModelFileError

BATCH_IMAGES_MAX = 16
BATCH_PIXELS_MAX = 400_000
"""Of one pass: what a backbone keeps of a pixel between its layers is some 400 bytes, and larger passes are no quicker."""
RUNTIME_ERRORS = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.InvalidProtobuf,
    runtime.NotImplemented,
    runtime.RuntimeException,
    RuntimeError,
    ValueError,
)
BATCH_RECORDS_MAX = 4096
Images = list[NDArray[np.uint8]]
Given = list[NDArray[Any]]
"""Decoded records: pictures, float32 rows or windows, or texts as code points."""


def image_input() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])


def session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A CPU session that computes the same bits every time. threads: within one operator; 0 lets the runtime choose."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        raise ModelFileError("the model's bytes are not a graph that can run", "export it again") from error


def checked_images(images: Images) -> Images:
    """The images if each is H x W x 3 uint8 with at least one pixel; raises InputError."""
    for index, image in enumerate(images):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise InputError(f"image {index} has shape {image.shape} of {image.dtype}", "give height x width x 3 bytes")
    return images


def checked_records(records: Given) -> Given:
    """The records if each is float32, (columns,) or (steps, columns), and all are alike; raises InputError."""
    for index, record in enumerate(records):
        if record.dtype != np.float32 or record.ndim not in (1, 2) or record.shape != records[0].shape or np.isinf(record).any():
            raise InputError(f"record {index} has shape {record.shape} of {record.dtype}, or an infinite value", "send rows of the columns")
    return records


def checked_texts(texts: Given) -> Given:
    """The texts if each is (characters,) uint32 with at least one; raises InputError."""
    for index, text in enumerate(texts):
        if text.dtype != np.uint32 or text.ndim != 1 or text.size == 0:
            raise InputError(f"text {index} has shape {text.shape} of {text.dtype}", "send texts, each with at least one character")
    return texts


def checked_given(given: Given) -> Given:
    """Pictures, records or texts, all of the first one's kind; raises InputError."""
    if given and given[0].dtype == np.uint8:
        return checked_images(given)
    return checked_texts(given) if given and given[0].dtype == np.uint32 else checked_records(given)


def given_batches(given: Given) -> Iterator[tuple[list[int], NDArray[Any]]]:
    """Pictures as `batches` groups them, texts one at a time, or records in blocks of at most BATCH_RECORDS_MAX. Raises InputError."""
    checked_given(given)
    if given and given[0].dtype == np.uint8:
        yield from batches(given)
        return
    if given and given[0].dtype == np.uint32:
        yield from (([place], text) for place, text in enumerate(given))
        return
    for start in range(0, len(given), BATCH_RECORDS_MAX):
        chosen = list(range(start, min(len(given), start + BATCH_RECORDS_MAX)))
        yield chosen, np.stack([given[i] for i in chosen])


def batches(images: Images) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Groups images of equal size: (indices, (n, h, w, 3)), at most BATCH_IMAGES_MAX images and BATCH_PIXELS_MAX pixels each."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(index)
    for shape, indices in sizes.items():
        step = max(1, min(BATCH_IMAGES_MAX, BATCH_PIXELS_MAX // (shape[0] * shape[1])))
        for start in range(0, len(indices), step):
            chosen = indices[start : start + step]
            yield chosen, np.stack([images[i] for i in chosen])
