"""API keys: shown once, kept as salted hashes, ended by expiry or revocation; a broken store is never a 401."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.access.keys import KeyRing, open_keys
from isthmus.contracts.deployment import Caller
from isthmus.contracts.errors import AuthError, ForbiddenError, InputError, NotFoundError, StorageError
from isthmus.kit.clock import SetClock


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(open_keys(tmp_path / "keys.db"), SetClock())


def test_a_key_names_its_party(ring: KeyRing) -> None:
    new = ring.create("line", "the inspection line")
    assert new.bearer.startswith("isk_")
    assert ring.holder(new.bearer) == new.key == ring.key(new.key.id)
    assert ring.caller(f" {new.bearer} ") == Caller(party="line", key_id=new.key.id)
    with pytest.raises(ForbiddenError):
        ring.operator(new.bearer)


def test_an_operator_key_is_one(ring: KeyRing) -> None:
    new = ring.create("exchange", operator=True)
    assert new.bearer.startswith("iso_") and ring.operator(new.bearer).party == "exchange"
    with pytest.raises(AuthError):
        ring.holder("isk" + new.bearer[3:])


def test_the_secret_is_not_kept(ring: KeyRing, tmp_path: Path) -> None:
    new = ring.create("line")
    ring.db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    secret = new.bearer.rpartition("_")[2]
    for path in tmp_path.iterdir():
        raw = path.read_bytes()
        assert secret.encode() not in raw and bytes.fromhex(secret) not in raw
    assert secret not in repr(ring.listed())


@pytest.mark.parametrize("change", ["other secret", "other id", "cut", "empty", "long", "upper"])
def test_a_wrong_key_is_401(ring: KeyRing, change: str) -> None:
    bearer = ring.create("line").bearer
    kind, number, secret = bearer.split("_")
    last = "0" if secret[-1] != "0" else "1"
    wrong = {
        "other secret": f"{kind}_{number}_{secret[:-1]}{last}",
        "other id": f"{kind}_{'0' * 12}_{secret}",
        "cut": bearer[:-1],
        "empty": "",
        "long": bearer + "0" * 10_000,
        "upper": bearer.upper(),
    }[change]
    with pytest.raises(AuthError):
        ring.holder(wrong)


def test_expiry_and_revocation(ring: KeyRing) -> None:
    short, other = ring.create("line", expires_in_s=10), ring.create("line")
    ring.clock.advance(9)  # type: ignore[attr-defined]
    assert ring.holder(short.bearer).id == short.key.id
    ring.clock.advance(1)  # type: ignore[attr-defined]
    with pytest.raises(AuthError, match="expired"):
        ring.holder(short.bearer)
    first = ring.revoke(other.key.id)
    ring.clock.advance(5)  # type: ignore[attr-defined]
    assert ring.revoke(other.key.id) == first
    with pytest.raises(AuthError, match="revoked"):
        ring.holder(other.bearer)
    with pytest.raises(NotFoundError):
        ring.revoke("none")
    assert [key.id for key in ring.listed()] == sorted((short.key.id, other.key.id))


def test_impossible_orders_are_refused(ring: KeyRing) -> None:
    for arguments in ({"party": "No Slug"}, {"party": "a", "label": "x" * 201}, {"party": "a", "expires_in_s": 0}):
        with pytest.raises(InputError):
            ring.create(**arguments)  # type: ignore[arg-type]


def test_a_store_that_is_down_is_503_and_never_401(ring: KeyRing) -> None:
    bearer = ring.create("line").bearer
    ring.db.close()
    for call in (lambda: ring.holder(bearer), lambda: ring.caller(bearer), lambda: ring.create("x"), lambda: ring.revoke("x")):
        with pytest.raises(StorageError):
            call()
