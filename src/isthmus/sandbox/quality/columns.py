"""Columns of a folder's table: missing, constant, beyond the declared range, no number where one belongs, or in another unit.

A unit is suspected where values lie beyond what is expected and one known conversion (kit.units) brings them back: of a whole column, or
of some records of it. What is expected is the declared range; without one, the column's own middle and its robust spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.quality import Action, Finding, WorkItem, charged, finding_of
from isthmus.contracts.schema import MISSING, RESERVED, Column, Schema
from isthmus.kit.units import CONVERSIONS, Conversion
from isthmus.sandbox.quality.material import Floats, Material, Table, numbers_of

NUMBER_SHARE_MIN = 0.9
"""Of what is not missing: from here on a column that nobody declared counts as one of numbers."""
LEVELS_MAX = 64
WHOLE_OUT_MIN, BACK_MIN = 0.5, 0.9
"""A whole column is in another unit where so many values lie beyond its range, and the conversion brings so many back."""
PART_BACK_MIN = 0.8
FAR_SPREADS, NEAR_SPREADS, STEP_SPREADS, GAP_SPREADS = 4.0, 2.5, 5.0, 1.0
"""Robust spreads: from where on a value is far from the middle, how near a conversion must bring it, how large a step it must be, and how
wide the gap between far values and the others, which a tail has not."""
PART_MIN, POSITIVE_MIN, VALUES_MIN = 2, 0.99, 20
SPREAD_OF_RANGE = 0.02
"""A robust spread below this share of the middle's size is taken to be that much: a column that hardly varies has no outliers of unit."""
PART_SHARE_MAX = 0.4
ITEMS_MAX = 2000
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """Findings, and work for people."""

    findings: tuple[Finding, ...] = ()
    work: tuple[WorkItem, ...] = ()


def inferred_schema(table: Table) -> Schema | None:
    """Columns as they look: numbers on the range of all but a hundredth, categories of few levels. None where there is none."""
    columns = []
    for name, texts in table.cells.items():
        if name in RESERVED or not _usable_name(name):
            continue
        values = numbers_of(texts)
        known = ~np.isnan(values)
        numeric = np.isfinite(values)
        if known.sum() >= 2 and numeric.sum() >= NUMBER_SHARE_MIN * known.sum():
            low, high = np.quantile(values[numeric], [0.005, 0.995])
            if high > low:
                columns.append(Column(name=name, low=float(low), high=float(high), missing=True))
            continue
        levels = sorted({text.strip().casefold() for text in texts} - MISSING)
        if 2 <= len(levels) <= LEVELS_MAX:
            columns.append(Column(name=name, kind="category", levels=tuple(levels), missing=True))
    return Schema(columns=tuple(columns[:256])) if columns else None


def _usable_name(name: str) -> bool:
    return name.isascii() and name[:1].isalpha() and name.replace("_", "").isalnum() and len(name) <= 64 and name == name.lower()


def check_columns(material: Material, schema: Schema, declared: bool) -> Found:
    """declared: the ranges are a scenario's; else they were taken from the data and nothing lies beyond them by much."""
    table = material.table
    if table is None:
        return Found()
    findings: list[Finding] = []
    work: list[WorkItem] = []
    owners = table.record_of_rows()
    for column in schema.columns:
        if column.name not in table.cells:
            says = f"the column {column.name} is not there"
            findings.append(finding_of("missing", 1.0, says, table.rows, column.name))
            continue
        for found in (_fields(table, column, declared, material, owners), _units(table, column, declared, material, owners)):
            findings += found.findings
            work += found.work
    blank = [f for f in findings if f.check == "missing"]
    mean = sum(f.share for f in blank) / len(schema.columns)
    points = charged("missing", mean)
    findings = [f if f.check != "missing" else _recharged(f, points) for f in findings]
    constant = [f for f in findings if f.check == "constant"]
    points = charged("constant", len(constant) / len(schema.columns))
    findings = [f if f.check != "constant" else _recharged(f, points) for f in findings]
    return Found(tuple(findings), tuple(work))


