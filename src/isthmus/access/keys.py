"""The key ring: makes, checks and revokes API keys.

A bearer token is `isk_<12 hex digits of its id>_<64 hex digits of secret>`; an operator's begins with `iso_`. The secret
has 256 random bits, so a salted SHA-256 keeps it: guessing is hopeless with any hash. A store that cannot be read is
StorageError (503), never AuthError (401): a client must not throw its key away because a disk is full.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

from isthmus.contracts.deployment import Caller
from isthmus.contracts.errors import AuthError, ForbiddenError, InputError, NotFoundError
from isthmus.contracts.key import Key, NewKey
from isthmus.contracts.ports import Clock
from isthmus.kit.database import Database, named_sql
from isthmus.kit.ids import slug

ID_BYTES = 6
SECRET_BYTES = 32
SALT_BYTES = 16
LABEL_CHARACTERS_MAX = 200
"""The label of a key."""
LIFE_S_MAX = 10 * 365 * 86_400
"""How long a key may live, in seconds: ten years."""

_FOLDER = Path(__file__).parent / "sql"
_SQL = named_sql(_FOLDER / "keys.sql")
_BEARER = re.compile(r"(isk|iso)_([0-9a-f]{12})_([0-9a-f]{64})")
SCHEMA = ((_FOLDER / "schema_1.sql").read_text(encoding="utf-8"),)


def open_keys(path: Path) -> Database:
    """Opens or makes the database of keys. Raises StorageError."""
    return Database(path, SCHEMA)


def _hash(salt: bytes, secret: str) -> bytes:
    return hashlib.sha256(salt + bytes.fromhex(secret)).digest()


def _key_of(row: sqlite3.Row) -> Key:
    return Key(
        id=row["id"],
        party=row["party"],
        operator=bool(row["operator"]),
        label=row["label"],
        created_at_s=row["created_at_s"],
        expires_at_s=row["expires_at_s"],
        revoked_at_s=row["revoked_at_s"],
    )


class KeyRing:
    """API keys in a database. entropy: n -> n unpredictable bytes."""

    def __init__(self, db: Database, clock: Clock, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self.db = db
        self.clock = clock
        self.entropy = entropy

    def create(self, party: str, label: str = "", operator: bool = False, expires_in_s: int | None = None) -> NewKey:
        """Makes a key; the only time its bearer token is seen. Raises InputError, StorageError."""
        slug(party, "the party")
        if len(label) > LABEL_CHARACTERS_MAX:
            raise InputError(f"the label has {len(label)} characters", f"use at most {LABEL_CHARACTERS_MAX}")
        if expires_in_s is not None and not 0 < expires_in_s <= LIFE_S_MAX:
            raise InputError(f"a life of {expires_in_s} s is not possible", f"use 1 to {LIFE_S_MAX} seconds, or none")
        now_s = int(self.clock.now_s())
        number, secret, salt = self.entropy(ID_BYTES).hex(), self.entropy(SECRET_BYTES).hex(), self.entropy(SALT_BYTES)
        expires_at_s = None if expires_in_s is None else now_s + expires_in_s
        row = {"id": number, "party": party, "operator": int(operator), "label": label, "salt": salt, "hash": _hash(salt, secret)}
        with self.db.transaction() as connection:
            connection.execute(_SQL["key_add"], {**row, "created_at_s": now_s, "expires_at_s": expires_at_s})
        key = Key(id=number, party=party, operator=operator, label=label, created_at_s=now_s, expires_at_s=expires_at_s, revoked_at_s=None)
        return NewKey(key=key, bearer=f"{'iso' if operator else 'isk'}_{number}_{secret}")

    def holder(self, bearer: str) -> Key:
        """The key behind a bearer token. Raises AuthError (unknown, wrong, expired, revoked), StorageError."""
        match = _BEARER.fullmatch(bearer.strip())
        row = None if match is None else self.db.row(_SQL["key"], {"id": match[2]})
        if match is None or row is None:
            raise AuthError("the key is not known here", "check that it was copied whole, or ask for a new one")
        right = hmac.compare_digest(_hash(row["salt"], match[3]), row["hash"])
        if not right or (match[1] == "iso") != bool(row["operator"]):
            raise AuthError("the key is not known here", "check that it was copied whole, or ask for a new one")
        key = _key_of(row)
        if key.revoked_at_s is not None:
            raise AuthError(f"the key {key.id} was revoked", "ask for a new one")
        if key.expires_at_s is not None and key.expires_at_s <= self.clock.now_s():
            raise AuthError(f"the key {key.id} has expired", "ask for a new one")
        return key

    def caller(self, bearer: str) -> Caller:
        """Who is charged for a request with this token. Raises as `holder` does."""
        key = self.holder(bearer)
        return Caller(party=key.party, key_id=key.id)

    def operator(self, bearer: str) -> Key:
        """The operator's key. Raises ForbiddenError when the key is good but not an operator's."""
        key = self.holder(bearer)
        if not key.operator:
            raise ForbiddenError("this needs the operator's key", "use the key that `isthmus up` printed when it first started")
        return key

    def revoke(self, key_id: str) -> Key:
        """Ends a key at once; again is no error. Raises NotFoundError, StorageError."""
        with self.db.transaction() as connection:
            connection.execute(_SQL["key_revoke"], {"id": key_id, "now_s": int(self.clock.now_s())})
            return self.key(key_id)

    def key(self, key_id: str) -> Key:
        """A key by its id, without its secret. Raises NotFoundError."""
        row = self.db.row(_SQL["key"], {"id": key_id})
        if row is None:
            raise NotFoundError(f"there is no key {key_id!r}", "list the keys")
        return _key_of(row)

    def listed(self) -> tuple[Key, ...]:
        """All keys, oldest first, without secrets."""
        return tuple(_key_of(row) for row in self.db.rows(_SQL["keys"]))
