"""Agreements as they are signed, sent and kept: sealed ODRL documents, and the typed terms that are read out of them."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.contracts.agreement import AGREEMENT_TYPE, TERMS_OFFER_TYPE, Agreement
from isthmus.contracts.errors import DocumentError
from isthmus.contracts.odrl import PolicyKind, agreement_of, document_of
from isthmus.kit.canonical import digest_of, parse_canonical
from isthmus.kit.signing import Envelope, SigningKey, payload_of, seal, unseal

TYPES: dict[PolicyKind, str] = {"Agreement": AGREEMENT_TYPE, "Offer": TERMS_OFFER_TYPE}


def sealed_terms(key: SigningKey, agreement: Agreement, kind: PolicyKind = "Agreement") -> Envelope:
    """The ODRL document of the terms, signed. An Agreement is signed by its owner, an Offer of terms by the exchange that asks for it."""
    return seal(key, TYPES[kind], document_of(agreement, kind))


def unsealed_terms(envelope: Envelope, trusted: Mapping[str, str], kind: PolicyKind = "Agreement") -> Agreement:
    """The terms that a trusted key (key id -> public key, hex) signed. Raises SignatureError; AgreementError where they are not known."""
    return agreement_of(unseal(envelope, TYPES[kind], trusted), kind)


def read_terms(envelope: Envelope, kind: PolicyKind = "Agreement") -> Agreement:
    """The same without looking at who signed: of an envelope that was verified when it was taken in. Raises DocumentError."""
    if envelope.payload_type != TYPES[kind]:
        raise DocumentError(f"the envelope holds {envelope.payload_type!r}, not an ODRL {kind}", "sign the terms anew")
    return agreement_of(parse_canonical(payload_of(envelope)), kind)


def agreement_digest(agreement: Agreement) -> str:
    """Digest of the document that is signed: the agreement's name everywhere."""
    return digest_of(document_of(agreement))
