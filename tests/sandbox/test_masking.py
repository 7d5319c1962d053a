from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import RefusedError
from isthmus.sandbox.masking import SUM_LIMIT, check_range, mask_public_hex, masked, new_mask_key, unmasked_sum

BINDING = {"job": "sha256:j", "round": "1", "roster": "sha256:r", "statistic": "moments/1"}


def masked_all(vectors: dict[str, np.ndarray], binding: dict[str, str] = BINDING) -> dict[str, np.ndarray]:
    keys = {name: new_mask_key() for name in vectors}
    publics = {name: mask_public_hex(key) for name, key in keys.items()}
    return {n: masked(v, n, keys[n], {p: k for p, k in publics.items() if p != n}, binding) for n, v in vectors.items()}


@settings(max_examples=30, deadline=None)
@given(
    st.sets(st.text("abcxyz-09", min_size=1, max_size=6), min_size=1, max_size=6),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
    st.data(),
)
def test_masks_cancel_for_any_roster_in_any_order(names: set[str], size: int, random, data: st.DataObject) -> None:
    limit = SUM_LIMIT // len(names)
    vectors = {n: np.array(data.draw(st.lists(st.integers(-limit, limit), min_size=size, max_size=size)), dtype=np.int64) for n in names}
    parts = list(masked_all(vectors).values())
    random.shuffle(parts)
    assert np.array_equal(unmasked_sum(parts), sum(vectors.values()))


def test_a_masked_vector_looks_uniform_and_never_repeats() -> None:
    zeros = {n: np.zeros(4096, dtype=np.int64) for n in ("a", "b", "c")}
    first, second = masked_all(zeros), masked_all(zeros)
    for part in first.values():
        bits = np.unpackbits(part.view(np.uint8))
        assert abs(float(bits.mean()) - 0.5) < 5 * 0.5 / np.sqrt(bits.size)
    assert not (first["a"] == second["a"]).any()


@pytest.mark.parametrize("name", list(BINDING))
def test_masks_are_bound_to_each_part(name: str) -> None:
    keys = {n: new_mask_key() for n in ("a", "b")}
    zero = np.zeros(8, dtype=np.int64)
    one = masked(zero, "a", keys["a"], {"b": mask_public_hex(keys["b"])}, BINDING)
    other = masked(zero, "b", keys["b"], {"a": mask_public_hex(keys["a"])}, {**BINDING, name: "else"})
    assert unmasked_sum([one, other]).any()


def test_missing_party_leaves_noise() -> None:
    parts = masked_all({n: np.ones(8, dtype=np.int64) for n in ("a", "b", "c")})
    assert (np.abs(unmasked_sum([parts["a"], parts["b"]]).astype(float)) > 1e6).all()


def test_low_order_key_is_refused() -> None:
    with pytest.raises(RefusedError):
        masked(np.zeros(2, dtype=np.int64), "a", new_mask_key(), {"b": "00" * 32}, BINDING)


@pytest.mark.parametrize("value", [SUM_LIMIT // 3 + 1, -(SUM_LIMIT // 3) - 1, -(1 << 63)])
def test_overflow_is_refused_before_masking(value: int) -> None:
    with pytest.raises(RefusedError) as caught:
        check_range(np.array([0, value], dtype=np.int64), 3)
    assert caught.value.clause == "overflow"
    check_range(np.array([SUM_LIMIT // 3, -(SUM_LIMIT // 3)], dtype=np.int64), 3)
