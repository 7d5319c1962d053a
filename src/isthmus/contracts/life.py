"""The life of a deployment: a chain of signed steps, and what follows from them.

The steps are the record; everything else (which version serves, what may be gone back to) is folded from them, so that there is no
second truth that could differ after a crash.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.deployment import Deployment
from isthmus.contracts.ports import Json

STEP_TYPE = "application/vnd.isthmus.life-step.v1+json"
STEP_FORMAT: Literal["isthmus-life/1"] = "isthmus-life/1"
Action = Literal["deploy", "propose", "upgrade", "rollback", "retire"]
VersionState = Literal["proposed", "serving", "superseded", "rolled-back", "retired"]


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scenario was loaded from. package: digest of the package, empty where it is not known. values: the site's own."""

    package: str = ""
    values: Json = {}


class DeployedVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of a deployment. number: 1, 2, 3 in the order in which they came. run: the run that certified it. scenario: `id@version`;
    scenario_digest: of the manifest with the site's values applied. owners: whose records it was fitted on. without: owners who had left by
    then."""

    number: int
    deployment: Deployment
    run: str = ""
    scenario: str = ""
    scenario_digest: str = ""
    origin: Origin = Origin()
    owners: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


class LifeStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step, sealed by the exchange's key.

    id: given by who asked; the same id with the same order is the same step. order: digest of what was asked. before, after: number of the
    version that served until then and from then on; None, none. version: the one that a deploy or propose brings. proof: what an upgrade
    rests on. previous: digest of the step before, empty for the first. seq: from 0.
    """

    format: Literal["isthmus-life/1"]
    name: str
    seq: int
    id: str
    order: str
    action: Action
    who: str
    why: str
    at_s: int
    previous: str
    before: int | None = None
    after: int | None = None
    version: DeployedVersion | None = None
    proof: Json | None = None


class VersionView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version with where it stands. problem: why it could not serve now, empty when it could."""

    version: DeployedVersion
    state: VersionState
    problem: str = ""


class DeploymentView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deployment as the API shows it. current: number of the version that serves. ready: whether a request would be admitted now."""

    name: str
    site: str
    state: Literal["serving", "proposed", "retired", "damaged"]
    current: int | None
    ready: bool
    problem: str
    versions: tuple[VersionView, ...]


class DeploymentHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The deployment, its steps as they were sealed, oldest first, and the key that sealed them (64 hex digits)."""

    deployment: DeploymentView
    steps: tuple[Json, ...]
    public_key: str


class RollbackOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """id: of this order, chosen by who asks. to: number of a version that served before; None, the last one that still may."""

    id: str
    why: str
    to: int | None = None


class RetireOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """id: of this order, chosen by who asks."""

    id: str
    why: str


class ComparisonOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """to: number of the version that may replace the one that serves; None, the newest that was proposed. margin_ppm: more wrong answers
    among all records that would be borne; lost_margin_ppm: fewer right ones."""

    to: int | None = None
    margin_ppm: int = 20_000
    lost_margin_ppm: int = 50_000
    confidence_ppm: int = 950_000


class ComparisonRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two versions of one deployment, run as shadow and original over the owners' held-out records. old, new: their numbers."""

    deployment: str
    old: int
    new: int
    margin_ppm: int
    lost_margin_ppm: int
    confidence_ppm: int


class UpgradeOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """id: of this order, chosen by who asks. to: as in ComparisonOrder. comparison: id of the run that compared what serves with
    this one. accept_worse: why the upgrade is made although the comparison is not there or does not show enough; empty as a rule."""

    id: str
    why: str
    to: int | None = None
    comparison: str = ""
    accept_worse: str = ""


class ShadowOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """to: as in ComparisonOrder. requests: how many answered requests are compared."""

    to: int | None = None
    requests: int = 200


class ShadowView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A shadow run. old, new: numbers of the version that serves and of its shadow. wanted, requests: to compare, and compared.

    table: images by the verdict that was given (rows) and the shadow's, in the order of `verdicts`. failed: requests that the shadow could
    not score. skipped: requests that came while it was busy. state: ended means that another version serves now.
    """

    deployment: str
    old: int
    new: int
    wanted: int
    state: Literal["running", "done", "ended"]
    requests: int
    failed: int
    skipped: int
    verdicts: tuple[str, ...]
    table: tuple[tuple[int, ...], ...]
