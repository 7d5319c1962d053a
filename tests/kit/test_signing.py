"""A signed document stands only as it was signed, by whom it was signed, for what it was signed."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import DocumentError, SignatureError, StorageError
from isthmus.kit.signing import Envelope, EnvelopeSignature, SigningKey, key_id, payload_of, seal, unseal, verify

KIND = "application/vnd.isthmus.test+json"
KEY = SigningKey.from_seed(b"k" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)
TRUSTED = {KEY.key_id: KEY.public_hex}
DOCUMENT = {"amount_micros": 12_345, "to": "line-4"}


def changed(envelope: Envelope, **fields: Any) -> Envelope:
    return msgspec.structs.replace(envelope, **fields)


def test_sealed_document_comes_back() -> None:
    assert unseal(seal(KEY, KIND, DOCUMENT), KIND, TRUSTED) == DOCUMENT


@settings(max_examples=60)
@given(st.data())
def test_any_flipped_bit_of_payload_or_signature_is_seen(data: st.DataObject) -> None:
    envelope = seal(KEY, KIND, DOCUMENT)
    payload, signature = bytearray(payload_of(envelope)), bytearray(base64.b64decode(envelope.signatures[0].sig))
    target = data.draw(st.sampled_from([payload, signature]))
    bit = data.draw(st.integers(0, len(target) * 8 - 1))
    target[bit // 8] ^= 1 << (bit % 8)
    edited = changed(
        envelope,
        payload=base64.b64encode(bytes(payload)).decode(),
        signatures=(EnvelopeSignature(KEY.key_id, base64.b64encode(bytes(signature)).decode()),),
    )
    with pytest.raises(SignatureError):
        unseal(edited, KIND, TRUSTED)


def test_another_kind_of_document_is_refused() -> None:
    envelope = seal(KEY, KIND, DOCUMENT)
    with pytest.raises(SignatureError, match="expected"):
        unseal(envelope, KIND + "2", TRUSTED)
    with pytest.raises(SignatureError, match="no trusted key"):
        unseal(changed(envelope, payload_type=KIND + "2"), KIND + "2", TRUSTED)


def test_key_that_is_not_trusted_is_refused() -> None:
    with pytest.raises(SignatureError):
        unseal(seal(OTHER, KIND, DOCUMENT), KIND, TRUSTED)
    with pytest.raises(SignatureError):
        unseal(seal(KEY, KIND, DOCUMENT), KIND, {})


def test_borrowed_key_id_is_refused() -> None:
    """A signature of another key under a trusted id, and a trusted id pinned to another key."""
    envelope = seal(OTHER, KIND, DOCUMENT)
    with pytest.raises(SignatureError):
        unseal(changed(envelope, signatures=(EnvelopeSignature(KEY.key_id, envelope.signatures[0].sig),)), KIND, TRUSTED)
    with pytest.raises(SignatureError):
        unseal(
            changed(envelope, signatures=(EnvelopeSignature(KEY.key_id, envelope.signatures[0].sig),)), KIND, {KEY.key_id: OTHER.public_hex}
        )


def test_one_trusted_signature_among_others_is_enough() -> None:
    envelope = seal(KEY, KIND, DOCUMENT)
    noise = (EnvelopeSignature(OTHER.key_id, "AAAA"), EnvelopeSignature(KEY.key_id, "not base64!"))
    assert unseal(changed(envelope, signatures=(*noise, *envelope.signatures)), KIND, TRUSTED) == DOCUMENT
    with pytest.raises(SignatureError):
        unseal(changed(envelope, signatures=noise), KIND, TRUSTED)
    with pytest.raises(SignatureError):
        unseal(changed(envelope, signatures=()), KIND, TRUSTED)


def test_payload_that_is_no_base64_is_refused() -> None:
    with pytest.raises(DocumentError):
        unseal(changed(seal(KEY, KIND, DOCUMENT), payload="%%%"), KIND, TRUSTED)


def test_signed_bytes_that_are_not_canonical_are_refused() -> None:
    """A trusted key cannot give one document two digests."""
    raw = b'{"b": 1, "a": 2}'
    message = b"DSSEv1 %d %s %d %s" % (len(KIND), KIND.encode(), len(raw), raw)
    signature = EnvelopeSignature(KEY.key_id, base64.b64encode(KEY.sign(message)).decode())
    envelope = Envelope(payload_type=KIND, payload=base64.b64encode(raw).decode(), signatures=(signature,))
    with pytest.raises(DocumentError, match="canonical"):
        unseal(envelope, KIND, TRUSTED)


def test_envelope_has_the_names_of_dsse() -> None:
    raw = msgspec.json.encode(seal(KEY, KIND, DOCUMENT))
    assert set(msgspec.json.decode(raw)) == {"payloadType", "payload", "signatures"}
    assert unseal(msgspec.json.decode(raw, type=Envelope), KIND, TRUSTED) == DOCUMENT


@pytest.mark.parametrize("public", ["", "zz", "00", KEY.public_hex[:-2]])
def test_verify_says_no_to_what_is_no_key(public: str) -> None:
    assert verify(public, b"message", KEY.sign(b"message")) is False


def test_verify_agrees_with_the_standard_vector() -> None:
    """RFC 8032, section 7.1, test 2."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = SigningKey.from_seed(seed)
    assert key.public_hex == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8f")
    assert len(key_id(key.public_hex)) == 32


def test_key_file_is_private_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "node.key"
    made = SigningKey.load_or_create(path)
    assert SigningKey.load_or_create(path).public_hex == made.public_hex
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_key_file_that_is_cut_or_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    short = tmp_path / "short.key"
    short.write_bytes(b"12")
    with pytest.raises(StorageError):
        SigningKey.load_or_create(short)
    with pytest.raises(StorageError):
        SigningKey.load_or_create(short / "below-a-file" / "x.key")
