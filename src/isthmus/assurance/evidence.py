"""What was measured on held-out records, before it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from isthmus.contracts.errors import InputError
from isthmus.contracts.sums import Evaluation
from isthmus.kit.canonical import digest_of, sha256_hex


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """clean: all held-out records as they are. slices: parts of them by name (mono, poly). corrupted: all held-out records under
    (family, severity). design_effect: of errors among answered, from training folds. groups_inferred: groups were guessed from
    the order of files. probability: a score tells one, as 4 p - 2."""

    clean: Evaluation
    slices: Mapping[str, Evaluation] = field(default_factory=dict)
    corrupted: Mapping[tuple[str, int], Evaluation] = field(default_factory=dict)
    design_effect: float
    groups_inferred: bool = False
    probability: bool = False


def _contradiction(found: Evaluation) -> str | None:
    """Why these counts cannot have been counted, or None."""
    c, g = found.counts, found.clusters
    if min((*c.values(), g.groups, g.a, g.e, g.aa, g.ee, g.ae, int(found.histogram.min()))) < 0:
        return "a count is negative"
    if c["errors"] != c["missed_defects"] + c["false_alarms"] or c["answered"] != c["answered_defects"] + c["answered_good"]:
        return "parts do not add up"
    if c["missed_defects"] > c["answered_defects"] or c["false_alarms"] > c["answered_good"]:
        return "more errors than answers"
    if c["answered_defects"] > c["defects"] or c["answered_good"] > c["records"] - c["defects"]:
        return "more answers than records"
    if found.histogram.any() and [int(v) for v in found.histogram.sum(axis=1)] != [c["records"] - c["defects"], c["defects"]]:
        return "the histogram holds other records"
    if (g.a, g.e) != (c["answered"], c["errors"]) or g.groups > min(c["groups"], c["answered"]) or c["groups"] > c["records"]:
        return "the groups hold other records"
    if g.groups * g.aa < g.a**2 or g.aa < g.a or g.ee < g.e or not g.e <= g.ae <= g.aa or g.ae**2 > g.aa * g.ee or g.aa > g.a**2:
        return "the groups' squares are impossible"
    return None


def checked(evidence: Evidence) -> Evidence:
    """The evidence if its counts agree with each other; raises InputError that names the part that does not."""
    parts = {"the held-out records": evidence.clean}
    parts |= {f"slice {name}": found for name, found in evidence.slices.items()}
    parts |= {f"{family} {severity}": found for (family, severity), found in evidence.corrupted.items()}
    for name, found in parts.items():
        why = _contradiction(found)
        if why is None and name.startswith("slice") and found.counts["records"] > evidence.clean.counts["records"]:
            why = "more records than there are"
        if why is None and not name.startswith("slice"):
            same = ("records", "defects", "groups")
            why = None if all(found.counts[k] == evidence.clean.counts[k] for k in same) else "other records than the clean ones"
        if why:
            raise InputError(f"the evidence contradicts itself at {name}: {why}", "evaluate again; a share was damaged")
    if not 1.0 <= evidence.design_effect < float("inf"):
        raise InputError(f"a design effect of {evidence.design_effect} is impossible", "estimate it again; it is at least 1")
    return evidence


def evidence_digest(evidence: Evidence) -> str:
    """sha256 of all that was measured, as `sha256:<hex>`."""

    def short(found: Evaluation) -> str:
        return sha256_hex(found.packed().astype("<i8").tobytes())

    return digest_of(
        {
            "clean": short(evidence.clean),
            "slices": {name: short(found) for name, found in evidence.slices.items()},
            "corrupted": [[family, severity, short(found)] for (family, severity), found in sorted(evidence.corrupted.items())],
            "design_effect_ppm": round(evidence.design_effect * 1_000_000),
            "groups_inferred": evidence.groups_inferred,
            **({"probability": True} if evidence.probability else {}),
        }
    )
