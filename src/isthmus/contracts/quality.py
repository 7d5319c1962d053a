"""What a check of an owner's data found: a score with its reasons, and a list of work for whoever cleans it.

The report may stand in the asset's public description, so it holds counts, shares and names of columns, never a record's path, value,
text or digest. The work list names records; it stays with the owner.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

Level = Literal["stop", "care", "note", "good", "unavailable"]
"""stop: nothing should be trained on it as it is. care: worth an hour. note: worth knowing. good: looked for, not found."""
Action = Literal["relabel", "remove", "fix", "look"]
ACTIONS: tuple[Action, ...] = ("relabel", "remove", "fix", "look")


class Charge(NamedTuple):
    """What a check can take off the score: `points` where `full` of what it counts is affected, in proportion below."""

    points: float
    full: float


CHARGES: dict[str, Charge] = {
    "unreadable": Charge(20, 0.05),
    "missing": Charge(10, 0.5),
    "constant": Charge(5, 0.5),
    "out-of-range": Charge(15, 0.1),
    "units": Charge(20, 0.1),
    "duplicates": Charge(10, 0.2),
    "near-duplicates": Charge(5, 0.2),
    "label-errors": Charge(25, 0.2),
    "leakage": Charge(25, 0.1),
    "tell-tale": Charge(25, 0.1),
    "balance": Charge(10, 1.0),
    "groups": Charge(5, 1.0),
    "drift": Charge(10, 1.0),
    "personal": Charge(15, 0.05),
}
"""The score is 100 less the charge of each finding, points * min(1, share / full), and never below 0; see docs/guide/refining.md."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that was looked for. share: 0 to 1, what the charge is taken of: of records as a rule, of columns for `constant` and
    `tell-tale`, of fields for `missing`. column: where it is about one. says: one sentence without any record in it."""

    check: str
    level: Level
    says: str
    records: int = 0
    share: float = 0.0
    points: float = 0.0
    column: str = ""


class QualityReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """score: 0 to 100. asset: digest of the asset that was checked, or empty. scenario: whose columns and features were used, or empty.
    label_error_share: estimated share of wrong labels among training records; None where it was not looked for. personal: kinds of personal
    data that were met. not_checked: what this check does not do, in sentences."""

    score: int
    records: int
    groups: int
    findings: tuple[Finding, ...]
    asset: str = ""
    scenario: str = ""
    label_error_share: float | None = None
    personal: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()


class WorkItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record to look at.

    chance: that something is wrong with it, 0 to 1. gain: expected gain, 0 to 1, which orders the list: the chance times the weight of its
    mending; of a label, how far the right one would move all scores, where 1 is the record that would move them most. column, value: of a
    field to be fixed and what to write there; of `relabel`, value is the other label. twin: the record that it is a copy of.
    """

    path: str
    action: Action
    why: str
    check: str
    chance: float
    gain: float
    column: str = ""
    value: str = ""
    twin: str = ""


def charged(check: str, share: float) -> float:
    """Points off for a share, 0 to 1."""
    charge = CHARGES[check]
    return round(charge.points * min(1.0, max(0.0, share) / charge.full), 2)


def finding_of(check: str, share: float, says: str, records: int, column: str = "", care_from: float = 0.0) -> Finding:
    """A finding of a share: its charge, and `care` above care_from, `good` where there is nothing, else `note`."""
    level: Level = "good" if share <= 0 else "care" if share > care_from else "note"
    return Finding(check=check, level=level, says=says, records=records, share=round(share, 4), points=charged(check, share), column=column)


def score_of(findings: tuple[Finding, ...]) -> int:
    """0 to 100: a hundred less the greatest charge of each check, so that many columns with one fault are not counted many times over."""
    worst: dict[str, float] = {}
    for finding in findings:
        worst[finding.check] = max(worst.get(finding.check, 0.0), finding.points)
    return max(0, round(100.0 - sum(worst.values())))
