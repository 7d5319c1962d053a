"""The public extractor of a text: the frozen backbone's meaning seen through few public directions, as 16-bit integers.

The mean over a text's tokens has 384 numbers; sums over all of them would tell who was in them. So a fixed linear map comes behind it
(foundry.textbasis), whose directions have mean 0 and deviation 1 over public texts, and a range of RANGE_SDS deviations, known before any
data is seen. Quantised inside the graph like pictures' features. The tokeniser stands before the graph, as ONNX has no operator for it;
it is part of the stage's digest through the digest of the file that holds its tables.

Texts are run one at a time: in a batch of others the last bits of a product can differ, and every node must find the same integers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Stage
from isthmus.contracts.schema import Schema
from isthmus.contracts.sums import FEATURE_MAX
from isthmus.contracts.textparts import TextPart, parsed_text_part
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.features import graph_definition
from isthmus.foundry.pieces import Pieces, Tokens
from isthmus.foundry.runtime import session
from isthmus.foundry.textbackbone import add_embedding
from isthmus.foundry.textbasis import COUNTS, DIRECTIONS, WIDTH, TextBasis, blank_text_basis, shipped_text_basis
from isthmus.foundry.textfile import TextFile, load_text_file
from isthmus.kit.canonical import digest_of
from isthmus.kit.writing import coded, written

TEXT_BACKBONE = "multilingual-e5-small"
PREFIX = "query: "
"""What the model was trained to see before a text that is compared or classified."""
TOKENS_INPUT = "tokens"
RANGE_SDS = 4.0


def checked_text_parts(parts: tuple[str, ...]) -> tuple[TextPart, ...]:
    """The parts if they can be made and none says what another does; raises InputError."""
    found = tuple(parsed_text_part(text) for text in parts)
    if not found or len({part.family for part in found}) < len(found):
        raise InputError(f"the features {list(parts)} cannot be used together", "name at least one part, and no family twice")
    for part in found:
        if part.number > COUNTS[part.family]:
            raise InputError(f"{part.text} is out of reach", f"use {part.family}/1 to {part.family}/{COUNTS[part.family]}")
    return found


def text_feature_names(parts: tuple[str, ...]) -> list[str]:
    """What each feature is, for people."""
    return [f"{part.family}, direction {place + 1}" for part in checked_text_parts(parts) for place in range(part.number)]


def text_columns(parts: tuple[str, ...]) -> NDArray[np.int64]:
    """Which directions of the whole basis a stage's features are."""
    starts = dict(zip(COUNTS, np.cumsum([0, *COUNTS.values()]).tolist(), strict=False))
    return np.concatenate([starts[part.family] + np.arange(part.number) for part in checked_text_parts(parts)])


def tokens_input() -> onnx.ValueInfoProto:
    """INT64 (texts, windows, tokens), padded."""
    return helper.make_tensor_value_info(TOKENS_INPUT, TensorProto.INT64, ["n", "windows", "tokens"])


def tokeniser_digest() -> str:
    """Of the file that holds the tokeniser's tables, as `sha256:<hex>`. Raises ModelFileError."""
    return "sha256:" + load_text_file().digest


@cache
def shared_pieces() -> Pieces:
    """The tokeniser, made once a process. Raises ModelFileError."""
    return Pieces(load_text_file())


def tokens_of(text: NDArray[Any]) -> Tokens:
    """A decoded text -> (1, windows, tokens), as the graph takes it. Raises InputError, ModelFileError."""
    return shared_pieces().windows(PREFIX + written(text))[None]


