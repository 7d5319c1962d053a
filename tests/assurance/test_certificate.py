"""Certificates: issued only for what passed; each way to be refused has its own code."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.assurance.bars import judge
from isthmus.assurance.certificate import certificate_digest, check, envelope_from, issue
from isthmus.assurance.evidence import evidence_digest
from isthmus.contracts.bars import Bars
from isthmus.contracts.certificate import PREDICATE_TYPE, STATEMENT_TYPE, Predicate
from isthmus.contracts.errors import (
    BarsNotMetError,
    CertificateArtefactError,
    CertificateDecoderError,
    CertificateEarlyError,
    CertificateEditedError,
    CertificateError,
    CertificateExpiredError,
    CertificateIssuerError,
    CertificateMissingError,
    CertificateRevokedError,
    CertificateTierError,
    InputError,
)
from isthmus.kit.canonical import sha256_hex
from isthmus.kit.signing import Envelope, EnvelopeSignature, SigningKey, seal
from tests.assurance.counts import evidence, line

KEY = SigningKey.from_seed(bytes(range(32)))
TRUSTED = {KEY.key_id: KEY.public_hex}
ARTEFACT = b"an onnx graph"
DIGEST = "sha256:" + sha256_hex(ARTEFACT)
EVIDENCE = evidence(*line(0), -0.3, 0.3, 1.2)
VERDICT = judge(Bars(scenario="solar-cell-inspection", tier="T2"), EVIDENCE)
PREDICATE = Predicate(
    tier="T2",
    scenario="solar-cell-inspection",
    site="line-1",
    decoder="isthmus-rgb8/1",
    head_digest="sha256:1",
    stage_digest="sha256:2",
    bars_digest=VERDICT.bars_digest,
    evidence_digest=evidence_digest(EVIDENCE),
    claims=VERDICT.claims,
    parties=("maker-a", "maker-b"),
    agreements=("sha256:3", "sha256:4"),
    not_before_s=1000,
    not_after_s=2000,
)
ENVELOPE = issue(KEY, "solar-cell-inspection", DIGEST, PREDICATE, VERDICT)


def ask(envelope: Envelope | None = ENVELOPE, **changes: object) -> object:
    values: dict[str, object] = {
        "artefact": ARTEFACT, "trusted": TRUSTED, "tier": "T2", "now_s": 1500.0, "revoked": frozenset(), "decoder": "isthmus-rgb8/1",
    }  # fmt: skip
    return check(envelope, **(values | changes))  # type: ignore[arg-type]


def test_a_good_certificate_is_accepted_for_its_tier_and_below() -> None:
    certificate = ask()
    assert certificate.predicate == PREDICATE  # type: ignore[attr-defined]
    assert ask(tier="T1") == certificate
    assert ask(now_s=1000.0) == ask(now_s=1999.9) == certificate


def test_it_is_an_in_toto_statement_in_dsse() -> None:
    raw = json.loads(msgspec.json.encode(ENVELOPE))
    assert raw["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(raw["payload"]))
    assert statement["_type"] == STATEMENT_TYPE
    assert statement["predicateType"] == PREDICATE_TYPE
    assert statement["subject"] == [{"name": "solar-cell-inspection", "digest": {"sha256": sha256_hex(ARTEFACT)}}]
    assert envelope_from(msgspec.json.encode(ENVELOPE)) == ENVELOPE


def test_the_same_claims_have_the_same_digest() -> None:
    assert certificate_digest(issue(KEY, "solar-cell-inspection", DIGEST, PREDICATE, VERDICT)) == certificate_digest(ENVELOPE)


OTHER = SigningKey.from_seed(b"o" * 32)


@pytest.mark.parametrize(
    ("envelope", "changes", "reason"),
    [
        (None, {}, CertificateMissingError),
        (ENVELOPE, {"trusted": {}}, CertificateIssuerError),
        (ENVELOPE, {"trusted": {OTHER.key_id: OTHER.public_hex}}, CertificateIssuerError),
        (ENVELOPE, {"trusted": {KEY.key_id: OTHER.public_hex}}, CertificateEditedError),
        (msgspec.structs.replace(ENVELOPE, signatures=()), {}, CertificateIssuerError),
        (ENVELOPE, {"now_s": 2000.0}, CertificateExpiredError),
        (ENVELOPE, {"now_s": 999.9}, CertificateEarlyError),
        (ENVELOPE, {"revoked": {certificate_digest(ENVELOPE)}}, CertificateRevokedError),
        (ENVELOPE, {"tier": "T3"}, CertificateTierError),
        (ENVELOPE, {"tier": "T0"}, CertificateTierError),
        (ENVELOPE, {"tier": ""}, CertificateTierError),
        (ENVELOPE, {"artefact": ARTEFACT + b"!"}, CertificateArtefactError),
        (ENVELOPE, {"artefact": b""}, CertificateArtefactError),
        (ENVELOPE, {"decoder": "isthmus-rgb8/2"}, CertificateDecoderError),
    ],
)
def test_each_refusal_has_its_reason(envelope: Envelope | None, changes: dict[str, object], reason: type[CertificateError]) -> None:
    with pytest.raises(reason) as caught:
        ask(envelope, **changes)
    assert type(caught.value) is reason
    assert caught.value.message and caught.value.next_step


def test_the_reasons_have_distinct_codes() -> None:
    assert len({kind.code for kind in CertificateError.__subclasses__()}) == len(CertificateError.__subclasses__()) >= 9


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_edit_of_the_payload_is_refused(data: st.DataObject) -> None:
    payload = bytearray(base64.b64decode(ENVELOPE.payload))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CertificateEditedError):
        ask(msgspec.structs.replace(ENVELOPE, payload=base64.b64encode(bytes(payload)).decode()))


def test_other_ways_to_edit_are_refused() -> None:
    signature = ENVELOPE.signatures[0]
    for bad in (
        msgspec.structs.replace(ENVELOPE, payload="%%%"),
        msgspec.structs.replace(ENVELOPE, payload_type="text/plain"),
        msgspec.structs.replace(ENVELOPE, signatures=(EnvelopeSignature(signature.keyid, "AAAA"),)),
        msgspec.structs.replace(ENVELOPE, signatures=(EnvelopeSignature(signature.keyid, "not base64"),)),
        seal(KEY, "application/vnd.in-toto+json", {"_type": STATEMENT_TYPE}),
        seal(KEY, "application/vnd.isthmus.bars.v1+json", {"tier": "T3"}),
    ):
        with pytest.raises(CertificateEditedError):
            ask(bad)
    for raw in (b"", b"[]", b'{"payloadType":"x"}', b"\xff", b'{"payloadType":"x","payload":"%","signatures":[]}'):
        with pytest.raises(CertificateEditedError):
            envelope_from(raw)


def test_another_statement_by_the_same_key_is_not_a_certificate() -> None:
    statement = json.loads(base64.b64decode(ENVELOPE.payload)) | {"predicateType": "urn:isthmus:something-else:v1"}
    with pytest.raises(CertificateEditedError, match="not a certificate"):
        ask(seal(KEY, "application/vnd.in-toto+json", statement))


def test_nothing_is_issued_for_what_did_not_pass() -> None:
    failed = judge(Bars(scenario="solar-cell-inspection", tier="T2"), evidence(*line(0, groups=6), -0.3, 0.3))
    with pytest.raises(BarsNotMetError, match="too few groups"):
        issue(KEY, "x", DIGEST, msgspec.structs.replace(PREDICATE, claims=failed.claims), failed)


@pytest.mark.parametrize(
    "change",
    [
        {"tier": "T3"},
        {"tier": "T9"},
        {"bars_digest": "sha256:other"},
        {"not_after_s": 1000},
        {"not_after_s": 10**9},
        {"claims": msgspec.structs.replace(VERDICT.claims, error_bound_ppm=1)},
    ],
)
def test_a_predicate_that_is_not_the_verdicts_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        issue(KEY, "x", DIGEST, msgspec.structs.replace(PREDICATE, **change), VERDICT)


def test_a_digest_that_is_none_is_refused() -> None:
    for bad in ("", "sha256:12", "md5:" + "0" * 64):
        with pytest.raises(InputError):
            issue(KEY, "x", bad, PREDICATE, VERDICT)
