"""Judges a model whose thresholds were chosen on good records only: how often it raises a false alarm, and what is known of misses.

The promise is the share of good records that are not called good. It takes no labelled defect: 59 good records without an alarm prove at
most 5 % with 95 % confidence. A model that calls everything good would keep it, so bars are met only by one that is shown to tell
something: labelled defects that were held out, or, where there are none, good pictures with a scratch drawn over them, must be caught more
often, by their lower bound, than good ones by their upper. A drawn scratch is no evidence of recall, and the notes say so.

Tier T1 needs no more. T2 and T3 are refused unless recall is proven on labelled defects, as for any other model.
"""

from __future__ import annotations

import msgspec

from isthmus.assurance.bars import Verdict, bars_digest, checked_bars, claims_of, corruption_failures, judge, percent, ppm_down, ppm_up
from isthmus.assurance.bounds import korn_graubard_lower, korn_graubard_upper, more_records, needed_samples, too_few_groups
from isthmus.assurance.corruptions import SCRATCH
from isthmus.assurance.evidence import Evidence, checked
from isthmus.contracts.bars import PPM, Bars
from isthmus.contracts.certificate import AlarmClaim, Claims, CorruptionClaim
from isthmus.contracts.sums import Evaluation

ADVISORY = "T1"


def judged(bars: Bars, evidence: Evidence) -> Verdict:
    """By whichever promise the bars name. Raises InputError when bars or evidence cannot be judged at all."""
    return judge_alarms(bars, evidence) if bars.promise == "alarms" else judge(bars, evidence)


def alarms_of(found: Evaluation) -> tuple[int, int, int, int]:
    """(good records, those not called good, defects, those not called good)."""
    c = found.counts
    good = c["records"] - c["defects"]
    cleared, missed = c["answered_good"] - c["false_alarms"], c["missed_defects"]
    return good, good - cleared, c["defects"], c["defects"] - missed


