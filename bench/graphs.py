"""Does the exported graph judge as the library does? Each kind of model on 1,000 records, of pictures, tables and series.

The library's way: the extractor's integers, the head in doubles, the thresholds. The other way: the exported file, run by ONNX Runtime from
the record to the verdict. A picture's backbone runs there both times. Thresholds stand at thirds of the scores, so that each verdict is
frequent and many scores lie beside a threshold. Records are drawn; pictures are parts of the drawn surfaces that the public basis was
learned from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.schema import Column, Schema
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import build_artefact
from isthmus.foundry.stages import decoder_of, extractor_of
from isthmus.foundry.surfaces import surface

CASES = 1000
PICTURE_PIXELS = 64
COLUMNS = (
    Column(name="heat", low=0, high=100),
    Column(name="flow", low=0.1, high=10, log=True, missing=True),
    Column(name="state", kind="category", levels=("idle", "running", "off")),
)
KINDS: dict[str, tuple[str, tuple[str, ...], Schema | None]] = {
    "pictures": ("efficientnet-lite0-dim", ("defects/max", "defects/mean", "texture/24"), None),
    "pictures, 8-bit integers": ("efficientnet-lite0-dim-int8", ("defects/max", "defects/mean", "texture/24"), None),
    "tables": ("table", ("columns", "bins/4", "fourier/32/1.5"), Schema(columns=COLUMNS)),
    "series": ("series", ("last/2", "summary", "memory/2", "kernels/84"), Schema(columns=COLUMNS[:2], steps=32)),
}


def drawn(schema: Schema | None, rng: np.random.Generator) -> list[NDArray[Any]]:
    """CASES records, some values missing."""
    if schema is None:
        return [_picture(rng) for _ in range(CASES)]
    shape = (CASES, len(schema.columns)) if schema.steps == 1 else (CASES, schema.steps, len(schema.columns))
    found = rng.normal(50, 30, shape).astype(np.float32)
    found[..., 1] = np.where(rng.random(shape[:-1]) < 0.1, np.nan, rng.lognormal(0, 1, shape[:-1]))
    if len(schema.columns) > 2:
        found[..., 2] = rng.integers(0, 3, shape[:-1])
    return list(found)


def _picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    whole = surface(rng).pixels
    row, column = rng.integers(0, np.array(whole.shape[:2]) - PICTURE_PIXELS + 1)
    return np.ascontiguousarray(whole[row : row + PICTURE_PIXELS, column : column + PICTURE_PIXELS])


def headed(stage: Stage, rows: NDArray[np.int16], rng: np.random.Generator) -> Head:
    """A head whose scores are spread over these rows, a third below the lower threshold and a third above the upper."""
    slopes = rng.normal(0, 1, stage.dimension)
    scores = rows.astype(np.float64) @ slopes
    slopes /= scores.std()
    scores = (scores / scores.std()).astype(np.float32)
    lo, hi = (float(value) for value in np.quantile(scores, [1 / 3, 2 / 3]))
    return Head(stage=stage, coefficients=Array.of(slopes), bias=0.0, lo=lo, hi=hi, decoder=decoder_of(stage))


def flips_of(kind: str) -> dict[str, int | float]:
    """How many of CASES verdicts of the exported graph are not the library's, and how often each verdict came."""
    backbone, parts, schema = KINDS[kind]
    rng = np.random.default_rng(20)
    records = drawn(schema, rng)
    extractor = extractor_of(backbone, parts, schema)
    rows = np.asarray(extractor.select(extractor.rows(records)))
    head = headed(extractor.stage, rows, rng)
    score = (rows.astype(np.float64) @ head.coefficients.array() + head.bias).astype(np.float32)
    wanted = np.where(score >= head.hi, 1, np.where(score <= head.lo, 0, 2))
    found, verdicts = Scorer(build_artefact(head)).judged(records)
    return {
        "records": len(records),
        "flips": int((verdicts != wanted).sum()),
        "largest_difference_of_scores": float(np.abs(found - score).max()),
        **{name: int((verdicts == number).sum()) for number, name in enumerate(("good", "defect", "person"))},
    }
