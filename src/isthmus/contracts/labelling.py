"""What a labelling desk tells its page. Shares lie between 0 and 1, times are milliseconds."""

from __future__ import annotations

import msgspec


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The picture that is asked now. how: `chosen` by the model or `drawn` at random. put_off: it was put off before."""

    id: str
    name: str
    how: str
    put_off: bool


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer. defect_chance: what the model gave a defect before it knew; None when it knew one class only."""

    id: str
    name: str
    verdict: str
    sure: bool
    how: str
    defect_chance: float | None


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """After `labels` labels: accuracy on `measured` pictures that were not chosen, each by a fit that had not seen it; its lower bound at
    95 % confidence; and the accuracy of always naming the commoner class."""

    labels: int
    measured: int
    accuracy: float
    lower: float
    commoner: float


class Took(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the last answer took: to be safe on the disk, and to be learned with the next picture chosen. 0 before the first."""

    write_ms: float = 0.0
    learn_ms: float = 0.0


class DeskState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the page shows. labelled, good, defect, unsure: pictures that teach. left: still open, put_off among them. unread,
    left_out, kept_back: files that cannot be read, are beyond the limit, or are of groups that are held out. grouped: the curve leaves
    whole groups out; else there are too few, and each picture counts as its own."""

    folder: str
    asked: Asked | None
    labelled: int
    good: int
    defect: int
    unsure: int
    answered_here: int
    drawn: int
    left: int
    put_off: int
    unread: int
    left_out: int
    kept_back: int
    recent: tuple[Said, ...]
    curve: tuple[CurvePoint, ...]
    grouped: bool
    took: Took


class AnswerGiven(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the page sends. verdict: `good`, `defect` or `later`."""

    id: str
    verdict: str
    sure: bool = True
