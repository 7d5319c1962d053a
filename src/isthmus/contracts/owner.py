"""What an owner sees of its own node: what was asked, answered and refused, what left, and what its agreements still allow."""

from __future__ import annotations

from typing import Literal

import msgspec

AskedState = Literal["answered", "refused", "countersigned"]


class LeftLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the log of what left. numbers: how many numbers were in it; 0 for documents. to: address."""

    seq: int
    at_ms: int
    kind: str
    statistic: str
    to: str
    numbers: int
    bytes: int
    sha256: str


class AskedLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job that came. clause, message: why it was refused. state `countersigned`: nothing computed has left for it."""

    run: str
    round: int
    statistic: str
    parties: tuple[str, ...]
    state: AskedState
    clause: str = ""
    message: str = ""


class BudgetLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Privacy budget of one asset, as the owner's ledger has it. Epsilons in millionths."""

    asset: str
    spent_ppm: int
    allowed_ppm: int


class AgreedLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agreement and what is left of it. present: whether it is about the asset that the node holds now. state: where it stands, as in
    the Dataspace Protocol; only FINALIZED answers jobs."""

    digest: str
    purposes: tuple[str, ...]
    operations: tuple[str, ...]
    participants: tuple[str, ...]
    visibility: str
    least_participants: int
    issued_at_s: int
    expires_at_s: int
    runs_used: int
    runs_max: int
    present: bool
    state: str


class OwnerView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it at one moment. log_problem: why the log does not verify; empty when every line does. images_left: messages of no declared
    kind. kinds: kind -> (messages, bytes). Lists hold the latest first, and no more than LINES_MAX."""

    party: str
    name: str
    public_key: str
    asset: str
    exchange: str
    now_s: int
    paused_since_s: int | None
    running: bool
    log_problem: str
    messages: int
    bytes_left: int
    images_left: int
    kinds: dict[str, tuple[int, int]]
    left: tuple[LeftLine, ...]
    asked: tuple[AskedLine, ...]
    agreements: tuple[AgreedLine, ...]
    budgets: tuple[BudgetLine, ...] = ()
