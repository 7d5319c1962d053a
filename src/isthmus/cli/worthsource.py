"""Whose bounds `isthmus worth` reckons with: a certificate's file, or what an exchange knows of a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from isthmus.assurance.certificate import envelope_from
from isthmus.cli.certificate import public_key_from
from isthmus.client.http import ExchangeClient
from isthmus.contracts.build import RunView
from isthmus.contracts.certificate import PAYLOAD_TYPE, Certificate, Claims
from isthmus.contracts.errors import DocumentError, InputError, NotFoundError
from isthmus.contracts.life import DeployedVersion, DeploymentView
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import Envelope, key_id, payload_of, unseal

FILE_BYTES_MAX = 1 << 24
"""A certificate's file, or the JSON object of a run; a larger one is refused before it is read."""
DIGEST_CHARS_MIN = 12


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bounds come from. certified: whether a certificate stands behind them. checked: whether its signature was checked. notes:
    sentences that belong to the bounds."""

    what: str
    certified: bool
    checked: bool
    claims: Claims
    notes: tuple[str, ...] = ()


def source_from_file(path: Path, public_key: str | None) -> Source:
    """A certificate's envelope, or the object that `isthmus replicate --json` printed. Raises DocumentError, SignatureError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{path} has more than {FILE_BYTES_MAX} bytes", "give a certificate, or the JSON object of a run")
        raw = path.read_bytes()
        told = msgspec.json.decode(raw)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
    except msgspec.DecodeError as error:
        raise DocumentError(f"{path} is not JSON", "give a certificate, or the JSON object of a run") from error
    try:
        if isinstance(told, dict) and isinstance(told.get("claims"), dict):
            return Source(
                what=f"the run in {path.name}", certified=bool(told.get("certificate")), checked=False, claims=claims_of(told["claims"])
            )
        if not isinstance(told, dict) or "payload" not in told:
            raise DocumentError(
                f"{path} holds neither a certificate nor claims", "give a certificate's file, or what isthmus replicate --json printed"
            )
        envelope = envelope_from(raw)
        if public_key is None:
            document = parse_canonical(payload_of(envelope))
        else:
            public = public_key_from(public_key)
            document = unseal(envelope, PAYLOAD_TYPE, {key_id(public): public})
        found = msgspec.convert(document, Certificate)
    except msgspec.ValidationError as error:
        raise DocumentError(f"{path} holds no claims that can be read: {error}", "give a certificate of this release") from error
    said = found.predicate
    return Source(
        what=f"{said.scenario} at {said.site}", certified=True, checked=public_key is not None, claims=said.claims, notes=said.notes
    )


def claims_of(document: Any) -> Claims:
    """Raises ValidationError."""
    return msgspec.convert(document, Claims)


