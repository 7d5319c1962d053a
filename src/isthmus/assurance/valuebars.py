"""Judges a model that foretells numbers by bars that were signed before. Pure, as assurance.bars is.

For each number: the band misses at most the promised share of outcomes, by Korn and Graubard's bound with a design effect known before the
judged counts are; the squared error is below the naive forecast's by more than the bar, by a one-sided bound on their ratio; the bands are
not wider than the bar. All must hold for all numbers, so the chance of passing falsely is at most that of one bar (intersection-union).

The bound on the ratio is linearised over groups (Cochran, "Sampling Techniques", 1977, section 6.3) with a quantile of Student's t with one
degree of freedom less than groups: an approximation that is good from some dozens of groups on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from scipy.special import stdtrit

from isthmus.assurance.bars import Verdict, bars_digest, checked_bars, corruption_failures, ppm_effect, ppm_up
from isthmus.assurance.bounds import design_effect, korn_graubard_upper, more_records, too_few_groups
from isthmus.contracts.bars import PPM, Bars, ValueBars
from isthmus.contracts.certificate import Claims, CorruptionClaim, ValueClaim, ValueSlice
from isthmus.contracts.errors import InputError
from isthmus.contracts.targets import Target
from isthmus.contracts.valuesums import ERROR_UNIT, GROUP_ERROR_UNIT, LEVEL_UNIT, ValueSums
from isthmus.kit.canonical import digest_of, sha256_hex

MICROS = 1_000_000
WORST_PPM = -1000 * PPM
"""The least skill or efficiency that is told; what is worse stands as this."""


@dataclass(frozen=True)
class ValueEvidence:
    """What was measured. targets: in order. naive: what each one's naive forecast is, in words. clean: sums of each target; slices,
    corrupted: the same by slice, and by family and severity. effects: each target's design effect, from training folds."""

    targets: tuple[Target, ...]
    naive: tuple[str, ...]
    clean: tuple[ValueSums, ...]
    slices: Mapping[str, tuple[ValueSums, ...]]
    corrupted: Mapping[tuple[str, int], tuple[ValueSums, ...]]
    effects: tuple[float, ...]
    groups_inferred: bool


def checked_value_bars(bars: Bars) -> ValueBars:
    """The bars on numbers. Raises InputError when there are none, or they would let a useless model pass."""
    checked_bars(bars)
    if isinstance(bars.values, msgspec.UnsetType):
        raise InputError("the bars say nothing of numbers", "declare certify.values")
    if not 0 <= bars.values.skill_ppm_min < PPM or not 0 < bars.values.width_ppm_max <= PPM:
        raise InputError(
            "the bars on numbers hold a share that cannot be",
            "a skill of 0 or more, a width above 0 and at most 1000000, in parts per million",
        )
    return bars.values


def _contradiction(found: ValueSums) -> str | None:
    """Why these sums cannot have been counted, or None."""
    c, g, level = found.counts, found.clusters, found.levels
    if min((*c.values(), g.groups, g.a, g.e, g.aa, g.ee, g.ae, *level.values())) < 0:
        return "a sum is negative"
    if found.misses > c["records"] or c["open"] > c["records"] or c["groups"] > c["records"]:
        return "more misses or groups than records"
    if (g.a, g.e, g.groups) != (c["records"], found.misses, c["groups"]):
        return "the groups hold other records"
    if g.groups * g.aa < g.a**2 or g.aa < g.a or g.ee < g.e or not g.e <= g.ae <= g.aa or g.ae**2 > g.aa * g.ee:
        return "the groups' squares are impossible"
    if level["model_naive"] ** 2 > level["model_model"] * level["naive_naive"]:
        return "the squared errors' products are impossible"
    if level["outcome"] ** 2 > level["outcome_square"] * c["records"] or level["width"] > 2 * LEVEL_UNIT * c["records"]:
        return "the outcomes or widths are impossible"
    return None


