"""Deployments that serve on this machine, and the proof, at load and at each dispatch, that they still may.

At load the artefact's bytes are hashed and compared with the certificate's subject. At each dispatch the certificate is
asked again (expiry and revocation act by time), and the file is looked at: unchanged size, times and inode count as
unchanged bytes for DIGEST_RECHECK_S; anything else is hashed again. One edited byte stops the deployment until it is
loaded anew. The refusal carries its reason; there is nothing to fall back to.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.contracts.deployment import CertificateGate, Deployment, Engine, EngineMaker
from isthmus.contracts.errors import (
    ArtefactEditedError,
    CertificateArtefactError,
    CertificateDecoderError,
    CertificateError,
    DeploymentStoppedError,
    InputError,
    IsthmusError,
    UnknownModelError,
)
from isthmus.contracts.ports import Clock
from isthmus.gateway.limits import DIGEST_RECHECK_S, NAME_CHARS_MAX
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.ids import slug

Stamp = tuple[int, int, int, int]


@dataclass
class Loaded:
    """A deployment and what was last known of its bytes. `stopped` is why it no longer serves."""

    deployment: Deployment
    artefact: Path
    engine: Engine | None = None
    stopped: IsthmusError | None = None
    stamp: Stamp | None = None
    hashed_at_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Registry:
    """Loaded deployments by name and version. Safe to use from several threads.

    decoders: names of the image decoders that this build has.
    """

    def __init__(self, gate: CertificateGate, engines: EngineMaker, clock: Clock, decoders: Mapping[str, object]) -> None:
        self._gate = gate
        self._engines = engines
        self._clock = clock
        self._decoders = decoders
        self._lock = threading.Lock()
        self._loaded: dict[str, dict[str, Loaded]] = {}

    def load(self, deployment: Deployment, artefact: Path) -> None:
        """Verifies certificate and bytes, starts the engine, then serves; a version loaded before is replaced and closed.

        Raises CertificateError, ArtefactEditedError, and what gate and engine raise. A refused deployment stays
        known by name, so that requests get the reason, not a 404.
        """
        slug(deployment.name, "the deployment")
        if not 1 <= len(deployment.version) <= NAME_CHARS_MAX or "/" in deployment.version:
            raise InputError(f"{deployment.version!r} is not a version", "use short text without a slash")
        entry = Loaded(deployment, artefact)
        try:
            self._verify(entry)
            entry.engine = self._engines(self._checked_bytes(entry))
        except IsthmusError as error:
            self._stop(entry, error)
            self._put(entry)
            raise
        except OSError as error:
            refusal = _unreadable(entry, error)
            self._stop(entry, refusal)
            self._put(entry)
            raise refusal from error
        self._put(entry)

    def _put(self, entry: Loaded) -> None:
        with self._lock:
            versions = self._loaded.setdefault(entry.deployment.name, {})
            old = versions.pop(entry.deployment.version, None)
            versions[entry.deployment.version] = entry
        if old is not None:
            self._stop(old, DeploymentStoppedError(f"{entry.deployment.name} was replaced meanwhile", "send the request again"))

    def withdraw(self, name: str, version: str | None = None) -> None:
        """Stops a deployment; its name keeps answering why. Raises UnknownModelError."""
        self._stop(self.find(name, version), DeploymentStoppedError(f"{name} was withdrawn", "ask its operator"))

    def close(self) -> None:
        """Ends all engines."""
        for entry in self.all():
            self._stop(entry, DeploymentStoppedError("the gateway is closing", "try again later"))

    def all(self) -> tuple[Loaded, ...]:
        """Everything that was loaded or refused, the latest version of a name last."""
        with self._lock:
            return tuple(entry for versions in self._loaded.values() for entry in versions.values())

    def find(self, name: str, version: str | None = None) -> Loaded:
        """The named version, or the one loaded last. Raises UnknownModelError."""
        with self._lock:
            versions = self._loaded.get(name, {})
            found = next(reversed(versions.values()), None) if version is None else versions.get(version)
        if found is None:
            asked = name[:NAME_CHARS_MAX] if version is None else f"{name[:NAME_CHARS_MAX]} version {version[:NAME_CHARS_MAX]}"
            raise UnknownModelError(f"there is no model {asked!r} here", "ask GET /v2/models/NAME for its versions, or deploy it")
        return found

    def versions(self, name: str) -> list[str]:
        """Versions of a name, the one that serves by default last."""
        with self._lock:
            return list(self._loaded.get(name, {}))

    def admit(self, entry: Loaded) -> Engine:
        """The engine, if the deployment may serve now. Raises the reason why not."""
        if entry.stopped is not None:
            raise entry.stopped.with_traceback(None)
        self._check_certificate(entry.deployment)
        with entry.lock:
            try:
                fresh = self._clock.monotonic_s() - entry.hashed_at_s < DIGEST_RECHECK_S
                if not (fresh and _stamp(entry.artefact) == entry.stamp):
                    self._checked_bytes(entry)
            except ArtefactEditedError as error:
                self._stop(entry, error)
                raise
            except OSError as error:
                refusal = _unreadable(entry, error)
                self._stop(entry, refusal)
                raise refusal from error
            engine = entry.engine
        if engine is None:
            raise DeploymentStoppedError(f"{entry.deployment.name} has no engine", "load it again")
        return engine

    def ready(self, entry: Loaded) -> bool:
        """Whether a request would be admitted now."""
        try:
            self.admit(entry)
        except IsthmusError:
            return False
        return True

    def _verify(self, entry: Loaded) -> None:
        deployment = entry.deployment
        if deployment.state != "serving":
            raise DeploymentStoppedError(f"{deployment.name} is {deployment.state}", "deploy it again")
        if deployment.decoder not in self._decoders:
            raise CertificateDecoderError(
                f"{deployment.name} was certified with the decoder {deployment.decoder!r}, which is not here",
                f"use a release that has it; this one has {', '.join(self._decoders)}",
            )
        self._check_certificate(deployment)

    def _check_certificate(self, deployment: Deployment) -> None:
        name = deployment.name
        certified = self._gate.check(deployment, deployment.tier, self._clock.now_s())
        if certified.certificate_digest != deployment.certificate_digest:
            raise CertificateError(
                f"{name} names the certificate {deployment.certificate_digest} and was checked with {certified.certificate_digest}",
                "deploy it with its own certificate",
            )
        if certified.artefact_digest != deployment.artefact_digest:
            raise CertificateArtefactError(
                f"{name} would serve {deployment.artefact_digest} and its certificate is for {certified.artefact_digest}",
                "certify what is to be served",
            )
        if certified.decoder != deployment.decoder:
            raise CertificateDecoderError(
                f"{name} would decode by {deployment.decoder!r} and was certified with {certified.decoder!r}",
                "certify what is to be served",
            )

    def _checked_bytes(self, entry: Loaded) -> bytes:
        """The artefact's bytes, if they are the certified ones. The stamp is taken before, so that a change meanwhile is seen next time."""
        stamp, now_s = _stamp(entry.artefact), self._clock.monotonic_s()
        raw = entry.artefact.read_bytes()
        found = "sha256:" + sha256_hex(raw)
        if found != entry.deployment.artefact_digest:
            raise ArtefactEditedError(
                f"the bytes of {entry.deployment.name} are {found} and its certificate is for {entry.deployment.artefact_digest}",
                "restore the certified file, or certify this one, then load it again",
            )
        entry.stamp, entry.hashed_at_s = stamp, now_s
        return raw

    def _stop(self, entry: Loaded, reason: IsthmusError) -> None:
        entry.stopped = entry.stopped or reason
        engine, entry.engine = entry.engine, None
        if engine is not None:
            engine.close()


def _unreadable(entry: Loaded, error: OSError) -> ArtefactEditedError:
    return ArtefactEditedError(
        f"the certified file of {entry.deployment.name} cannot be read: {error.strerror}", "restore it, then load it again"
    )
