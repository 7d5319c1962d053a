"""`isthmus certificate`: checks what others signed, on this machine alone."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from isthmus.assurance.certificate import certificate_digest, check, envelope_from
from isthmus.contracts.certificate import TIERS, Certificate, Claims
from isthmus.contracts.errors import DocumentError, InputError
from isthmus.kit.clock import SystemClock
from isthmus.kit.pictures import DECODER
from isthmus.kit.signing import key_id

FILE_BYTES_MAX = 1 << 30
"""A certificate's or artefact's file; a larger one is refused before it is read."""

_KEY = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NOT_CHECKED = "whether its issuer withdrew it since: give --revoked, or ask the issuer"


@click.group()
def certificate() -> None:
    """Checks a certificate offline: who signed it, for which file, what it claims, and until when.

    Example:  isthmus certificate verify line-4.certificate.json --artefact line-4.onnx --public-key exchange.pub
    """


@certificate.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--artefact", required=True, type=click.Path(path_type=Path), help="The model file that would serve.")
@click.option("--public-key", required=True, help="The issuer's public key: 64 hex digits, or a file that holds them.")
@click.option("--tier", type=click.Choice(TIERS), default="T1", show_default=True, help="The least risk tier that is asked for.")
@click.option("--revoked", type=click.Path(path_type=Path), help="A file with one digest of a withdrawn certificate a line.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def verify(file: Path, artefact: Path, public_key: str, tier: str, revoked: Path | None, as_json: bool) -> None:
    """Verifies the certificate in FILE against a model file and a public key. No network is used.

    Exit code 0: it stands. Otherwise the one reason why not, with its code: edited, another issuer, another file, another
    tier, another decoder, not begun, expired, withdrawn.
    """
    envelope = envelope_from(_bytes(file))
    public = public_key_from(public_key)
    withdrawn = revoked_from(revoked)
    found = check(envelope, _bytes(artefact), {key_id(public): public}, tier, SystemClock().now_s(), withdrawn, DECODER)
    digest = certificate_digest(envelope)
    if as_json:
        click.echo(json.dumps(summary(found, digest, key_id(public), revoked is not None), ensure_ascii=False))
        return
    _show(found, digest, key_id(public), revoked is not None)


def public_key_from(given: str) -> str:
    """64 hex digits, given as such or in a file. Raises InputError."""
    text = given.strip().lower()
    if not _KEY.fullmatch(text):
        try:
            text = _bytes(Path(given)).decode("ascii").strip().lower()
        except UnicodeDecodeError as error:
            raise InputError(f"{given} holds no public key", "give 64 hex digits, or a file that holds them") from error
    if not _KEY.fullmatch(text):
        raise InputError(f"{given!r} is no public key", "give 64 hex digits, or a file that holds them")
    return text


def revoked_from(path: Path | None) -> frozenset[str]:
    """Digests of withdrawn certificates. A line that is none is refused: a list that is misread withdraws nothing."""
    if path is None:
        return frozenset()
    lines = [line.strip() for line in _bytes(path).decode("utf-8", errors="replace").splitlines()]
    wrong = [line for line in lines if line and not _DIGEST.fullmatch(line)]
    if wrong:
        raise DocumentError(f"{path.name} has the line {wrong[0][:80]!r}, which is no digest", "give one sha256:<64 hex digits> a line")
    return frozenset(line for line in lines if line)


def summary(found: Certificate, digest: str, issuer: str, revocation_checked: bool) -> dict[str, Any]:
    """What --json prints of a certificate that stands."""
    said = found.predicate
    return {
        "valid": True,
        "certificate": digest,
        "issuer_key_id": issuer,
        "subject": [{"name": subject.name, "sha256": subject.digest.get("sha256", "")} for subject in found.subject],
        "tier": said.tier,
        "scenario": said.scenario,
        "site": said.site,
        "decoder": said.decoder,
        "not_before_s": said.not_before_s,
        "not_after_s": said.not_after_s,
        "answered_ppm": said.claims.answered_ppm,
        "error_bound_ppm": said.claims.error_bound_ppm,
        "confidence_ppm": said.claims.confidence_ppm,
        "revocation_checked": revocation_checked,
    }


def _show(found: Certificate, digest: str, issuer: str, revocation_checked: bool) -> None:
    said = found.predicate
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("certificate", digest),
        ("signed by", f"key {issuer}"),
        ("for", ", ".join(f"{subject.name} sha256:{subject.digest.get('sha256', '')[:16]}..." for subject in found.subject)),
        ("scenario, site", f"{said.scenario}, {said.site}"),
        ("tier", said.tier),
        ("images decoded by", said.decoder),
        ("valid", f"{_day(said.not_before_s)} until {_day(said.not_after_s)}"),
        ("claims", claim_sentence(said.claims)),
        ("tested on", tested_sentence(said.claims)),
        *(("note", note) for note in said.notes),
        *(() if revocation_checked else (("not checked", NOT_CHECKED),)),
    ):
        table.add_row(name, value)
    console = Console()
    console.print(table)
    console.print("\nThe certificate stands for this file.")


def claim_sentence(claims: Claims) -> str:
    """The headline, with its bound."""
    if not isinstance(claims.values, msgspec.UnsetType):
        said = "; ".join(
            f"{one.name}: at most {one.miss_bound_ppm / 1e4:.2f} % of outcomes beyond the band, {one.skill_bound_ppm / 1e4:.1f} % or more"
            f" of the squared error of {one.naive} saved"
            for one in claims.values
        )
        return f"{said}; at {claims.confidence_ppm / 1e4:g} % confidence"
    return (
        f"answers {claims.answered_ppm / 1e4:.1f} % of records; at most {claims.error_bound_ppm / 1e4:.2f} % of the answers are wrong, "
        f"at {claims.confidence_ppm / 1e4:g} % confidence; the rest goes to a person"
    )


def tested_sentence(claims: Claims) -> str:
    inferred = ", groups inferred from the order of names" if claims.groups_inferred else ""
    if not isinstance(claims.values, msgspec.UnsetType):
        return f"{claims.records} held-out records in {claims.groups} groups{inferred}"
    return f"{claims.records} held-out records in {claims.groups} groups{inferred}; {claims.errors} errors among {claims.answered} answered"


def _day(at_s: int) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{path} is larger than the {FILE_BYTES_MAX} bytes that are read", "give the right file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
