"""Reads the images of a trial: decode, measure what may give a class away, extract features; two at a time.

Every image is scaled to a square of `PIXELS` before the extractor sees it, in the trial as in its light levels. Of huge
images one is decoded at a time, so that memory stays bounded.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.contracts.errors import PictureError
from isthmus.contracts.ports import Extractor, Progress
from isthmus.kit.pictures import FILE_BYTES_MAX, FORMATS, decode
from isthmus.scenarios.folder import ImageFile

PIXELS = 224
THUMB_PIXELS = 128
THUMB_QUALITY = 80
WORKERS = 2
HUGE_PIXELS = 6_000_000
Pixels = NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Reading:
    """One image that could be read. light, contrast: mean and standard deviation of grey, 0..255. colour: mean chroma, 0..255.

    quantised: (features,) int16. digest: sha256 of the file's bytes.
    """

    file: ImageFile
    digest: str
    width: int
    height: int
    kind: str
    mode: str
    bytes_per_pixel: float
    light: float
    contrast: float
    colour: float
    quantised: NDArray[np.int16]


@dataclass(frozen=True)
class Unread:
    """One file that could not be read, and why."""

    name: str
    class_name: str
    reason: str


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int = WORKERS) -> Iterator[Result]:
    """Results in the order of the items; only a few items are under way at once, and none starts after the reader stops."""
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(work, item) for item in islice(source, 2 * workers)]
        try:
            while waiting:
                result = waiting.pop(0).result()
                waiting.extend(pool.submit(work, item) for item in islice(source, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()


class ImageReader:
    """Decodes and extracts; safe to use from several threads."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self._huge = threading.Lock()
        extractor.quantised([np.zeros((PIXELS, PIXELS, 3), np.uint8)])

    def square(self, raw: bytes, name: str) -> tuple[Pixels, Pixels, tuple[int, int]]:
        """File bytes -> (PIXELS x PIXELS x 3, thumbnail h x w x 3, (width, height)). Raises PictureError."""
        width, height = _header(raw)[:2]
        if width * height > HUGE_PIXELS:
            with self._huge:
                return _scaled(decode(raw, name))
        return _scaled(decode(raw, name))

    def read(self, file: ImageFile) -> Reading | Unread:
        try:
            raw = file_bytes(file)
            small, _thumb, (width, height) = self.square(raw, file.path.name)
        except PictureError as error:
            return Unread(file.name, file.class_name, error.message)
        _w, _h, kind, mode = _header(raw)
        grey = small.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return Reading(
            file=file,
            digest=hashlib.sha256(raw).hexdigest(),
            width=width,
            height=height,
            kind=kind,
            mode=mode,
            bytes_per_pixel=len(raw) / (width * height),
            light=float(grey.mean()),
            contrast=float(grey.std()),
            colour=float(np.ptp(small.astype(np.int16), axis=2).mean()),
            quantised=self._extractor.quantised([small])[0],
        )

    def views(self, file: ImageFile, changes: list[Callable[[Pixels], Pixels]]) -> tuple[str, list[Pixels], NDArray[np.int16]]:
        """(thumbnail as data URI, each changed image, its features (len(changes), features)). Raises PictureError."""
        small, thumb, _ = self.square(file_bytes(file), file.path.name)
        images = [change(small) for change in changes]
        return data_uri(thumb), images, self._extractor.quantised(images)

    def thumb(self, file: ImageFile) -> tuple[str, Pixels]:
        """(thumbnail as data URI, the image as the extractor sees it). Raises PictureError."""
        small, thumb, _ = self.square(file_bytes(file), file.path.name)
        return data_uri(thumb), small


def file_bytes(file: ImageFile) -> bytes:
    """The file's bytes. Raises PictureError when it is too large or cannot be read."""
    try:
        size = file.path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise PictureError(f"{size} bytes, more than the {FILE_BYTES_MAX} allowed", "scale it down")
        if not file.path.is_file():
            raise PictureError("not a file", "remove it")
        return file.path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be opened: {error.strerror}", "check the file and its permissions") from error


def _header(raw: bytes) -> tuple[int, int, str, str]:
    """(width, height, format, mode) as the file's header says; zeros when it is not an image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                return image.width, image.height, str(image.format), image.mode
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, Image.DecompressionBombError):
        return 0, 0, "", ""


def _scaled(pixels: Pixels) -> tuple[Pixels, Pixels, tuple[int, int]]:
    picture = Image.fromarray(pixels)
    small = picture.resize((PIXELS, PIXELS), Image.Resampling.BILINEAR, reducing_gap=3.0)
    thumb = picture
    thumb.thumbnail((THUMB_PIXELS, THUMB_PIXELS), Image.Resampling.BILINEAR)
    return np.asarray(small), np.asarray(thumb), (pixels.shape[1], pixels.shape[0])


def data_uri(pixels: Pixels) -> str:
    """H x W x 3 uint8 -> a JPEG as a data URI, without metadata."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG", quality=THUMB_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def read_all(files: list[ImageFile], reader: ImageReader, progress: Progress) -> tuple[list[Reading], list[Unread]]:
    """Reads every file, in order; those that cannot be read are returned beside, with the reason."""
    readings: list[Reading] = []
    unread: list[Unread] = []
    for done, result in enumerate(in_order(reader.read, files), start=1):
        if isinstance(result, Reading):
            readings.append(result)
        else:
            unread.append(result)
        progress(done, len(files), "images read")
    return readings, unread
