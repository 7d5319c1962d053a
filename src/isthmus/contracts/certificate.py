"""Certificate: a signed claim that one exact artefact met its bars.

An in-toto Statement v1 (github.com/in-toto/attestation) in a DSSE envelope. Shares are parts per million; upper bounds are rounded up
and lower bounds down, so that rounding never flatters.
"""

from __future__ import annotations

import msgspec

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:isthmus:certificate:v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
TIERS = ("T1", "T2", "T3")


class SliceClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One slice: accuracy among its answered records, its lower bound, and the share of its larger class. judged: large enough."""

    name: str
    records: int
    groups: int
    answered_ppm: int
    accuracy_ppm: int
    accuracy_bound_ppm: int
    majority_ppm: int
    judged: bool


class CorruptionClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One corruption and severity: share answered, errors among answered with their bound, wrong answers among all records
    with their bound. holds: proven, and so were all milder severities of the family."""

    family: str
    severity: int
    answered_ppm: int
    errors: int
    error_bound_ppm: int
    wrong_bound_ppm: int
    holds: bool


class ValueSlice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One slice of a number that is foretold. efficiency_ppm: as in ValueClaim, within the slice. judged: large enough."""

    name: str
    records: int
    groups: int
    miss_ppm: int
    skill_ppm: int
    efficiency_ppm: int
    judged: bool


class ValueClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number that is foretold, on held-out records.

    misses: outcomes beyond the band, of which `below` its lower end. skill_ppm: share of the naive forecast's squared error that the model
    saves; naive: what that forecast is. efficiency_ppm: Nash-Sutcliffe, the same against the held-out outcomes' own mean. Both may
    be negative. rmse_micros: root mean squared error in millionths of the unit. width_ppm: mean width of the band as a share of the
    declared range; open_ppm: share of bands that reach an end of the range.
    """

    name: str
    unit: str
    misses: int
    below: int
    miss_ppm: int
    miss_bound_ppm: int
    design_effect_ppm: int
    naive: str
    skill_ppm: int
    skill_bound_ppm: int
    efficiency_ppm: int
    rmse_micros: int
    naive_rmse_micros: int
    width_ppm: int
    open_ppm: int
    slices: tuple[ValueSlice, ...] = ()


class AlarmClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a model that was thresholded on good records only. alarms: good records that are not called good, with the upper bound of their
    share. defects: labelled ones that were held out; caught: not called good, with the lower bound of their share, 0 where there is none:
    then nothing is known of it. drawn, drawn_caught: good pictures with a scratch drawn over them, as a check that it is not blind."""

    good: int
    alarms: int
    alarms_ppm: int
    alarms_bound_ppm: int
    defects: int
    caught: int
    caught_ppm: int
    caught_bound_ppm: int
    drawn: int
    drawn_caught: int
    drawn_caught_bound_ppm: int


class RangeClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out records whose stated probability lies between two values; least and most that the bins allow of its mean; the defects among
    them, and the interval of their share."""

    low_ppm: int
    high_ppm: int
    stated_low_ppm: int
    stated_high_ppm: int
    records: int
    defects: int
    share_low_ppm: int
    share_high_ppm: int


class CalibrationClaim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stated probabilities beside what was found. brier_*: least and most that the bins allow of the mean squared error of the held-out
    probabilities, and its bound; brier_base: of stating the same share for everybody. error_*: least and most of the mean distance
    between stated probability and found share. ranges: their intervals hold together."""

    brier_low_ppm: int
    brier_high_ppm: int
    brier_bound_ppm: int
    brier_base_ppm: int
    error_low_ppm: int
    error_high_ppm: int
    ranges: tuple[RangeClaim, ...]


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured on held-out records, unweighted. `*_bound_ppm` hold with confidence_ppm; those under corruption
    hold together for all families with confidence_ppm. values: of a task that gives numbers: all are answered, an error is an outcome
    beyond its band, of the number that is worst in it, and recall, specificity and area are 0: nothing is claimed. alarms: only where
    that is what was promised; then error_bound_ppm is 1,000,000, because errors among answered depend on how rare defects are.
    calibration: where the score tells a probability."""

    records: int
    groups: int
    groups_inferred: bool
    confidence_ppm: int
    design_effect_ppm: int
    answered: int
    answered_ppm: int
    errors: int
    error_ppm: int
    error_bound_ppm: int
    recall_ppm: int
    recall_bound_ppm: int
    specificity_ppm: int
    specificity_bound_ppm: int
    auc_ppm: int
    auc_bound_ppm: int
    slices: tuple[SliceClaim, ...] = ()
    corruptions: tuple[CorruptionClaim, ...] = ()
    values: tuple[ValueClaim, ...] | msgspec.UnsetType = msgspec.UNSET
    alarms: AlarmClaim | msgspec.UnsetType = msgspec.UNSET
    calibration: CalibrationClaim | None = None


class Predicate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """parties: those whose agreements the figures rest on. Times are seconds since the Unix epoch: valid from not_before_s
    until just before not_after_s. notes: sentences that belong to the figures (for instance slices too small to judge)."""

    tier: str
    scenario: str
    site: str
    decoder: str
    head_digest: str
    stage_digest: str
    bars_digest: str
    evidence_digest: str
    claims: Claims
    parties: tuple[str, ...]
    agreements: tuple[str, ...]
    not_before_s: int
    not_after_s: int
    notes: tuple[str, ...] = ()


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """digest: {"sha256": 64 hex digits}."""

    name: str
    digest: dict[str, str]


class Certificate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"type_": "_type", "predicate_type": "predicateType"}
):
    """The statement inside the envelope."""

    type_: str
    subject: tuple[Subject, ...]
    predicate_type: str
    predicate: Predicate
