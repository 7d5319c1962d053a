"""Issues certificates, and checks them: at load, and again at every dispatch."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Container, Mapping

import msgspec

from isthmus.assurance.bars import Verdict
from isthmus.contracts.certificate import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, TIERS, Certificate, Predicate, Subject
from isthmus.contracts.errors import (
    BarsNotMetError,
    CertificateArtefactError,
    CertificateDecoderError,
    CertificateEarlyError,
    CertificateEditedError,
    CertificateExpiredError,
    CertificateIssuerError,
    CertificateMissingError,
    CertificateRevokedError,
    CertificateTierError,
    DocumentError,
    InputError,
    SignatureError,
)
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.signing import Envelope, SigningKey, payload_of, seal, unseal

VALIDITY_S_MAX = 400 * 24 * 3600


def issue(key: SigningKey, name: str, artefact_digest: str, predicate: Predicate, verdict: Verdict) -> Envelope:
    """Signs that the artefact (`sha256:<hex>`) met its bars.

    Raises BarsNotMetError when the verdict did not pass, InputError when the predicate contradicts the verdict or itself.
    """
    if not verdict.passed:
        raise BarsNotMetError("; ".join(verdict.failures), "give what is missing and run again; the bars stay as they were signed")
    if predicate.tier not in TIERS:
        raise InputError(f"the tier {predicate.tier!r} is not known", f"use one of {', '.join(TIERS)}")
    if predicate.claims != verdict.claims or predicate.bars_digest != verdict.bars_digest or predicate.tier != verdict.tier:
        raise InputError("the certificate's claims are not those of the verdict", "issue it from the verdict's own claims")
    if not 0 < predicate.not_after_s - predicate.not_before_s <= VALIDITY_S_MAX:
        raise InputError("the certificate's validity is empty or longer than 400 days", "give a shorter one")
    kind, _, digest = artefact_digest.partition(":")
    if kind != "sha256" or len(digest) != 64:
        raise InputError(f"{artefact_digest!r} is not a digest of an artefact", "give sha256:<64 hex digits>")
    statement = Certificate(
        type_=STATEMENT_TYPE,
        subject=(Subject(name=name, digest={"sha256": digest}),),
        predicate_type=PREDICATE_TYPE,
        predicate=predicate,
    )
    return seal(key, PAYLOAD_TYPE, statement)


def certificate_digest(envelope: Envelope) -> str:
    """The certificate's name: sha256 of its payload's bytes."""
    return "sha256:" + sha256_hex(payload_of(envelope))


def read(envelope: Envelope | None, trusted: Mapping[str, str]) -> Certificate:
    """The statement, if a trusted key signed it. trusted: key id -> public key (hex). Raises the Certificate*Error that fits."""
    if envelope is None:
        raise CertificateMissingError("there is no certificate for this artefact", "certify it first")
    if not any(signature.keyid in trusted for signature in envelope.signatures):
        raise CertificateIssuerError("no key that is trusted here signed the certificate", "pin the issuer's key, or certify here")
    try:
        return msgspec.convert(unseal(envelope, PAYLOAD_TYPE, trusted), Certificate)
    except (SignatureError, DocumentError, msgspec.ValidationError) as error:
        raise CertificateEditedError("the certificate is not as it was signed", "fetch it again from its issuer") from error


def check(
    envelope: Envelope | None,
    artefact: bytes,
    trusted: Mapping[str, str],
    tier: str,
    now_s: float,
    revoked: Container[str],
    decoder: str,
) -> Certificate:
    """The certificate, if this artefact may serve under it now; else raises one coded refusal.

    artefact: the bytes that would serve. tier: the least tier asked for. revoked: digests of withdrawn certificates
    (`certificate_digest`). decoder: the image decoder in use.
    """
    if envelope is None:
        raise CertificateMissingError("there is no certificate for this artefact", "certify it first")
    return check_digest(envelope, "sha256:" + sha256_hex(artefact), trusted, tier, now_s, revoked, decoder)


def check_digest(
    envelope: Envelope | None,
    artefact_digest: str,
    trusted: Mapping[str, str],
    tier: str,
    now_s: float,
    revoked: Container[str],
    decoder: str,
) -> Certificate:
    """As `check`, for an artefact whose digest was just computed from the bytes in use; for every dispatch."""
    certificate = read(envelope, trusted)
    assert envelope is not None  # read refuses None
    if certificate.type_ != STATEMENT_TYPE or certificate.predicate_type != PREDICATE_TYPE:
        raise CertificateEditedError(f"a statement of type {certificate.predicate_type!r} is not a certificate", "send the certificate")
    if certificate_digest(envelope) in revoked:
        raise CertificateRevokedError("the certificate was withdrawn by its issuer", "certify again")
    found = certificate.predicate
    if now_s < found.not_before_s:
        raise CertificateEarlyError("the certificate is not valid yet", "wait, or set the clock right")
    if now_s >= found.not_after_s:
        raise CertificateExpiredError("the certificate's validity is over", "certify again")
    if tier not in TIERS or found.tier not in TIERS or TIERS.index(found.tier) < TIERS.index(tier):
        raise CertificateTierError(f"the certificate is for tier {found.tier}, {tier} is asked for", "certify for the higher tier")
    if all("sha256:" + subject.digest.get("sha256", "") != artefact_digest for subject in certificate.subject):
        raise CertificateArtefactError(
            f"the artefact {artefact_digest[:19]} is not the one that was certified", "load the certified bytes, or certify these"
        )
    if found.decoder != decoder:
        raise CertificateDecoderError(f"images are decoded by {decoder}, the certificate is for {found.decoder}", "use that decoder")
    return certificate


def envelope_from(raw: bytes) -> Envelope:
    """An envelope from JSON bytes. Raises CertificateEditedError when it is none."""
    try:
        envelope = msgspec.json.decode(raw, type=Envelope)
        base64.b64decode(envelope.payload, validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise CertificateEditedError("the certificate's file is not an envelope", "fetch it again from its issuer") from error
    return envelope
