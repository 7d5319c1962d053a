"""What is asked of the exchange about several owners' tables, and what it answers: numbers with bounds, or who refused by which clause."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.job import JobRefusal
from isthmus.contracts.question import Question
from isthmus.contracts.schema import Schema

AnswerPhase = Literal["preview", "waiting", "done", "refused", "failed"]
CONFIDENCE_PPM = 950_000
"""Of the bounds of a noisy number. Bounds of an exact number hold always."""


class QuestionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """table: the scenario's id. schema: its columns, as the owners have declared them. owners: party ids; none for all whose agreements
    allow it. epsilon: what the answer may cost each owner's privacy budget, at `delta`; 0 asks for exact numbers. preview: only what it
    would tell and cost."""

    table: str
    schema: Schema
    question: Question
    purpose: str
    owners: tuple[str, ...] = ()
    epsilon: float = 0.0
    delta: float = 1e-5
    preview: bool = False


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number of an answer, in its column's unit. low, high: where the true one lies: the number itself where it is exact; beyond what
    owners left out; at CONFIDENCE_PPM, for each number by itself, where it is noisy. None: not known."""

    value: float | None
    low: float | None
    high: float | None


class AnswerRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell. groups: names of its groups. told: one for each aggregate, none where the cell is not shown. withheld: owners that left
    records of it out. why: why it is not shown, or what its bounds come from; empty where it is whole and exact."""

    groups: tuple[str, ...]
    told: tuple[Told, ...]
    withheld: int
    shown: bool
    why: str


class NoiseTold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Noise on one kind of number of each cell. sensitivity: the most that one privacy unit changes it. error: half the width of its bounds
    in the total. Both in the column's unit, of sums of squares in its square."""

    kind: str
    column: str
    sensitivity: float
    error: float


class OwnerCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an answer costs one owner. epsilon: of this answer by itself, at the owner's delta. epsilon_total: the budget. epsilon_after:
    what all answers through this exchange, this one included, come to. All 0 where the agreement has no budget. runs_left: of the
    agreement, as far as this exchange knows."""

    party: str
    agreement: str
    least_group_size: int
    budget: bool
    epsilon: float
    epsilon_total: float
    epsilon_after: float
    runs_left: int


class Preview(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a question would tell and cost; nothing was computed for it. cells, numbers: of the fixed shape. bytes_each: what each owner
    would send."""

    cells: int
    numbers: int
    bytes_each: int
    noise: tuple[NoiseTold, ...]
    costs: tuple[OwnerCost, ...]


class QuestionAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """owners: whose records are in it. refusals: who took no part, by which clause of its agreement. groups, names: headings of the rows'
    groups and numbers. waiting_for: parties that have not answered yet. exact: no noise was added."""

    table: str
    phase: AnswerPhase
    owners: tuple[str, ...] = ()
    refusals: tuple[JobRefusal, ...] = ()
    waiting_for: tuple[str, ...] = ()
    reason: str = ""
    job: str = ""
    exact: bool = True
    epsilon: float = 0.0
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    rows: tuple[AnswerRow, ...] = ()
    preview: Preview | None = None