class Known:
    """What one exchange knows of a scenario at a site. public_key: the exchange's. site: None for the fleet."""

    def __init__(self, exchange: ExchangeClient, public_key: str, scenario: str, site: str | None) -> None:
        self._exchange, self._trusted = exchange, {key_id(public_key): public_key}
        self.scenario, self.site = scenario, site

    @property
    def name(self) -> str:
        """The deployment's."""
        return self.scenario if self.site is None else f"{self.scenario}-{self.site}"

    def serving(self) -> DeployedVersion | None:
        """The version that serves now; None when none does."""
        views = msgspec.convert(self._exchange.get("/v1/deployments"), list[DeploymentView])
        view = next((one for one in views if one.name == self.name), None)
        if view is None or view.current is None or not view.ready:
            return None
        return next(one.version for one in view.versions if one.version.number == view.current)

    def of_serving(self) -> Source | None:
        """By the certificate of what serves; None when nothing does."""
        version = self.serving()
        if version is None:
            return None
        digest = version.deployment.certificate_digest
        found = self._signed(msgspec.convert(self._exchange.get(f"/v1/certificates/{digest}"), Envelope))
        what = f"{self.name} as it serves now: version {version.number}, {version.scenario}, certificate {digest[:19]}"
        return Source(what=what, certified=True, checked=True, claims=found.predicate.claims, notes=found.predicate.notes)

    def of_certificate(self, wanted: str) -> Source:
        """By one certificate of this exchange, named by its digest or how it begins. Raises InputError, NotFoundError."""
        digits = wanted.strip().lower().removeprefix("sha256:")
        if len(digits) < DIGEST_CHARS_MIN:
            raise InputError(f"{wanted!r} is too short to name a certificate", f"give at least {DIGEST_CHARS_MIN} digits of its digest")
        listed = {one["digest"]: one for one in self._exchange.get("/v1/certificates")}
        named = [digest for digest in listed if digest.removeprefix("sha256:").startswith(digits)]
        if len(named) != 1:
            raise NotFoundError(
                f"{len(named)} certificates begin with {wanted}", "isthmus deployment history NAME shows those of a deployment"
            )
        found, withdrawn = self._signed(msgspec.convert(listed[named[0]]["envelope"], Envelope)), bool(listed[named[0]]["revoked"])
        said = found.predicate
        what = f"{said.scenario} at {said.site}, certificate {named[0][:19]}{', withdrawn' if withdrawn else ''}"
        return Source(what=what, certified=not withdrawn, checked=True, claims=said.claims, notes=said.notes)

    def of_run(self, run_id: str) -> Source:
        """By one run, certified or not. Raises NotFoundError when it did not get as far as measuring."""
        view = msgspec.convert(self._exchange.get(f"/v1/runs/{run_id}"), RunView)
        result = view.result or {}
        if not result.get("claims"):
            raise NotFoundError(f"the run {run_id} measured nothing: it is {view.state}", "name another with --run")
        where = f" at {result['site']}" if result.get("site") else ""
        what, certified = f"{view.scenario}{where}, run {view.id}", view.state == "certified" and bool(result.get("certificate"))
        return Source(
            what=what, certified=certified, checked=True, claims=claims_of(result["claims"]), notes=tuple(result.get("notes") or ())
        )

    def of_latest(self) -> Source:
        """By the newest run: a certified one of the fleet, at a site one that measured. Raises NotFoundError."""
        wanted = ("certified",) if self.site is None else ("certified", "refused")
        for listed in (msgspec.convert(raw, RunView) for raw in self._exchange.get("/v1/runs")):
            if listed.state in wanted and self._about(listed):
                result = msgspec.convert(self._exchange.get(f"/v1/runs/{listed.id}"), RunView).result or {}
                if result.get("site") == self.site and result.get("claims"):
                    found = self.of_run(listed.id)
                    return msgspec.structs.replace(found, what=f"{found.what}, the newest; nothing serves as {self.name}")
        raise NotFoundError(
            f"there is {'no certified run' if self.site is None else f'no run at {self.site}'} of {self.scenario} here",
            "first: "
            + (
                f"isthmus run {self.scenario}"
                if self.site is None
                else f"isthmus replicate {self.scenario} --site {self.site} --samples DIR"
            ),
        )

    def _about(self, view: RunView) -> bool:
        """Whether a run may be of this scenario: a site's run is listed under the fleet's run."""
        if self.site is None:
            return view.scenario == self.scenario
        fleet = view.scenario.removeprefix("site of ")
        return fleet != view.scenario and bool(msgspec.convert(self._exchange.get(f"/v1/runs/{fleet}"), RunView).scenario == self.scenario)

    def _signed(self, envelope: Envelope) -> Certificate:
        return msgspec.convert(unseal(envelope, PAYLOAD_TYPE, self._trusted), Certificate)


def source_known(known: Known, certificate: str | None, run: str | None) -> Source:
    """By the certificate or run that was named; else by what serves; else by the newest run, which is said."""
    if certificate is not None:
        return known.of_certificate(certificate)
    if run is not None:
        return known.of_run(run)
    return known.of_serving() or known.of_latest()
