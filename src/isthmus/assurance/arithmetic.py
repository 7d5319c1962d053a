"""The sample arithmetic of a promise: how many labelled records prove what."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.assurance.bounds import clopper_pearson_upper, needed_samples


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """answered_needed: answered records without an error that prove the bar. labels_needed: further labels to draw at random, at the
    share answered so far. provable: the error bound that the present records prove. sentence: all of it in words."""

    answered_needed: int
    labels_needed: int
    provable: float
    sentence: str


def arithmetic(bar: float, confidence: float, proof: int, answered: int, errors: int, answered_share: float) -> Arithmetic:
    """What is still missing at a site whose records are drawn one by one at random.

    bar: greatest error rate. proof: labelled records kept for proof so far; answered, errors: among them. answered_share: the share of
    records that the model answers, from whatever is known of it; 0 when unknown.
    """
    first, total = needed_samples(bar, confidence), needed_samples(bar, confidence, errors)
    provable = clopper_pearson_upper(errors, answered, confidence)
    missing = max(0, total - answered)
    share = answered_share if answered_share > 0 else 1.0
    labels = 0 if provable <= bar else math.ceil(missing / share)
    parts = [f"{first} answered records without an error prove an error of at most {bar * 100:g} % with {confidence * 100:g} % confidence"]
    if errors:
        parts.append(f"with {errors} of them wrong, {total} are needed")
    parts.append(f"{proof} labels were kept for proof, {answered} of them answered" if proof else "no labels were kept for proof")
    if provable <= bar:
        parts.append("so the promise is proven")
    else:
        parts.append(
            f"so about {labels} more labels, drawn at random, are needed"
            + (f" at {share * 100:.0f} % answered" if answered_share > 0 else "")
        )
        if answered:
            parts.append(f"what can be promised now is {provable * 100:.1f} %")
    return Arithmetic(answered_needed=total, labels_needed=labels, provable=provable, sentence="; ".join(parts) + ".")
