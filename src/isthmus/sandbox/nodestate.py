"""What an owner tells its node beside its terms, also while it runs: paused or not, and which exchange it joined.

Kept in the node's own store, durable before a command returns. A running node looks before it answers anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from isthmus.contracts.errors import InputError
from isthmus.contracts.job import PAUSED
from isthmus.contracts.ports import Clock
from isthmus.sandbox.nodehome import STORE_NAME
from isthmus.sandbox.nodestore import NodeStore

EXCHANGE = "exchange"


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """since_s: whole seconds since the Unix epoch."""

    since_s: int


class JoinedExchange(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange that a node's party joined. address: with the pin of its key if it has TLS."""

    address: str
    public_key: str
    purposes: tuple[str, ...] = ()


@contextmanager
def _opened(root: Path) -> Iterator[NodeStore]:
    if not (root / STORE_NAME).is_file():
        raise InputError(f"{root} is no node's state folder", "run: isthmus node init")
    store = NodeStore(root / STORE_NAME)
    try:
        yield store
    finally:
        store.close()


def pause(root: Path, clock: Clock) -> Pause:
    """Pauses a node, running or not; one that is paused stays so since when it was. Raises InputError, StorageError."""
    with _opened(root) as store:
        raw = store.fact(PAUSED)
        if raw is None:
            raw = msgspec.json.encode(Pause(since_s=int(clock.now_s())))
            store.put_fact(PAUSED, raw)
        return msgspec.json.decode(raw, type=Pause)


def resume(root: Path) -> bool:
    """Lets a node answer again; whether it was paused. Raises InputError, StorageError."""
    with _opened(root) as store:
        known = store.fact(PAUSED) is not None
        store.drop_fact(PAUSED)
        return known


def paused(root: Path) -> Pause | None:
    """Since when a node is paused; None when it is not. Raises InputError."""
    with _opened(root) as store:
        raw = store.fact(PAUSED)
        return None if raw is None else msgspec.json.decode(raw, type=Pause)


def joined_exchange(root: Path) -> JoinedExchange | None:
    """The exchange that the node's party joined by an invitation, or None. Raises InputError."""
    with _opened(root) as store:
        raw = store.fact(EXCHANGE)
        return None if raw is None else msgspec.json.decode(raw, type=JoinedExchange)


def remember_exchange(root: Path, exchange: JoinedExchange) -> None:
    """Raises InputError, StorageError."""
    with _opened(root) as store:
        store.put_fact(EXCHANGE, msgspec.json.encode(exchange))