def _recharged(finding: Finding, points: float) -> Finding:
    return Finding(
        check=finding.check,
        level=finding.level,
        says=finding.says,
        records=finding.records,
        share=finding.share,
        points=points,
        column=finding.column,
    )


def _fields(table: Table, column: Column, declared: bool, material: Material, owners: NDArray[np.int64]) -> Found:
    texts = table.cells[column.name]
    folded = [text.strip().casefold() for text in texts]
    absent = np.array([text in MISSING for text in folded])
    findings: list[Finding] = []
    work: list[WorkItem] = []
    if absent.any():
        share = float(absent.mean())
        says = f"{_percent(share)} of the fields of {column.name} are empty" + ("" if column.missing else ", and none may be")
        findings.append(finding_of("missing", share, says, int(absent.sum()), column.name, 0.2 if column.missing else 0.0))
    values = {text for text, gone in zip(folded, absent, strict=True) if not gone}
    if len(values) < 2:
        findings.append(finding_of("constant", 1.0, f"{column.name} never varies", table.rows, column.name))
        return Found(tuple(findings))
    if column.kind == "category":
        levels = {level.strip().casefold() for level in column.levels}
        wrong = np.array([not gone and text not in levels for text, gone in zip(folded, absent, strict=True)])
        says = f"{column.name} holds values that are none of its levels"
    else:
        numbers = numbers_of(texts)
        wrong = np.isinf(numbers)
        says = f"{column.name} holds text where a number belongs"
    if wrong.any():
        share = float(wrong.mean())
        findings.append(finding_of("out-of-range", share, f"{says}, in {_percent(share)} of its fields", int(wrong.sum()), column.name))
        work += _items(material, owners, wrong, "out-of-range", says, column.name, 0.9)
    if column.kind == "number" and declared:
        out = np.isfinite(numbers) & ((numbers < column.low) | (numbers > column.high))
        if out.any():
            share = float(out.mean())
            span = f"{column.low:g} to {column.high:g} {column.unit}".rstrip()
            says = f"{_percent(share)} of {column.name} lie beyond the declared {span}"
            findings.append(finding_of("out-of-range", share, says, int(out.sum()), column.name))
            work += _items(material, owners, out, "out-of-range", f"{column.name} lies beyond {span}", column.name, 0.5)
    return Found(tuple(findings), tuple(work))


def _items(
    material: Material, owners: NDArray[np.int64], rows: Flags, check: str, why: str, column: str, chance: float, value: str = ""
) -> list[WorkItem]:
    records = np.unique(owners[rows])[:ITEMS_MAX]
    action: Action = "fix" if value else "look"
    return [
        WorkItem(path=material.files[r].path, action=action, why=why, check=check, chance=chance, gain=chance, column=column, value=value)
        for r in records.tolist()
        if r >= 0
    ]


def _units(table: Table, column: Column, declared: bool, material: Material, owners: NDArray[np.int64]) -> Found:
    if column.kind != "number":
        return Found()
    values = numbers_of(table.cells[column.name])
    known = np.isfinite(values)
    if known.sum() < 5:
        return Found()
    if declared:
        out = known & ((values < column.low) | (values > column.high))
        whole = _whole(values[known], column)
        if whole is not None:
            says = f"{column.name} looks as if it were in another unit: {whole.name}"
            finding = finding_of("units", 1.0, says, int(known.sum()), column.name)
            return Found((finding,), _fixes(material, owners, known, values, whole, column.name, 0.9))
    else:
        out = known
    return _part(values, known, out, column, declared, material, owners)


def _whole(values: Floats, column: Column) -> Conversion | None:
    """The conversion that brings most of a column back into its range, and its middle nearest to the range's."""
    inside = (values >= column.low) & (values <= column.high)
    if 1.0 - float(inside.mean()) < WHOLE_OUT_MIN:
        return None
    centre = _scaled_centre(column)
    best: tuple[float, Conversion] | None = None
    for conversion in CONVERSIONS:
        back = conversion.applied(values)
        if float(((back >= column.low) & (back <= column.high)).mean()) < BACK_MIN:
            continue
        middle = float(np.median(back))
        away = abs((math.log(middle) if column.log and middle > 0 else middle) - centre)
        if best is None or away < best[0]:
            best = (away, conversion)
    return None if best is None else best[1]


