"""Deployments that serve on this machine, and the proof, at load and at each dispatch, that they still may.

At load the artefact's bytes are hashed and compared with the certificate's subject. At each dispatch the certificate is
asked again (expiry and revocation act by time), and the file is looked at: unchanged size, times and inode count as
unchanged bytes for DIGEST_RECHECK_S; anything else is hashed again. One edited byte stops the deployment until it is
loaded anew. The refusal carries its reason; there is nothing to fall back to.

A request holds its version from the moment it was found (`leased`) until it is answered: a version that is taken out of service meanwhile
gets no new request, and its engine ends with the last one that it has.

At most ENGINES_AWAKE_MAX engines run, and those in use. Others sleep: their bytes are verified again when a request wakes them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from isthmus.gateway.awake import Awake
from isthmus.gateway.limits import DIGEST_RECHECK_S, ENGINES_AWAKE_MAX, NAME_CHARS_MAX
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.ids import slug

Stamp = tuple[int, int, int, int]


@dataclass
class Loaded:
    """A deployment and what was last known of its bytes. `stopped` is why it no longer serves. users: requests that hold it.
    dropped: it gets no new request, and its engine ends with the last user. engine: None while it sleeps, and once it is stopped."""

    deployment: Deployment
    artefact: Path
    users: int = 0
    dropped: bool = False
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

    decoders: names of the image decoders that this build has. awake_max: engines that may run beside those in use.
    """

    def __init__(
        self,
        gate: CertificateGate,
        engines: EngineMaker,
        clock: Clock,
        decoders: Mapping[str, object],
        awake_max: int = ENGINES_AWAKE_MAX,
    ) -> None:
        self._gate = gate
        self._engines = engines
        self._clock = clock
        self._decoders = decoders
        self._lock = threading.Lock()
        self._awake = Awake(awake_max)
        self._loaded: dict[str, dict[str, Loaded]] = {}
        self._gone: dict[tuple[str, str | None], IsthmusError] = {}

    def load(self, deployment: Deployment, artefact: Path, standby: bool = False, proven: bool = False) -> None:
        """Verifies certificate and bytes, starts the engine, then serves; a version loaded before is replaced, and ends with its last
        request. standby: it answers only those who name the version, and when it is refused nothing changes. proven: it served before, so
        where enough engines run it begins asleep.

        Raises CertificateError, ArtefactEditedError, and what gate and engine raise. A deployment that is refused and no standby stays
        known by name, so that requests get the reason, not a 404.
        """
        slug(deployment.name, "the deployment")
        if not 1 <= len(deployment.version) <= NAME_CHARS_MAX or "/" in deployment.version:
            raise InputError(f"{deployment.version!r} is not a version", "use short text without a slash")
        entry = Loaded(deployment, artefact)
        refusal: IsthmusError | None = None
        try:
            self.check(deployment)
            raw = self._checked_bytes(entry)
            entry.engine = None if proven and self._enough() else self._engines(raw)
        except IsthmusError as error:
            refusal = error
        except OSError as error:
            refusal = _unreadable(entry, error)
        if refusal is None:
            self._put(entry, standby)
            self._rest()
            return
        self._stop(entry, refusal)
        if not standby:
            self._put(entry, standby)
        raise refusal

    def engine_of(self, deployment: Deployment, artefact: Path) -> Engine:
        """An engine of verified bytes that nobody is served by; the caller closes it. Raises as `load` does."""
        entry = Loaded(deployment, artefact)
        self.check(deployment)
        try:
            return self._engines(self._checked_bytes(entry))
        except OSError as error:
            raise _unreadable(entry, error) from error

    def _put(self, entry: Loaded, standby: bool) -> None:
        name, version = entry.deployment.name, entry.deployment.version
        with self._lock:
            versions = self._loaded.setdefault(name, {})
            current = next(reversed(versions), None)
            old = versions.pop(version, None)
            versions[version] = entry
            if standby and current is not None and current != version:
                versions[current] = versions.pop(current)
            self._gone.pop((name, version), None)
            self._gone.pop((name, None), None)
            self._awake.used(entry)
        if old is not None:
            self._drop(old)

    def prefer(self, name: str, version: str) -> None:
        """From now on this version answers those who name none. Raises UnknownModelError."""
        with self._lock:
            versions = self._loaded.get(name, {})
            if version not in versions:
                raise UnknownModelError(f"there is no model {name!r} version {version!r} here", "load it first")
            versions[version] = versions.pop(version)

    def drop(self, name: str, version: str, why: IsthmusError) -> None:
        """Takes a version out of service: new requests for it get `why`, those that hold it are answered, then its engine ends."""
        with self._lock:
            versions = self._loaded.get(name, {})
            entry = versions.pop(version, None)
            self._gone[name, version] = why
            if not versions:
                self._loaded.pop(name, None)
        if entry is not None:
            self._drop(entry)

    def retire(self, name: str, why: IsthmusError) -> None:
        """Takes a name out of service with all its versions, as `drop` does."""
        with self._lock:
            entries = self._loaded.pop(name, {})
            self._gone[name, None] = why
        for entry in entries.values():
            self._drop(entry)

    def _drop(self, entry: Loaded) -> None:
        with self._lock:
            entry.dropped = True
            engine = self._ended(entry)
        if engine is not None:
            engine.close()

    def _ended(self, entry: Loaded) -> Engine | None:
        """The engine of a dropped entry that nobody holds, to be closed; the lock is held."""
        if not entry.dropped or entry.users:
            return None
        engine, entry.engine = entry.engine, None
        return engine

    @contextmanager
    def leased(self, name: str, version: str | None = None) -> Iterator[Loaded]:
        """As `find`, and holds the version until the block is left. Raises UnknownModelError, and why a version is out of service."""
        with self._lock:
            entry = self._found(name, version)
            entry.users += 1
        try:
            yield entry
        finally:
            with self._lock:
                entry.users -= 1
                engine = self._ended(entry)
            if engine is not None:
                engine.close()
            self._rest()

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

    def serving(self) -> tuple[Loaded, ...]:
        """Of each name the version that answers those who name none."""
        with self._lock:
            return tuple(next(reversed(versions.values())) for versions in self._loaded.values() if versions)

    def find(self, name: str, version: str | None = None) -> Loaded:
        """The named version, or the one that serves by default. Raises UnknownModelError, and why a version is out of service."""
        with self._lock:
            return self._found(name, version)

    def _found(self, name: str, version: str | None) -> Loaded:
        versions = self._loaded.get(name, {})
        found = next(reversed(versions.values()), None) if version is None else versions.get(version)
        if found is None:
            gone = self._gone.get((name, version)) or self._gone.get((name, None))
            if gone is not None:
                raise gone.with_traceback(None)
            asked = name[:NAME_CHARS_MAX] if version is None else f"{name[:NAME_CHARS_MAX]} version {version[:NAME_CHARS_MAX]}"
            raise UnknownModelError(f"there is no model {asked!r} here", "ask GET /v2/models/NAME for its versions, or deploy it")
        return found

    def versions(self, name: str) -> list[str]:
        """Versions of a name, the one that serves by default last."""
        with self._lock:
            return list(self._loaded.get(name, {}))

    def admit(self, entry: Loaded) -> None:
        """Raises the reason why the deployment may not serve now, if there is one; one that sleeps may, and sleeps on."""
        if entry.stopped is not None:
            raise entry.stopped.with_traceback(None)
        self._check_certificate(entry.deployment)
        with entry.lock:
            fresh = self._clock.monotonic_s() - entry.hashed_at_s < DIGEST_RECHECK_S
            self._verified(entry, lambda: fresh and _stamp(entry.artefact) == entry.stamp)

    def engine(self, entry: Loaded) -> Engine:
        """The engine of a leased deployment that may serve now; it is woken when it sleeps. Raises why not."""
        self.admit(entry)
        with entry.lock:
            engine = entry.engine
            if engine is None:
                engine = self._engines(self._verified(entry, lambda: False))
                if entry.stopped is not None:
                    engine.close()
                    raise entry.stopped.with_traceback(None)
                entry.engine = engine
        self._rest(entry)
        return engine

    def _verified(self, entry: Loaded, known: Callable[[], bool]) -> bytes:
        """The certified bytes, or none when they are `known` to be unchanged; others stop the deployment. Its lock is held."""
        try:
            return b"" if known() else self._checked_bytes(entry)
        except ArtefactEditedError as error:
            self._stop(entry, error)
            raise
        except OSError as error:
            refusal = _unreadable(entry, error)
            self._stop(entry, refusal)
            raise refusal from error

    def _enough(self) -> bool:
        with self._lock:
            return self._awake.full

    def _rest(self, used: Loaded | None = None) -> None:
        """Sends engines to sleep that are more than may run. used: one that was needed now."""
        with self._lock:
            if used is not None:
                self._awake.used(used)
            surplus = self._awake.surplus()
        for engine in surplus:
            engine.close()

    def ready(self, entry: Loaded) -> bool:
        """Whether a request would be admitted now."""
        try:
            self.admit(entry)
        except IsthmusError:
            return False
        return True

    def check(self, deployment: Deployment) -> None:
        """Raises why a deployment could not be loaded now, its bytes apart."""
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
