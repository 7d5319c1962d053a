"""The backbone in 8-bit integers: computed by hand to the last bit, the same file every time, and an artefact of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from isthmus.contracts.head import Array, Head
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import artefact_digest, build_artefact
from isthmus.foundry.features import BACKBONES, INTEGERS, StageExtractor
from isthmus.foundry.integers import WEIGHT_MAX
from isthmus.foundry.runtime import Images, session
from isthmus.kit.pictures import DECODER

FLOATS, WHOLE = "efficientnet-lite0-dim", "efficientnet-lite0-dim-int8"
PARTS = ("defects/max", "texture/12")
Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def whole(tensors: Tensors) -> StageExtractor:
    return StageExtractor(PARTS, 1, tensors, WHOLE)


@pytest.fixture(scope="module")
def floats(tensors: Tensors) -> StageExtractor:
    return StageExtractor(PARTS, 1, tensors, FLOATS)


def head_of(extractor: StageExtractor) -> Head:
    coefficients = np.round(np.random.default_rng(3).normal(0, 2e-6, extractor.dimension) * 2**40) / 2**40
    return Head(stage=extractor.stage(), coefficients=Array.of(coefficients), bias=0.125, lo=-0.1, hi=0.1, decoder=DECODER)


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}


def test_it_is_another_extractor_with_the_same_bytes_every_time(whole: StageExtractor, floats: StageExtractor, tensors: Tensors) -> None:
    assert WHOLE in BACKBONES and WHOLE.endswith(INTEGERS) and whole.dimension == floats.dimension
    assert whole.digest != floats.digest and StageExtractor(PARTS, 2, tensors, WHOLE).digest == whole.digest
    head = head_of(whole)
    raw = build_artefact(head, tensors)
    assert raw == build_artefact(head, tensors) and artefact_digest(raw) != artefact_digest(build_artefact(head_of(floats), tensors))
    assert len(raw) < 0.5 * len(build_artefact(head_of(floats), tensors))


def test_weights_are_signed_bytes_and_near_the_published(whole: StageExtractor, floats: StageExtractor) -> None:
    found, real = (constants(onnx.load_model_from_string(e._model)) for e in (whole, floats))
    for name in ("stem", "block4_expand", "block4_depth", "block4_project"):
        weights, scales = found[f"{name}_w"], found[f"{name}_w_scale"]
        assert weights.dtype == np.int8 and np.abs(weights.astype(int)).max() <= WEIGHT_MAX
        alive = np.abs(real[f"{name}_w"]).max(axis=(1, 2, 3)) > 1e-6
        assert np.abs(weights.astype(int)).max(axis=(1, 2, 3))[alive].min() >= WEIGHT_MAX // 2, "no channel is left with a few bits"
        back = weights * scales[:, None, None, None]
        assert np.all(np.abs(back - real[f"{name}_w"]) <= scales[:, None, None, None] * 0.501)


def test_no_two_products_can_saturate_16_bits(whole: StageExtractor) -> None:
    """Bytes of 255 beside the two largest neighbours of one sign, in either order of the weights."""
    found = constants(onnx.load_model_from_string(whole._model))
    layers = [name for name in found if name.endswith(("_expand_w", "_project_w")) or name == "stem_w"]
    assert len(layers) > 15
    for name in layers:
        for order in ((0, 1, 2, 3), (0, 2, 3, 1)):
            flat = found[name].astype(np.int64).transpose(order).reshape(found[name].shape[0], -1)
            flat = np.pad(flat, ((0, 0), (0, flat.shape[1] % 2))).reshape(flat.shape[0], -1, 2)
            for signed in (flat, -flat):
                assert 255 * int(np.maximum(signed, 0).sum(axis=2).max()) <= 2**15 - 1, name


def test_a_pointwise_layer_is_the_sum_of_whole_numbers(whole: StageExtractor, pictures: Images) -> None:
    """What the runtime says of a layer is what integers say, worked out here in 64 bits: nothing saturates on the way."""
    model = onnx.load_model_from_string(whole._model)
    names = ["block4_depth_bytes", "block4_project_bytes"]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, None) for name in names)
    before, after = session(model.SerializeToString(), 1).run(names, {"image": pictures[0][None]})
    c = constants(model)
    sums = np.einsum("oc,ncij->noij", c["block4_project_w"][:, :, 0, 0].astype(np.int64), before.astype(np.int64))
    sums += c["block4_project_b"].astype(np.int64)[None, :, None, None]
    real = sums * (np.float64(c["block4_depth_scale"]) * c["block4_project_w_scale"].astype(np.float64))[None, :, None, None]
    expected = np.clip(np.rint(real / np.float64(c["block4_project_scale"])) + int(c["block4_project_zero"]), 0, 255)
    off = np.abs(expected - after)
    assert off.max() <= 1 and (off > 0).mean() < 0.001, "ties of rounding only"
    assert len(np.unique(after)) > 20


def test_features_follow_those_in_floats(whole: StageExtractor, floats: StageExtractor) -> None:
    rng = np.random.default_rng(5)
    images = [np.kron(rng.integers(60, 220, (14, 14, 1)), np.ones((16, 16, 3))).astype(np.uint8) for _ in range(24)]
    one, other = whole.quantised(images).astype(float), floats.quantised(images).astype(float)
    alike = [np.corrcoef(one[:, j], other[:, j])[0, 1] for j in range(one.shape[1]) if other[:, j].std() > 0]
    assert np.median(alike) > 0.9


def test_threads_batches_and_the_artefact_agree(whole: StageExtractor, tensors: Tensors, pictures: Images) -> None:
    many = StageExtractor(PARTS, 4, tensors, WHOLE).quantised(pictures)
    assert np.array_equal(many, whole.quantised(pictures))
    assert np.array_equal(many, np.concatenate([whole.quantised([picture]) for picture in pictures]))
    head = head_of(whole)
    scorer = Scorer(build_artefact(head, tensors))
    scores, _ = scorer.judged(pictures)
    expected = many.astype(np.float64) @ head.coefficients.array() + head.bias
    assert np.array_equal(scores, expected.astype(np.float32).astype(np.float64))
    heat = scorer.heat(pictures[0])
    assert abs(heat.base + sum(layer.mean() for layer in heat.layers) + heat.rounding_gap - heat.score) < 1e-9
