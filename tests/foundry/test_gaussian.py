"""The graph of a Gaussian says the library's own scores and distances, bit for bit; patches are features of places."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from isthmus.assurance.bounds import korn_graubard_bounds
from isthmus.contracts.errors import DocumentError, InputError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.parts import of_patches, sources_of
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.sums import SCORE_BINS, score_bins
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import build_artefact, head_digest
from isthmus.foundry.foldout import NEVER, ThresholdPlan, choose_alarm_threshold, loose_edges
from isthmus.foundry.gaussian import gaussian_fits, gaussian_head, top_of
from isthmus.foundry.patches import POSITIONS, PatchStages
from isthmus.foundry.stages import checked_extractor, extractor_of, feature_names, stage_of
from isthmus.foundry.surfaces import surface
from isthmus.kit.mahalanobis import distances, squared_distances
from isthmus.sandbox.statistics.gaussian import gaussian_scores, good_moments
from isthmus.sandbox.statistics.records import Records, TrainingRecords

BACKBONE, PARTS = "efficientnet-lite0-dim", ("patch-defects/max", "patch-deep/4", "patch-rings/3")


def training(rows: np.ndarray) -> TrainingRecords:
    n = len(rows)
    return TrainingRecords(Records(np.full(n, -1), np.arange(n) // 2, ("",) * n), (rows,), np.full(n, 2))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [surface(rng).pixels for _ in range(24)]


@pytest.fixture(scope="module")
def fitted(pictures: list[np.ndarray]) -> tuple[PatchStages, np.ndarray, Head]:
    extractor = extractor_of(BACKBONE, PARTS, None)
    assert isinstance(extractor, PatchStages)
    rows = extractor.rows(pictures)
    fit = gaussian_fits(good_moments(training(rows[:16]), extractor.stage))[2]
    return extractor, rows, gaussian_head(fit.fitted, extractor.stage, -0.5, 0.5)


def test_the_graph_equals_the_library_bit_for_bit(fitted: tuple[PatchStages, np.ndarray, Head], pictures: list[np.ndarray]) -> None:
    extractor, rows, head = fitted
    assert head.gaussian is not None and head.gaussian.top == top_of(extractor.stage) == 10
    scorer = Scorer(build_artefact(head))
    found, verdicts = scorer.judged(pictures)
    expected = gaussian_scores(rows, extractor.stage, head.gaussian)
    assert np.array_equal(found, expected) and len({float(v) for v in found}) > 10
    assert np.array_equal(verdicts, np.where(expected >= 0.5, 1, np.where(expected <= -0.5, 0, 2)))
    assert scorer.has_heat and not scorer.linear
    q = rows.reshape(len(rows), POSITIONS, -1)
    squares = squared_distances(q, head.gaussian.matrix.array(), head.gaussian.centre.array())
    assert np.array_equal(scorer.heats(pictures).reshape(len(rows), -1), distances(squares, extractor.stage.dimension))
    with pytest.raises(InputError, match="no sum over features"):
        scorer.attributions(pictures[:1])


def test_a_bright_spot_is_where_the_heat_is(fitted: tuple[PatchStages, np.ndarray, Head]) -> None:
    plain = np.full((112, 112, 3), 150, np.uint8) + np.random.default_rng(1).integers(0, 9, (112, 112, 1), dtype=np.uint8)
    spoilt = plain.copy()
    spoilt[20:30, 80:90] = 20
    heat = Scorer(build_artefact(fitted[2])).heats([plain, spoilt])
    row, column = np.unravel_index(int((heat[1] - heat[0]).argmax()), heat[0].shape)
    assert 1 <= row <= 4 and 9 <= column <= 12


def test_the_stage_counts_its_zones_and_names_its_features(fitted: tuple[PatchStages, np.ndarray, Head]) -> None:
    stage = fitted[0].stage
    assert (stage.dimension, stage.positions, stage.zones, stage.width, stage.counted) == (11, 196, 3, 2156, 20)
    assert stage_of(BACKBONE, PARTS) == stage and len(feature_names(stage)) == 11
    assert of_patches(PARTS) and not sources_of(PARTS) & sources_of(("patch-texture/4", "patch-rings/3"))
    assert sources_of(("patch-texture/4",)) & sources_of(("texture/8",)), "sums over places hold the means"
    forged = msgspec.structs.replace(stage, dimension=1, positions=2156)
    with pytest.raises(InputError, match="is not what this release makes"):
        checked_extractor(forged)


@pytest.mark.parametrize(
    "parts",
    [("patch-deep/4", "deep/4"), ("patch-rings/3",), ("patch-deep/4", "patch-rings/9"), ("patch-defects/share",), ("patch-deep/99",)],
)
def test_parts_that_cannot_be_made_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        stage_of(BACKBONE, parts)


def test_a_head_that_does_not_fit_is_refused(fitted: tuple[PatchStages, np.ndarray, Head]) -> None:
    head = fitted[2]
    assert head.gaussian is not None
    wrong = msgspec.structs.replace(head.gaussian, matrix=Array.of(np.eye(11)))
    for gaussian in (wrong, msgspec.structs.replace(head.gaussian, top=0), msgspec.structs.replace(head.gaussian, top=500)):
        with pytest.raises(DocumentError, match="fit it again"):
            build_artefact(msgspec.structs.replace(head, gaussian=gaussian))


def test_rows_of_a_table_have_a_gaussian_too_and_no_heat() -> None:
    schema = Schema(columns=(Column(name="heat", unit="K", low=0, high=100), Column(name="flow", unit="l", low=0, high=10)))
    extractor = extractor_of("table", ("columns",), schema)
    rng = np.random.default_rng(2)
    records = [np.array([50 + 5 * a, 5 + 0.5 * a + 0.2 * b], dtype=np.float32) for a, b in rng.normal(size=(200, 2))]
    rows = extractor.rows(records)
    head = gaussian_head(gaussian_fits(good_moments(training(rows), extractor.stage))[0].fitted, extractor.stage, 0.0, 0.0)
    scorer = Scorer(build_artefact(head))
    assert head.gaussian is not None and np.array_equal(scorer.scores(records), gaussian_scores(rows, extractor.stage, head.gaussian))
    odd = np.array([60, 4], dtype=np.float32)  # each value is common, both together are not
    assert scorer.scores([odd])[0] > max(scorer.scores(records))
    assert not scorer.has_heat
    with pytest.raises(InputError, match="no heat map"):
        scorer.heats([odd])


def test_linear_heads_keep_their_bytes() -> None:
    stage = Stage(backbone="b", parts=("p",), dimension=1, digest="d")
    head = Head(stage=stage, coefficients=Array.of(np.ones(1)), bias=0.0, lo=0.0, hi=0.0, decoder="x")
    assert b"gaussian" not in msgspec.json.encode(head) and b"positions" not in msgspec.json.encode(head)
    assert head_digest(head) == "sha256:01ad0475a8445ac27ef7c00e9e11e4185bf8adcc4f3072c6e1e43e94a9daaf2c", "as before there were Gaussians"


def plan(records: int, bar: float = 0.05) -> ThresholdPlan:
    return ThresholdPlan(
        bar=bar, records=records, groups=records, design_effect=1.0, bound=lambda e, n, deff, g: korn_graubard_bounds(e, n, deff, g, 0.95)
    )


def histogram_of(scores: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(score_bins(scores), minlength=SCORE_BINS), np.zeros(SCORE_BINS, dtype=np.int64)])


def test_the_alarm_threshold_is_lower_the_more_good_ones_can_prove_it() -> None:
    scores = np.random.default_rng(0).normal(-1, 0.2, 2000)
    few, many = (choose_alarm_threshold(histogram_of(scores), plan(n), 1.0) for n in (80, 2000))
    assert few.reached and many.reached and many.lo < few.lo and few.hi == NEVER
    assert float((scores > many.lo).mean()) == pytest.approx(many.error_rate, abs=1e-9) and many.error_rate < 0.05
    short = choose_alarm_threshold(histogram_of(scores), plan(20), 1.0)
    assert not short.reached and "20 good records" in short.note and short.error_rate == 0
    with pytest.raises(InputError, match="no good record"):
        choose_alarm_threshold(np.zeros((2, SCORE_BINS), dtype=np.int64), plan(80), 1.0)


def test_promises_on_alarms_hold_as_often_as_they_say() -> None:
    """Of 300 promises at 95 % that false alarms are at most 10 %, at most some 15 may be broken; 24 is the 99th percentile."""
    rng, broken, made = np.random.default_rng(3), 0, 0
    for _ in range(300):
        learned, proof = rng.normal(-1, 0.25, 200), rng.normal(-1, 0.25, 120)
        lo = choose_alarm_threshold(histogram_of(learned), plan(120, 0.1), 1.0).lo
        if float(korn_graubard_bounds((proof > lo).sum(), 120, 1.0, 120, 0.95)) <= 0.1:
            made += 1
            broken += float((rng.normal(-1, 0.25, 20_000) > lo).mean()) > 0.1
    assert made > 150 and broken <= 24


def test_clustering_is_looked_at_where_good_records_lie() -> None:
    scores = np.random.default_rng(0).normal(-1, 0.2, 2000)
    loose = loose_edges(histogram_of(scores))
    assert [round(float((scores > edge).mean()), 1) for edge in loose] == [0.3, 0.1]
