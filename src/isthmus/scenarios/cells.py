"""A few served records to look at, with their exact explanation: what in the picture, or which columns, made the score."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.contracts.errors import InputError
from isthmus.contracts.report import Attribution, CellPart, RecordField
from isthmus.contracts.schema import Schema
from isthmus.foundry.engine import Scorer
from isthmus.foundry.stages import feature_names
from isthmus.foundry.textreasons import reasons
from isthmus.kit.decoders import decoded_record, row_text
from isthmus.kit.logits import stated
from isthmus.kit.pictures import read_picture
from isthmus.kit.texts import Texts
from isthmus.kit.writing import written
from isthmus.sandbox.folder import is_text_file
from isthmus.sandbox.rowfiles import RowFiles, rows_named
from isthmus.scenarios.facts import RunFacts, Served
from isthmus.scenarios.findings import head_of, parties_of, result_of
from isthmus.scenarios.trial_gallery import DISTANCE_SPAN, distance_heat, heat_uri

PICTURE_PIXELS_MAX = 300
REFERENCE_IMAGES_MAX = 200
ATTRIBUTIONS_SHOWN = 8
PASSAGES_SHOWN, PASSAGE_CHARACTERS = 4, 60
HEAT_QUANTILE = 0.99
PERSON, GOOD, DEFECT = "person", "good", "defect"
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


def cells(facts: RunFacts, per_kind: int = 4, say: Texts | None = None) -> tuple[CellPart, ...]:
    """Up to `per_kind` of each: answered wrongly, clearly good, clearly defective, doubtful. Empty when nothing was served.

    score = bias + sum of attributions + rest, but for the 32 bits in which a score is served; of a logistic head the sum is the logarithm
    of the odds. Attributions are against the mean features of the served images. A text also shows what leaving a passage out does
    (foundry.textreasons), in the words of `say`. Pictures and texts only where a licence note allows to show them; explanations only with
    the artefact.
    """
    result = result_of(facts.fleet)
    if facts.serving is None or result is None:
        return ()
    head = head_of(result)
    chosen = _instructive(facts.serving.served, (head.lo + head.hi) / 2, per_kind)
    chances = {one.path: float(stated(np.array(one.score))) for one in chosen} if head.link == "logistic" else {}
    records = _decoded([*chosen, *facts.serving.served], head.stage.schema)
    if facts.artefact is None or not records:
        return tuple(_plain(facts, one, records.get(one.path), head.stage.schema, chances.get(one.path)) for one in chosen)
    scorer = Scorer(facts.artefact)
    if not scorer.linear:
        return tuple(_far(_plain(facts, one, records.get(one.path), head.stage.schema), scorer, records.get(one.path)) for one in chosen)
    quantised = dict(zip(records, scorer.quantised(list(records.values())), strict=True))
    reference = np.mean(np.stack(list(quantised.values())).astype(np.float64), axis=0)
    pictured = head.stage.schema is None
    maps = {one.path: scorer.heat(records[one.path], reference).picture for one in chosen if pictured and one.path in records}
    limit = float(np.quantile(np.abs(np.concatenate([m.ravel() for m in maps.values()])), HEAT_QUANTILE)) if maps else 0.0
    names = feature_names(head.stage)
    made = []
    for one in chosen:
        part = _plain(facts, one, records.get(one.path), head.stage.schema, chances.get(one.path))
        if one.path in records:
            part = _explained(part, scorer, quantised[one.path], reference, names)
            if say is not None and head.stage.schema is not None and head.stage.schema.written and part.fields:
                part = _reasoned(part, scorer, records[one.path], say)
            if part.picture is not None:
                part = _heated(part, maps[one.path], limit)
        made.append(part)
    return tuple(made)


def _instructive(served: Sequence[Served], middle: float, per_kind: int) -> list[Served]:
    """Wrong ones first, then clear good, clear defects, doubtful ones; each picture once."""
    wrong = [one for one in served if one.verdict != PERSON and one.label is not None and one.verdict != one.label]
    clear = [one for one in served if one not in wrong]
    shelves = (
        sorted(wrong, key=lambda one: -abs(one.score - middle)),
        sorted((one for one in clear if one.verdict == GOOD), key=lambda one: one.score),
        sorted((one for one in clear if one.verdict == DEFECT), key=lambda one: -one.score),
        sorted((one for one in served if one.verdict == PERSON), key=lambda one: abs(one.score - middle)),
    )
    chosen: dict[Path, Served] = {}
    for shelf in shelves:
        fresh = [one for one in {one.path: one for one in shelf}.values() if one.path not in chosen]
        chosen |= {one.path: one for one in fresh[:per_kind]}
    return list(chosen.values())


def _decoded(served: Sequence[Served], schema: Schema | None) -> dict[Path, NDArray[Any]]:
    """path -> the first REFERENCE_IMAGES_MAX records, decoded; one that cannot be read any more is left out."""
    found: dict[Path, NDArray[Any]] = {}
    tables: dict[Path, RowFiles] = {}
    for path in list(dict.fromkeys(one.path for one in served))[:REFERENCE_IMAGES_MAX]:
        try:
            rows = rows_named(path.name)
            if schema is not None and rows is not None:
                raw = tables.setdefault(path.parent, RowFiles(path.parent)).record(*rows)
                raw = row_text(raw, path.name, schema) if schema.written else raw
                found[path] = decoded_record(raw, path.name, schema)
            elif schema is not None and schema.written and is_text_file(path.name):
                found[path] = decoded_record(path.read_bytes(), path.name, schema)
            else:
                found[path] = read_picture(path)
        except (InputError, OSError):  # moved or changed since it was served
            continue
    return found


def _fields(record: NDArray[Any], schema: Schema) -> tuple[RecordField, ...]:
    """What a record says, column by column; of a series, its newest step; a text as it is."""
    if schema.written:
        return (RecordField(column=schema.columns[0].name, value=written(record)),)
    newest = record if record.ndim == 1 else record[-1]
    shown = []
    for column, value in zip(schema.columns, newest, strict=True):
        if np.isnan(value):
            text = "missing"
        elif column.kind == "category":
            text = column.levels[int(value)]
        else:
            text = f"{float(value):.6g} {column.unit}".rstrip()
        shown.append(RecordField(column=column.name, value=text))
    return tuple(shown)


def _owner_of(facts: RunFacts, path: Path) -> str:
    """Whose folder the picture lies in; else who sent it."""
    for item in parties_of(facts):
        if path.is_relative_to(item.owner.data):
            return item.owner.party
    return "" if facts.serving is None else facts.serving.caller


def _plain(facts: RunFacts, one: Served, record: NDArray[Any] | None, schema: Schema | None, chance: float | None = None) -> CellPart:
    shown = record is not None and bool(facts.licence_note.strip())
    return CellPart(
        id=one.path.stem if schema is None else one.path.name,
        owner=_owner_of(facts, one.path),
        licence_note=facts.licence_note,
        picture=picture_uri(record) if shown and record is not None and schema is None else None,
        fields=_fields(record, schema) if shown and record is not None and schema is not None else (),
        score=one.score,
        probability=chance,
        verdict=one.verdict,
        label=one.label,
        certainty=one.certainty,
        kind=one.kind or None,
    )


def picture_uri(pixels: Pixels) -> str:
    """H x W x 3 -> a PNG data URI of at most PICTURE_PIXELS_MAX a side; grey pictures with one channel."""
    image = Image.fromarray(pixels)
    if bool((pixels == pixels[..., :1]).all()):
        image = image.convert("L")
    image.thumbnail((PICTURE_PIXELS_MAX, PICTURE_PIXELS_MAX))
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _far(part: CellPart, scorer: Scorer, record: NDArray[Any] | None) -> CellPart:
    """The same cell with the distance of each of its places, where the model gives one and the picture is shown."""
    if record is None or part.picture is None or not scorer.has_heat:
        return part
    return _heated(part, distance_heat(scorer.heats([record])[0]), DISTANCE_SPAN)


def _explained(part: CellPart, scorer: Scorer, quantised: NDArray[np.int16], reference: Floats, names: Sequence[str]) -> CellPart:
    """The same cell with its features and their exact parts of the score."""
    parts = scorer.contributions(quantised[None, :], reference)[0]
    order = np.argsort(-np.abs(parts), kind="stable")
    shown = tuple(Attribution(feature=names[i], index=int(i), contribution=float(parts[i])) for i in order[:ATTRIBUTIONS_SHOWN])
    return msgspec.structs.replace(
        part,
        bias=scorer.base(reference),
        attributions=shown,
        rest=math.fsum(parts[order[ATTRIBUTIONS_SHOWN:]]),
        features=tuple(int(v) for v in quantised),
    )


def _reasoned(part: CellPart, scorer: Scorer, text: NDArray[Any], say: Texts) -> CellPart:
    """The same cell with the passages whose leaving out moves the score most."""
    told = [
        RecordField(
            column=say("passage.without", words=_short(passage.words)), value=say("passage.effect", change=f"{-passage.effect:+.2f}")
        )
        for passage in reasons(text, scorer.scores)[:PASSAGES_SHOWN]
    ]
    return msgspec.structs.replace(part, fields=(*part.fields, *told))


def _short(words: str) -> str:
    return words if len(words) <= PASSAGE_CHARACTERS else words[:PASSAGE_CHARACTERS] + "…"


def _heated(part: CellPart, heat: Floats, limit: float) -> CellPart:
    return msgspec.structs.replace(part, heat=heat_uri(heat, limit), heat_limit=limit)
