"""Discrete Gaussian noise on integers, from the system's generator: what a privacy budget adds to a sum before it leaves.

The sampler is that of Canonne, Kamath and Steinke, "The Discrete Gaussian for Differential Privacy" (NeurIPS 2020), algorithms 1 to 3, on
whole arrays. It is exact: uniform integers are rejection-sampled, and every coin of probability exp(-x) falls as exact arithmetic would let
it fall. A coin compares a uniform number, of which COIN_BITS bits are drawn at first, with exp(-x). A double knows exp(-x) to within
COIN_ERROR; when the drawn bits lie in that band, exp(-x) is worked out in long decimals and further bits are drawn until they tell. So no
probability is rounded, and the noise's tails and low digits are those that the accounting takes for granted (Mironov, "On significance of
the least significant bits for differential privacy", CCS 2012).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Source = Callable[[int], bytes]
"""How many bytes -> as many secret uniform ones."""

VARIANCE_MAX = 2.0**80
COIN_BITS = 62
COIN_ERROR = 2.0**-36
"""How far exp(-x) as a double may be from the true one, generously: x itself is known to 2^-39 up to SIGMAS_MAX sigmas."""
SIGMAS_MAX = 64.0
DIGITS_FIRST, DIGITS_MORE = 50, 30
SPARE = 3.0
"""Candidates drawn for each number that is wanted; about 0.4 of them are kept."""


def discrete_gaussian(variance: float, size: int, source: Source = os.urandom) -> Ints:
    """(size,) independent integers with probabilities proportional to exp(-x^2 / (2 variance)), exactly.

    variance: at most VARIANCE_MAX, taken as the fraction that the double is; from 2 up the numbers' own variance is that to within 10^-15.
    source: the system's generator, but in tests of the sampler itself. Raises ValueError for a variance that is not positive and finite.
    """
    if not 0 < variance <= VARIANCE_MAX:
        raise ValueError(f"a variance of {variance!r} is none that noise can have")
    exact = Fraction(variance)
    scale = math.isqrt(int(exact)) + 1
    found = np.zeros(size, dtype=np.int64)
    have = 0
    while have < size:
        drawn = _discrete_laplace(scale, int(SPARE * (size - have)) + 8, source)
        kept = drawn[_gaussian_coin(drawn, exact, scale, source)][: size - have]
        found[have : have + kept.size] = kept
        have += kept.size
    return found


def _gaussian_coin(drawn: Ints, variance: Fraction, scale: int, source: Source) -> Bools:
    """Coins of probability exp(-(|y| - variance / scale)^2 / (2 variance)): what is left of the Laplace numbers is Gaussian."""
    size = np.abs(drawn)
    centre = variance / scale

    def exact(place: int) -> Fraction:
        return (int(size[place]) - centre) ** 2 / (2 * variance)

    sigma = math.sqrt(variance)
    x = ((size.astype(np.float64) - float(centre)) / sigma) ** 2 / 2.0
    return exponential_coins(x, exact, source, trusted=size <= SIGMAS_MAX * sigma)


def _discrete_laplace(scale: int, candidates: int, source: Source) -> Ints:
    """Independent integers with probabilities proportional to exp(-|y| / scale); somewhat fewer than `candidates` of them."""
    rest = below(scale, candidates, source)
    rest = rest[exponential_coins(rest / float(scale), lambda place: Fraction(int(rest[place]), scale), source)]
    whole = np.zeros(rest.size, dtype=np.int64)
    going = np.arange(rest.size)
    while going.size:
        going = going[exponential_coins(np.ones(going.size), lambda _: Fraction(1), source)]
        whole[going] += 1
    size = rest + scale * whole
    negative = (_words(size.size, source) & np.uint64(1)).astype(bool)
    return np.asarray(np.where(negative, -size, size)[~(negative & (size == 0))], dtype=np.int64)


def exponential_coins(
    x: NDArray[np.float64], exact: Callable[[int], Fraction], source: Source, trusted: Bools | None = None, error: float = COIN_ERROR
) -> Bools:
    """(n,) coins that fall on True with probability exp(-x), exactly.

    x: doubles for which exp(-x) is right to within `error`, but where `trusted` says otherwise. exact: place -> the true x, not negative.
    """
    drawn = _words(x.size, source) >> np.uint64(64 - COIN_BITS)
    near = drawn.astype(np.float64) * 2.0**-COIN_BITS
    chance = np.exp(-x)
    heads = np.asarray(near < chance, dtype=bool)
    unclear = np.abs(near - chance) <= error
    if trusted is not None:
        unclear |= ~trusted
    for place in np.flatnonzero(unclear):
        heads[place] = _below_exp(int(drawn[place]), exact(int(place)), source)
    return heads


def _below_exp(drawn: int, x: Fraction, source: Source) -> bool:
    """Whether a uniform number that begins with the bits of `drawn` is below exp(-x); more of its bits are drawn until they tell."""
    if x == 0:
        return True
    bits, digits = COIN_BITS, DIGITS_FIRST
    while True:
        low, high = _exp_between(x, digits)
        for _ in range(16):
            if Fraction(drawn + 1, 1 << bits) <= low:
                return True
            if Fraction(drawn, 1 << bits) >= high:
                return False
            drawn, bits = (drawn << 8) | source(1)[0], bits + 8
        digits += DIGITS_MORE


def _exp_between(x: Fraction, digits: int) -> tuple[Fraction, Fraction]:
    """Fractions on both sides of exp(-x), about 10^-digits apart relative to it."""
    context = Context(prec=digits + 20)
    near = Fraction(context.exp(-context.divide(Decimal(x.numerator), Decimal(x.denominator))))
    slack = near * Fraction(int(x) + 2, 10**digits)
    return near - slack, near + slack


def below(limit: int, size: int, source: Source) -> Ints:
    """(size,) uniform on 0 ... limit - 1, without the bias of a remainder. limit: at most 2^62."""
    spare = np.uint64(64 - max(1, (limit - 1).bit_length()))
    found = np.zeros(size, dtype=np.int64)
    todo = np.arange(size)
    while todo.size:
        drawn = (_words(todo.size, source) >> spare).astype(np.int64)
        fits = drawn < limit
        found[todo[fits]] = drawn[fits]
        todo = todo[~fits]
    return found


def _words(size: int, source: Source) -> NDArray[np.uint64]:
    return np.frombuffer(source(8 * size), dtype="<u8").astype(np.uint64)
