"""The sample arithmetic of a promise: how many labelled records prove what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isthmus.assurance.bounds import clopper_pearson_upper, needed_samples

FALSE_ALARM_BARS = (0.05, 0.01)
RECALL_BAR = 0.95


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """answered_needed: answered records without an error that prove the bar. labels_needed: further labels to draw at random, at the
    share answered so far. provable: the error bound that the present records prove. sentence: all of it in words."""

    answered_needed: int
    labels_needed: int
    provable: float
    sentence: str


def arithmetic(
    bar: float, confidence: float, proof: int, answered: int, errors: int, answered_share: float, alarms: bool = False
) -> Arithmetic:
    """What is still missing at a site whose records are drawn one by one at random.

    bar: greatest error rate. proof: labelled records kept for proof so far; answered, errors: among them. answered_share: the share of
    records that the model answers, from whatever is known of it; 0 when unknown. alarms: what is answered are good records, and an error
    is one that is not called good.
    """
    first, total = needed_samples(bar, confidence), needed_samples(bar, confidence, errors)
    provable = clopper_pearson_upper(errors, answered, confidence)
    missing = max(0, total - answered)
    share = answered_share if answered_share > 0 else 1.0
    labels = 0 if provable <= bar else math.ceil(missing / share)
    what, proves, wrong, counted = _COUNTED[alarms]
    rest = f"at most {bar * 100:g} % with {confidence * 100:g} % confidence"
    parts = [f"{first} {what} prove {proves} of {rest}"]
    if errors:
        parts.append(f"with {errors} of them {wrong}, {total} are needed")
    parts.append(f"{proof} labels were kept for proof, {answered} of them {counted}" if proof else "no labels were kept for proof")
    if provable <= bar:
        parts.append("so the promise is proven")
    else:
        parts.append(
            f"so about {labels} more labels, drawn at random, are needed"
            + (f" at {share * 100:.0f} % {counted}" if answered_share > 0 else "")
        )
        if answered:
            parts.append(f"what can be promised now is {provable * 100:.1f} %")
    return Arithmetic(answered_needed=total, labels_needed=labels, provable=provable, sentence="; ".join(parts) + ".")


_COUNTED = {
    False: ("answered records without an error", "an error", "wrong", "answered"),
    True: ("good records that are called good", "a share of false alarms", "not called good", "good"),
}


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """One line of the arithmetic that comes before any work.

    kind: `promise`, at the confidence; `expected`, a rate that holds on average over many sites and is no promise. of: what is counted.
    bar: greatest rate of errors among them. needed: of them, none of them wrong. have: of them, kept for proof. missing: the difference.
    now: the rate that those there are would prove, or lead one to expect, should none be wrong; 1 without any.
    """

    kind: Literal["promise", "expected"]
    of: Literal["answered", "good", "defect"]
    bar: float
    needed: int
    have: int
    missing: int
    now: float
    sentence: str


def prospects(good: int, defects: int, promises: Sequence[float], confidence: float) -> tuple[Prospect, ...]:
    """What so many records for proof can show at best: no error among them, and all of them answered.

    good, defects: labelled records kept for proof. promises: greatest error rates among answered, as the scenario's ladder has them. The
    expected rates are those of conformal prediction: one more record errs with a chance of at most 1 / (n + 1).
    """
    lines = [_promise("answered", bar, good + defects, confidence) for bar in promises]
    lines += [_promise("good", bar, good, confidence) for bar in FALSE_ALARM_BARS]
    lines.append(_promise("defect", round(1.0 - RECALL_BAR, 12), defects, confidence))
    return (*lines, *(_expected(bar, good) for bar in FALSE_ALARM_BARS))


_SAID = {
    "answered": ("answered records without an error", "an error of at most {bar} among answered", "an error of at most {now}"),
    "good": ("good ones without a false alarm", "at most {bar} false alarms", "at most {now} false alarms"),
    "defect": ("caught defects without a miss", "a recall of at least {rest}", "a recall of at least {now_rest}"),
}


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _promise(of: Literal["answered", "good", "defect"], bar: float, have: int, confidence: float) -> Prospect:
    needed, now = needed_samples(bar, confidence), clopper_pearson_upper(0, have, confidence)
    what, proves, proves_now = _SAID[of]
    words = {"bar": _percent(bar), "rest": _percent(1.0 - bar), "now": _percent(now), "now_rest": _percent(1.0 - now)}
    then = "enough" if have >= needed else f"{needed - have} more are missing"
    if 0 < have < needed:
        then += f"; now {proves_now.format(**words)} can be promised at best"
    sentence = f"{needed} {what} prove {proves.format(**words)} with {_percent(confidence)} confidence: {have} are kept for proof, {then}."
    missing = max(0, needed - have)
    return Prospect(kind="promise", of=of, bar=bar, needed=needed, have=have, missing=missing, now=now, sentence=sentence)


def _expected(bar: float, have: int) -> Prospect:
    needed, now = math.ceil(1.0 / bar - 1e-9) - 1, 1.0 / (have + 1)
    then = "enough" if have >= needed else f"{needed - have} more are missing"
    sentence = (
        f"{needed} good ones make at most {_percent(bar)} false alarms the expected rate, on average over many sites, which is no promise:"
        f" {have} are kept for proof, {then}."
    )
    missing = max(0, needed - have)
    return Prospect(kind="expected", of="good", bar=bar, needed=needed, have=have, missing=missing, now=now, sentence=sentence)
