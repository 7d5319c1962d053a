"""The owner's log of what left: one signed, hash-chained JSON line a message, written and synced before it is sent.

Each line holds the sha256 of the line before it and an Ed25519 signature over everything else in it. A sidecar holds the
signed position of the last line, so that a log that was cut at the end is found too. An owner that changes its key goes on in the same
log: a line of kind `rotation`, signed by the old key, holds the digest of the word that the new key takes its place; the words stand in
a second sidecar, and lines after that one must be signed by the new key.
"""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from isthmus.contracts.errors import LogTamperedError, StorageError
from isthmus.contracts.ports import Clock
from isthmus.kit.canonical import canonical_bytes, sha256_hex
from isthmus.kit.signing import Envelope, SigningKey, verify
from isthmus.sandbox.rotation import checked_rotation

LOG_NAME = "left.jsonl"
HEAD_SUFFIX = ".head"
KEYS_SUFFIX = ".keys"
ROTATION = "rotation"
START = "0" * 64
DECLARED_KINDS = frozenset(
    {"party", "asset", "agreement", "countersign", "vector", "head", "refusal", "status", "terms", "rotation", "withdrawal", "seen"}
)
NUMBER_KINDS = frozenset({"vector", "head"})
DOCUMENT_BYTES_MAX = 256 * 1024


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message that left. bytes, sha256: of the body as sent. shape, dtype: of the numbers in it, empty for documents."""

    seq: int
    at_ms: int
    kind: str
    job: str
    statistic: str
    to: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    sha256: str
    previous: str
    signature: str


@dataclass(frozen=True)
class Leaving:
    """What is about to leave. job: digest of the job, or empty."""

    kind: str
    body: bytes
    to: str
    job: str = ""
    statistic: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""


def undeclared(entries: list[LogEntry]) -> list[LogEntry]:
    """Entries that are not what a node may send: a kind of its own, numbers beyond their shape, or a document too large."""
    return [
        entry
        for entry in entries
        if entry.kind not in DECLARED_KINDS
        or (entry.kind in NUMBER_KINDS and (len(entry.shape) != 1 or entry.bytes != 8 * entry.shape[0]))
        or (entry.kind not in NUMBER_KINDS and entry.bytes > DOCUMENT_BYTES_MAX)
    ]


def _signed_part(fields: dict[str, Any]) -> bytes:
    return b"isthmus-left/1\n" + canonical_bytes({name: value for name, value in fields.items() if name != "signature"})


class OutLog:
    """Appends to the log. One writer a file. Raises StorageError; a log that is no longer whole is refused at opening."""

    def __init__(self, path: Path, key: SigningKey, clock: Clock) -> None:
        self.path, self._key, self._clock = path, key, clock
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._drop_unfinished_line()
        except OSError as error:
            raise StorageError(f"the log {path} cannot be opened: {error.strerror}", "check the folder and its permissions") from error
        entries, signer = verified(path, key.public_hex)
        if signer != key.public_hex:
            raise LogTamperedError(f"{path.name} goes on under another key than this one", "use the owner's present key")
        self._seq = len(entries)
        self._previous = sha256_hex(canonical_bytes(entries[-1])) if entries else START

    def _drop_unfinished_line(self) -> None:
        """A line without an end was never synced, so its message was never sent."""
        if not self.path.exists():
            return
        raw = self.path.read_bytes()
        if raw and not raw.endswith(b"\n"):
            with self.path.open("r+b") as file:
                file.truncate(raw.rfind(b"\n") + 1)
                os.fsync(file.fileno())

    def append(self, leaving: Leaving) -> LogEntry:
        """Writes and syncs one line. Call it before sending."""
        with self._lock:
            fields: dict[str, Any] = {
                "seq": self._seq + 1,
                "at_ms": int(self._clock.now_s() * 1000),
                "kind": leaving.kind,
                "job": leaving.job,
                "statistic": leaving.statistic,
                "to": leaving.to,
                "shape": list(leaving.shape),
                "dtype": leaving.dtype,
                "bytes": len(leaving.body),
                "sha256": sha256_hex(leaving.body),
                "previous": self._previous,
            }
            fields["signature"] = self._key.sign(_signed_part(fields)).hex()
            line = canonical_bytes(fields)
            try:
                with self.path.open("ab") as file:
                    file.write(line + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                self._write_head(fields["seq"], sha256_hex(line))
            except OSError as error:
                raise StorageError(
                    f"the log {self.path} cannot be written: {error.strerror}", "check the disk; nothing was sent"
                ) from error
            self._seq, self._previous = fields["seq"], sha256_hex(line)
            return msgspec.convert(fields, LogEntry)

    def _write_head(self, seq: int, line_hex: str) -> None:
        head = {"seq": seq, "line": line_hex}
        signature = self._key.sign(b"isthmus-left-head/1\n" + canonical_bytes(head)).hex()
        path = self.path.with_name(self.path.name + HEAD_SUFFIX)
        part = path.with_name(path.name + ".part")
        part.write_bytes(canonical_bytes({**head, "signature": signature}))
        part.replace(path)


def kept_rotations(path: Path) -> tuple[Envelope, ...]:
    """The words by which the log's owner changed its key, in order. Raises LogTamperedError, StorageError."""
    keys_path = path.with_name(path.name + KEYS_SUFFIX)
    try:
        return msgspec.json.decode(keys_path.read_bytes(), type=tuple[Envelope, ...]) if keys_path.exists() else ()
    except msgspec.DecodeError as error:
        raise LogTamperedError(f"{keys_path.name} is not a list of signed rotations", "compare with a copy") from error
    except OSError as error:
        raise StorageError(f"{keys_path} cannot be read: {error.strerror}", "check its permissions") from error


