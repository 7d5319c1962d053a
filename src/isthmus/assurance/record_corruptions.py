"""Declared corruptions of a record of a table or series: what sensors, forms and wires do, in five severities each.

    noise    Gaussian, independent from value to value; its deviation is a share of the column's declared range
    drift    every number moved by the same share of its range, up or down, as by sensors that age
    missing  a share of the columns that may be missing is; of a series at all steps, as when a sensor falls silent

A record without a value that may not be missing is refused where it comes in, so that is not tried. The constants are ours
and part of what a certificate means. Categories are only ever missing. Deterministic: the generator is keyed by
the record's own bytes, so that every node and every run sees the same values.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Records, Schema

RECORD_FAMILIES = ("noise", "drift", "missing")
SEVERITIES = (1, 2, 3, 4, 5)
NOISE_SHARE = (0.005, 0.01, 0.02, 0.04, 0.08)
DRIFT_SHARE = (0.01, 0.02, 0.04, 0.08, 0.16)
MISSING_SHARE = (0.05, 0.1, 0.2, 0.3, 0.5)


def _uniform(record: Records, family: str, severity: int, count: int) -> NDArray[np.float64]:
    """(count,) numbers strictly between 0 and 1, from a counter-based generator."""
    seed = hashlib.sha256(f"{family} {severity} {record.shape}".encode() + np.ascontiguousarray(record).tobytes()).digest()
    words = np.random.Philox(key=int.from_bytes(seed[:16], "little")).random_raw(count)
    return ((words >> np.uint64(32)).astype(np.float64) + 0.5) / 2.0**32


def _moved(record: Records, schema: Schema, shares: NDArray[np.float64]) -> Records:
    """Numbers moved by shares of their range ((..., columns)), on the logarithmic scale where that is the column's."""
    found = record.astype(np.float64)
    for place, column in enumerate(schema.columns):
        if column.kind == "category":
            continue
        if column.log:
            factor = (column.high / column.low) ** shares[..., place]
            found[..., place] = found[..., place] * factor
        else:
            found[..., place] = found[..., place] + shares[..., place] * (column.high - column.low)
    return found.astype(np.float32)


def corrupt_rows(records: Records, family: str, severity: int, schema: Schema) -> Records:
    """(n, columns) rows of a table -> the same shape: what `corrupt_record` makes of each, at once. Raises InputError as it does."""
    if not len(records):
        return records
    first = corrupt_record(records[0], family, severity, schema)
    if family == "missing":
        may = np.array([column.missing for column in schema.columns])
        drawn = np.stack([_uniform(record, family, 0, records.shape[1]) for record in records])
        return np.where((drawn < MISSING_SHARE[severity - 1]) & may, np.float32(np.nan), records)
    if family == "noise":
        shares = NOISE_SHARE[severity - 1] * ndtri(np.stack([_uniform(record, family, severity, first.size) for record in records]))
    else:
        side = np.array([1.0 if _uniform(record, family, 0, 1)[0] < 0.5 else -1.0 for record in records])
        shares = np.broadcast_to((side * DRIFT_SHARE[severity - 1])[:, None], records.shape)
    return _moved(records, schema, shares)


def corrupt_record(record: Records, family: str, severity: int, schema: Schema) -> Records:
    """(columns,) or (steps, columns) float32 -> the same shape. family: one of RECORD_FAMILIES. severity: 1 (mild) to 5.

    Raises InputError for others, or a record of another shape than the schema's.
    """
    if family not in RECORD_FAMILIES:
        raise InputError(f"the corruption {family!r} is not known for records", f"use one of {', '.join(RECORD_FAMILIES)}")
    if severity not in SEVERITIES:
        raise InputError(f"the severity {severity} is not known", "use 1 to 5")
    shape = (len(schema.columns),) if schema.steps == 1 else (schema.steps, len(schema.columns))
    if record.shape != shape:
        raise InputError(f"a record has shape {record.shape}, its schema says {shape}", "send a record of the schema")
    if family == "noise":
        grains = ndtri(_uniform(record, family, severity, record.size)).reshape(shape)
        return _moved(record, schema, NOISE_SHARE[severity - 1] * grains)
    if family == "drift":
        side = 1.0 if _uniform(record, family, 0, 1)[0] < 0.5 else -1.0
        return _moved(record, schema, np.full(shape, side * DRIFT_SHARE[severity - 1]))
    may = np.array([column.missing for column in schema.columns])
    lost = (_uniform(record, family, 0, shape[-1]) < MISSING_SHARE[severity - 1]) & may
    return np.where(np.broadcast_to(lost, shape), np.float32(np.nan), record)