def checked_values(evidence: ValueEvidence) -> ValueEvidence:
    """The evidence if its sums agree with each other; raises InputError that names the part that does not."""
    count = len(evidence.targets)
    parts = {"the held-out records": evidence.clean}
    parts |= {f"slice {name}": found for name, found in evidence.slices.items()}
    parts |= {f"{family} {severity}": found for (family, severity), found in evidence.corrupted.items()}
    for name, sums in parts.items():
        why = "other targets than declared" if len(sums) != count else next(filter(None, map(_contradiction, sums)), None)
        if why is None and not name.startswith("slice"):
            same = all(one.counts[k] == evidence.clean[0].counts[k] for one in sums for k in ("records", "groups"))
            why = None if same else "other records than the clean ones"
        if why:
            raise InputError(f"the evidence contradicts itself at {name}: {why}", "evaluate again; a share was damaged")
    if len(evidence.effects) != count or not all(1.0 <= effect < math.inf for effect in evidence.effects):
        raise InputError("a design effect is impossible", "estimate it again; it is at least 1")
    return evidence


def value_evidence_digest(evidence: ValueEvidence) -> str:
    """sha256 of all that was measured, as `sha256:<hex>`."""

    def short(found: tuple[ValueSums, ...]) -> list[str]:
        return [sha256_hex(one.packed().astype("<i8").tobytes()) for one in found]

    return digest_of(
        {
            "targets": [digest_of(target) for target in evidence.targets],
            "clean": short(evidence.clean),
            "slices": {name: short(found) for name, found in evidence.slices.items()},
            "corrupted": [[family, severity, short(found)] for (family, severity), found in sorted(evidence.corrupted.items())],
            "design_effects_ppm": [round(effect * PPM) for effect in evidence.effects],
            "groups_inferred": evidence.groups_inferred,
        }
    )


# Figures.


def _saved(part: float, whole: float) -> float:
    """1 - part / whole; 0 where there is nothing to save."""
    return 1.0 - part / whole if whole > 0 else 0.0


def skill_ppm(share: float) -> int:
    """A skill in parts per million, rounded down; not below WORST_PPM."""
    return max(WORST_PPM, math.floor(share * PPM + 1e-9))


def skill(found: ValueSums) -> float:
    """Share of the naive forecast's squared error that the model saves."""
    return _saved(found.levels["squares"], found.levels["naive_squares"])


def skill_lower(found: ValueSums, confidence: float) -> float:
    """A one-sided lower bound on `skill`; minus infinity with fewer than two groups."""
    level, groups = found.levels, found.counts["groups"]
    if groups < 2 or level["naive_squares"] <= 0:
        return -math.inf
    ratio = level["squares"] / level["naive_squares"]
    squares = level["model_model"] - 2.0 * ratio * level["model_naive"] + ratio**2 * level["naive_naive"]
    naive = level["naive_squares"] * (GROUP_ERROR_UNIT / ERROR_UNIT)
    error = math.sqrt(groups / (groups - 1) * max(squares, 0.0)) / naive
    return 1.0 - ratio - float(stdtrit(groups - 1, confidence)) * error


def efficiency(found: ValueSums) -> float:
    """Nash-Sutcliffe: share of the outcomes' variance that the model explains; against their own mean, which no forecaster knows."""
    n, level = found.counts["records"], found.levels
    if n == 0:
        return 0.0
    variance = (level["outcome_square"] - level["outcome"] ** 2 / n) / LEVEL_UNIT**2
    return _saved(level["squares"] / ERROR_UNIT, variance)


def _rmse_micros(squares: int, records: int, target: Target) -> int:
    return round(math.sqrt(squares / ERROR_UNIT / max(records, 1)) * (target.high - target.low) * MICROS)


def _miss_bound(found: ValueSums, effect: float, confidence: float) -> float:
    return korn_graubard_upper(found.misses, found.counts["records"], effect, found.counts["groups"], confidence)


def _slice(name: str, found: ValueSums, least: int) -> ValueSlice:
    n = found.counts["records"]
    return ValueSlice(
        name=name,
        records=n,
        groups=found.counts["groups"],
        miss_ppm=ppm_up(found.misses / n if n else 0.0),
        skill_ppm=skill_ppm(skill(found)),
        efficiency_ppm=skill_ppm(efficiency(found)),
        judged=n >= least,
    )


