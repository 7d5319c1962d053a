"""The weights reader admits tensors and nothing else."""

from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import ModelFileError
from isthmus.foundry.backbone import weights_path
from isthmus.foundry.torchfile import MAGIC, PROTOCOL, _StorageRef, _tensor, _TensorRef, read_tensors


class _Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def _file(*parts: object) -> bytes:
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


def test_reads_the_published_weights() -> None:
    tensors = read_tensors(weights_path())
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert all(np.isfinite(t).all() for t in tensors.values())


@pytest.mark.parametrize("position", range(5))
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, position: int) -> None:
    marker = tmp_path / "ran"
    parts: list[object] = [MAGIC, PROTOCOL, {"little_endian": True}, OrderedDict(), []]
    parts[position] = _Runs(marker)
    path = tmp_path / "evil.pth"
    path.write_bytes(_file(*parts))
    with pytest.raises(ModelFileError):
        read_tensors(path)
    assert not marker.exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 20_000, 100_000, 5_000_000, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut.pth"
    path.write_bytes(weights_path().read_bytes()[:kept])
    with pytest.raises(ModelFileError):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere\.pth"):
        read_tensors(tmp_path / "nowhere.pth")


def test_a_storage_of_absurd_size_is_refused(tmp_path: Path) -> None:
    raw = weights_path().read_bytes()
    path = tmp_path / "huge.pth"
    tensors = read_tensors(weights_path())
    first = next(iter(tensors.values()))
    needle = struct.pack("<q", first.size)
    where = raw.index(needle, 10_000)
    path.write_bytes(raw[:where] + struct.pack("<q", 1 << 60) + raw[where + 8 :])
    with pytest.raises(ModelFileError):
        read_tensors(path)


HEAD = weights_path().read_bytes()[:60_000]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 40_000), st.binary(min_size=1, max_size=6))
def test_edited_bytes_are_read_or_refused_but_never_anything_else(tmp_path_factory: pytest.TempPathFactory, at: int, new: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "edited.pth"
    path.write_bytes(HEAD[:at] + new + HEAD[at + len(new) :])
    with pytest.raises(ModelFileError):  # the storages are cut off, so even a harmless edit cannot be read
        read_tensors(path)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.pth"
    path.write_bytes(raw)
    with pytest.raises(ModelFileError):
        read_tensors(path)


def test_a_few_bytes_cannot_ask_for_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")  # an empty dict kept under memo number 2^31 - 1
    with pytest.raises(ModelFileError, match="too much memory"):
        read_tensors(path)


def test_a_tensor_may_not_repeat_its_storage_into_gigabytes() -> None:
    storage = _StorageRef("0", "<f4", 4)
    with pytest.raises(ModelFileError, match="larger than its storage"):
        _tensor(_TensorRef(storage, 0, (1 << 40,), (0,)), {"0": np.zeros(4, np.float32)})
