"""A run that goes on without the owners who refuse, are paused or stay silent, where enough others remain.

A job begins with countersignatures. While one is missing, no node has computed anything for it, so that a refusal, or silence, reveals
nothing, and the same may be asked of the others: from the beginning, as jobs of their own, so that the model rests on one roster alone.
What was asked of the larger roster before stands in the way only if shares had left: then as many owners must be missing as every other
owner's rule on overlapping rosters asks for. The nodes hold each such job against their own terms and their own memory, whatever is
decided here. Who is missing, and by which clause, is a step of the run, so that a run that was cut off goes on with the same roster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from isthmus.app.build import Build
from isthmus.app.builders import build_of
from isthmus.app.workshop import Workshop
from isthmus.contracts.build import RunRequest, StepRecord
from isthmus.contracts.errors import JobFailedError, JobRefusedError
from isthmus.contracts.ports import Json
from isthmus.kit.canonical import digest_of

SILENT = "silent"
"""In the place of a clause: the node did not answer."""
OF_THE_ROSTER = frozenset({"would-reveal", "least-participants", "roster", "asset-signature", "replay", "job-expiry", "exchange-signature"})
"""Clauses that a smaller roster cannot satisfy better, or that any node would refuse by."""
STEP = "without "
ID_CHARS = 16


@dataclass(frozen=True)
class Absence:
    """An owner who does not take part. clause: by which it refused, or SILENT."""

    party: str
    clause: str
    message: str

    def __str__(self) -> str:
        how = "did not answer" if self.clause == SILENT else f"refused by its clause {self.clause}"
        return f"{self.party} took no part: it {how}: {self.message}"


@dataclass
class Attendance:
    """Who takes part in one run."""

    shop: Workshop
    run_id: str
    request: RunRequest
    absent: dict[str, Absence] = field(default_factory=dict)

    def walk(self) -> tuple[bool, Json]:
        """(certified, result), with `absent` in the result: party, clause, message. Raises IsthmusError as the build does; the message
        then also names those without whom it was tried."""
        self.absent = self._kept()
        while True:
            try:
                certified, result = build_of(self._shop(), self.run_id, self._asked()).walk()
            except JobFailedError as error:
                found = self._missing(error)
                if not found or not self._can_spare(tuple(found)):
                    raise self._final(error) from error
                for absence in found.values():
                    self._keep(absence, void=False)
                self.absent |= found
                continue
            sentences = [str(absence) for absence in self.absent.values()]
            shown = [{"party": one.party, "clause": one.clause, "message": one.message} for one in self.absent.values()]
            return certified, {**result, "absent": shown, "notes": [*sentences, *result["notes"]]}

    def _asked(self) -> RunRequest:
        return msgspec.structs.replace(self.request, owners=tuple(p for p in self.request.owners if p not in self.absent))

    def _suffix(self) -> str:
        """What sets the jobs of this roster apart from those of the larger one."""
        return f"/without-{digest_of(sorted(self.absent)).removeprefix('sha256:')[:ID_CHARS]}" if self.absent else ""

    def _shop(self) -> Workshop:
        return replace(self.shop, run_suffix=self._suffix(), can_spare=self._can_spare)

    @property
    def _present(self) -> list[str]:
        return sorted(set(self.request.roster) - set(self.absent))

    def _missing(self, error: JobFailedError) -> dict[str, Absence]:
        """Who kept the job from which the error came from being countersigned."""
        status = next((one.status for one in self.shop.failures if one.error is error), None)
        if status is None or set(status.countersigned) >= set(status.roster):
            return {}
        if isinstance(error, JobRefusedError):
            refusals = [r for r in status.refusals if r.clause not in OF_THE_ROSTER]
            return {r.party: Absence(r.party, r.clause, r.message) for r in refusals}
        silent = [party for party in status.roster if party not in status.countersigned]
        return {party: Absence(party, SILENT, status.reason or "") for party in silent}

    def _can_spare(self, parties: Sequence[str]) -> bool:
        """Whether the others' terms may let the run go on without these parties too."""
        left = [party for party in self._present if party not in parties]
        purpose = Build.purpose_of(self.request)
        terms = [self.shop.jobs.agreement(party, purpose)[1] for party in left]
        if not terms or len(left) < max(one.least_participants for one in terms):
            return False
        if not self._shares_left():
            return True
        alone = any(one.visibility == "individual" for one in terms)
        return not alone and len(parties) >= max(one.overlap_owners_min for one in terms)

    def _shares_left(self) -> bool:
        """Whether a share came for any job that was asked of the present roster."""
        prefix = self.run_id + self._suffix()
        return any(status.bytes_received for run in (prefix, f"{prefix}/own-heads") for status in self.shop.jobs.of_run(run))

    def _final(self, error: JobFailedError) -> JobFailedError:
        """The error with the names of those without whom the run was tried. If no share left meanwhile, they may be asked again."""
        if not self.absent:
            return error
        if not self._shares_left():
            for absence in self.absent.values():
                self._keep(absence, void=True)
        words = "; ".join(str(absence) for absence in self.absent.values())
        return type(error)(f"{words}; without: {error.message}", error.next_step)

    # The record.

    def _keep(self, absence: Absence, void: bool) -> None:
        detail = {"party": absence.party, "clause": absence.clause, "message": absence.message, "void": void}
        self.shop.catalogue.step_done(self.run_id, StepRecord(name=STEP + absence.party, wall_s=0.0, reused=False, detail=detail))

    def _kept(self) -> dict[str, Absence]:
        """Who was found missing before the run was cut off."""
        steps = self.shop.catalogue.view(self.run_id, with_result=False).steps
        details: list[Mapping[str, Json]] = [step.detail for step in steps if step.name.startswith(STEP)]
        found = [Absence(str(d["party"]), str(d["clause"]), str(d["message"])) for d in details if not d["void"]]
        return {absence.party: absence for absence in found}
