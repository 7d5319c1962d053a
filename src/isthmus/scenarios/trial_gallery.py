"""Which images of a trial a person should look at, with thumbnails and, for two classes, where the score comes from."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.contracts.errors import PictureError
from isthmus.contracts.ports import Progress
from isthmus.scenarios.trial import DOUBT, PERSON, WRONG, Outcome, Trial
from isthmus.scenarios.trial_images import ImageReader, Pixels, in_order
from isthmus.scenarios.trial_model import Reals

SHELF_IMAGES_MAX = 18
HEAT_PIXELS = 64
HEAT_QUANTILE = 0.99
HEAT_ALPHA_MAX = 200
HEAT_POWER = 1.6
TOWARDS = (214, 73, 38)
AWAY = (38, 110, 200)
DISTANCE_TYPICAL, DISTANCE_SPAN = 1.0, 3.0
"""At which distance of a place its heat begins, and by how much farther it is at its strongest."""
HEAT_CELLS = 16
Look = Callable[[Pixels], Reals]
Heater = Callable[[Reals, float, Reals], Look]


@dataclass(frozen=True)
class Exhibit:
    """One image on a shelf. thumb, heat: data URIs; heat is '' where there is none."""

    row: int
    thumb: str
    heat: str


@dataclass(frozen=True)
class Gallery:
    """doubtful: most doubtful first. wrong: most confident first. unlike: least familiar first."""

    doubtful: tuple[Exhibit, ...]
    wrong: tuple[Exhibit, ...]
    unlike: tuple[Exhibit, ...]


def gallery(trial: Trial, heater: Heater | None, progress: Progress) -> Gallery:
    """Decodes and draws up to SHELF_IMAGES_MAX images a shelf. heater: makes a map of score contributions from a linear model."""
    rows = list(enumerate(trial.outcomes))
    doubtful = sorted((r for r in rows if r[1].state == PERSON and r[1].reason == DOUBT), key=lambda r: r[1].margin)
    if not doubtful:
        doubtful = sorted((r for r in rows if r[1].state != PERSON), key=lambda r: r[1].margin)
    wrong = sorted((r for r in rows if r[1].state == WRONG), key=lambda r: -r[1].margin)
    if not wrong:
        wrong = sorted((r for r in rows if r[1].verdict != r[1].truth), key=lambda r: -r[1].margin)
    unlike = sorted((r for r in rows if r[1].state == PERSON and r[1].reason > DOUBT), key=lambda r: -r[1].unfamiliarity)
    shelves = [[row for row, _ in shelf[:SHELF_IMAGES_MAX]] for shelf in (doubtful, wrong, unlike)]
    wanted = sorted({row for shelf in shelves for row in shelf})
    look = None
    if heater is not None and len(trial.gathered.answers) == 2 and wanted:
        coefficients, bias = trial.model.linear()
        look = heater(coefficients, bias, trial.typical)
    drawn = _drawn(wanted, [trial.outcomes[row] for row in wanted], trial.reader, look, progress)
    return Gallery(*(tuple(drawn[row] for row in shelf if row in drawn) for shelf in shelves))


def _drawn(rows: list[int], outcomes: list[Outcome], reader: ImageReader, look: Look | None, progress: Progress) -> dict[int, Exhibit]:
    def work(outcome: Outcome) -> tuple[str, Reals | None] | None:
        try:
            thumb, small = reader.thumb(outcome.reading.file)
        except PictureError:  # changed since it was read
            return None
        return thumb, (None if look is None else look(small))

    found: list[tuple[int, str, Reals | None]] = []
    for done, (row, result) in enumerate(zip(rows, in_order(work, outcomes), strict=True), start=1):
        if result is not None:
            found.append((row, *result))
        progress(done, len(rows), "images to look at")
    maps = [heat for _, _, heat in found if heat is not None]
    scale = float(np.quantile(np.abs(np.stack(maps)), HEAT_QUANTILE)) if maps else 1.0
    return {row: Exhibit(row, thumb, "" if heat is None else heat_uri(heat, scale)) for row, thumb, heat in found}


def distance_heat(distances: NDArray[Any]) -> Reals:
    """(h, w) distances of places -> by how much each lies farther than a typical one, enlarged for `heat_uri`; never below 0."""
    above = np.maximum(np.asarray(distances, dtype=np.float64) - DISTANCE_TYPICAL, 0.0)
    return np.repeat(np.repeat(above, HEAT_CELLS, axis=0), HEAT_CELLS, axis=1)


def heat_uri(heat: Reals, scale: float) -> str:
    """(h, w) contributions -> a small PNG to lay over the image: red pushes towards the second answer, blue away from it."""
    rows = np.linspace(0, heat.shape[0], HEAT_PIXELS + 1).astype(int)[:-1]
    columns = np.linspace(0, heat.shape[1], HEAT_PIXELS + 1).astype(int)[:-1]
    cells = np.add.reduceat(np.add.reduceat(heat, rows, axis=0), columns, axis=1)
    cells = cells / (heat.size / cells.size)
    strength = np.clip(np.abs(cells) / max(scale, 1e-12), 0, 1) ** HEAT_POWER
    colour = np.where((cells > 0)[..., None], np.array(TOWARDS), np.array(AWAY))
    layer = np.concatenate([colour, (strength * HEAT_ALPHA_MAX)[..., None]], axis=2).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(layer, "RGBA").quantize(48).save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
