"""A run: one scenario built on one roster of owners, as the exchange keeps it."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.life import Origin
from isthmus.contracts.package import ProbeCase
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Scenario

RunState = Literal["running", "certified", "refused", "failed"]
ENDED: tuple[RunState, ...] = ("certified", "refused", "failed")


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator asks for.

    owners: party ids whose agreements allow the scenario's purpose. without: owners who have left; the run is then made on
    other features (`parts_after_leaving`), whose sums cannot be subtracted from those of an earlier roster. clean_only: corruptions are not
    measured, so bars that ask for them refuse. label: sets two otherwise equal requests apart; empty as a rule. candidate: what is
    certified is not put into service but proposed, for `isthmus deployment upgrade`. origin: what the scenario was loaded from, for the
    record; it makes no other run. probes: the package's own cases; a model that fails one is not deployed. left: owners who have left and
    whose leaving their terms allow to be shown: the features stay. contribution: owners are scored by their own sums once the model is
    certified, and paid by that (contracts.contribution).
    """

    scenario: Scenario
    owners: tuple[str, ...]
    without: tuple[str, ...] = ()
    clean_only: bool = False
    label: str = ""
    candidate: bool = False
    origin: Origin | None = None
    probes: tuple[ProbeCase, ...] = ()
    left: tuple[str, ...] = ()
    contribution: bool = False

    @property
    def roster(self) -> tuple[str, ...]:
        """Owners whose records the model is made with, sorted."""
        return tuple(sorted(set(self.owners) - set(self.without) - set(self.left)))


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One finished step of a run. reused: its result stood already."""

    name: str
    wall_s: float
    reused: bool
    detail: Json


class RunView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run as the API shows it. step: what is under way now. result: what the steps found; error: code, message, next."""

    id: str
    scenario: str
    state: RunState
    step: str
    steps: tuple[StepRecord, ...]
    result: Json | None = None
    error: Json | None = None


class SiteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Carries a certified run to another site. run: the fleet's run id. fit, proof: labelled records drawn there by `seed`,
    to fit on and to prove on; the rest, where labels are known, is only measured. scenario: the run's own with this site's values in
    `serve`, `replicate` and `certify.validity_days`; None, as the run had it. candidate, origin, probes: as in RunRequest."""

    run: str
    site: str
    fit: int
    proof: int
    seed: int = 0
    scenario: Scenario | None = None
    candidate: bool = False
    origin: Origin | None = None
    probes: tuple[ProbeCase, ...] = ()
