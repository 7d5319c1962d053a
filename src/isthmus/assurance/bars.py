"""Judges evidence by bars that were signed before. Pure: the same bars and evidence give the same verdict.

Every bar has to hold, each at the bars' confidence: an intersection-union test (Berger, Technometrics 24, 1982), so the
chance of passing falsely is at most that of one bar. Corruptions are a fixed sequence within each family (Maurer, Hothorn and
Lehmacher 1995): a severity counts only when all milder ones held; the families share the error chance by Bonferroni.

Records of one group are not independent: bounds are Korn and Graubard's with a design effect that is known before the judged counts
are, estimated on training folds. Where the judged errors themselves cluster more, a note says what the bound would be then.
For recall, specificity, slices and the area the same effect is used, as an approximation
that is mostly on the safe side: a class has fewer records in each group.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from isthmus.assurance.auc import auc_area
from isthmus.assurance.bounds import design_effect, korn_graubard_lower, korn_graubard_upper, more_records, too_few_groups
from isthmus.assurance.calibration import calibration
from isthmus.assurance.evidence import Evidence, checked
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.certificate import TIERS, CalibrationClaim, Claims, CorruptionClaim, RangeClaim, SliceClaim
from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import Evaluation
from isthmus.kit.canonical import digest_of

BARS_PAYLOAD_TYPE = "application/vnd.isthmus.bars.v1+json"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """passed: no failures. failures: a sentence for each bar that is not met, saying what is missing. notes: sentences that belong
    beside the figures."""

    passed: bool
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    claims: Claims
    bars_digest: str
    tier: str


def checked_bars(bars: Bars) -> Bars:
    """The bars if they can be judged and refuse every model that ignores its input; raises InputError."""
    shares = (bars.error_ppm_max, bars.confidence_ppm, bars.answered_ppm_min, bars.recall_ppm_min, bars.specificity_ppm_min)
    if not all(0 < share < PPM for share in (*shares, bars.auc_ppm_min)) or bars.confidence_ppm < 500_000:
        raise InputError(
            "the bars hold a share that is not between 0 and 1,000,000", "give parts per million; a confidence of at least 500000"
        )
    if bars.recall_ppm_min + bars.specificity_ppm_min <= PPM or bars.auc_ppm_min < PPM // 2:
        raise InputError(
            "these bars would let a model pass that ignores its input", "ask recall and specificity that add to more than 1000000"
        )
    if bars.groups_min < 2 or bars.slice_records_min < 1 or bars.tier not in TIERS:
        raise InputError("the bars ask for too few groups, or name an unknown tier", f"at least 2 groups; one of {', '.join(TIERS)}")
    ladder = bars.severities
    if list(ladder) != list(range(1, len(ladder) + 1)) or len(set(bars.families)) != len(bars.families):
        raise InputError(
            f"the severities {list(ladder)} or families {list(bars.families)} are no sequence", "1, 2, 3 … and each family once"
        )
    if any(r.family not in bars.families or r.severity not in ladder for r in bars.robust):
        raise InputError("the bars ask robustness for what is not measured", "name measured families and severities")
    return bars


def bars_digest(bars: Bars) -> str:
    """sha256 of the bars' canonical JSON."""
    return digest_of(bars)


def ppm_up(share: float) -> int:
    """A share in parts per million, rounded up; for upper bounds."""
    return min(PPM, math.ceil(share * PPM - 1e-9))


def ppm_down(share: float) -> int:
    """A share in parts per million, rounded down; for lower bounds."""
    return max(0, math.floor(share * PPM + 1e-9))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole > 0 else 0.0


def _error_bound(found: Evaluation, training: float, confidence: float) -> float:
    c = found.counts
    return korn_graubard_upper(c["errors"], c["answered"], training, found.clusters.groups, confidence)


def _slice_claim(name: str, found: Evaluation, training: float, bars: Bars) -> SliceClaim:
    c = found.counts
    confidence, answered = bars.confidence_ppm / PPM, c["answered"]
    bound = korn_graubard_lower(answered - c["errors"], answered, training, found.clusters.groups, confidence)
    return SliceClaim(
        name=name,
        records=c["records"],
        groups=c["groups"],
        answered_ppm=ppm_down(_ratio(answered, c["records"])),
        accuracy_ppm=ppm_down(_ratio(answered - c["errors"], answered)),
        accuracy_bound_ppm=ppm_down(bound),
        majority_ppm=ppm_up(_ratio(max(c["defects"], c["records"] - c["defects"]), c["records"])),
        judged=c["records"] >= bars.slice_records_min,
    )