def _scaled_centre(column: Column) -> float:
    return (math.log(column.low) + math.log(column.high)) / 2 if column.log else (column.low + column.high) / 2


def _part(values: Floats, known: Flags, out: Flags, column: Column, declared: bool, material: Material, owners: NDArray[np.int64]) -> Found:
    """Some records in another unit: far from the column's middle, and one conversion brings most of those on that side back to it."""
    best: tuple[float, float, Conversion, Flags] | None = None
    for conversion in CONVERSIONS:
        good, away = _brought_back(values, known, conversion)
        if declared:
            back = np.where(known, conversion.applied(np.where(known, values, 0.0)), np.inf)
            good &= (back >= column.low) & (back <= column.high)
        if good.sum() >= PART_MIN and (best is None or (-float(good.sum()), away) < best[:2]):
            best = (-float(good.sum()), away, conversion, good)
    if best is None or best[3].sum() > PART_SHARE_MAX * known.sum():
        return Found()
    _, _, conversion, good = best
    share = float(good.sum() / known.sum())
    says = f"{int(good.sum())} values of {column.name} look as if they were in another unit: {conversion.name}"
    finding = finding_of("units", share, says, int(good.sum()), column.name)
    return Found((finding,), _fixes(material, owners, good, values, conversion, column.name, 0.85))


def _brought_back(values: Floats, known: Flags, conversion: Conversion) -> tuple[Flags, float]:
    """(values that a conversion explains, how far they then lie from the middle on average).

    Factors are held against the logarithm of a column that is positive, where a factor is a shift and a long tail is short; scales with
    another zero against the values. None where no gap parts those values from the others, where the conversion leaves what lies on that
    side mostly unexplained, where it is too small a step for the column's own spread, or where the column has few values, as codes have.
    """
    none, shifted = np.zeros(len(values), dtype=bool), conversion.shift != 0.0
    usable = known if shifted else known & (values > 0)
    if usable.sum() < POSITIVE_MIN * known.sum() or len(np.unique(values[known])) < VALUES_MIN:
        return none, math.inf
    written = values if shifted else np.log(np.where(usable, values, 1.0))
    meant = conversion.applied(np.where(usable, values, 0.0)) if shifted else written + math.log(conversion.factor)
    middle = float(np.median(written[usable]))
    spread = max(1.4826 * float(np.median(np.abs(written[usable] - middle))), SPREAD_OF_RANGE * (abs(middle) if shifted else 1.0), 1e-12)
    step = float(np.median(np.abs(meant - written)[usable]))
    if step < STEP_SPREADS * spread:
        return none, math.inf
    off = written - middle
    side = usable & (np.abs(off) > FAR_SPREADS * spread) & (np.sign(off) == -np.sign(meant - written))
    away = np.abs(meant - middle) / spread
    good = side & (away <= NEAR_SPREADS)
    if good.sum() < max(1.0, PART_BACK_MIN * side.sum()):
        return none, math.inf
    nearest = float(np.abs(off[good]).min())
    before = np.abs(off[usable & ~good & (np.sign(off) == -np.sign(meant - written)) & (np.abs(off) < nearest)])
    if nearest - float(before.max(initial=0.0)) < GAP_SPREADS * spread:
        return none, math.inf
    return good, float(away[good].mean())


def _fixes(
    material: Material, owners: NDArray[np.int64], rows: Flags, values: Floats, conversion: Conversion, column: str, chance: float
) -> tuple[WorkItem, ...]:
    found = []
    for row in np.flatnonzero(rows)[:ITEMS_MAX].tolist():
        if owners[row] < 0:
            continue
        right = float(conversion.applied(np.array([values[row]]))[0])
        found.append(
            WorkItem(
                path=material.files[int(owners[row])].path,
                action="fix",
                why=f"{column} looks as if it were in another unit: {conversion.name}",
                check="units",
                chance=chance,
                gain=chance,
                column=column,
                value=f"{right:.6g}",
            )
        )
    return tuple(found)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
