"""What of a table in columns may be told in public: as sandbox.description, from one walk in batches of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.croissant import AssetFacts, FieldFact, FileKind, PublishedQuality, band_of
from isthmus.contracts.errors import FolderError
from isthmus.contracts.schema import MISSING, Schema
from isthmus.contracts.targets import Target
from isthmus.sandbox.columnasset import ColumnAsset
from isthmus.sandbox.columnfiles import ARROW_SUFFIXES, CSV_SUFFIXES, PARQUET_SUFFIXES
from isthmus.sandbox.columnvalues import texts_of
from isthmus.sandbox.description import LABEL, PARSERS, declared_field, mock_sample, names_column
from isthmus.sandbox.personaldata import VALUE_SIGNS, VALUES_LOOKED_AT_MAX, signs_in_names, signs_in_values

KINDS: tuple[tuple[FileKind, tuple[str, ...]], ...] = (("table", CSV_SUFFIXES), ("parquet", PARQUET_SUFFIXES), ("arrow", ARROW_SUFFIXES))
WHOLE, REAL, TRUTH = {"sc:Integer", "sc:Float"}, {"sc:Float"}, {"sc:Boolean"}


def described_columns(
    asset: ColumnAsset,
    name: str,
    owner: str,
    licence: str,
    date: str,
    schema: Schema | None = None,
    targets: tuple[Target, ...] = (),
    commitment: str = "",
    quality: PublishedQuality | None = None,
    sample: bool = False,
) -> AssetFacts:
    """The facts of a table in columns; arguments as of `described`. Raises FolderError: a column's name may be a record, a scenario
    foretells numbers, or a file cannot be read; RefusedError: a block is not the one that the asset commits to."""
    if targets:
        raise FolderError(f"{asset.files.root} is a table in columns, and the scenario foretells numbers", "give a folder with records.csv")
    names = asset.files.names()
    wrong = next((place for place, column in enumerate(names, start=1) if not names_column(column)), None)
    if wrong is not None:
        raise FolderError(
            f"the columns of {asset.files.root} are not named: the name of column {wrong} looks like data",
            "name each column: a name begins with a letter and has up to 64 letters, digits and signs",
        )
    seen = {column: Seen() for column in names}
    for batch in asset.files.batches(names):
        for column in names:
            seen[column].take(batch[column])
    if schema is not None:
        own = tuple(declared_field(column, schema.steps) for column in schema.columns)
    else:
        own = tuple(seen[column].field(column) for column in names if column not in asset.layout.role_columns)
    fields = (*own, LABEL)
    told = [f"Some values of the column {c} have the shape of {sign} (heuristic)." for c in names for sign in sorted(seen[c].signs)]
    return AssetFacts(
        name=name,
        owner=owner,
        licence=licence,
        kind=_kind(asset),
        fields=fields,
        band=band_of(asset.index.rows),
        personal=(*signs_in_names(names), *told),
        mock=mock_sample(fields),
        date=date,
        commitment=commitment,
        quality=quality,
        sample=sample,
    )


def _kind(asset: ColumnAsset) -> FileKind:
    files = [known.name.lower() for known in asset.files.blocks]
    return next((kind for kind, suffixes in KINDS if all(file.endswith(suffixes) for file in files)), "tables")


@dataclass
class Seen:
    """What was seen of a column, batch by batch. types: those that all values parse as. present: whether there was any value; some: whether
    one parses as anything. looked_at: values in which signs of personal data were looked for."""

    types: set[str] = field(default_factory=lambda: set(PARSERS))
    present: bool = False
    some: bool = False
    looked_at: int = 0
    signs: set[str] = field(default_factory=set)

    def take(self, values: NDArray[Any]) -> None:
        """Numbers by their type; texts, which all of a CSV file are, one by one, but each once a batch."""
        if values.dtype != object:
            there = bool(np.isfinite(values).any()) if values.dtype == np.float64 else bool(len(values))
            if there:
                self._keep(WHOLE if values.dtype == np.int64 else TRUTH if values.dtype == np.bool_ else REAL)
            return
        texts = [text for text in texts_of(values)[0] if text.strip().casefold() not in MISSING]
        if self.looked_at < VALUES_LOOKED_AT_MAX and len(self.signs) < len(VALUE_SIGNS):
            self.signs |= signs_in_values(texts[: VALUES_LOOKED_AT_MAX - self.looked_at])
            self.looked_at += len(texts)
        if not texts or (self.some and not self.types):
            return
        fitting = {type for type in PARSERS if all(PARSERS[type](text) for text in texts)}
        self.some = self.some or bool(fitting) or any(parses(text) for parses in PARSERS.values() for text in texts)
        self.types, self.present = self.types & fitting, True

    def _keep(self, types: set[str]) -> None:
        self.types, self.present, self.some = self.types & types, True, True

    def field(self, name: str) -> FieldFact:
        """The narrowest type that all values parse as; which values there are is not told."""
        type = next((type for type in PARSERS if self.present and type in self.types), None)
        return FieldFact(name, type or "sc:Text", name, parses="all" if type else "some" if self.some else "none")
