"""Classes, groups and splits: whether held-out records can prove anything, and whether one column gives the answer away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from isthmus.contracts.quality import Finding, WorkItem, finding_of
from isthmus.contracts.schema import Column, Schema
from isthmus.sandbox.folder import AUDIT, HOLDOUT, TRAIN, LabelledFile
from isthmus.sandbox.quality.alike import Twins
from isthmus.sandbox.quality.columns import Found
from isthmus.sandbox.quality.material import Material, numbers_of
from isthmus.sandbox.rowfiles import rows_named

MINORITY_WANTED = 0.2
GROUP_SHARE_MAX, GROUPS_WANTED = 0.25, 20
TELL_TALE_AUC, TELL_TALE_LIFT, TELL_TALE_CLASS_MIN = 0.99, 0.04, 10
"""A column by itself ranks the labels so well, and by so much better than the next, that it is likely made of the answer."""
DRIFT_CONFIDENCE = 0.001
DRIFT_DISTANCE_MIN = 0.2
Floats = NDArray[np.float64]


def check_balance(material: Material) -> Found:
    """Class balance and sizes of groups."""
    findings: list[Finding] = []
    labels, n = material.labels(), material.size
    if not material.folder.targets:
        minority = float(min((labels < 0).mean(), (labels > 0).mean()))
        lack = max(0.0, 1.0 - minority / MINORITY_WANTED)
        says = f"{100 * float((labels > 0).mean()):.3g} % of the records are defects"
        findings.append(finding_of("balance", lack, says, int(min((labels < 0).sum(), (labels > 0).sum())), care_from=0.3))
    sizes = Counter(file.group for file in material.files)
    largest = max(sizes.values()) / n
    few = max(0.0, 1.0 - len(sizes) / GROUPS_WANTED)
    heavy = max(0.0, (largest - GROUP_SHARE_MAX) / (1.0 - GROUP_SHARE_MAX)) if len(sizes) > 1 else 1.0
    says = f"{len(sizes)} groups, the largest with {100 * largest:.3g} % of the records"
    if material.folder.groups_inferred:
        says += "; no column says which records belong together, so groups follow from the order of names"
    findings.append(finding_of("groups", max(few, heavy), says, max(sizes.values()), care_from=0.3))
    return Found(tuple(findings))


def check_leakage(material: Material, twins: Twins) -> Found:
    """Records, groups or overlapping windows that stand both in training and in what proves. Work: training records to take away."""
    files = material.files
    away = {HOLDOUT, AUDIT}
    held = [place for place, file in enumerate(files) if file.split in away]
    if not held:
        says = "no record is held out"
        return Found((Finding(check="leakage", level="unavailable", says=says),))
    shared: dict[int, tuple[str, str, int]] = {}
    for kind, pairs in (("the same content", twins.same), ("nearly the same content", tuple(twins.near))):
        for a, b in pairs:
            if (files[a].split in away) != (files[b].split in away):
                train, other = (b, a) if files[a].split in away else (a, b)
                shared.setdefault(train, (f"{kind} as a held-out record", files[other].path, other))
    for train, other in _overlapping(files, held):
        shared.setdefault(train, ("a window that shares rows with a held-out one", files[other].path, other))
    touched = {other for _, _, other in shared.values()}
    both = {file.group for file in files if file.split == TRAIN} & {files[place].group for place in held}
    in_both = sum(files[place].group in both for place in held)
    findings = []
    share = len(touched) / len(held)
    says = f"{len(touched)} of {len(held)} held-out records have a twin among the training records"
    findings.append(
        finding_of("leakage", share, says if touched else "no held-out record has a twin in training", len(touched), care_from=0.0)
    )
    if both:
        says = f"{len(both)} groups have records on both sides of the split, {in_both} of them held out"
        findings.append(finding_of("leakage", in_both / len(held), says, in_both, care_from=0.0))
    work = tuple(
        WorkItem(path=files[train].path, action="remove", why=why, check="leakage", chance=0.95, gain=0.95, twin=twin)
        for train, (why, twin, _) in sorted(shared.items())
    )
    return Found(tuple(findings), work)


def _overlapping(files: Sequence[LabelledFile], held: list[int]) -> list[tuple[int, int]]:
    """(training window, held-out window) that share rows of a file; each training window once."""
    spans: dict[str, list[tuple[int, int, int]]] = {}
    away = set(held)
    for place, file in enumerate(files):
        found = rows_named(file.path)
        if found is not None and found[2] > found[1]:
            spans.setdefault(found[0], []).append((found[1], found[2], place))
    pairs = []
    for windows in spans.values():
        proving = sorted(w for w in windows if w[2] in away)
        if not proving:
            continue
        longest = max(last - first for first, last, _ in proving)
        starts = np.array([w[0] for w in proving])
        for first, last, place in windows:
            if place in away:
                continue
            for index in range(int(np.searchsorted(starts, first - longest)), int(np.searchsorted(starts, last, side="right"))):
                if proving[index][1] >= first:
                    pairs.append((place, proving[index][2]))
                    break
    return pairs


def ranking(values: Floats, positive: NDArray[np.bool_]) -> float:
    """How well values rank a class, in either direction: 0.5 to 1; ties count half."""
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if min(ones, zeros) == 0:
        return 0.5
    area = (float(stats.rankdata(values)[positive].sum()) - ones * (ones + 1) / 2) / (ones * zeros)
    return max(area, 1.0 - area)


def check_tell_tale(material: Material, schema: Schema) -> Found:
    """A column, or its being empty, that ranks the labels almost without error while no other comes near."""
    table, labels = material.table, material.labels()
    steps = 1 if table is None else int(table.steps.max(initial=1))
    if table is None or material.folder.targets or steps > 1:
        return Found()
    positive = labels > 0
    if min(int(positive.sum()), int((~positive).sum())) < TELL_TALE_CLASS_MIN:
        return Found()
    areas = {}
    for column in schema.columns:
        if column.name in table.cells:
            areas[column.name] = max(_areas(column, [table.cells[column.name][r] for r in table.first.tolist()], positive))
    findings = []
    ranked = sorted(areas.values(), reverse=True)
    for name, area in areas.items():
        next_best = next((value for value in ranked if value < area), 0.5)
        if area >= TELL_TALE_AUC and area - next_best >= TELL_TALE_LIFT and ranked.count(area) < len(ranked):
            says = (
                f"{name} alone ranks the labels with an area of {area:.3f}, the next column {next_best:.3f}: it may be made of the answer"
            )
            findings.append(finding_of("tell-tale", 1.0 / max(1, len(areas)), says, material.size, name, 0.0))
    if areas and not findings:
        findings.append(Finding(check="tell-tale", level="good", says=f"no column alone gives the label away (best area {ranked[0]:.3f})"))
    return Found(tuple(findings))


def _areas(column: Column, texts: list[str], positive: NDArray[np.bool_]) -> list[float]:
    if column.kind == "number":
        values = numbers_of(texts)
        known = np.isfinite(values)
        found = [ranking((~known).astype(float), positive)]
        if known.any():
            found.append(ranking(np.where(known, values, float(np.median(values[known]))), positive))
        return found
    codes = np.unique([text.strip().casefold() for text in texts], return_inverse=True)[1].reshape(-1)
    ones = np.bincount(codes, weights=positive.astype(float))
    counts = np.bincount(codes)
    left = (ones[codes] - positive) / np.maximum(counts[codes] - 1, 1)  # of the others of its level, so that a rare level tells nothing
    return [ranking(np.where(counts[codes] > 1, left, positive.mean()), positive)]


def check_drift(material: Material, schema: Schema | None, features: NDArray[np.int16] | None) -> Found:
    """Between training and held-out records: columns by Kolmogorov and Smirnov's test, pictures and texts by their features' means.

    A drift has to be sure (DRIFT_CONFIDENCE, shared among the columns) and large (a distance of DRIFT_DISTANCE_MIN); groups count, not
    records, as records of one group drift together.
    """
    train, held = material.rows_of(TRAIN), material.rows_of(HOLDOUT)
    if min(len(train), len(held)) < 20:
        return Found((Finding(check="drift", level="unavailable", says="too few records on one side of the split to see drift"),))
    table = material.table
    groups = len({file.group for file in material.files})
    thinned = min(1.0, groups / material.size)
    drifted: list[tuple[float, str]] = []
    if table is not None and schema is not None and not schema.written:
        names = [c.name for c in schema.columns if c.kind == "number" and c.name in table.cells]
        for name in names:
            values = numbers_of(table.cells[name])[table.first]
            a, b = values[train], values[held]
            a, b = a[np.isfinite(a)], b[np.isfinite(b)]
            if min(len(a), len(b)) >= 20 and _sure(a, b, thinned, len(names)):
                drifted.append((float(stats.ks_2samp(a, b).statistic), name))
    elif features is not None:
        z = features.astype(np.float64)
        spread = np.maximum(z.std(axis=0), 1.0)
        for place in range(z.shape[1]):
            a, b = z[train, place], z[held, place]
            if abs(a.mean() - b.mean()) / spread[place] >= 2 * DRIFT_DISTANCE_MIN and _sure(a, b, thinned, z.shape[1]):
                drifted.append((float(stats.ks_2samp(a, b).statistic), f"feature {place}"))
    if not drifted:
        return Found((Finding(check="drift", level="good", says="training and held-out records are alike"),))
    worst = max(drifted)
    says = f"{len(drifted)} columns differ between training and held-out records, most of all {worst[1]} (distance {worst[0]:.2f})"
    return Found((finding_of("drift", worst[0], says, len(held), worst[1], care_from=0.3),))


def _sure(a: Floats, b: Floats, thinned: float, tests: int) -> bool:
    """Whether two samples differ for sure and by much, as so many fewer independent records as `thinned` says."""
    distance = float(stats.ks_2samp(a, b).statistic)
    size = max(4.0, len(a) * thinned) * max(4.0, len(b) * thinned) / (max(4.0, len(a) * thinned) + max(4.0, len(b) * thinned))
    chance = float(stats.kstwobign.sf(distance * np.sqrt(size)))
    return distance >= DRIFT_DISTANCE_MIN and chance * tests <= DRIFT_CONFIDENCE
