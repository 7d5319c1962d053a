"""Corruptions of records: deterministic, ever stronger, and within what a schema allows."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.assurance.corruptions import FAMILIES, SCRATCH, corrupt, families_of
from isthmus.assurance.record_corruptions import DRIFT_SHARE, RECORD_FAMILIES
from isthmus.contracts.errors import InputError
from isthmus.contracts.schema import Column, Schema, checked_record

SCHEMA = Schema(
    columns=(
        Column(name="heat", low=0, high=200),
        Column(name="flow", low=0.1, high=10, log=True, missing=True),
        Column(name="state", kind="category", levels=("idle", "running"), missing=True),
    )
)
WINDOW = Schema(columns=SCHEMA.columns, steps=4)
RECORDS = [np.array([100.0 + n, 1.0, n % 2], dtype=np.float32) for n in range(200)]


@pytest.mark.parametrize("family", RECORD_FAMILIES)
@pytest.mark.parametrize("schema", [SCHEMA, WINDOW])
def test_the_same_record_gives_the_same_and_stays_one_of_its_schema(family: str, schema: Schema) -> None:
    record = RECORDS[0] if schema.steps == 1 else np.stack([RECORDS[0]] * 4)
    for severity in range(1, 6):
        once = corrupt(record, family, severity, schema)
        assert np.array_equal(once, corrupt(record.copy(), family, severity, schema), equal_nan=True)
        assert once.shape == record.shape and once.dtype == np.float32
        checked_record(schema, once)


def test_noise_grows_and_drift_is_one_share_of_the_range() -> None:
    spread = [np.std([corrupt(r, "noise", s, SCHEMA)[0] - r[0] for r in RECORDS]) for s in range(1, 6)]
    assert spread == sorted(spread) and spread[0] > 0.5
    for severity, share in enumerate(DRIFT_SHARE, start=1):
        moved = {round(abs(float(corrupt(r, "drift", severity, SCHEMA)[0] - r[0])), 2) for r in RECORDS}
        assert moved == {round(share * 200, 2)}
        flows = {round(abs(np.log(float(corrupt(r, "drift", severity, SCHEMA)[1]))), 4) for r in RECORDS}
        assert flows == {round(share * np.log(100), 4)}


def test_only_what_may_be_missing_is_and_ever_more_of_it() -> None:
    lost = [sum(int(np.isnan(corrupt(r, "missing", s, SCHEMA)).sum()) for r in RECORDS) for s in range(1, 6)]
    assert lost == sorted(lost) and 5 < lost[0] < 60 and 140 < lost[-1] < 260
    assert not any(np.isnan(corrupt(r, "missing", 5, SCHEMA)[0]) for r in RECORDS)


def test_what_is_not_known_is_refused() -> None:
    assert families_of(None) == (*FAMILIES, SCRATCH) and families_of(SCHEMA) == RECORD_FAMILIES
    for family, severity, record in (("blur", 1, RECORDS[0]), ("noise", 6, RECORDS[0]), ("noise", 1, RECORDS[0][:2])):
        with pytest.raises(InputError):
            corrupt(record, family, severity, SCHEMA)
