"""Every kind of stage in one place: which extractor makes a stage, and how its graph begins.

Pictures and texts are seen through a backbone (foundry.features, foundry.textfeatures); rows of a table and windows of a series through
public features of their declared columns (foundry.tablefeatures, foundry.seriesfeatures). What follows a stage, head and thresholds, is
the same for all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Stage
from isthmus.contracts.parts import of_patches
from isthmus.contracts.ports import SharedExtractor
from isthmus.contracts.schema import Schema, checked_schema
from isthmus.contracts.seriesparts import checked_series_parts, series_part_names
from isthmus.foundry import features
from isthmus.foundry.backbone import GraphWriter
from isthmus.foundry.patches import PatchStages, add_patch_features
from isthmus.foundry.runtime import image_input
from isthmus.foundry.seriesfeatures import SERIES, SeriesExtractor, add_series_features
from isthmus.foundry.shared import SharedStages
from isthmus.foundry.stageparts import checked_parts, part_names
from isthmus.foundry.tablefeatures import TABLE_BACKBONE as TABLE
from isthmus.foundry.tablefeatures import TableExtractor, add_table_features
from isthmus.foundry.tablefeatures import feature_names as table_feature_names
from isthmus.foundry.textfeatures import (
    TEXT_BACKBONE,
    TextStages,
    add_text_features,
    checked_text_parts,
    text_feature_names,
    tokens_input,
)
from isthmus.kit.decoders import decoder_named

IMAGE_INPUT, RECORDS_INPUT = "image", "records"


class _RecordExtractor(Protocol):
    @property
    def digest(self) -> str: ...

    def stage(self) -> Stage: ...

    def quantised(self, records: NDArray[np.float32]) -> NDArray[np.int16]: ...


def _series_feature_names(schema: Schema, parts: tuple[str, ...]) -> list[str]:
    return [name for part in checked_series_parts(schema, parts) for name in series_part_names(schema, part)]


_EXTRACTORS: dict[str, Callable[[Schema, tuple[str, ...], int], _RecordExtractor]] = {TABLE: TableExtractor, SERIES: SeriesExtractor}
_NAMES: dict[str, Callable[[Schema, tuple[str, ...]], list[str]]] = {TABLE: table_feature_names, SERIES: _series_feature_names}
_GRAPHS: dict[str, Callable[[GraphWriter, Schema, tuple[str, ...], str], str]] = {TABLE: add_table_features, SERIES: add_series_features}
BACKBONES = (*features.BACKBONES, *_EXTRACTORS, TEXT_BACKBONE)
"""Everything that a recipe may name as its backbone."""


def checked_source(backbone: str, schema: Schema | None) -> str:
    """The backbone if it is known and fits the records: pictures have no schema, all others have one. Raises InputError."""
    if backbone not in BACKBONES:
        raise InputError(f"the backbone {backbone!r} is not known here", f"use one of {', '.join(BACKBONES)}")
    wanted = TABLE if schema is not None and schema.steps == 1 else SERIES
    if schema is None and (backbone in _EXTRACTORS or backbone == TEXT_BACKBONE):
        raise InputError(f"the backbone {backbone!r} takes records, and no columns are declared", "declare the columns, or use pictures")
    if schema is not None and schema.written != (backbone == TEXT_BACKBONE):
        what = f"the backbone {backbone!r} does not take {'texts' if schema.written else 'records of numbers'}"
        raise InputError(what, f"use {TEXT_BACKBONE if schema.written else wanted}")
    if backbone == TEXT_BACKBONE:
        return backbone
    if schema is not None and backbone != wanted:
        raise InputError(f"the backbone {backbone!r} does not take records of {schema.steps} steps", f"use {wanted}")
    return backbone


class RecordStages:
    """The extractor of a table's or a series' stage; see contracts.ports.SharedExtractor. Features cost so little that none are shared."""

    def __init__(self, backbone: str, parts: tuple[str, ...], schema: Schema, threads: int = 1) -> None:
        checked_source(backbone, checked_schema(schema))
        self._extractor = _EXTRACTORS[backbone](schema, tuple(parts), threads)
        self.stage = self._extractor.stage()

    @property
    def digest(self) -> str:
        return self._extractor.digest

    def rows(self, records: list[NDArray[Any]]) -> NDArray[np.int16]:
        """Records, each (columns,) or (steps, columns) float32 -> (n, d) int16."""
        return self.matrix(np.stack(records).astype(np.float32))

    def matrix(self, records: NDArray[np.float32]) -> NDArray[np.int16]:
        """The same of (n, columns), or (n, steps, columns)."""
        return self._extractor.quantised(records)

    def select(self, rows: NDArray[np.int16]) -> NDArray[np.int16]:
        return rows


def extractor_of(
    backbone: str, parts: tuple[str, ...], schema: Schema | None, threads: int = 1
) -> SharedStages | RecordStages | PatchStages | TextStages:
    """The extractor that makes a stage. Raises InputError for a backbone, part or schema that cannot be used."""
    if schema is not None and schema.written:
        checked_source(backbone, checked_schema(schema))
        return TextStages(parts, schema, threads)
    if schema is not None:
        return RecordStages(backbone, parts, schema, threads)
    known = checked_source(backbone, None)
    return PatchStages(known, parts, threads) if of_patches(parts) else SharedStages(known, parts, threads)


def checked_extractor(stage: Stage, threads: int = 1) -> SharedExtractor:
    """The extractor of a stage document. Raises InputError when this release makes another stage of the same parts."""
    found = extractor_of(stage.backbone, stage.parts, stage.schema, threads)
    if found.stage != stage:
        raise InputError(f"the stage {stage.digest[:19]} is not what this release makes of {list(stage.parts)}", "use the same release")
    return found


def stage_of(backbone: str, parts: tuple[str, ...], schema: Schema | None = None, tensors: features.Tensors | None = None) -> Stage:
    """The stage document of these parts. tensors: the image backbone's, where they are at hand. Raises InputError."""
    checked_source(backbone, schema)
    if schema is not None:
        return TextStages(parts, checked_schema(schema)).stage if schema.written else RecordStages(backbone, parts, schema).stage
    return PatchStages(backbone, parts, tensors=tensors).stage if of_patches(parts) else features.stage(parts, tensors, backbone)


