"""The append-only Merkle log of receipts, its signed tree heads and its proofs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from isthmus.contracts.errors import BookError, InputError
from isthmus.contracts.ports import Clock
from isthmus.contracts.receipt import TREE_HEAD_TYPE, ConsistencyProof, InclusionProof, TreeHead
from isthmus.kit.canonical import canonical_bytes
from isthmus.kit.database import Database, named_sql
from isthmus.kit.signing import Envelope, SigningKey, seal
from isthmus.ledger.merkle import EMPTY_ROOT, consistency_path, inclusion_path, largest_power_below, leaf_hash, node_hash

_SQL = named_sql(Path(__file__).parent / "sql" / "log.sql")


class ReceiptLog:
    """Leaves in order. Stored are the hashes of leaves (level 0) and of every complete subtree above them."""

    def __init__(self, db: Database, clock: Clock, key: SigningKey, name: str) -> None:
        self.db = db
        self.clock = clock
        self.key = key
        self.name = name

    def size(self) -> int:
        """Number of leaves."""
        row = self.db.row(_SQL["size"])
        return 0 if row is None else int(row["size"])

    def append(self, leaf: bytes) -> int:
        """Adds a leaf and returns its index. Call it inside the transaction that writes what the leaf commits to."""
        with self.db.transaction() as connection:
            index = place = int(connection.execute(_SQL["size"]).fetchone()["size"])
            level, found = 0, leaf_hash(leaf)
            connection.execute(_SQL["node_add"], {"level": level, "place": place, "hash": found})
            while place & 1:
                found = node_hash(self._node(level, place - 1), found)
                level, place = level + 1, place >> 1
                connection.execute(_SQL["node_add"], {"level": level, "place": place, "hash": found})
            return index

    def _node(self, level: int, place: int) -> bytes:
        row = self.db.row(_SQL["node"], {"level": level, "place": place})
        if row is None:
            raise BookError(f"the receipts log lacks node {place} of level {level}", "restore the database from a backup")
        return bytes(row["hash"])

    def subtree(self, lo: int, hi: int) -> bytes:
        """The tree hash of leaves lo .. hi - 1, from stored nodes."""
        size = hi - lo
        if size & (size - 1) == 0:
            return self._node(size.bit_length() - 1, lo // size)
        middle = lo + largest_power_below(size)
        return node_hash(self.subtree(lo, middle), self.subtree(middle, hi))

    def root(self, size: int) -> bytes:
        """The tree hash of the first `size` leaves."""
        return self.subtree(0, size) if size else EMPTY_ROOT

    def head(self) -> Envelope:
        """The signed head of the log as it stands. One head a size: asked again, the same bytes come back."""
        with self.db.transaction() as connection:
            size = self.size()
            row = connection.execute(_SQL["head"], {"tree_size": size}).fetchone()
            if row is not None:
                return msgspec.json.decode(row["envelope"], type=Envelope)
            root = self.root(size).hex()
            head = TreeHead(log=self.name, tree_size=size, root=root, at_ms=int(self.clock.now_s() * 1000))
            envelope = seal(self.key, TREE_HEAD_TYPE, head)
            connection.execute(_SQL["head_add"], {"tree_size": size, "root": root, "envelope": canonical_bytes(envelope)})
            return envelope

    def inclusion(self, index: int) -> InclusionProof:
        """Proof that leaf `index` is in the log as it stands, with its signed head. Raises InputError."""
        with self.db.transaction():
            size = self.size()
            path = inclusion_path(index, size, self.subtree)
            head = msgspec.to_builtins(self.head())
        return InclusionProof(leaf_index=index, tree_size=size, path=tuple(step.hex() for step in path), head=head)

    def consistency(self, first: int, second: int) -> ConsistencyProof:
        """Proof that the log of `first` leaves begins the log of `second` leaves. Raises InputError."""
        with self.db.transaction():
            size = self.size()
            if second > size:
                raise InputError(f"the log has {size} leaves, not {second}", "ask for at most its size")
            path = consistency_path(first, second, self.subtree)
            roots = self.root(first).hex(), self.root(second).hex()
        return ConsistencyProof(
            first=first, second=second, first_root=roots[0], second_root=roots[1], path=tuple(step.hex() for step in path)
        )
