"""Merkle proofs against a brute-force tree, and the stored log against both."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError
from isthmus.kit.clock import SetClock
from isthmus.ledger.book import open_book
from isthmus.ledger.log import ReceiptLog
from isthmus.ledger.merkle import (
    EMPTY_ROOT,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from isthmus.ledger.verify import tree_head, verify_growth
from tests.ledger.world import KEY, TRUSTED


def brute(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + brute(leaves[:k]) + brute(leaves[k:])).digest()


def data(count: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(count)]


def test_roots_equal_brute_force() -> None:
    for count in range(70):
        assert root_of([leaf_hash(leaf) for leaf in data(count)]) == brute(data(count))
    assert brute([]) == EMPTY_ROOT


def test_known_vector() -> None:
    """The test vectors of RFC 6962's reference log: eight inputs, root 5dc9da79...."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    root = root_of([leaf_hash(bytes.fromhex(each)) for each in inputs])
    assert root.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(st.integers(1, 200), st.data())
def test_inclusion(size: int, chosen: st.DataObject) -> None:
    leaves = data(size)
    index = chosen.draw(st.integers(0, size - 1))
    path = inclusion_path(index, size, lambda lo, hi: brute(leaves[lo:hi]))
    root, leaf = brute(leaves), leaf_hash(leaves[index])
    assert verify_inclusion(leaf, index, size, path, root)
    assert not verify_inclusion(leaf_hash(b"other"), index, size, path, root)
    assert not verify_inclusion(leaf, index, size, path, leaf) or size == 1
    assert not verify_inclusion(leaf, index, size, [*path, root], root)
    if path:
        assert not verify_inclusion(leaf, index, size, path[:-1], root)
        place = chosen.draw(st.integers(0, len(path) - 1))
        bent = [*path[:place], node_hash(path[place], b""), *path[place + 1 :]]
        assert not verify_inclusion(leaf, index, size, bent, root)


@given(st.integers(1, 120), st.data())
def test_consistency(second: int, chosen: st.DataObject) -> None:
    first = chosen.draw(st.integers(1, second))
    leaves = data(second)
    path = consistency_path(first, second, lambda lo, hi: brute(leaves[lo:hi]))
    old, new = brute(leaves[:first]), brute(leaves)
    assert verify_consistency(first, second, old, new, path)
    forged = brute([b"forged", *leaves[1:first]])
    assert not verify_consistency(first, second, forged, new, path)
    assert not verify_consistency(first, second, old, forged, path)
    assert not verify_consistency(first, second, old, new, [*path, old])


def test_impossible_ranges_are_refused() -> None:
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(InputError):
            inclusion_path(index, size, lambda lo, hi: b"")
        assert not verify_inclusion(b"", index, size, [], b"")
    for first, second in ((0, 3), (4, 3)):
        with pytest.raises(InputError):
            consistency_path(first, second, lambda lo, hi: b"")
        assert not verify_consistency(first, second, b"", b"", [])


def test_the_stored_log_proves_the_same(tmp_path: Path) -> None:
    log = ReceiptLog(open_book(tmp_path / "book.db"), SetClock(), KEY, "test")
    assert tree_head(msgspec.to_builtins(log.head()), TRUSTED).root == EMPTY_ROOT.hex()
    heads = []
    for number, leaf in enumerate(data(40)):
        assert log.append(leaf) == number
        assert log.root(number + 1) == brute(data(number + 1))
        heads.append(tree_head(msgspec.to_builtins(log.head()), TRUSTED))
        assert log.head() == log.head()
    for index in range(40):
        proof = log.inclusion(index)
        path = [bytes.fromhex(step) for step in proof.path]
        assert verify_inclusion(leaf_hash(data(40)[index]), index, 40, path, bytes.fromhex(heads[-1].root))
    for first in range(1, 41):
        assert verify_growth(log.consistency(first, 40), heads[first - 1], heads[39])
        if first > 1:
            assert not verify_growth(log.consistency(first, 40), heads[first - 2], heads[39])
    with pytest.raises(InputError):
        log.consistency(1, 41)
