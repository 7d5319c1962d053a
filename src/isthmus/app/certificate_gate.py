"""The data path's question to assurance: does this deployment's certificate hold now?"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Protocol

from isthmus.assurance.certificate import certificate_digest, check_digest
from isthmus.contracts.deployment import Certified, Deployment
from isthmus.contracts.errors import CertificateMissingError, NotFoundError
from isthmus.kit.signing import Envelope


class CertificateStore(Protocol):
    """Where certificates and revocations are kept."""

    def certificate(self, digest: str) -> Envelope:
        """Raises NotFoundError, StorageError."""

    def revoked(self) -> Container[str]:
        """Digests of revoked certificates. Raises StorageError."""


class CertificateGate:
    """Asks store and clock anew each time: an expiry or a revocation stops the very next request.

    trusted: key id -> public key (hex) of the issuers whose certificates count here.
    """

    def __init__(self, store: CertificateStore, trusted: Mapping[str, str]) -> None:
        self._store = store
        self._trusted = trusted

    def check(self, deployment: Deployment, tier: str, now_s: float) -> Certified:
        """See `contracts.deployment.CertificateGate`."""
        try:
            envelope = self._store.certificate(deployment.certificate_digest)
        except NotFoundError as error:
            raise CertificateMissingError(
                f"there is no certificate {deployment.certificate_digest[:24]} for {deployment.name}", "certify it first"
            ) from error
        found = check_digest(
            envelope, deployment.artefact_digest, self._trusted, tier, now_s, self._store.revoked(), deployment.decoder
        ).predicate
        return Certified(
            certificate_digest=certificate_digest(envelope),
            artefact_digest=deployment.artefact_digest,
            decoder=found.decoder,
            expires_s=float(found.not_after_s),
        )