def _ppm(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _alarm_claim(bars: Bars, evidence: Evidence) -> AlarmClaim:
    groups, confidence, effect = evidence.clean.counts["groups"], bars.confidence_ppm / PPM, evidence.design_effect
    good, alarms, defects, caught = alarms_of(evidence.clean)
    scratched = [found for (family, _), found in sorted(evidence.corrupted.items()) if family == SCRATCH]
    drawn, seen, _, _ = alarms_of(scratched[-1]) if scratched else (0, 0, 0, 0)
    return AlarmClaim(
        good=good,
        alarms=alarms,
        alarms_ppm=ppm_up(_ppm(alarms, good)),
        alarms_bound_ppm=ppm_up(korn_graubard_upper(alarms, good, effect, groups, confidence)),
        defects=defects,
        caught=caught,
        caught_ppm=ppm_down(_ppm(caught, defects)),
        caught_bound_ppm=ppm_down(korn_graubard_lower(caught, defects, effect, groups, confidence)),
        drawn=drawn,
        drawn_caught=seen,
        drawn_caught_bound_ppm=ppm_down(korn_graubard_lower(seen, drawn, effect, groups, confidence)),
    )


def _corruption_claims(bars: Bars, evidence: Evidence) -> tuple[CorruptionClaim, ...]:
    """Of each condition: the share called good, and the bound of false alarms under it. Of a scratch `holds` says that it is seen."""
    claims: list[CorruptionClaim] = []
    confidence = 1.0 - (1.0 - bars.confidence_ppm / PPM) / max(1, len(bars.families))
    for family in bars.families:
        unbroken = True
        for severity in bars.severities:
            found = evidence.corrupted.get((family, severity))
            if found is None:
                unbroken = False
                continue
            good, alarms, _, _ = alarms_of(found)
            c, effect = found.counts, evidence.design_effect
            bound = ppm_up(korn_graubard_upper(alarms, good, effect, c["groups"], confidence))
            least = korn_graubard_lower(alarms, good, effect, c["groups"], confidence)
            unbroken = unbroken and bound <= bars.error_ppm_max
            claims.append(
                CorruptionClaim(
                    family=family,
                    severity=severity,
                    answered_ppm=ppm_down(_ppm(c["answered"], c["records"])),
                    errors=c["errors"],
                    error_bound_ppm=bound,
                    wrong_bound_ppm=ppm_up(korn_graubard_upper(c["errors"], c["records"], effect, c["groups"], confidence)),
                    holds=least > bars.error_ppm_max / PPM if family == SCRATCH else unbroken,
                )
            )
    return tuple(claims)


def _alarm_claims(bars: Bars, evidence: Evidence) -> Claims:
    """As for any model, but for conditions, which mean another thing here, and for the error, of which nothing is promised."""
    claims = claims_of(msgspec.structs.replace(bars, families=(), severities=(), robust=()), evidence)
    return msgspec.structs.replace(
        claims, alarms=_alarm_claim(bars, evidence), corruptions=_corruption_claims(bars, evidence), error_bound_ppm=PPM
    )


def _missing_good(bars: Bars, claim: AlarmClaim, evidence: Evidence) -> str:
    bar, confidence = bars.error_ppm_max / PPM, bars.confidence_ppm / PPM
    if _ppm(claim.alarms, claim.good) > bar:
        return f"{claim.alarms} of {claim.good} good ones were not called good, so more records alone will not prove it"
    count = more_records(claim.alarms, claim.good, evidence.design_effect, evidence.clean.counts["groups"], bar, confidence)
    return f"about {count} more good held-out records without a new alarm would prove it"


def _sight_failures(bars: Bars, claim: AlarmClaim) -> list[str]:
    """Whether it was shown to tell anything from good ones."""
    if claim.defects and claim.caught_bound_ppm > claim.alarms_bound_ppm:
        return []
    if claim.defects:
        return [
            f"{claim.caught} of {claim.defects} held-out defects were caught, proven {percent(claim.caught_bound_ppm)}: no more than the"
            f" {percent(claim.alarms_bound_ppm)} of good ones that may be; give more defects to prove it by, or better features"
        ]
    if not claim.drawn:
        return [f"nothing shows that the model is not blind: hold out some labelled defects, or measure the family {SCRATCH} on pictures"]
    if claim.drawn_caught_bound_ppm <= claim.alarms_bound_ppm:
        return [
            f"{claim.drawn_caught} of {claim.drawn} good ones with a drawn scratch were caught, proven"
            f" {percent(claim.drawn_caught_bound_ppm)}: no more than the {percent(claim.alarms_bound_ppm)} of good ones that may be"
        ]
    return []


def _recall_failures(bars: Bars, claim: AlarmClaim) -> list[str]:
    if bars.tier == ADVISORY or claim.caught_bound_ppm >= bars.recall_ppm_min:
        return []
    needed = needed_samples(1 - bars.recall_ppm_min / PPM, bars.confidence_ppm / PPM, claim.defects - claim.caught)
    return [
        f"tier {bars.tier} asks for a proven recall of {percent(bars.recall_ppm_min)}, proven is {percent(claim.caught_bound_ppm)} on"
        f" {claim.defects} held-out defects; {needed} in all with no further miss would prove it, or certify for {ADVISORY}"
    ]


def recall_note(claim: AlarmClaim, confidence: float) -> str:
    """What the certificate says of misses."""
    if claim.defects:
        found = (
            f"{claim.caught} of {claim.defects} held-out defects were not called good: at least {percent(claim.caught_bound_ppm)} proven"
        )
        return f"{found}; nothing is called a defect, a person decides on all that is not called good"
    text = f"recall is not proven: no defect was held out; {needed_samples(0.05, confidence)} caught defects would prove 95 %"
    if claim.drawn:
        text += f". {claim.drawn_caught} of {claim.drawn} scratches drawn over good ones were caught, which says nothing of real defects"
    return text


def judge_alarms(bars: Bars, evidence: Evidence) -> Verdict:
    """Whether false alarms are as rare as promised, and whether the model sees. Raises InputError."""
    checked_bars(bars)
    checked(evidence)
    claims = _alarm_claims(bars, evidence)
    claim = claims.alarms
    assert isinstance(claim, AlarmClaim)
    few = too_few_groups(evidence.clean.counts["groups"], bars.groups_min)
    failures = [few] if few else []
    if claim.alarms_bound_ppm > bars.error_ppm_max:
        text = f"false alarms: bound {percent(claim.alarms_bound_ppm)} > {percent(bars.error_ppm_max)} of good ones"
        failures.append(f"{text}; {_missing_good(bars, claim, evidence)}")
    failures += _sight_failures(bars, claim)
    failures += _recall_failures(bars, claim)
    failures += corruption_failures(bars, claims, evidence.corrupted)
    notes = [recall_note(claim, bars.confidence_ppm / PPM)]
    if evidence.groups_inferred:
        notes.append("groups were inferred from the order of files; the bounds rest on that")
    return Verdict(
        passed=not failures,
        failures=tuple(failures),
        notes=tuple(notes),
        claims=claims,
        bars_digest=bars_digest(bars),
        tier=bars.tier,
    )
