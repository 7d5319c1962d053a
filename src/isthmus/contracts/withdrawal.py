"""A withdrawal: an owner takes back what it agreed to; and what became of everything that was made with its records."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.build import RunState

WITHDRAWAL_TYPE = "application/vnd.isthmus.withdrawal+json"
WHY_CHARS_MAX = 500
"""The reason that an owner gives for leaving."""

Cause = Literal["withdrawal", "expiry"]
Way = Literal["same-features", "together", "other-features", "would-reveal", "too-few", "not-serving"]


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One owner's word that an agreement of its own holds no longer for these purposes. Final: who comes back agrees anew.

    agreement: digest of the agreement. purposes: those of its purposes that are taken back, sorted. why: for people, may be empty. at_s:
    seconds since the Unix epoch. Signed by the key that signed the agreement.
    """

    owner: str
    agreement: str
    purposes: tuple[str, ...]
    at_s: int
    why: str = ""


class Leaver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An owner who has left a purpose. document: digest of its withdrawal, or of the agreement that expired. at_s: when that was."""

    party: str
    cause: Cause
    document: str
    at_s: int
    why: str = ""


class LapsedBox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An edge copy of a lapsed model. It is told when it next sends what it judged; one that never calls stops at lapses_at_s, when its
    certificate is over (seconds since the Unix epoch)."""

    box: str
    party: str
    lapses_at_s: int


class LapsedModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that descends from a leaver's records: the run that made it, at which site, its artefact, the certificate that was revoked
    (empty where there was none), the deployments that it served, and its copies at the edge."""

    run: str
    site: str
    artefact: str
    certificate: str
    deployments: tuple[str, ...] = ()
    boxes: tuple[LapsedBox, ...] = ()


class Refit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is made again without the leavers. way: same-features, when every leaver's sums may be seen singly; together, when
    enough left at once; other-features, under the agreements for after leaving; else why not. run: the new run, empty where there is
    none. sums: statistic -> digests of the totals that the new model rests on, once it is there. reason, next: of a refusal."""

    way: Way
    run: str = ""
    state: RunState | Literal["none"] = "none"
    reason: str = ""
    next: str = ""
    artefact: str = ""
    sums: dict[str, tuple[str, ...]] = {}


class SiteRefit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A site's model, made again from the new fleet's. old, run: ids of runs. state: waits until the fleet's is certified."""

    site: str
    old: str
    run: str = ""
    state: RunState | Literal["waits", "lapsed"] = "waits"
    reason: str = ""


class Departure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of one run when owners of its roster left. lapsed: its own model first, then its sites'."""

    run: str
    scenario: str
    purpose: str
    leavers: tuple[Leaver, ...]
    lapsed: tuple[LapsedModel, ...]
    refit: Refit
    sites: tuple[SiteRefit, ...] = ()
