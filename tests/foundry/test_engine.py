"""Attributions add up exactly; the worker process survives what kills it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from isthmus.contracts.errors import EngineError, EngineTimeoutError, InputError, ModelFileError
from isthmus.contracts.head import Array, Head
from isthmus.foundry.engine import Scorer
from isthmus.foundry.engine_process import EngineProcess
from isthmus.foundry.export import build_artefact
from isthmus.foundry.features import StageExtractor
from isthmus.foundry.surfaces import KINDS, surface
from isthmus.kit.pictures import DECODER

Pictures = list[NDArray[np.uint8]]
Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def scorer(artefact: bytes) -> Scorer:
    return Scorer(artefact)


def test_attributions_add_up_to_the_score(scorer: Scorer, small: StageExtractor, pictures: Pictures) -> None:
    assert (scorer.quantised(pictures) == small.quantised(pictures)).all()
    scores = scorer.scores(pictures)
    for reference in (None, small.quantised(pictures).mean(axis=0)):
        parts = scorer.attributions(pictures, reference)
        assert parts.shape == (len(pictures), small.dimension)
        assert np.abs(parts.sum(axis=1) + scorer.base(reference) - scores).max() < 1e-7


def test_without_a_reference_the_sum_is_exact(scorer: Scorer, pictures: Pictures) -> None:
    total = scorer.attributions(pictures).sum(axis=1) + scorer.base()
    assert (total.astype(np.float32) == scorer.scores(pictures)).all()


def test_heat_is_the_contribution_spread_over_positions(scorer: Scorer, head: Head, pictures: Pictures) -> None:
    rounding_max = 0.5 * np.abs(head.coefficients.array()).sum()
    for image in pictures:
        heat = scorer.heat(image)
        assert [m.shape for m in heat.layers] == [(56, 56), (28, 28)]
        assert heat.picture.shape == image.shape[:2]
        assert np.isfinite(heat.picture).all()
        assert heat.base + sum(m.mean() for m in heat.layers) + heat.rounding_gap == pytest.approx(heat.score, abs=1e-9)
        assert abs(heat.rounding_gap) <= rounding_max + 1e-4
        parts = scorer.attributions([image])[0]
        assert heat.layers[0].mean() == pytest.approx(parts[:24].sum(), abs=rounding_max + 1e-4)


@pytest.mark.parametrize("pool", ["max", "mean", "share", "spread"])
def test_heat_of_each_pool_adds_up(tensors: Tensors, pictures: Pictures, pool: str) -> None:
    parts = (f"defects/{pool}", "texture/3")
    extractor = StageExtractor(parts, tensors=tensors, backbone="efficientnet-lite0-dim")
    values = np.round(np.random.default_rng(8).normal(0, 2e-6, extractor.dimension) * 2**40) / 2**40
    head = Head(stage=extractor.stage(), coefficients=Array.of(values), bias=0.0, lo=0.0, hi=0.0, decoder=DECODER)
    found = Scorer(build_artefact(head, tensors))
    rng = np.random.default_rng(2)
    for image in [surface(rng).pixels for _ in range(4)]:
        heat, contributions = found.heat(image), found.attributions([image])[0]
        assert [m.shape for m in heat.layers] == [(28, 28), (14, 14)] and heat.picture.shape == image.shape[:2]
        assert np.abs(extractor.quantised([image])).max() < 32767, "a clipped feature would have a gap"
        rounding_max = 0.5 * np.abs(values).sum() + 1e-4
        assert abs(heat.rounding_gap) <= rounding_max
        for layer, part in zip(heat.layers, (contributions[: len(KINDS)], contributions[len(KINDS) :]), strict=True):
            assert layer.mean() == pytest.approx(part.sum(), abs=rounding_max)


def test_the_strongest_is_drawn_where_it_is(tensors: Tensors) -> None:
    stage = StageExtractor(("defects/max",), tensors=tensors, backbone="efficientnet-lite0-dim").stage()
    values = np.zeros(len(KINDS))
    values[KINDS.index("spots")] = 2.0**-20
    head = Head(stage=stage, coefficients=Array.of(values), bias=0.0, lo=0.0, hi=0.0, decoder=DECODER)
    plate = np.full((224, 224, 3), 170, np.uint8)
    rows, columns = np.mgrid[0:224, 0:224]
    dark = (plate * (1 - 0.8 * np.exp(-((rows - 60) ** 2 + (columns - 150) ** 2) / 40.0))[:, :, None]).astype(np.uint8)
    picture = Scorer(build_artefact(head, tensors)).heat(dark).picture
    row, column = np.unravel_index(int(picture.argmax()), picture.shape)
    assert abs(row - 60) <= 16 and abs(column - 150) <= 16


def test_heat_points_at_what_changed(scorer: Scorer) -> None:
    plain = np.full((224, 224, 3), 128, np.uint8)
    spoiled = plain.copy()
    spoiled[20:60, 150:190] = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    change = np.abs(scorer.heat(spoiled).picture - scorer.heat(plain).picture)
    row, column = np.unravel_index(int(change.argmax()), change.shape)
    assert 5 <= row <= 75 and 135 <= column <= 205


def test_a_graph_that_is_no_stage_is_refused(artefact: bytes) -> None:
    model = onnx.load_model_from_string(artefact)
    for node in model.graph.node:
        node.output[:] = ["other" if name == "features" else name for name in node.output]
        node.input[:] = ["other" if name == "features" else name for name in node.input]
    with pytest.raises(ModelFileError, match="parts"):
        Scorer(model.SerializeToString())


def test_a_reference_of_the_wrong_size_is_refused(scorer: Scorer, pictures: Pictures) -> None:
    with pytest.raises(InputError):
        scorer.attributions(pictures, np.zeros(3))


@pytest.fixture(scope="module")
def engine(artefact: bytes) -> EngineProcess:
    return EngineProcess(artefact)


def test_the_worker_gives_the_same_answers(engine: EngineProcess, scorer: Scorer, pictures: Pictures) -> None:
    scores, verdicts = engine.judged(pictures)
    assert (scores == scorer.judged(pictures)[0]).all()
    assert (verdicts == scorer.judged(pictures)[1]).all()
    assert engine.pid not in (None, os.getpid())


def test_the_worker_is_started_again_when_it_dies(engine: EngineProcess, scorer: Scorer, pictures: Pictures) -> None:
    before, pid = engine.starts, engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert (engine.scores(pictures) == scorer.scores(pictures)).all()
    assert engine.starts == before + 1
    assert engine.pid != pid


def test_bad_images_are_refused_and_the_worker_lives(engine: EngineProcess, pictures: Pictures) -> None:
    pid = engine.pid
    with pytest.raises(InputError):
        engine.judged([np.zeros((5, 5, 4), np.uint8)])
    assert engine.scores(pictures).shape == (len(pictures),)
    assert engine.pid == pid


def test_threads_may_share_it(engine: EngineProcess, scorer: Scorer, pictures: Pictures) -> None:
    wanted, wrong = scorer.scores(pictures), []

    def ask(i: int) -> None:
        if engine.scores([pictures[i]])[0] != wanted[i]:
            wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i % len(pictures),)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_worker_that_hangs_is_ended_and_replaced(engine: EngineProcess, pictures: Pictures) -> None:
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    engine._timeout_s, patient = 0.5, engine._timeout_s
    began = time.monotonic()
    with pytest.raises(EngineTimeoutError):
        engine.judged(pictures)
    assert time.monotonic() - began < 15
    engine._timeout_s = patient
    assert engine.scores(pictures).shape == (len(pictures),)
    assert engine.pid != pid


def test_a_closed_worker_refuses(engine: EngineProcess, pictures: Pictures) -> None:
    engine.close()
    assert engine.pid is None
    with pytest.raises(EngineError, match="stopped"):
        engine.judged(pictures)


def test_a_model_that_cannot_be_loaded_is_named_at_once() -> None:
    with pytest.raises(ModelFileError, match="ONNX graph"):
        EngineProcess(b"junk")
