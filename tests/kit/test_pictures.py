"""The named decoder: many formats in, upright 8-bit RGB out, one clear error for the rest."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from isthmus.contracts.errors import PictureError
from isthmus.kit.pictures import FILE_BYTES_MAX, decode, encode_png, read_picture

HEIGHT, WIDTH = 24, 32


def ramp() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """H x W x 3: red grows to the right, green downwards, blue is constant."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([columns * 8, rows * 10, np.full_like(rows, 90)], axis=2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_exact_formats_come_back_bit_for_bit(kind: str) -> None:
    pixels = decode(saved(Image.fromarray(ramp()), kind))
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, ramp())


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True}), ("GIF", {})])
def test_other_formats_come_back_close(kind: str, options: dict[str, Any]) -> None:
    pixels = decode(saved(Image.fromarray(ramp()), kind, **options))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - ramp()).mean() < 12


def test_cmyk_jpeg() -> None:
    pixels = decode(saved(Image.fromarray(ramp()).convert("CMYK"), "JPEG", quality=95))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - ramp()).mean() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_scale_to_eight(kind: str) -> None:
    deep = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    pixels = decode(saved(Image.fromarray(deep), kind))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    assert np.abs(pixels[..., 0].astype(float) - deep / 257).max() <= 1


def test_twelve_bits_in_sixteen_stay_in_order() -> None:
    deep = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 5).astype(np.uint16)
    flat = decode(saved(Image.fromarray(deep), "PNG"))[..., 0].reshape(-1).astype(int)
    assert (np.diff(flat) >= 0).all()


def test_grey_bilevel_and_palette() -> None:
    grey = Image.fromarray(ramp()[..., 0])
    np.testing.assert_array_equal(decode(saved(grey, "PNG"))[..., 1], ramp()[..., 0])
    assert set(np.unique(decode(saved(grey.convert("1"), "PNG")))) <= {0, 255}
    palette = Image.fromarray(ramp()).quantize(16)
    np.testing.assert_array_equal(decode(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparency_lies_over_black() -> None:
    layer = np.dstack([ramp(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    layer[:, :16, 3] = 0
    pixels = decode(saved(Image.fromarray(layer), "PNG"))
    assert not pixels[:, :16].any()
    np.testing.assert_array_equal(pixels[:, 16:], ramp()[:, 16:])


def test_palette_with_a_transparent_colour() -> None:
    palette = Image.fromarray(np.full((HEIGHT, WIDTH), 3, np.uint8), mode="P")
    palette.putpalette([200, 100, 50] * 256)
    assert not decode(saved(palette, "PNG", transparency=3)).any()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    turns = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright, turn = Image.fromarray(ramp()), turns[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if turn is None else upright.transpose(turn)
    np.testing.assert_array_equal(decode(saved(stored, "PNG", exif=exif)), ramp())


def test_only_the_first_frame_is_taken() -> None:
    first, second = Image.fromarray(ramp()), Image.fromarray(255 - ramp())
    np.testing.assert_array_equal(decode(saved(first, "TIFF", save_all=True, append_images=[second])), ramp())


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
def test_a_file_that_was_cut_is_damaged(kind: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    raw = saved(Image.fromarray(noise), kind)
    with pytest.raises(PictureError):
        decode(raw[: int(len(raw) * share)], "cut.png")


@pytest.mark.parametrize(
    "raw", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"hello", b"\xff\xd8\xff", b"II*\x00\x08\x00\x00\x00", b"P6 9 9 255\n"]
)
def test_what_is_no_image_is_refused(raw: bytes) -> None:
    with pytest.raises(PictureError, match="part-7"):
        decode(raw, "part-7")


@pytest.mark.parametrize("kind", ["ICO", "PDF", "TGA", "PCX", "EPS"])
def test_formats_that_are_not_named_are_refused(kind: str) -> None:
    with pytest.raises(PictureError, match="is not an image that can be read"):
        decode(saved(Image.fromarray(ramp()), kind))


def _png_header_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly anything."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(100_000, 100_000), (8000, 8000), (2_000_000, 30)])
def test_an_image_that_claims_too_many_pixels_is_refused_before_it_is_unpacked(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match="pixels"):
        decode(_png_header_of(*size))


def test_an_image_of_a_few_pixels_is_refused() -> None:
    with pytest.raises(PictureError, match="at least"):
        decode(saved(Image.new("RGB", (7, 300)), "PNG"))


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="bytes"):
        decode(b"\0" * (FILE_BYTES_MAX + 1))
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(PictureError, match=r"huge\.png"):
        read_picture(huge)


@pytest.mark.parametrize("name", ["Zelle äöü.png", "电池片.png", "célula 1 #%&.png", "🙂.png", "-rf.png", "a" * 200 + ".png"])
def test_any_name_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(encode_png(ramp()))
    np.testing.assert_array_equal(read_picture(path), ramp())


def test_a_missing_file_and_a_folder_are_one_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(PictureError, match="cannot be read"):
            read_picture(path)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damage_gives_pixels_or_a_picture_error_and_nothing_else(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"]))
    raw = bytearray(saved(Image.fromarray(ramp()), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode(bytes(raw))
    except PictureError:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


@settings(max_examples=30)
@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 2**32 - 1))
def test_png_round_trip(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)
