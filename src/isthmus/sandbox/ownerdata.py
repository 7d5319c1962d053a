"""An owner's images as arrays: the only place where records are read.

Images are decoded in batches of BATCH_IMAGES and forgotten; features and scores are kept in the cache. Every file is
checked against the digest that the asset's commitment covers before its pixels are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import FolderError, PictureError, RefusedError
from isthmus.contracts.head import Stage
from isthmus.contracts.ports import Progress
from isthmus.contracts.statistic import CLEAN, Corruption, TrainingParams, condition_name
from isthmus.kit.pictures import DECODER, decode
from isthmus.sandbox.featurecache import FeatureCache
from isthmus.sandbox.folder import TRAIN, DataFolder, LabelledFile
from isthmus.sandbox.ports import Artefact, Images, Tools
from isthmus.sandbox.statistics.records import Records, TrainingRecords, group_codes

BATCH_IMAGES = 16
Image = NDArray[np.uint8]
Compute = Callable[[Images], NDArray[np.generic]]

FLIPS: Mapping[str, Callable[[Image], Image]] = {
    "identity": lambda image: image,
    "flip-left-right": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "flip-up-down": lambda image: np.ascontiguousarray(image[::-1]),
    "rotate-180": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
}


def silent(done: int, total: int, label: str) -> None:
    """A Progress that says nothing."""


def file_digests(folder: DataFolder, on_progress: Progress = silent, check: bool = True) -> dict[str, str]:
    """sha256 hex of each file, by relative path; with `check`, each must also decode. Raises FolderError or PictureError."""
    digests = {}
    for index, file in enumerate(folder.files):
        raw = _read(folder.root, file)
        if check:
            decode(raw, file.path)
        digests[file.path] = hashlib.sha256(raw).hexdigest()
        on_progress(index + 1, len(folder.files), "reading")
    return digests


def _read(root: Path, file: LabelledFile) -> bytes:
    try:
        return (root / file.path).read_bytes()
    except OSError as error:
        raise FolderError(
            f"{root / file.path} cannot be read: {error.strerror}", "put the file back, or remove it from the labels"
        ) from error


@dataclass
class OwnerData:
    """The data of one asset. digests: relative path -> sha256 hex, as committed to."""

    folder: DataFolder
    digests: Mapping[str, str]
    cache: FeatureCache
    tools: Tools
    progress: Progress = silent

    def records(self, split: str) -> Records:
        """Labels, groups and kinds of one split, in order."""
        files = self.folder.of_split(split)
        y = np.array([file.label for file in files], dtype=np.int64)
        return Records(y, group_codes([file.group for file in files]), tuple(file.kind for file in files))

    def training(self, stage: Stage, params: TrainingParams) -> TrainingRecords:
        """The training split with the features of each view."""
        files = self.folder.of_split(TRAIN)
        w = np.array([params.sure_weight if file.sure else params.unsure_weight for file in files], dtype=np.int64)
        return TrainingRecords(self.records(TRAIN), tuple(self.features(stage, TRAIN, view) for view in params.views), w)

    def features(self, stage: Stage, split: str, view: str = "identity", corruption: Corruption | None = None) -> NDArray[np.int16]:
        """(n, d) int16 of one split under one view, corrupted first if so asked."""
        extractor = self.tools.extractor(stage)
        flip = FLIPS[view]
        condition = view if corruption is None else condition_name(corruption)

        def compute(images: Images) -> NDArray[np.generic]:
            if corruption is not None:
                images = [self.tools.corrupt(image, corruption.family, corruption.severity) for image in images]
            return extractor.rows([flip(image) for image in images])

        found = self._each(split, extractor.digest, f"{DECODER}/{condition}", compute, f"features {condition}")
        rows = np.array(found, dtype=np.int16).reshape(len(found), -1)
        rows = extractor.select(rows) if found else rows
        if found and rows.shape[1] != stage.dimension:
            raise RefusedError("stage", f"the extractor gives {rows.shape[1]} features, not {stage.dimension}", "use the same release")
        return rows.reshape(len(found), stage.dimension)

    def artefact_scores(self, artefact: Artefact, split: str) -> NDArray[np.float64]:
        """(n,) scores of the artefact itself, run on the decoded images of one split as they are."""

        def compute(images: Images) -> NDArray[np.generic]:
            return np.asarray(artefact.scores(images), dtype=np.float64)

        found = self._each(split, artefact.digest, f"{DECODER}/{CLEAN}", compute, "artefact")
        return np.array(found, dtype=np.float64).reshape(len(found))

    def _each(self, split: str, digest: str, condition: str, compute: Compute, label: str) -> list[NDArray[Any]]:
        """One array for each record, from the cache or computed in batches."""
        files = self.folder.of_split(split)
        found: dict[str, NDArray[Any]] = self.cache.found(digest, condition)
        missing = [file for file in files if self.digests[file.path] not in found]
        for start in range(0, len(missing), BATCH_IMAGES):
            batch = missing[start : start + BATCH_IMAGES]
            values = compute([self._image(file) for file in batch])
            new = {self.digests[file.path]: np.asarray(value) for file, value in zip(batch, values, strict=True)}
            self.cache.keep(digest, condition, new)
            found.update(new)
            self.progress(start + len(batch), len(missing), label)
        return [found[self.digests[file.path]] for file in files]

    def _image(self, file: LabelledFile) -> Image:
        try:
            raw = _read(self.folder.root, file)
        except FolderError as error:
            raise RefusedError("data", "an image of the asset can no longer be read", "see the node's own log") from error
        if hashlib.sha256(raw).hexdigest() != self.digests[file.path]:
            raise RefusedError("data", "an image is no longer the one that the asset commits to", "make a new asset and agreement")
        try:
            return decode(raw, file.path)
        except PictureError as error:
            raise RefusedError("data", "an image of the asset cannot be decoded", "see the node's own log") from error