def keep_rotations(path: Path, words: tuple[Envelope, ...]) -> None:
    """Writes the words beside the log, whole or not at all. Raises StorageError."""
    keys_path = path.with_name(path.name + KEYS_SUFFIX)
    part = keys_path.with_name(keys_path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(msgspec.json.encode(words))
            file.flush()
            os.fsync(file.fileno())
        part.replace(keys_path)
    except OSError as error:
        raise StorageError(f"{keys_path} cannot be written: {error.strerror}", "check the folder and the disk") from error


class _Signers:
    """Whose signature the next line must have. public_key: of the owner, at any time: it must stand in the chain of keys."""

    def __init__(self, path: Path, public_key: str) -> None:
        words = [(checked_rotation(envelope), canonical_bytes(envelope)) for envelope in kept_rotations(path)]
        links = [(word.old_key, word.new_key) for word, _ in words]
        if any(one[1] != other[0] for one, other in itertools.pairwise(links)):
            raise LogTamperedError(f"the rotations of {path.name} are no chain", "compare with a copy")
        self._next = {word.old_key: (sha256_hex(raw), word.new_key) for word, raw in words}
        self.key = links[0][0] if links else public_key
        if public_key not in (self.key, *(new for _, new in links)):
            raise LogTamperedError(f"the key {public_key[:16]}... is not one that {path.name} was written with", "use the owner's key")

    def follow(self, entry: LogEntry) -> None:
        """After a line: the next key, if the line says so."""
        digest, key = self._next.get(self.key, ("", ""))
        if entry.kind == ROTATION and entry.sha256 == digest:
            self.key = key


def verify_log(path: Path, public_key: str) -> list[LogEntry]:
    """The log's entries, if not one was edited, removed, added or moved. public_key: the owner's, hex, of any time.

    Raises as `verified` does.
    """
    return verified(path, public_key)[0]


def verified(path: Path, public_key: str) -> tuple[list[LogEntry], str]:
    """The entries, and the key that must sign the next line.

    Raises LogTamperedError naming the first line that does not hold; StorageError when the file cannot be read.
    """
    head_path = path.with_name(path.name + HEAD_SUFFIX)
    try:
        head_raw = head_path.read_bytes() if head_path.exists() else b""  # first, because a node may be writing a line just now
        raw = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise StorageError(f"the log {path} cannot be read: {error.strerror}", "check its permissions") from error
    entries: list[LogEntry] = []
    hashes: list[str] = []
    signers = _Signers(path, public_key)
    keys = [signers.key]
    previous = START
    lines = raw.split(b"\n")
    if lines.pop():
        raise _tampered(path, len(lines) + 1, "is cut short")
    for number, line in enumerate(lines, start=1):
        try:
            entry = msgspec.json.decode(line, type=LogEntry)
            signature = bytes.fromhex(entry.signature)
        except (msgspec.DecodeError, ValueError) as error:
            raise _tampered(path, number, "is not an entry") from error
        if canonical_bytes(entry) != line or not verify(signers.key, _signed_part(msgspec.to_builtins(entry)), signature):
            raise _tampered(path, number, "does not carry the owner's signature")
        if entry.seq != number or entry.previous != previous:
            raise _tampered(path, number, "does not follow the line before it")
        previous = sha256_hex(line)
        entries.append(entry)
        hashes.append(previous)
        signers.follow(entry)
        keys.append(signers.key)
    _check_head(path, head_raw, hashes, keys)
    return entries, signers.key


def _check_head(path: Path, head_raw: bytes, hashes: list[str], keys: list[str]) -> None:
    """keys: whose signature line 1, 2, ... and the next one have or would have. The head of a line is signed by that line's key."""
    if not head_raw:
        if len(hashes) > 1:
            raise _tampered(path, len(hashes), "has no signed head beside it")
        return
    try:
        head = msgspec.json.decode(head_raw, type=dict[str, Any])
        signature = bytes.fromhex(head.pop("signature"))
        seq, line = int(head["seq"]), str(head["line"])
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _tampered(path, len(hashes), "has a head that is not one") from error
    key = keys[seq - 1] if 1 <= seq <= len(hashes) else keys[-1]
    if not verify(key, b"isthmus-left-head/1\n" + canonical_bytes(head), signature):
        raise _tampered(path, len(hashes), "has a head that the owner did not sign")
    if not 1 <= seq <= len(hashes) or hashes[seq - 1] != line or len(hashes) - seq > 1:
        raise _tampered(path, len(hashes), f"is the last, but {seq} lines were signed for")


def _tampered(path: Path, number: int, what: str) -> LogTamperedError:
    return LogTamperedError(f"{path.name} line {number} {what}", "compare with a copy; what follows that line proves nothing")
