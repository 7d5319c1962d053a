"""Which named decoder makes a record of bytes: by what a scenario declares its records to be."""

from __future__ import annotations

from typing import Any

import msgspec
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Schema
from isthmus.kit.pictures import DECODER, decode
from isthmus.kit.records import RECORD_DECODER, decode_record
from isthmus.kit.writing import TEXT_DECODER, decode_text

_ROW = msgspec.json.Decoder(dict[str, Any])


def decoder_named(schema: Schema | None) -> str:
    """The decoder's name: of pictures, which have no schema, of texts, or of rows."""
    if schema is None:
        return DECODER
    return TEXT_DECODER if schema.written else RECORD_DECODER


def decoded_record(raw: bytes, name: str, schema: Schema | None) -> NDArray[Any]:
    """A record as it is sent -> the array that a model takes. Raises PictureError, InputError."""
    if schema is None:
        return decode(raw, name)
    return decode_text(raw, name) if schema.written else decode_record(raw, name, schema)


def row_text(raw: bytes, name: str, schema: Schema) -> bytes:
    """The text in a row of a table, whose other columns are not read. Raises InputError."""
    column = schema.columns[0].name
    try:
        row = _ROW.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"{name} is no row of a table", "name one row, as in records.csv#1") from error
    if not isinstance(row.get(column), str):
        raise InputError(f"{name} has no column {column}", "the text stands in it")
    return str(row[column]).encode()