def _corruption_claims(bars: Bars, evidence: Evidence) -> tuple[CorruptionClaim, ...]:
    """In sequence; what was not measured is left out and breaks the sequence."""
    claims: list[CorruptionClaim] = []
    confidence = 1.0 - (1.0 - bars.confidence_ppm / PPM) / max(1, len(bars.families))
    for family in bars.families:
        unbroken = True
        for severity in bars.severities:
            found = evidence.corrupted.get((family, severity))
            if found is None:
                unbroken = False
                continue
            c, effect = found.counts, evidence.design_effect
            bound = ppm_up(_error_bound(found, evidence.design_effect, confidence))
            wrong = korn_graubard_upper(c["errors"], c["records"], effect, c["groups"], confidence)
            unbroken = unbroken and (bound <= bars.error_ppm_max or c["answered"] == 0)
            claims.append(
                CorruptionClaim(
                    family=family,
                    severity=severity,
                    answered_ppm=ppm_down(_ratio(c["answered"], c["records"])),
                    errors=c["errors"],
                    error_bound_ppm=bound,
                    wrong_bound_ppm=ppm_up(wrong),
                    holds=unbroken,
                )
            )
    return tuple(claims)


def _calibration_claim(evidence: Evidence, confidence: float) -> CalibrationClaim | None:
    groups = evidence.clean.clusters.groups
    found = calibration(evidence.clean.histogram, evidence.design_effect, groups, confidence) if evidence.probability else None
    if found is None:
        return None
    return CalibrationClaim(
        brier_low_ppm=ppm_down(found.brier[0]),
        brier_high_ppm=ppm_up(found.brier[1]),
        brier_bound_ppm=ppm_up(found.brier_bound),
        brier_base_ppm=ppm_down(found.base),
        error_low_ppm=ppm_down(found.error[0]),
        error_high_ppm=ppm_up(found.error[1]),
        ranges=tuple(
            RangeClaim(
                low_ppm=ppm_down(part.low),
                high_ppm=ppm_up(part.high),
                stated_low_ppm=ppm_down(part.stated_low),
                stated_high_ppm=ppm_up(part.stated_high),
                records=part.records,
                defects=part.defects,
                share_low_ppm=ppm_down(part.share_low),
                share_high_ppm=ppm_up(part.share_high),
            )
            for part in found.ranges
        ),
    )


def _calibration_notes(claim: CalibrationClaim | None) -> list[str]:
    """Where stated probabilities are shown not to be those found."""
    return [
        f"stated probabilities of {percent(part.low_ppm)} to {percent(part.high_ppm)} are not those found: {part.defects} of"
        f" {part.records} there, {percent(part.share_low_ppm)} to {percent(part.share_high_ppm)}"
        for part in (() if claim is None else claim.ranges)
        if part.share_low_ppm > part.stated_high_ppm or part.share_high_ppm < part.stated_low_ppm
    ]


def claims_of(bars: Bars, evidence: Evidence) -> Claims:
    """What was measured, with its bounds."""
    c, groups = evidence.clean.counts, evidence.clean.clusters.groups
    confidence, effect = bars.confidence_ppm / PPM, evidence.design_effect
    found, cleared = c["answered_defects"] - c["missed_defects"], c["answered_good"] - c["false_alarms"]
    area = auc_area(evidence.clean.histogram, confidence, effect)
    return Claims(
        records=c["records"],
        groups=c["groups"],
        groups_inferred=evidence.groups_inferred,
        confidence_ppm=bars.confidence_ppm,
        design_effect_ppm=ppm_effect(effect),
        answered=c["answered"],
        answered_ppm=ppm_down(_ratio(c["answered"], c["records"])),
        errors=c["errors"],
        error_ppm=ppm_up(_ratio(c["errors"], c["answered"])),
        error_bound_ppm=ppm_up(_error_bound(evidence.clean, evidence.design_effect, confidence)),
        recall_ppm=ppm_down(_ratio(found, c["answered_defects"])),
        recall_bound_ppm=ppm_down(korn_graubard_lower(found, c["answered_defects"], effect, groups, confidence)),
        specificity_ppm=ppm_down(_ratio(cleared, c["answered_good"])),
        specificity_bound_ppm=ppm_down(korn_graubard_lower(cleared, c["answered_good"], effect, groups, confidence)),
        auc_ppm=ppm_down(area.value),
        auc_bound_ppm=ppm_down(area.lower),
        slices=tuple(_slice_claim(name, found, evidence.design_effect, bars) for name, found in sorted(evidence.slices.items())),
        corruptions=_corruption_claims(bars, evidence),
        calibration=_calibration_claim(evidence, confidence),
    )


def ppm_effect(effect: float) -> int:
    """A design effect in millionths, rounded up."""
    return math.ceil(effect * PPM - 1e-9)


def percent(ppm: int) -> str:
    """Parts per million for people."""
    return f"{ppm / 10_000:.4g} %"


def _more(rate: float, bar: float, errors: float, n: float, effect: float, groups: int, confidence: float) -> str:
    """What would prove an upper bound `bar`: so many more records, or better answers."""
    if n > 0 and rate > bar:
        return f"{errors:g} of {n:g} were wrong, so more records alone will not prove it: train on more, or abstain more"
    count = more_records(errors, n, effect, groups, bar, confidence)
    return f"about {count} more answered held-out records without a new error would prove it"