def _value_claim(place: int, bars: Bars, evidence: ValueEvidence) -> ValueClaim:
    found, target, effect = evidence.clean[place], evidence.targets[place], evidence.effects[place]
    n, confidence = found.counts["records"], bars.confidence_ppm / PPM
    slices = tuple(_slice(name, sums[place], bars.slice_records_min) for name, sums in sorted(evidence.slices.items()))
    return ValueClaim(
        name=target.name,
        unit=target.unit,
        misses=found.misses,
        below=found.counts["below"],
        miss_ppm=ppm_up(found.misses / n if n else 0.0),
        miss_bound_ppm=ppm_up(_miss_bound(found, effect, confidence)),
        design_effect_ppm=ppm_effect(effect),
        naive=evidence.naive[place],
        skill_ppm=skill_ppm(skill(found)),
        skill_bound_ppm=skill_ppm(max(skill_lower(found, confidence), WORST_PPM / PPM)),
        efficiency_ppm=skill_ppm(efficiency(found)),
        rmse_micros=_rmse_micros(found.levels["squares"], n, target),
        naive_rmse_micros=_rmse_micros(found.levels["naive_squares"], n, target),
        width_ppm=ppm_up(found.levels["width"] / LEVEL_UNIT / n if n else 1.0),
        open_ppm=ppm_up(found.counts["open"] / n if n else 1.0),
        slices=slices,
    )


def _worst(sums: tuple[ValueSums, ...], effects: tuple[float, ...], confidence: float) -> tuple[int, float]:
    """(misses, their bound) of the number whose bound is highest."""
    bounds = [(_miss_bound(one, effect, confidence), one.misses) for one, effect in zip(sums, effects, strict=True)]
    bound, misses = max(bounds)
    return misses, bound


def _corruption_claims(bars: Bars, evidence: ValueEvidence) -> tuple[CorruptionClaim, ...]:
    """In sequence, of the number that is worst; what was not measured is left out and breaks the sequence."""
    confidence, claims = 1.0 - (1.0 - bars.confidence_ppm / PPM) / max(1, len(bars.families)), []
    for family in bars.families:
        unbroken = True
        for severity in bars.severities:
            found = evidence.corrupted.get((family, severity))
            if found is None:
                unbroken = False
                continue
            misses, worst = _worst(found, evidence.effects, confidence)
            bound = ppm_up(worst)
            unbroken = unbroken and bound <= bars.error_ppm_max
            claims.append(
                CorruptionClaim(
                    family=family,
                    severity=severity,
                    answered_ppm=PPM,
                    errors=misses,
                    error_bound_ppm=bound,
                    wrong_bound_ppm=bound,
                    holds=unbroken,
                )
            )
    return tuple(claims)


def _claims(bars: Bars, evidence: ValueEvidence) -> Claims:
    confidence, counts = bars.confidence_ppm / PPM, evidence.clean[0].counts
    misses, bound = _worst(evidence.clean, evidence.effects, confidence)
    values = tuple(_value_claim(place, bars, evidence) for place in range(len(evidence.targets)))
    n = counts["records"]
    return Claims(
        records=n,
        groups=counts["groups"],
        groups_inferred=evidence.groups_inferred,
        confidence_ppm=bars.confidence_ppm,
        design_effect_ppm=ppm_effect(max(evidence.effects)),
        answered=n,
        answered_ppm=PPM if n else 0,
        errors=misses,
        error_ppm=max(one.miss_ppm for one in values),
        error_bound_ppm=ppm_up(bound),
        recall_ppm=0,
        recall_bound_ppm=0,
        specificity_ppm=0,
        specificity_bound_ppm=0,
        auc_ppm=0,
        auc_bound_ppm=0,
        corruptions=_corruption_claims(bars, evidence),
        values=values,
    )


# Judgement.


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:.4g} %"


