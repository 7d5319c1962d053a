"""A hundred simulated sites, made of real cells from modules that the fleet never saw; features cached. Used by bench/replicate.py.

The 44 inferred modules are cut into two halves. A fleet that learned from one half is carried to fifty sites that are made of the other,
and the other way round. A site has one module type (mono, poly or both) and a camera of its own: crop, light, contrast and focus. Its
stock is all cells of its type in that half, up to SITE_CELLS. So the sites of one half share some 22 modules, and cells, but no two see
them alike: their fates are not independent, and the count of broken promises spreads wider than a binomial one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from solar_cells import BACKBONE, VIEWS, Cells, Mask

from isthmus.foundry.features import StageExtractor
from isthmus.kit.canonical import digest_of
from isthmus.kit.pictures import read_picture
from isthmus.scenarios.sample_owners import Cell, cells, dataset_root

SITES = 100
HALVES = 2
SITE_CELLS = 800
FIT, PROOF = 150, 300
KINDS = (("mono",), ("poly",), ("mono", "poly"))
CROP_LEAST, LIGHT, CONTRAST, BLUR_PIXELS_MOST = 0.85, (0.6, 1.1), (0.6, 1.1), 1.2
BATCH = 32
TIMED = 64
DIGEST_CHARS = 20
Image = NDArray[np.uint8]
Turn = Callable[[Image], Image]
Quanta = NDArray[np.int16]


@dataclass(frozen=True)
class SiteSpec:
    """One site. half: whose modules it is made of. rows: its stock, in random order: those to fit on come first. crop: the share of each
    side that is kept, from (left, top) shares of what is cut. light, contrast: gains. blur: sigma in pixels of a 300 pixel cell."""

    number: int
    half: int
    kinds: tuple[str, ...]
    rows: tuple[int, ...]
    crop: float
    left: float
    top: float
    light: float
    contrast: float
    blur: float


@dataclass(frozen=True)
class SiteCells:
    """A site's features, as its node would compute them. rows: of the data set; the first FIT are fitted on, the next PROOF prove, the rest
    tells the truth. identity: of all rows, (n, d). flips: of the first FIT."""

    spec: SiteSpec
    rows: NDArray[np.int64]
    identity: NDArray[np.int16]
    flips: tuple[NDArray[np.int16], ...]


def half_of(data: Cells) -> NDArray[np.int64]:
    """(n,) 0 or 1: every second module of each type."""
    kinds = np.array([cell.kind for cell in data.cells])
    found = np.zeros(data.size, dtype=np.int64)
    for kind in np.unique(kinds):
        codes, place = np.unique(data.groups[kinds == kind], return_inverse=True)
        found[kinds == kind] = (np.arange(len(codes)) % HALVES)[place.reshape(-1)]
    return found


def specs(data: Cells, count: int) -> list[SiteSpec]:
    """The same sites in every call; the first ones of a longer list are those of a shorter."""
    kinds = np.array([cell.kind for cell in data.cells])
    found = []
    for number in range(count):
        rng = np.random.default_rng([21, number])
        half, kind = number % HALVES, KINDS[number // HALVES % len(KINDS)]
        pool: Mask = (half_of(data) == half) & np.isin(kinds, kind)
        rows = rng.permutation(np.flatnonzero(pool))[:SITE_CELLS]
        crop, left, top = rng.uniform(CROP_LEAST, 1.0), rng.uniform(), rng.uniform()
        light, contrast, blur = rng.uniform(*LIGHT), rng.uniform(*CONTRAST), rng.uniform(0.0, BLUR_PIXELS_MOST)
        shift = [round(float(value), 4) for value in (crop, left, top, light, contrast, blur)]
        found.append(SiteSpec(number, half, kind, tuple(int(row) for row in rows), *shift))
    return found


def shifted(image: Image, spec: SiteSpec) -> Image:
    """The cell as the site's camera sees it. Cells are grey: one channel is worked on."""
    side = min(image.shape[:2])
    kept = round(side * spec.crop)
    top, left = round((side - kept) * spec.top), round((side - kept) * spec.left)
    grey = image[top : top + kept, left : left + kept, 0].astype(np.float64)
    grey = ((grey - grey.mean()) * spec.contrast + grey.mean()) * spec.light
    if spec.blur > 0:
        grey = ndimage.gaussian_filter(grey, spec.blur, mode="nearest")
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def seen(spec: SiteSpec, extractor: StageExtractor, listed: Sequence[Cell], rows: Sequence[int], turns: Sequence[Turn]) -> list[Quanta]:
    """The features of these cells as the site's camera sees them: one array a turn."""
    made: list[list[Quanta]] = [[] for _ in turns]
    for start in range(0, len(rows), BATCH):
        images = [shifted(read_picture(listed[row].path), spec) for row in rows[start : start + BATCH]]
        for place, turn in enumerate(turns):
            made[place].append(extractor.quantised([np.ascontiguousarray(turn(image)) for image in images]))
    return [np.concatenate(part) for part in made]


def _features(spec: SiteSpec, parts: tuple[str, ...], target: Path) -> None:
    """Computes one site and keeps it, whole or not at all; runs in a process of its own."""
    listed, extractor = cells(dataset_root()), StageExtractor(parts, threads=1, backbone=BACKBONE)
    fit = seen(spec, extractor, listed, spec.rows[:FIT], list(VIEWS.values()))
    (rest,) = seen(spec, extractor, listed, spec.rows[FIT:], [VIEWS["identity"]])
    part = target.with_suffix(f".{os.getpid()}.npz")
    np.savez(part, identity=np.concatenate([fit[0], rest]), flips=np.stack(fit[1:]))
    part.replace(target)


def image_s(data: Cells, parts: tuple[str, ...]) -> float:
    """Processor seconds that one picture takes from its file to its features, measured now on a few: what is cached has no time."""
    spec = specs(data, 1)[0]
    listed, extractor = cells(dataset_root()), StageExtractor(parts, threads=1, backbone=BACKBONE)
    seen(spec, extractor, listed, spec.rows[:2], [VIEWS["identity"]])
    began = time.process_time()
    seen(spec, extractor, listed, spec.rows[:TIMED], [VIEWS["identity"]])
    return (time.process_time() - began) / TIMED


def load_sites(data: Cells, parts: tuple[str, ...], count: int, cache: Path, workers: int, say: Callable[[str], None]) -> list[SiteCells]:
    """All sites with features; those that are not cached yet are computed by `workers` processes."""
    stage = StageExtractor(parts, threads=1, backbone=BACKBONE).digest
    folder = cache / "rollout"
    folder.mkdir(parents=True, exist_ok=True)
    known = {spec: folder / f"{digest_of({**asdict(spec), 'stage': stage})[7 : 7 + DIGEST_CHARS]}.npz" for spec in specs(data, count)}
    missing = [(spec, path) for spec, path in known.items() if not path.exists()]
    if missing:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            asked = [pool.submit(_features, spec, parts, path) for spec, path in missing]
            for place, one in enumerate(asked, start=1):
                one.result()
                say(f"features of {place} of {len(missing)} sites")
    found = []
    for spec, path in known.items():
        with np.load(path) as kept:
            found.append(SiteCells(spec, np.array(spec.rows, dtype=np.int64), kept["identity"], tuple(kept["flips"])))
    return found
