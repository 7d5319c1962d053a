"""The sandbox as a build asks it."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from isthmus.contracts.agreement import Agreement
from isthmus.contracts.asset import Asset
from isthmus.contracts.errors import AgreementError
from isthmus.contracts.job import JobRequest, JobStatus
from isthmus.contracts.ports import Json
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import Envelope, payload_of
from isthmus.sandbox.service import AGREE_ANEW, SandboxService, has_left


class SandboxJobs:
    """See `build.Jobs`."""

    def __init__(self, service: SandboxService) -> None:
        self._service = service

    def create(self, request: JobRequest) -> JobStatus:
        return self._service.create_job(request)

    def status(self, job_id: str) -> JobStatus:
        return self._service.job(job_id)

    def agreement(self, party: str, purpose: str) -> tuple[str, Agreement]:
        """(digest, the newest agreement of the party for the purpose). Raises AgreementError."""
        signed = self.signed_agreement(party, purpose)
        if signed is not None:
            digest, found, _ = signed
            if self._service.withdrawn(digest, purpose):
                raise AgreementError(has_left(party, purpose), AGREE_ANEW)
            return digest, found
        raise AgreementError(f"{party} has no agreement for the purpose {purpose!r}", "start that owner's node, or ask it to agree")

    def signed_agreement(self, party: str, purpose: str) -> tuple[str, Agreement, Envelope] | None:
        """(digest, agreement, as it was signed) of the party's newest for the purpose, withdrawn or not; None where there is none."""
        for digest, owner, envelope in self._service.agreements():
            if owner == party:
                found = msgspec.convert(parse_canonical(payload_of(envelope)), Agreement)
                if purpose in found.purposes:
                    return digest, found, envelope
        return None

    def singly(self, parties: Collection[str], purpose: str) -> tuple[Json, ...]:
        """The signed agreements of those parties whose sums may be seen singly for the purpose, to be shown to other owners' nodes."""
        found = [self.signed_agreement(party, purpose) for party in sorted(parties)]
        return tuple(msgspec.to_builtins(signed[2]) for signed in found if signed is not None and signed[1].visibility == "individual")

    def agreement_digest(self, party: str, purpose: str) -> str:
        return self.agreement(party, purpose)[0]

    def owner(self, party: str, purpose: str) -> Asset:
        """The asset that the party's agreement names. Raises AgreementError."""
        agreement = self.agreement(party, purpose)[1]
        envelope = self._service.assets().get(agreement.asset)
        if envelope is None:
            raise AgreementError(f"the asset that {party} agreed on is not registered", "start that owner's node")
        return msgspec.convert(parse_canonical(payload_of(envelope)), Asset)