def check_parts(backbone: str, parts: tuple[str, ...], schema: Schema) -> None:
    """Raises InputError when a stage of records cannot be made of these parts. Needs no weights, unlike `stage_of`."""
    if schema.written:
        checked_text_parts(parts)
    else:
        RecordStages(backbone, parts, schema)


def decoder_of(stage: Stage) -> str:
    """The named decoder that makes records of bytes for a stage."""
    return decoder_named(stage.schema)


def feature_names(stage: Stage) -> list[str]:
    """The name of each feature of a stage."""
    if stage.schema is None:
        return [name for part in checked_parts(stage.parts) for name in part_names(part)]
    if stage.schema.written:
        return text_feature_names(stage.parts)
    return _NAMES[stage.backbone](stage.schema, stage.parts)


def add_stage(graph: GraphWriter, stage: Stage, tensors: features.Tensors | None = None) -> tuple[str, onnx.ValueInfoProto]:
    """Adds a stage to a graph: (name of its quantised output, the graph's input)."""
    if stage.schema is None:
        known = tensors or features.load_tensors()
        if stage.positions > 1:
            return add_patch_features(graph, known, IMAGE_INPUT, stage.parts, stage.backbone), image_input()
        return features.add_quantised_features(graph, known, IMAGE_INPUT, stage.parts, stage.backbone), image_input()
    schema = stage.schema
    if schema.written:
        return add_text_features(graph, stage.parts), tokens_input()
    shape: list[str | int | None] = ["n", len(schema.columns)] if schema.steps == 1 else ["n", schema.steps, len(schema.columns)]
    given = helper.make_tensor_value_info(RECORDS_INPUT, TensorProto.FLOAT, shape)
    return _GRAPHS[stage.backbone](graph, schema, stage.parts, RECORDS_INPUT), given
