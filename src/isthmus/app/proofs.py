"""Certificates of what was judged: signed once, and found again by a run that was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from isthmus.app.workshop import Workshop
from isthmus.assurance.bars import Verdict
from isthmus.assurance.certificate import certificate_digest, issue, read
from isthmus.assurance.evidence import Evidence, evidence_digest
from isthmus.assurance.valuebars import ValueEvidence, value_evidence_digest
from isthmus.contracts.certificate import Predicate
from isthmus.contracts.errors import CertificateError
from isthmus.contracts.head import Head
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Scenario
from isthmus.foundry.export import head_digest
from isthmus.kit.signing import Envelope

DAY_S = 86_400


@dataclass(frozen=True)
class Proof:
    """A verdict with the evidence that it judged, and the artefact (head and digest of its bytes) that the evidence is about."""

    verdict: Verdict
    evidence: Evidence | ValueEvidence
    head: Head
    digest: str


def sign_certificate(shop: Workshop, run_id: str, scenario: Scenario, site: str, proof: Proof, agreements: Mapping[str, str]) -> Json:
    """Signs and keeps the certificate; {digest, envelope}. agreements: party -> digest of the agreement that its figures rest on.

    A run that was cut off after it had certified gets its standing certificate again, also when it was revoked meanwhile.
    """
    now_s = int(shop.clock.now_s())
    verdict, head, found = proof.verdict, proof.head, proof.evidence
    predicate = Predicate(
        tier=verdict.tier,
        scenario=f"{scenario.id}@{scenario.version}",
        site=site,
        decoder=head.decoder,
        head_digest=head_digest(head),
        stage_digest=head.stage.digest,
        bars_digest=verdict.bars_digest,
        evidence_digest=value_evidence_digest(found) if isinstance(found, ValueEvidence) else evidence_digest(found),
        claims=verdict.claims,
        parties=tuple(agreements),
        agreements=tuple(agreements.values()),
        not_before_s=now_s,
        not_after_s=now_s + scenario.certify.validity_days * DAY_S,
        notes=verdict.notes,
    )
    envelope = _standing(shop, run_id, proof.digest, predicate) or issue(shop.key, scenario.id, proof.digest, predicate, verdict)
    name = certificate_digest(envelope)
    shop.catalogue.add_certificate(name, proof.digest, envelope, run_id)
    return {"digest": name, "envelope": msgspec.to_builtins(envelope)}


def _standing(shop: Workshop, run_id: str, artefact: str, predicate: Predicate) -> Envelope | None:
    """The run's own certificate for the artefact that says the same but for its times, and still lasts."""
    for envelope in shop.catalogue.certificates_of(run_id, artefact):
        try:
            found = read(envelope, {shop.key.key_id: shop.key.public_hex}).predicate
        except CertificateError:
            continue
        times = {"not_before_s": found.not_before_s, "not_after_s": found.not_after_s}
        if found == msgspec.structs.replace(predicate, **times) and found.not_before_s <= predicate.not_before_s < found.not_after_s:
            return envelope
    return None
