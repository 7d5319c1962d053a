"""The documents of a scenario package beside its manifest: its lock, its probes, and what a check of it finds."""

from __future__ import annotations

from typing import Literal

import msgspec

LOCK_FORMAT: Literal["isthmus-package/1"] = "isthmus-package/1"
SIGNATURE_TYPE = "application/vnd.isthmus.package-signature+json"
SIGNATURE_FORMAT: Literal["isthmus-package-signature/1"] = "isthmus-package-signature/1"
Level = Literal["error", "warning"]


class PackageFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a package. path: relative, with forward slashes. sha256: 64 hex digits of its bytes. bytes: how many."""

    path: str
    sha256: str
    bytes: int


class PackageLock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`scenario.lock`: what the package consists of.

    files: every file but the lock itself, in order of path. digest: sha256 of the canonical JSON of `files`, as `sha256:<64 hex digits>`;
    it names the package's content and nothing else does.
    """

    format: Literal["isthmus-package/1"]
    id: str
    version: str
    files: tuple[PackageFile, ...]
    digest: str


class PackageSignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a publisher signs of a package, in an envelope beside its archive. digest: the lock's, so that it holds for a folder too.
    publisher: how the publisher calls itself; only the key says who it is. signed_at_s: seconds since the Unix epoch."""

    format: Literal["isthmus-package-signature/1"]
    id: str
    version: str
    digest: str
    publisher: str
    signed_at_s: int


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One case: an image of the folder `probes`, what a model must say of it, and why. refused: it must not be answered at all."""

    file: str
    expect: Literal["good", "defect", "refused"]
    why: str


class ProbeCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Probe with its image's bytes, as a run takes it."""

    file: str
    expect: Literal["good", "defect", "refused"]
    why: str
    image: bytes


class Probes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`probes/probes.yaml`: golden and known-bad cases."""

    cases: tuple[Probe, ...]


class Finding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a check of a package found.

    code: kebab-case, never reused. file: path in the package. line, column: counted from 1; 0 where a file has no place to point at.
    what: what is wrong and why. next: what to do.
    """

    level: Level
    code: str
    file: str
    line: int
    column: int
    what: str
    next: str

    @property
    def place(self) -> str:
        """`file:line:column`, as far as it is known."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file