def add_all_directions(graph: GraphWriter, file: TextFile, tokens: str, basis: TextBasis) -> str:
    """Adds backbone, basis and quantisation; returns the name of the (n, DIRECTIONS) float32 output that holds integers."""
    graph.constant("basis_matrix", np.ascontiguousarray(basis.matrix.T))
    graph.constant("basis_offset", basis.offset)
    graph.constant("range_scale", np.array(FEATURE_MAX / RANGE_SDS, np.float32))
    graph.constant("quantum_min", np.array(-FEATURE_MAX, np.float32))
    graph.constant("quantum_max", np.array(FEATURE_MAX, np.float32))
    seen = graph.node("MatMul", [add_embedding(graph, file, tokens), "basis_matrix"], "directions_plain")
    directions = graph.node("Add", [seen, "basis_offset"], "directions")
    scaled = graph.node("Mul", [directions, "range_scale"], "directions_scaled")
    return graph.node("Round", [graph.node("Clip", [scaled, "quantum_min", "quantum_max"], "directions_clipped")], "directions_whole")


def add_text_features(graph: GraphWriter, parts: tuple[str, ...], tokens: str = TOKENS_INPUT) -> str:
    """Adds everything behind the tokeniser; returns the name of the (n, features) float32 output that holds integers."""
    everything = add_all_directions(graph, load_text_file(), tokens, shipped_text_basis())
    graph.constant("stage_columns", text_columns(parts))
    return graph.node("Gather", [everything, "stage_columns"], "quantised", axis=1)


@cache
def _whole_graph() -> tuple[bytes, str]:
    """(graph with every direction, digest of its definition and of the tokeniser)."""
    graph = GraphWriter()
    output = add_all_directions(graph, load_text_file(), TOKENS_INPUT, shipped_text_basis())
    model = graph.model(
        "isthmus_text", [tokens_input()], [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", DIRECTIONS])], check=False
    )
    names = {"kind": "isthmus-text/1", "tokeniser": tokeniser_digest(), "prefix": PREFIX}
    return bytes(model.SerializeToString(deterministic=True)), digest_of({**names, **graph_definition(model)})


@cache
def _whole_session(threads: int) -> onnxruntime.InferenceSession:
    return session(_whole_graph()[0], threads)


class TextStages:
    """The extractor of a text's stage; see contracts.ports.SharedExtractor. Rows hold every direction, so that a text is read once for all
    stages, of rosters after a leaver too. Raises InputError for parts that cannot be used, ModelFileError without the backbone's file.
    """

    def __init__(self, parts: tuple[str, ...], schema: Schema, threads: int = 1) -> None:
        self._columns = text_columns(tuple(parts))
        self._threads = threads
        names: dict[str, Any] = {"rows": self.digest, "parts": list(parts)}
        self.stage = Stage(
            backbone=TEXT_BACKBONE, parts=tuple(parts), dimension=len(self._columns), digest=digest_of(names), schema=schema
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """Of the rows, which hold every direction."""
        return _whole_graph()[1]

    def rows(self, texts: list[NDArray[Any]]) -> NDArray[np.int16]:
        """Decoded texts -> (n, DIRECTIONS) int16."""
        run = _whole_session(self._threads)
        found = np.zeros((len(texts), DIRECTIONS), dtype=np.int16)
        for place, text in enumerate(texts):
            found[place] = run.run(["directions_whole"], {TOKENS_INPUT: tokens_of(text)})[0][0].astype(np.int16)
        return found

    def select(self, rows: NDArray[np.int16]) -> NDArray[np.int16]:
        """(n, the stage's dimension)."""
        return rows[:, self._columns]


class Embedder:
    """The backbone's own numbers beside the directions, for measurements and for making the basis: only the directions may be summed."""

    def __init__(self, threads: int = 1, basis: TextBasis | None = None) -> None:
        graph = GraphWriter()
        directions = add_all_directions(graph, load_text_file(), TOKENS_INPUT, basis or blank_text_basis())
        sizes = {"embedding": WIDTH, directions: DIRECTIONS}
        shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in sizes.items()]
        self._outputs = list(sizes)
        self._session = session(graph.model("isthmus_embedding", [tokens_input()], shown, check=False).SerializeToString(), threads)

    def embedded(self, text: str) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        """((WIDTH,) of length 1, (DIRECTIONS,) quantised by the basis that was given)."""
        embedding, whole = self._session.run(self._outputs, {TOKENS_INPUT: tokens_of(coded(text))})
        return np.asarray(embedding[0]), np.asarray(whole[0]).astype(np.int16)
