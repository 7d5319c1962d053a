"""The files of a box that need no process to be tried: Ed25519 against RFC 8032 and a library, and pixels against the service's decoder."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from isthmus.cli.edge.certificate import DECODER, ORDER, P, canonical, point_of, verified
from isthmus.cli.edge.pictures import PIXELS_MAX, SUFFIXES, UNREADABLE, decoded, read
from isthmus.cli.export import RUNNER, RUNNER_FILES
from isthmus.kit import pictures, signing
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.signing import SigningKey

# RFC 8032, section 7.1: (public key, message, signature) of TEST 1, 2 and 3.
VECTORS = (
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
)


@pytest.mark.parametrize("vector", VECTORS)
def test_the_rfcs_vectors_verify_and_no_bit_less(vector: tuple[str, str, str]) -> None:
    public, message, signature = map(bytes.fromhex, vector)
    assert verified(public, message, signature)
    assert not verified(public, message + b"x", signature)
    for place in (0, 31, 32, 63):
        assert not verified(public, message, signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :])
    assert not verified(bytes([public[0] ^ 1]) + public[1:], message, signature)
    assert not verified(public, message, signature[:63]) and not verified(public[:31], message, signature)


@settings(max_examples=40, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), flip=st.integers(0, 511))
def test_it_agrees_with_the_library(seed: bytes, message: bytes, flip: int) -> None:
    key = SigningKey.from_seed(seed)
    signature = key.sign(message)
    assert verified(bytes.fromhex(key.public_hex), message, signature)
    wrong = bytearray(signature)
    wrong[flip // 8] ^= 1 << flip % 8
    assert verified(bytes.fromhex(key.public_hex), message, bytes(wrong)) is signing.verify(key.public_hex, message, bytes(wrong)) is False


def test_malleable_and_unreduced_signatures_are_refused() -> None:
    key = SigningKey.from_seed(b"s" * 32)
    signature = key.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert not verified(bytes.fromhex(key.public_hex), b"m", signature[:32] + s.to_bytes(32, "little"))
    assert point_of(P.to_bytes(32, "little")) is None and point_of((2).to_bytes(32, "little")) is None
    assert point_of((1 | 1 << 255).to_bytes(32, "little")) is None, "x = 0 has no sign"


def test_canonical_json_is_the_same() -> None:
    document = {"b": [1, "ä", None, True], "a": {"z": '\n"\\\u0001', "y": -5}}
    assert canonical(document) == canonical_bytes(document)


def test_it_has_the_services_decoder_and_limits() -> None:
    assert DECODER == pictures.DECODER and PIXELS_MAX == pictures.PIXELS_MAX and pictures.SUFFIXES < SUFFIXES


def shown(mode: str, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode in ("I;16", "I"):
        values = rng.integers(0, 256 if seed % 2 else 60_000, (20, 30))
        return Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
    if mode == "F":
        return Image.fromarray((rng.random((20, 30)) * (1, 255, 60_000)[seed % 3]).astype(np.float32))
    return Image.fromarray(rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)).convert(mode)


CASES = [(mode, kind) for mode in ("RGB", "RGBA", "L", "LA", "P", "1") for kind in ("PNG", "TIFF")]
CASES += [("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF"), ("F", "TIFF"), ("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG")]
CASES += [("RGB", "BMP"), ("RGB", "WEBP"), ("P", "GIF"), ("RGB", "PPM"), ("L", "PPM")]


@pytest.mark.parametrize(("mode", "kind"), CASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pixels_are_those_of_the_service_bit_for_bit(mode: str, kind: str, seed: int) -> None:
    out = io.BytesIO()
    turned: Any = Image.Exif()
    turned[0x0112] = 6
    shown(mode, seed).save(out, kind, **({"exif": turned} if kind in ("JPEG", "WEBP") and seed == 1 else {}))
    expected = pictures.decode(out.getvalue())
    assert np.array_equal(decoded(out.getvalue(), "." + kind.lower()), expected)


def test_what_the_service_refuses_a_box_refuses(tmp_path: Path) -> None:
    small, out, huge = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.new("RGB", (7, 30)).save(small, "PNG")
    shown("RGB", 1).save(out, "PNG")
    Image.new("1", (20_000, 20_000)).save(huge, "PNG")
    for raw in (b"", b"text", small.getvalue(), out.getvalue()[:-30], out.getvalue()[:90], huge.getvalue()):
        with pytest.raises(UNREADABLE):
            decoded(raw, ".png")
    for array in (np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3)), np.zeros((4, 20, 3), np.uint8)):
        held = io.BytesIO()
        np.save(held, array)
        with pytest.raises(ValueError):
            decoded(held.getvalue(), ".npy")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError):
        decoded(read(tmp_path / "o.npy"), ".npy")
    with pytest.raises(OSError):
        read(tmp_path / "nothing")


POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop"}
NEEDED = {
    "runner.py": {"numpy", "onnxruntime"},
    "pictures.py": {"numpy", "PIL"},
    "records.py": {"numpy"},
    "mqtt.py": {"paho"},
    "opcua.py": {"asyncua"},
}


@pytest.mark.parametrize("name", RUNNER_FILES)
def test_files_of_a_box_need_little_and_nothing_that_only_posix_has(name: str) -> None:
    tree = ast.parse((RUNNER / name).read_text(encoding="utf-8"))
    found = {alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {str(node.module).partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    siblings = {Path(file).stem for file in RUNNER_FILES}
    assert found - set(sys.stdlib_module_names) - siblings == NEEDED.get(name, set())
    assert not found & POSIX_ONLY
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"fork", "geteuid", "getuid", "kill", "killpg", "mkfifo", "setsid", "add_signal_handler", "SIGKILL"}