def _value_failures(place: int, claim: ValueClaim, bars: Bars, wanted: ValueBars, evidence: ValueEvidence) -> list[str]:
    found, said = evidence.clean[place], []
    n, groups, bar = found.counts["records"], found.counts["groups"], bars.error_ppm_max / PPM
    if claim.miss_bound_ppm > bars.error_ppm_max:
        if n and found.misses / n > bar:
            hint = f"{found.misses} of {n} outcomes lay beyond the band, so more records alone will not prove it: train on more"
        else:
            more = more_records(found.misses, n, evidence.effects[place], groups, bar, bars.confidence_ppm / PPM)
            hint = f"about {more} more held-out records in the band, in groups of the same size, would prove it"
        said.append(
            f"{claim.name}: bound on outcomes beyond the band {_percent(claim.miss_bound_ppm)} > {_percent(bars.error_ppm_max)}; {hint}"
        )
    if claim.skill_bound_ppm <= wanted.skill_ppm_min:
        hint = "train on more, use other features, or promise less"
        if claim.skill_ppm > wanted.skill_ppm_min:
            hint = f"measured {_percent(claim.skill_ppm)}, but {groups} groups are too few or too unlike to prove it"
        what = f"{claim.name}: skill against {claim.naive} is proven above {_percent(claim.skill_bound_ppm)}"
        said.append(f"{what}, more than {_percent(wanted.skill_ppm_min)} is asked; {hint}")
    if claim.width_ppm > wanted.width_ppm_max:
        what = f"{claim.name}: the bands are {_percent(claim.width_ppm)} of the range wide, {_percent(wanted.width_ppm_max)} is allowed"
        said.append(f"{what}; a band that says so little is no forecast")
    said += [
        f"{claim.name}, slice {part.name}: the squared error is not below that of {claim.naive} ({_percent(part.skill_ppm)} saved)"
        for part in claim.slices
        if part.judged and part.skill_ppm <= 0
    ]
    return said


def _notes(claims: Claims, values: tuple[ValueClaim, ...], bars: Bars, evidence: ValueEvidence) -> list[str]:
    notes = []
    for place, claim in enumerate(values):
        own, used = design_effect(evidence.clean[place].clusters), evidence.effects[place]
        if round(own, 1) > round(used, 1):  # told with one digit, so less is no difference
            bound = ppm_up(_miss_bound(evidence.clean[place], own, bars.confidence_ppm / PPM))
            notes.append(
                f"{claim.name}: the held-out misses cluster more than those of the training folds (design effect {own:.1f}, {used:.1f} was"
                f" used); with it the bound would be {_percent(bound)}"
            )
        notes += [
            f"{claim.name}, slice {part.name} has {part.records} records, too few to judge" for part in claim.slices if not part.judged
        ]
        notes += [
            f"{claim.name}, slice {part.name}: {_percent(part.miss_ppm)} of the outcomes lay beyond the band there; what is promised,"
            f" {_percent(bars.error_ppm_max)}, holds over all records together"
            for part in claim.slices
            if part.judged and part.miss_ppm > bars.error_ppm_max
        ]
        if claim.open_ppm:
            notes.append(f"{claim.name}: {_percent(claim.open_ppm)} of the bands reach an end of the declared range")
    if evidence.groups_inferred:
        notes.append("groups were inferred from the order of files; the bounds rest on that")
    return notes


def judge_values(bars: Bars, evidence: ValueEvidence) -> Verdict:
    """Whether the evidence meets the bars. Raises InputError when bars or evidence cannot be judged at all."""
    wanted = checked_value_bars(bars)
    checked_values(evidence)
    claims = _claims(bars, evidence)
    values = () if isinstance(claims.values, msgspec.UnsetType) else claims.values
    few = too_few_groups(claims.groups, bars.groups_min)
    failures = [few] if few else []
    for place, claim in enumerate(values):
        failures += _value_failures(place, claim, bars, wanted, evidence)
    failures += corruption_failures(bars, claims, evidence.corrupted, "the band's promise")
    return Verdict(
        passed=not failures,
        failures=tuple(failures),
        notes=tuple(_notes(claims, values, bars, evidence)),
        claims=claims,
        bars_digest=bars_digest(bars),
        tier=bars.tier,
    )
