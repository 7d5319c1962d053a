"""One artefact for every kind of record: the graph says what the library says, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.contracts.errors import DocumentError, InputError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.schema import Column, Schema
from isthmus.foundry.engine import Scorer
from isthmus.foundry.engine_process import EngineProcess
from isthmus.foundry.export import artefact_metadata, build_artefact
from isthmus.foundry.stages import RecordStages, checked_extractor, checked_source, decoder_of, feature_names, stage_of

COLUMNS = (
    Column(name="heat", low=0, high=100),
    Column(name="flow", low=0.1, high=10, log=True, missing=True),
    Column(name="state", kind="category", levels=("idle", "running", "off")),
)
TABLE, SERIES = Schema(columns=COLUMNS), Schema(columns=COLUMNS[:2], steps=16)
CASES = [("table", ("columns", "bins/4", "fourier/8/1.5"), TABLE), ("series", ("last/2", "summary", "memory/2"), SERIES)]


def records(schema: Schema, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    shape = (count, len(schema.columns)) if schema.steps == 1 else (count, schema.steps, len(schema.columns))
    found = rng.normal(50, 30, shape).astype(np.float32)
    found[..., 1] = np.where(rng.random(shape[:-1]) < 0.1, np.nan, rng.lognormal(0, 1, shape[:-1]))
    if len(schema.columns) > 2:
        found[..., 2] = rng.integers(0, 3, shape[:-1])
    return list(found)


def head(stage: Stage) -> Head:
    slopes = np.random.default_rng(7).normal(0, 1e-5, stage.dimension)
    return Head(stage=stage, coefficients=Array.of(slopes), bias=0.1, lo=-0.2, hi=0.3, decoder=decoder_of(stage))


@pytest.mark.parametrize(("backbone", "parts", "schema"), CASES)
def test_the_graph_says_what_features_and_head_say_on_a_thousand_records(backbone: str, parts: tuple[str, ...], schema: Schema) -> None:
    made = RecordStages(backbone, parts, schema)
    model = head(made.stage)
    scorer, given = Scorer(build_artefact(model)), records(schema, 1000)
    scores, verdicts = scorer.judged(given)
    by_hand = (made.rows(given).astype(np.float64) @ model.coefficients.array() + model.bias).astype(np.float32)
    wanted = np.where(by_hand >= np.float32(model.hi), 1, np.where(by_hand <= model.lo, 0, 2))
    assert np.abs(scores - by_hand).max() < 1e-6 and (verdicts != wanted).sum() == 0
    assert scorer.scores(given[:1])[0] == scores[0]
    assert np.array_equal(scorer.quantised(given), made.rows(given))
    assert np.allclose(scorer.attributions(given).sum(axis=1) + scorer.base(), scores, atol=1e-5)
    assert len(feature_names(made.stage)) == made.stage.dimension == len(set(feature_names(made.stage)))
    assert artefact_metadata(build_artefact(model))["decoder"] == "isthmus-records/1"


def test_a_worker_judges_records_as_the_library_does() -> None:
    stage = stage_of(*CASES[0])
    artefact, given = build_artefact(head(stage)), records(TABLE, 5)
    engine = EngineProcess(artefact)
    try:
        assert np.array_equal(engine.judged(given)[0], Scorer(artefact).judged(given)[0])
        with pytest.raises(InputError):
            engine.judged([given[0], given[1][:2]])
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("backbone", "schema", "said"),
    [
        ("table", None, "no columns"),
        ("efficientnet-lite0", TABLE, "does not take records"),
        ("series", TABLE, "does not take records of 1"),
        ("table", SERIES, "use series"),
        ("forest", TABLE, "not known"),
    ],
)
def test_a_backbone_and_records_that_do_not_fit_are_refused(backbone: str, schema: Schema | None, said: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_source(backbone, schema)
    assert said in str(caught.value)


def test_a_stage_that_this_release_would_not_make_is_refused() -> None:
    stage = stage_of(*CASES[0])
    forged = Stage(backbone="table", parts=stage.parts, dimension=stage.dimension, digest="sha256:" + "0" * 64, schema=TABLE)
    with pytest.raises(InputError, match="same release"):
        checked_extractor(forged)
    with pytest.raises(DocumentError, match="same release"):
        build_artefact(head(forged))
    with pytest.raises(DocumentError):
        build_artefact(head(Stage(backbone="table", parts=("nonsense",), dimension=1, digest="sha256:0", schema=TABLE)))
