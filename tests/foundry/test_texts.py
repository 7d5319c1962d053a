"""Texts: tokeniser, backbone against a plain second writing, features that are the same in any company, the exported graph, reasons."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import erf

from isthmus.contracts.errors import InputError, ModelFileError
from isthmus.contracts.head import Array, Head, Stage
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.textparts import parsed_text_part, text_sources
from isthmus.foundry.engine import Scorer
from isthmus.foundry.export import artefact_metadata, build_artefact
from isthmus.foundry.pieces import Pieces
from isthmus.foundry.stages import check_parts, checked_extractor, checked_source, decoder_of, extractor_of, feature_names
from isthmus.foundry.textbasis import COUNTS, DIRECTIONS, WIDTH, made_text_basis, shipped_text_basis, text_basis_from
from isthmus.foundry.textfeatures import TEXT_BACKBONE, TextStages, text_columns, tokens_of
from isthmus.foundry.textfile import Packed, TextFile, load_text_file, parsed_text_file
from isthmus.foundry.textreasons import PASSAGES_MAX, passages_of, reasons
from isthmus.kit.writing import TEXT_DECODER, coded

TEXTS = Schema(columns=(Column(name="text", kind="text"),))
SAID = ["It broke.", "works well", "质量很差", "لا يعمل", "👍👍", "Je suis déçu.", "\u202ex", "a" * 90]


@pytest.fixture(scope="module")
def stages() -> TextStages:
    return TextStages(("meaning/32",), TEXTS)


@pytest.fixture(scope="module")
def rows(stages: TextStages) -> NDArray[np.int16]:
    return stages.rows([coded(text) for text in SAID])


def head_of(stage: Stage) -> Head:
    coefficients = np.random.default_rng(3).normal(size=stage.dimension) / 2**15
    return Head(stage=stage, coefficients=Array.of(coefficients), bias=0.1, lo=-0.05, hi=0.25, decoder=TEXT_DECODER)


# The tokeniser.


def tiny(pieces: dict[str, float]) -> TextFile:
    names = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    scores = np.array([0, 0, 0, 0, *pieces.values()], np.float32)
    return TextFile({"window": 6}, 1e-12, tuple(names), scores, (0, 2, 1, 3), {ord("\u00a0"): " "}, {}, "")


@given(st.dictionaries(st.text("ab▁", min_size=1, max_size=3), st.floats(-9, -1, width=32), max_size=8), st.text("ab c", max_size=8))
def test_the_cut_is_the_likeliest_of_all(pieces: dict[str, float], text: str) -> None:
    file = tiny(pieces)
    unlikely = min([0.0, *pieces.values()]) - 10

    def best(rest: str) -> float:
        if not rest:
            return 0.0
        known = [pieces[rest[:n]] + best(rest[n:]) for n in range(1, len(rest) + 1) if rest[:n] in pieces]
        return max([*known, unlikely + best(rest[1:])])

    plain = " ".join(filter(None, text.split(" ")))
    wanted = ("" if text.startswith(" ") and plain else " ") + text
    while "  " in wanted:
        wanted = wanted.replace("  ", " ")
    cut = Pieces(file).cut(text)
    found = sum(unlikely if piece == 3 else float(file.scores[piece]) for piece in cut)
    assert found == pytest.approx(best((wanted if wanted.startswith(" ") else " " + wanted).replace(" ", "▁")))


def test_known_texts_have_the_vocabulary_of_xlm_roberta() -> None:
    assert tokens_of(coded("Hello world"))[0, 0].tolist() == [0, 41, 1294, 12, 35378, 8999, 2]
    assert tokens_of(coded("质量很好"))[0, 0].tolist() == [0, 41, 1294, 12, 6, 13723, 29787, 2]
    assert tokens_of(coded("ﬁne\u00a0print"))[0].tolist() == tokens_of(coded("fine print"))[0].tolist()


def test_a_long_text_stands_in_even_windows_and_nothing_is_lost() -> None:
    pieces = Pieces(load_text_file())
    text = "word " * 900
    found, ids = pieces.windows(text), pieces.cut(text)
    assert found.shape[0] == 2 and found.shape[1] <= 512 and (found[:, 0] == pieces.begin).all()
    kept = [piece for row in found.tolist() for piece in row if piece not in (pieces.begin, pieces.end, pieces.padding)]
    assert kept == ids


# The file.


def test_a_file_that_is_cut_short_or_another_is_refused(tmp_path: Any) -> None:
    for raw in (b"", b"PK\x03\x04", b"E5S1" + b"\x00" * 20, b"E5S1" + bytes(range(200))):
        with pytest.raises(ModelFileError):
            parsed_text_file(raw)
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_text_file(tmp_path / "none.bin")


# The backbone.


def plain(packed: Packed) -> NDArray[np.float64]:
    halves = packed.halves.astype(np.int64)
    both = np.concatenate([halves & 15, halves >> 4], axis=-1) - 8
    return np.asarray((both * packed.scales.astype(np.float64)[..., None]).reshape(len(halves), -1))


def second_writing(file: TextFile, ids: list[int]) -> NDArray[np.float64]:
    """The encoder once more, in doubles and as directly as it can be said."""

    def normal(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = x - x.mean(axis=1, keepdims=True)
        return np.asarray(
            centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + file.epsilon) * file.vector(f"{name}.w") + file.vector(f"{name}.b")
        )

    def dense(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return np.asarray(x @ plain(file.packed(f"{name}.w")).T + file.vector(f"{name}.b"))

    rows = Packed(file.packed("emb.word").scales[ids], file.packed("emb.word").halves[ids])
    width, heads = file.sizes["width"], file.sizes["heads"]
    places = file.vector("emb.pos").reshape(-1, width)[: len(ids)]
    x = normal(plain(rows) + places + file.vector("emb.type")[:width], "emb.ln")
    for layer in (f"l{n}" for n in range(file.sizes["layers"])):
        q, k, v = (dense(x, f"{layer}.{name}").reshape(len(ids), heads, -1).transpose(1, 0, 2) for name in "qkv")
        near = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(width // heads))
        seen = (near / near.sum(axis=2, keepdims=True)) @ v
        x = normal(x + dense(seen.transpose(1, 0, 2).reshape(len(ids), width), f"{layer}.ao"), f"{layer}.aln")
        inner = dense(x, f"{layer}.fi")
        x = normal(x + dense(inner * (1 + erf(inner / np.sqrt(2))) / 2, f"{layer}.fo"), f"{layer}.oln")
    mean = x.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def test_the_graph_is_the_published_encoder(rows: NDArray[np.int16]) -> None:
    basis = shipped_text_basis()
    for place in (0, 2):
        wanted = second_writing(load_text_file(), tokens_of(coded(SAID[place]))[0, 0].tolist())
        exact = np.clip((basis.matrix @ wanted + basis.offset) * 32767 / 4, -32767, 32767)
        assert np.abs(exact - rows[place]).max() < 16  # of 32,767: what 32-bit floats and rounding leave


# Features.


def test_features_are_the_same_in_any_company(stages: TextStages, rows: NDArray[np.int16]) -> None:
    alone = np.concatenate([stages.rows([coded(text)]) for text in reversed(SAID)])
    assert np.array_equal(alone[::-1], rows) and len(np.unique(rows, axis=0)) == len(SAID)
    assert rows.shape == (len(SAID), DIRECTIONS) and np.array_equal(stages.select(rows), rows[:, :32])
    later = TextStages(("nuance/8",), TEXTS)
    assert later.digest == stages.digest and later.stage.digest != stages.stage.digest
    assert np.array_equal(later.select(rows), rows[:, COUNTS["meaning"] : COUNTS["meaning"] + 8])


def test_a_stage_is_a_document_that_others_can_hold_theirs_against(stages: TextStages) -> None:
    assert checked_extractor(stages.stage).stage == stages.stage and decoder_of(stages.stage) == TEXT_DECODER
    assert len(feature_names(stages.stage)) == stages.stage.dimension == 32
    with pytest.raises(InputError, match="not what this release makes"):
        checked_extractor(msgspec.structs.replace(stages.stage, digest="sha256:" + "0" * 64))


@pytest.mark.parametrize(
    "parts", [(), ("meaning/0",), ("meaning/49",), ("nuance/97",), ("meaning/8", "meaning/9"), ("columns",), ("meaning",)]
)
def test_parts_that_cannot_be_made_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        check_parts(TEXT_BACKBONE, parts, TEXTS)


def test_texts_and_numbers_have_backbones_of_their_own() -> None:
    row = Schema(columns=(Column(name="x", low=0, high=1),))
    for backbone, schema in ((TEXT_BACKBONE, row), ("table", TEXTS), ("series", TEXTS), (TEXT_BACKBONE, None)):
        with pytest.raises(InputError):
            checked_source(backbone, schema)
    assert isinstance(extractor_of(TEXT_BACKBONE, ("nuance/4",), TEXTS), TextStages)


def test_parts_share_sources_within_a_family_only() -> None:
    assert text_sources(("meaning/8",)) & text_sources(("meaning/32",))
    assert not text_sources(("meaning/48",)) & text_sources(("nuance/96",))
    assert text_sources(("odd",)) == {"odd"} and parsed_text_part("nuance/7").text == "nuance/7"
    first, second = (set(text_columns((part,)).tolist()) for part in ("meaning/48", "nuance/96"))
    assert not first & second and first | second == set(range(DIRECTIONS))


def test_a_basis_is_learned_within_languages() -> None:
    rng = np.random.default_rng(5)
    meaning, language = rng.normal(size=(600, WIDTH)), np.repeat(["en", "id"], 300)
    moved = meaning + 50.0 * (language == "id")[:, None] * np.eye(WIDTH)[0]
    one, other = made_text_basis(meaning, list(language), "test"), made_text_basis(moved, list(language), "test")
    assert np.abs(one.matrix - other.matrix).max() < 0.01 and np.abs(one.matrix @ meaning.mean(axis=0) + one.offset).max() < 0.01
    assert text_basis_from(one.document()).digest == one.digest
    with pytest.raises(ModelFileError):
        text_basis_from({"format": "isthmus-text-basis/1", "rows": ["AAAA"], "source": ""})


# The exported graph.


@pytest.fixture(scope="module")
def artefact(stages: TextStages) -> bytes:
    return build_artefact(head_of(stages.stage))


@pytest.fixture(scope="module")
def scorer(artefact: bytes) -> Scorer:
    return Scorer(artefact)


def test_the_exported_graph_says_what_the_library_says(scorer: Scorer, stages: TextStages, rows: NDArray[np.int16]) -> None:
    head = head_of(stages.stage)
    scores, verdicts = scorer.judged([coded(text) for text in SAID])
    wanted = (head.bias + stages.select(rows).astype(float) @ head.coefficients.array()).astype(np.float32)
    assert np.array_equal(scores.astype(np.float32), wanted)
    assert verdicts.tolist() == np.where(wanted >= head.hi, 1, np.where(wanted <= head.lo, 0, 2)).tolist()
    assert np.array_equal(scorer.quantised([coded(SAID[0])])[0], stages.select(rows)[0])
    with pytest.raises(InputError, match="not of the model's kind"):
        scorer.judged([np.zeros(3, np.float32)])


def test_an_artefact_of_another_tokeniser_is_not_run(artefact: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.checker.check_model(onnx.load_model_from_string(artefact), full_check=True)
    assert artefact_metadata(artefact)["tokeniser"].startswith("sha256:") and artefact_metadata(artefact)["decoder"] == TEXT_DECODER
    monkeypatch.setattr("isthmus.foundry.engine.tokeniser_digest", lambda: "sha256:another")
    with pytest.raises(ModelFileError, match="another tokeniser"):
        Scorer(artefact)


# Reasons.


@given(st.text(min_size=1, max_size=200))
def test_passages_make_up_the_text(text: str) -> None:
    found = passages_of(text)
    assert "".join(found) == text and 1 <= len(found) <= PASSAGES_MAX


def test_a_reason_is_the_score_without_the_passage(scorer: Scorer) -> None:
    text = "It came on time. It broke. I am sad."
    found = reasons(coded(text), scorer.scores)
    assert {passage.words for passage in found} == {"It came on time.", "It broke.", "I am sad."}
    rest = next(passage for passage in found if passage.words == "It broke.")
    whole, without = scorer.scores([coded(text), coded("It came on time. I am sad.")])
    assert rest.effect == whole - without
    assert reasons(coded("好"), scorer.scores) == ()
