"""What the report of one run is made from.

Every part may be None (or an empty tuple): it is then shown as "not measured" and never filled in. Shares, rates, AUCs and
bounds are floats in 0..1; bounds are one-sided at the headline's confidence. Amounts are integer micro-units of `currency`.
Digests are `sha256:<64 hex digits>`. Times are ISO 8601 in UTC. Pictures are data URIs made during the run.
"""

from __future__ import annotations

import msgspec

from isthmus.contracts.head import Head
from isthmus.contracts.ports import Json
from isthmus.contracts.receipt import Receipt


class ReportParty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An organisation in the run. role: owner | line | compute | vendor | exchange | user | residue. sample: not a real organisation."""

    id: str
    name: str
    role: str
    sample: bool = False
    licence_note: str = ""


class SentMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One payload that left a node, as its owner's signed log has it."""

    kind: str
    shape: tuple[int, ...]
    body_bytes: int
    digest: str
    masked: bool | None = None
    at: str | None = None


class OwnerPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One data owner: what stayed, what left, and what its data alone can do. auc_alone is on the union of held-out groups."""

    party: str
    records: int | None = None
    groups: int | None = None
    groups_inferred: bool | None = None
    defect_share: float | None = None
    holdout_records: int | None = None
    holdout_groups: int | None = None
    bytes_left: int | None = None
    images_left: int | None = None
    messages: tuple[SentMessage, ...] = ()
    log_head: str | None = None
    auc_alone: float | None = None
    alone_dimension: int | None = None
    share: float | None = None


class ModelPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The joint model. weights_max_rel_diff_to_pooled: max norm, relative, against an independent pooled fit."""

    auc_joint: float | None = None
    auc_pooled: float | None = None
    weights_max_rel_diff_to_pooled: float | None = None
    regularisation: float | None = None
    lo: float | None = None
    hi: float | None = None
    dimension: int | None = None
    records: int | None = None
    backbone: str | None = None
    head_digest: str | None = None
    artefact_digest: str | None = None
    visibility: str | None = None
    membership_auc: float | None = None


class HeadlinePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out figures. error_* are among answered records; *_bound is the proven side (upper for error, lower for the others).

    alarms: what was promised is the share of good records that are not called good; error_* are then of good records, and recall of defects
    that were not called good. answered_good, answered_defects: records that were answered so, rightly or wrongly; with those left to a
    person they are all records.
    """

    answered_share: float | None = None
    error_share: float | None = None
    error_bound: float | None = None
    error_goal: float | None = None
    confidence: float | None = None
    records: int | None = None
    answered: int | None = None
    answered_good: int | None = None
    answered_defects: int | None = None
    missed_defects: int | None = None
    false_alarms: int | None = None
    groups: int | None = None
    design_effect: float | None = None
    recall: float | None = None
    recall_bound: float | None = None
    specificity: float | None = None
    specificity_bound: float | None = None
    alarms: bool = False


class ValueRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number that is foretold, on held-out records. miss_*: share of outcomes beyond the band; goal: greatest that is promised. skill:
    share of the naive forecast's squared error that is saved; efficiency: Nash-Sutcliffe. rmse, naive_rmse: in `unit`. width: mean width
    of the band as a share of the declared range. slice: empty for all records."""

    name: str
    slice: str = ""
    unit: str = ""
    records: int | None = None
    groups: int | None = None
    miss_share: float | None = None
    miss_bound: float | None = None
    goal: float | None = None
    naive: str = ""
    skill: float | None = None
    skill_bound: float | None = None
    efficiency: float | None = None
    rmse: float | None = None
    naive_rmse: float | None = None
    width: float | None = None


class ForecastShown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One served forecast beside what came of it; only of sample data, whose records the caller has."""

    name: str
    unit: str
    record: str
    value: float
    low: float
    high: float
    outcome: float | None = None


class BarRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One acceptance bar that was signed before the run. compare: `<=` or `>=` (value compare goal)."""

    name: str
    value: float | None
    goal: float
    compare: str
    holds: bool | None


class SliceRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out figures of one slice. false_alarm_share: called defects among the truly good that were answered. missed_share: called good
    among the truly defective that were answered."""

    name: str
    records: int | None = None
    groups: int | None = None
    accuracy: float | None = None
    majority_rate: float | None = None
    answered_share: float | None = None
    error_share: float | None = None
    error_bound: float | None = None
    false_alarm_share: float | None = None
    missed_share: float | None = None


class CorruptionRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out figures under one corruption; severity 0 is the clean image, otherwise 1..5."""

    family: str
    severity: int
    answered_share: float | None = None
    error_share: float | None = None
    error_bound: float | None = None


class RocCurve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """(false alarms, recall) points from (0, 0) to (1, 1). party: None for the joint model, else the owner alone."""

    name: str
    party: str | None = None
    auc: float | None = None
    points: tuple[tuple[float, float], ...] = ()


class ScoreHistogram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out scores by true class, bins of equal width over [low, high]."""

    low: float
    high: float
    good: tuple[int, ...]
    defect: tuple[int, ...]


class CalibrationRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Held-out records by stated probability, the mean that they state, and the share of defects found among them with its interval."""

    low: float
    high: float
    stated_low: float
    stated_high: float
    records: int
    defects: int
    share_low: float
    share_high: float


class CalibrationPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stated probabilities beside what was found; see contracts.certificate.CalibrationClaim."""

    brier_low: float
    brier_high: float
    brier_bound: float
    brier_base: float
    error_low: float
    error_high: float
    rows: tuple[CalibrationRow, ...]


class CertificatePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The certificate or the refusal. digest: sha256 of the envelope's payload bytes."""

    issued: bool
    name: str = ""
    tier: str | None = None
    digest: str | None = None
    statement: Json | None = None
    envelope: Json | None = None
    issued_at: str | None = None
    expires_at: str | None = None
    reasons: tuple[str, ...] = ()
    more_groups_needed: int | None = None
    more_records_needed: int | None = None


class Attribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature's exact share of a linear score. index: position in the feature vector."""

    feature: str
    index: int
    contribution: float


class RecordField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of a record as people read it, with its unit."""

    column: str
    value: str


class CellPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record to look at. verdict: good | defect | person. label: good | defect.

    score = bias + sum(attributions) + rest; of a logistic head that sum is the logarithm of the odds, the score 4 p - 2, and probability
    is p. features: the record's quantised features, so that the page can score it again.
    Pictures, and the fields of rows, are embedded only when licence_note is not blank, and it is shown beside them.
    """

    id: str
    owner: str
    licence_note: str
    picture: str | None = None
    fields: tuple[RecordField, ...] = ()
    heat: str | None = None
    heat_limit: float | None = None
    score: float | None = None
    probability: float | None = None
    verdict: str | None = None
    label: str | None = None
    certainty: str | None = None
    kind: str | None = None
    bias: float | None = None
    attributions: tuple[Attribution, ...] = ()
    rest: float | None = None
    features: tuple[int, ...] | None = None


class RefusalShown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refusal that really happened in the run, in the exchange's own words."""

    code: str
    message: str
    next: str = ""
    count: int = 1


class ServingPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was served."""

    requests: int | None = None
    receipts: int | None = None
    answered: int | None = None
    to_person: int | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    refusals: tuple[RefusalShown, ...] = ()


class SplitRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One party's part of the charge and, for owners, the rule behind it. role: as in ReportParty."""

    party: str
    role: str
    amount_micros: int
    rule: str = ""


class UnitRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Balance of one zero-sum unit account (inferences, tokens) of a model version."""

    account: str
    unit: str
    amount: int


class MoneyPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The book after the run."""

    currency: str
    charge_micros: int | None = None
    price_micros: int | None = None
    price_unit: str = ""
    price_version: str | None = None
    payer: str | None = None
    split: tuple[SplitRow, ...] = ()
    entries: int | None = None
    entries_sum_micros: int | None = None
    units: tuple[UnitRow, ...] = ()
    units_sum: int | None = None


class SiteCandidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """name: fleet | local | combined. Measured on records of the new line that none of them saw."""

    name: str
    auc: float | None = None
    answered_share: float | None = None
    error_share: float | None = None
    error_bound: float | None = None


class SitePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The next line. Sample counts are labels of that line; sentence: the arithmetic in words, from assurance."""

    site: str
    samples_given: int | None = None
    samples_fit: int | None = None
    samples_test: int | None = None
    groups_test: int | None = None
    groups_needed: int | None = None
    samples_needed: int | None = None
    audit_records: int | None = None
    local_weight: float | None = None
    candidates: tuple[SiteCandidate, ...] = ()
    certificate: CertificatePart | None = None
    sentence: str = ""


class ModelState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the leave demonstration, enough to compare and to score cells again."""

    owners: tuple[str, ...]
    head: Head | None = None
    head_digest: str | None = None
    records: int | None = None
    auc: float | None = None
    answered_share: float | None = None
    error_bound: float | None = None
    certificate_issued: bool | None = None
    split: tuple[SplitRow, ...] = ()


class LeaveOutcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens when one owner leaves: a new model, or a refusal (`after` None, refusal set). rule: the rule that applied."""

    party: str
    rule: str
    sentence: str
    after: ModelState | None = None
    refusal: RefusalShown | None = None


class LeavePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Owners that are in no outcome are shown as not computed."""

    before: ModelState
    outcomes: tuple[LeaveOutcome, ...] = ()


class HeadDemo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The head document for the byte edit. text: its canonical JSON, whose sha256 is `digest` and a subject of the certificate.

    message may hold {expected} and {found}: the digests in the exchange's own sentence.
    """

    text: str
    digest: str
    code: str
    message: str
    next: str = ""


class StepTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of the run. reused: its result was kept from an earlier run."""

    name: str
    wall_s: float
    reused: bool = False


class RunReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the page shows. pictures: whether its records are pictures. values: of a run whose model foretells numbers; it has no
    headline of verdicts, curves or slices. receipt: one example, with all sections disclosed and its
    inclusion proof."""

    scenario: str
    run_id: str
    at: str
    title: str = ""
    version: str = ""
    pictures: bool = True
    parties: tuple[ReportParty, ...] = ()
    owners: tuple[OwnerPart, ...] = ()
    model: ModelPart | None = None
    headline: HeadlinePart | None = None
    values: tuple[ValueRow, ...] = ()
    forecasts: tuple[ForecastShown, ...] = ()
    bars: tuple[BarRow, ...] = ()
    slices: tuple[SliceRow, ...] = ()
    corruptions: tuple[CorruptionRow, ...] = ()
    roc: tuple[RocCurve, ...] = ()
    scores: ScoreHistogram | None = None
    calibration: CalibrationPart | None = None
    certificate: CertificatePart | None = None
    cells: tuple[CellPart, ...] = ()
    serving: ServingPart | None = None
    money: MoneyPart | None = None
    receipt: Receipt | None = None
    site: SitePart | None = None
    leave: LeavePart | None = None
    head: HeadDemo | None = None
    timings: tuple[StepTime, ...] = ()
    notes: tuple[str, ...] = ()
    figures: Json | None = None
