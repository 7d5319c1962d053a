"""The whole check of one folder: report and list of work. Pure but for reading the folder's files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.ports import Progress
from isthmus.contracts.quality import CHARGES, Finding, Level, QualityReport, WorkItem, charged, finding_of, score_of
from isthmus.contracts.schema import Schema
from isthmus.sandbox.folder import TRAIN, DataFolder
from isthmus.sandbox.ownerdata import silent
from isthmus.sandbox.quality.alike import Twins, twins_of
from isthmus.sandbox.quality.balance import check_balance, check_drift, check_leakage, check_tell_tale
from isthmus.sandbox.quality.columns import Found, check_columns, inferred_schema
from isthmus.sandbox.quality.doubts import Doubts, label_doubts
from isthmus.sandbox.quality.material import Material, gather
from isthmus.sandbox.quality.personal import check_personal
from isthmus.sandbox.statistics.records import group_codes

WORDS = {-1: "good", 1: "defect"}
NOT_CHECKED = (
    "Faces in pictures are not looked for.",
    "Records that other owners hold too are not looked for here: that takes an intersection of sets that both owners agree to.",
    "Drift between owners is not visible at one owner; the exchange tells it from sums that owners let be seen singly.",
)
Features = Callable[[Material, Schema | None], NDArray[np.int16] | None]
"""(readable records, the columns used) -> (n, d) features, or None where they cannot be made."""


@dataclass(frozen=True)
class Checked:
    """report: may be told. work: names records and stays here, the greatest gain first. doubts: of the training records, in their order."""

    report: QualityReport
    work: tuple[WorkItem, ...]
    material: Material
    doubts: Doubts | None


@dataclass(frozen=True)
class Plan:
    """What the check is told. schema, scenario: of the scenario, or None and empty. asset: digest for the report, or empty."""

    schema: Schema | None = None
    scenario: str = ""
    asset: str = ""


def check_folder(folder: DataFolder, plan: Plan, features: Features, progress: Progress = silent) -> Checked:
    """Looks for everything that contracts.quality names. Raises FolderError when nothing can be read."""
    material = gather(folder, plan.schema, progress)
    schema, declared = plan.schema, plan.schema is not None
    if schema is None and material.table is not None:
        schema = inferred_schema(material.table)
    parts = [_unreadable(material)]
    if schema is not None and not schema.written:
        parts.append(check_columns(material, schema, declared))
    twins = _twins(material, schema)
    parts.append(_told_twins(material, twins))
    parts.append(check_leakage(material, twins))
    parts.append(check_balance(material))
    if schema is not None and not schema.written:
        parts.append(check_tell_tale(material, schema))
    found = features(material, schema)
    doubts, told = _doubts(material, found)
    parts += [told, check_drift(material, schema, found)]
    personal, kinds = check_personal(material)
    parts.append(personal)
    findings = _complete(tuple(f for part in parts for f in part.findings))
    report = QualityReport(
        score=score_of(findings),
        records=len(folder.files),
        groups=len({file.group for file in folder.files}),
        findings=findings,
        asset=plan.asset,
        scenario=plan.scenario,
        label_error_share=None if doubts is None else round(doubts.share, 4),
        personal=kinds,
        not_checked=NOT_CHECKED,
    )
    work = sorted((item for part in parts for item in part.work), key=lambda item: (-item.gain, item.path))
    return Checked(report, tuple(work), material, doubts)


def _complete(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """With a word on every check that found nothing, and the heaviest first."""
    met = {finding.check for finding in findings}
    rest = tuple(Finding(check=check, level="good", says="nothing found") for check in CHARGES if check not in met)
    order = {"stop": 0, "care": 1, "note": 2, "unavailable": 3, "good": 4}
    return tuple(sorted((*findings, *rest), key=lambda f: (-f.points, order[f.level], f.check, f.column)))


def _unreadable(material: Material) -> Found:
    if not material.unreadable:
        return Found()
    count, total = len(material.unreadable), len(material.folder.files)
    share = count / total
    says = f"{count} of {total} records cannot be read"
    finding = Finding(
        check="unreadable", level="stop", says=says, records=count, share=round(share, 4), points=charged("unreadable", share)
    )
    work = tuple(
        WorkItem(path=path, action="remove", why=why, check="unreadable", chance=1.0, gain=1.0) for path, why in material.unreadable.items()
    )
    return Found((finding,), work)


def _twins(material: Material, schema: Schema | None) -> Twins:
    columns = () if schema is None else schema.columns
    numeric = tuple(c.name for c in columns if c.kind == "number")
    return twins_of(material, numeric, tuple(c.name for c in columns if c.kind == "category"))


def _told_twins(material: Material, twins: Twins) -> Found:
    files = material.files
    same = [(a, b) for a, b in twins.same if (files[a].split == TRAIN) == (files[b].split == TRAIN)]
    contrary = sum(files[a].label != files[b].label for a, b in twins.same)
    later = {b for _, b in same}
    findings = []
    work = []
    share = len(later) / material.size
    if later or contrary:
        says = f"{len(later)} records have the content of another one" + (f"; {contrary} pairs carry two labels" if contrary else "")
        findings.append(finding_of("duplicates", share, says, len(later), care_from=0.02))
    for a, b in same:
        why = "has the content of another record" + ("" if files[a].label == files[b].label else ", which carries the other label")
        chance = 0.9 if files[a].label == files[b].label else 1.0
        work.append(_twin_item(files[b].path, files[a].path, why, "duplicates", chance))
    near = {b: a for a, b in twins.near if (files[a].split == TRAIN) == (files[b].split == TRAIN)}
    if near:
        says = f"{len(near)} records are nearly the same as another one"
        findings.append(finding_of("near-duplicates", len(near) / material.size, says, len(near), care_from=0.02))
    elif twins.reason:
        findings.append(Finding(check="near-duplicates", level="unavailable", says=twins.reason))
    for b, a in sorted(near.items()):
        work.append(_twin_item(files[b].path, files[a].path, "is nearly the same as another record", "near-duplicates", 0.6))
    return Found(tuple(findings), tuple(work))


def _twin_item(path: str, twin: str, why: str, check: str, chance: float) -> WorkItem:
    return WorkItem(path=path, action="remove", why=why, check=check, chance=chance, gain=0.5 * chance, twin=twin)


def _doubts(material: Material, features: NDArray[np.int16] | None) -> tuple[Doubts | None, Found]:
    if features is None or material.folder.targets:
        says = "outcomes are numbers" if material.folder.targets else "no features could be made of these records"
        return None, Found((Finding(check="label-errors", level="unavailable", says=says),))
    rows = material.rows_of(TRAIN)
    labels, files = material.labels()[rows], [material.files[row] for row in rows.tolist()]
    try:
        found = label_doubts(features[rows], labels, group_codes([file.group for file in files]))
    except InputError as error:
        return None, Found((Finding(check="label-errors", level="unavailable", says=error.message),))
    count = int(found.listed.sum())
    level: Level = "good" if not count else "care" if found.share > 0.02 else "note"
    says = f"about {100 * found.share:.2g} % of the training labels are wrong by estimate; {count} are listed"
    finding = Finding(
        check="label-errors",
        level=level,
        says=says,
        records=count,
        share=round(found.share if count else 0.0, 4),
        points=charged("label-errors", found.share if count else 0.0),
    )
    work = []
    largest = max(1e-12, float((found.gain / np.maximum(found.wrong, 1e-12)).max()))
    for place in np.flatnonzero(found.listed).tolist():
        given, other = WORDS[int(labels[place])], WORDS[-int(labels[place])]
        work.append(
            WorkItem(
                path=files[place].path,
                action="relabel",
                why=f"labelled {given}, and looks {other} to a model that never saw its group",
                check="label-errors",
                chance=round(float(found.wrong[place]), 4),
                gain=round(float(found.gain[place]) / largest, 4),
                value=other,
            )
        )
    return found, Found((finding,), tuple(work))
