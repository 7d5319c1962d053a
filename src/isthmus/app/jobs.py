"""The sandbox as a build asks it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import Asset
from isthmus.contracts.errors import AgreementError
from isthmus.contracts.job import JobRequest, JobStatus
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import payload_of
from isthmus.sandbox.service import SandboxService


class SandboxJobs:
    """See `build.Jobs`."""

    def __init__(self, service: SandboxService) -> None:
        self._service = service

    def create(self, request: JobRequest) -> JobStatus:
        return self._service.create_job(request)

    def status(self, job_id: str) -> JobStatus:
        return self._service.job(job_id)

    def of_run(self, run_id: str) -> list[JobStatus]:
        return self._service.jobs_of_run(run_id)

    def silent(self, parties: Sequence[str], silence_s: float) -> tuple[str, ...]:
        seen = {node.party: node.seen_ago_s for node in self._service.nodes()}
        return tuple(party for party in parties if seen.get(party, silence_s) >= silence_s)

    def give_up(self, job_id: str, silent: Sequence[str]) -> JobStatus:
        return self._service.give_up(job_id, silent)

    def agreement(self, party: str, purpose: str) -> tuple[str, Agreement]:
        """(digest, the newest agreement of the party for the purpose). Raises AgreementError."""
        return self._service.agreement_of(party, purpose)

    def agreement_digest(self, party: str, purpose: str) -> str:
        return self.agreement(party, purpose)[0]

    def owner(self, party: str, purpose: str) -> Asset:
        """The asset that the party's agreement names. Raises AgreementError."""
        agreement = self.agreement(party, purpose)[1]
        envelope = self._service.assets().get(agreement.asset)
        if envelope is None:
            raise AgreementError(f"the asset that {party} agreed on is not registered", "start that owner's node")
        return msgspec.convert(parse_canonical(payload_of(envelope)), Asset)
