"""Reads tensors from PyTorch's legacy `.pth` file without PyTorch.

The format (before zip archives) is five pickles in a row (magic number, protocol, system info, the object, the list of
storage keys) followed by the raw storages, each an int64 element count and its little-endian values. The unpickler
here admits an ordered dict of tensors and nothing else, so a file cannot run code; instructions are looked through before
any is carried out, so that a few bytes cannot ask for gigabytes either.
"""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import ModelFileError

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
STORAGE_ELEMENTS_MAX = 1 << 28
INSTRUCTIONS_MAX = 1 << 20
MEMO_MAX = 1 << 20
_INSTRUCTIONS = frozenset(
    [
        "PROTO",
        "STOP",
        "MARK",
        "POP",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "APPEND",
        "APPENDS",
        "SETITEM",
        "SETITEMS",
        "GLOBAL",
        "REDUCE",
        "BINPERSID",
        "BUILD",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
    ]
)
_MALFORMED = (
    pickle.UnpicklingError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)
_DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4"}


@dataclass(frozen=True)
class _StorageRef:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _TensorRef:
    storage: _StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _TensorRef:
    if not isinstance(storage, _StorageRef):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _TensorRef(storage, int(offset), tuple(shape), tuple(stride))


class _TensorsOnly(pickle.Unpickler):
    """Admits ordered dicts and tensors; every other global is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> _StorageRef:
        kind, dtype, key, _location, count = pid[:5]
        if kind != "storage" or dtype not in _DTYPES.values():
            raise pickle.UnpicklingError(f"unknown persistent id {pid!r}")
        return _StorageRef(str(key), str(dtype), int(count))


def _unpickled(file: BinaryIO) -> Any:
    """The next pickle, after a look at its instructions; leaves the file behind it."""
    start = file.tell()
    for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if instruction.name not in _INSTRUCTIONS or count > INSTRUCTIONS_MAX:
            raise pickle.UnpicklingError(f"the instruction {instruction.name} has no place in a file of tensors")
        if instruction.name in ("BINPUT", "LONG_BINPUT") and int(argument or 0) > MEMO_MAX:
            raise pickle.UnpicklingError("it asks for too much memory")
    file.seek(start)
    return _TensorsOnly(file).load()


def _read_storage(file: BinaryIO, ref: _StorageRef) -> NDArray[Any]:
    head = file.read(8)
    if len(head) != 8:
        raise ModelFileError("the weights file ends before its last storage; download it again")
    (count,) = struct.unpack("<q", head)
    if count != ref.count or not 0 <= count <= STORAGE_ELEMENTS_MAX:
        raise ModelFileError(f"storage {ref.key} holds {count} values where {ref.count} were declared; download it again")
    size = count * np.dtype(ref.dtype).itemsize
    left = os.fstat(file.fileno()).st_size - file.tell()
    raw = file.read(min(size, left))
    if len(raw) != size:
        raise ModelFileError("the weights file ends in the middle of a storage; download it again")
    return np.frombuffer(raw, dtype=ref.dtype)


def _tensor(ref: _TensorRef, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    base = storages[ref.storage.key]
    if len(ref.shape) != len(ref.stride) or any(n < 0 for n in (*ref.shape, *ref.stride, ref.offset)):
        raise ModelFileError("a tensor in the weights file has an impossible shape; download it again")
    if math.prod(ref.shape) > base.size:
        raise ModelFileError("a tensor in the weights file is larger than its storage; download it again")
    last = ref.offset + sum((n - 1) * s for n, s in zip(ref.shape, ref.stride, strict=True))
    if min(ref.shape, default=1) > 0 and last >= base.size:
        raise ModelFileError("a tensor in the weights file reaches beyond its storage; download it again")
    strides = tuple(s * base.itemsize for s in ref.stride)
    view = np.lib.stride_tricks.as_strided(base[ref.offset :], shape=ref.shape, strides=strides, writeable=False)
    return np.ascontiguousarray(view)


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Returns name -> array (the file's own dtype and shape).

    Raises ModelFileError when the file is not a legacy PyTorch file, holds anything but tensors, or is cut short.
    """
    try:
        with path.open("rb") as file:
            magic, protocol, info = (_unpickled(file) for _ in range(3))
            if magic != MAGIC or protocol != PROTOCOL or not info.get("little_endian"):
                raise ModelFileError(f"{path.name} is not a little-endian legacy PyTorch file; give the original .pth")
            entries = _unpickled(file)
            keys = _unpickled(file)
            refs = {e.storage.key: e.storage for e in entries.values() if isinstance(e, _TensorRef)}
            storages = {str(key): _read_storage(file, refs[str(key)]) for key in keys}
            return {str(name): _tensor(ref, storages) for name, ref in entries.items()}
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except _MALFORMED as error:
        raise ModelFileError(f"{path.name} is not a file of tensors ({error}); give the original .pth") from error
