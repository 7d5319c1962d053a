"""Bars: what an artefact must prove before it may serve, signed before the run that is judged by them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

PPM = 1_000_000


class Robustness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The error bar must also be proven under this corruption, up to this severity (1 to 5)."""

    family: str
    severity: int


class ValueBars(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bars of numbers that are foretold. skill_ppm_min: the proven share by which the squared error is below the naive forecast's, the
    newest value or else the training mean, must be above it; 0 asks that the model beats it. width_ppm_max: greatest mean width of
    the bands, as a share of the target's declared range."""

    skill_ppm_min: int = 0
    width_ppm_max: int = PPM


class Bars(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares are parts per million. All bounds are one-sided at `confidence_ppm`.

    error_ppm_max: greatest error among answered records. answered_ppm_min: least share answered (more than 0).
    recall_ppm_min, specificity_ppm_min: least proven share of answered defects called defect, and of answered good called
    good; together above 1,000,000, so that no model that ignores its input can pass. auc_ppm_min: the lower bound of the
    area under the ROC curve must be above it; at least 500,000. groups_min: least count of independent groups (modules,
    lots). slice_records_min: smaller slices are named, not judged. families, severities: corruptions that must be measured, in
    this sequence. robust: those that must also hold. values: of a task that gives numbers. Then error_ppm_max is the greatest share of
    outcomes beyond their band, and the bars on answers, recall, specificity and area do not apply. promise: what error_ppm_max bounds;
    unset, errors among answered; `alarms`, the share of good records that are not called good (see assurance.alarms).
    """

    scenario: str
    tier: str
    error_ppm_max: int = 50_000
    confidence_ppm: int = 950_000
    groups_min: int = 8
    answered_ppm_min: int = 50_000
    recall_ppm_min: int = 500_000
    specificity_ppm_min: int = 600_000
    auc_ppm_min: int = 600_000
    slice_records_min: int = 40
    families: tuple[str, ...] = ("brightness", "contrast", "noise", "blur")
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    robust: tuple[Robustness, ...] = ()
    values: ValueBars | msgspec.UnsetType = msgspec.UNSET
    promise: Literal["alarms"] | msgspec.UnsetType = msgspec.UNSET


def bar_fields(certify: msgspec.Struct) -> dict[str, Any]:
    """A scenario's certify plan as fields of Bars; the usual promise is not said."""
    wanted = msgspec.to_builtins(certify)
    fields = {name: wanted[name] for name in Bars.__struct_fields__ if name in wanted}
    if fields.get("promise") == "error":
        del fields["promise"]
    return fields