def _rate_failures(bars: Bars, claims: Claims, evidence: Evidence) -> list[str]:
    c, groups = evidence.clean.counts, evidence.clean.clusters.groups
    confidence, effect = bars.confidence_ppm / PPM, evidence.design_effect
    said: list[str] = []
    if claims.error_bound_ppm > bars.error_ppm_max:
        bar = bars.error_ppm_max / PPM
        hint = _more(_ratio(c["errors"], c["answered"]), bar, c["errors"], c["answered"], effect, groups, confidence)
        said.append(f"error bound {percent(claims.error_bound_ppm)} > {percent(bars.error_ppm_max)} among answered; {hint}")
    for name, bound, least, wrong, n in (
        ("recall", claims.recall_bound_ppm, bars.recall_ppm_min, c["missed_defects"], c["answered_defects"]),
        ("specificity", claims.specificity_bound_ppm, bars.specificity_ppm_min, c["false_alarms"], c["answered_good"]),
    ):
        if bound < least:
            kind = "defects" if name == "recall" else "good ones"
            hint = _more(_ratio(wrong, n), 1 - least / PPM, wrong, n, effect, groups, confidence).replace("records", kind)
            said.append(f"{name} bound {percent(bound)} < {percent(least)}; {hint}")
    if claims.auc_bound_ppm <= bars.auc_ppm_min:
        said.append(
            f"area under the ROC curve: bound {percent(claims.auc_bound_ppm)}, more than {percent(bars.auc_ppm_min)} is asked;"
            " the scores do not rank defects above good ones well enough"
        )
    return said


def _slice_failures(claims: Claims) -> list[str]:
    return [
        f"slice {s.name}: accuracy {percent(s.accuracy_ppm)} among answered is not above its majority rate {percent(s.majority_ppm)};"
        " always giving the commoner answer does as well there"
        for s in claims.slices
        if s.judged and s.accuracy_ppm <= s.majority_ppm
    ]


def corruption_failures(bars: Bars, claims: Claims, measured: Container[tuple[str, int]], what: str = "the error bar") -> list[str]:
    """What was not measured, and robustness that is asked for and not proven. measured: (family, severity). what: is to be proven."""
    wanted = [(family, severity) for family in bars.families for severity in bars.severities]
    missing = [f"{family} {severity}" for family, severity in wanted if (family, severity) not in measured]
    said = [f"not measured: {', '.join(missing)}; evaluate under all declared corruptions"] if missing else []
    held = {(claim.family, claim.severity) for claim in claims.corruptions if claim.holds}
    for asked in bars.robust:
        if (asked.family, asked.severity) not in held:
            reached = max((s for f, s in held if f == asked.family), default=0)
            said.append(f"{asked.family}: {what} is proven up to severity {reached}, {asked.severity} is asked")
    return said


def judge(bars: Bars, evidence: Evidence) -> Verdict:
    """Whether the evidence meets the bars. Raises InputError when bars or evidence cannot be judged at all."""
    checked_bars(bars)
    checked(evidence)
    claims = claims_of(bars, evidence)
    few = too_few_groups(evidence.clean.clusters.groups, bars.groups_min)
    failures = [few] if few else []
    if claims.answered_ppm < bars.answered_ppm_min or claims.answered == 0:
        failures.append(f"answered share {percent(claims.answered_ppm)} < {percent(bars.answered_ppm_min)}; the rest goes to a person")
    failures += _rate_failures(bars, claims, evidence)
    failures += _slice_failures(claims)
    failures += corruption_failures(bars, claims, evidence.corrupted)
    notes = [
        f"slice {s.name}: accuracy {percent(s.accuracy_ppm)} is above its majority rate {percent(s.majority_ppm)}, but that is not proven"
        f" there (bound {percent(s.accuracy_bound_ppm)})"
        for s in claims.slices
        if s.judged and s.accuracy_bound_ppm <= s.majority_ppm < s.accuracy_ppm
    ]
    notes += [f"slice {s.name} has {s.records} records, too few to judge alone" for s in claims.slices if not s.judged]
    notes += _calibration_notes(claims.calibration)
    own = design_effect(evidence.clean.clusters)
    if round(own, 1) > round(evidence.design_effect, 1):  # told with one digit, so less is no difference
        bound = ppm_up(_error_bound(evidence.clean, own, bars.confidence_ppm / PPM))
        notes.append(
            f"the held-out errors cluster more than those of the training folds (design effect {own:.1f}, {evidence.design_effect:.1f} was"
            f" used); with it the error bound would be {percent(bound)}"
        )
    if evidence.groups_inferred:
        notes.append(
            "groups were inferred from the order of files; the bounds rest on that; a column named group says which belong together"
        )
    return Verdict(
        passed=not failures,
        failures=tuple(failures),
        notes=tuple(notes),
        claims=claims,
        bars_digest=bars_digest(bars),
        tier=bars.tier,
    )
