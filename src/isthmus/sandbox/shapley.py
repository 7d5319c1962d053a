"""Shapley values of owners from coalitions' losses, in whole numbers: the same split for whoever recomputes it. Pure.

Shapley (1953): an owner's value is what it adds to the coalition before it, averaged over all orders of the owners. Losses are integers, so
numerators over one denominator are exact. Drawn orders: the mean over them, with the empirical Bernstein bound of Maurer and Pontil (2009).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.contribution import WEIGHT_TOTAL

Floats = NDArray[np.float64]
DRAW_BYTES = 8


@dataclass(frozen=True)
class Values:
    """numerators, by owner, over one positive denominator, in units of a loss."""

    numerators: tuple[int, ...]
    denominator: int


def all_coalitions(owners: int) -> list[int]:
    """Every mask but the empty one, ascending."""
    return list(range(1, 1 << owners))


def exact_values(losses: Mapping[int, int], owners: int) -> Values:
    """losses: of every mask, 0 (the prior) included. The denominator is owners!. Raises KeyError when a coalition is missing."""
    factorial = [math.factorial(k) for k in range(owners + 1)]
    weight = [factorial[k] * factorial[owners - k - 1] for k in range(owners)]
    found = [0] * owners
    for mask in range(1 << owners):
        for owner in range(owners):
            bit = 1 << owner
            if not mask & bit:
                found[owner] += weight[mask.bit_count()] * (losses[mask] - losses[mask | bit])
    return Values(tuple(found), factorial[owners])


def drawn_orders(seed: str, owners: int, count: int) -> list[tuple[int, ...]]:
    """Orders of the owners that follow from the seed: Fisher and Yates' shuffle on SHA-256 in counter mode, without a bias."""
    stream = _numbers(seed)
    found = []
    for _ in range(count):
        order = list(range(owners))
        for last in range(owners - 1, 0, -1):
            place = _below(stream, last + 1)
            order[last], order[place] = order[place], order[last]
        found.append(tuple(order))
    return found


def _numbers(seed: str) -> Iterator[int]:
    counter = 0
    while True:
        block = hashlib.sha256(f"isthmus-orders/1 {seed} {counter}".encode()).digest()
        yield from (int.from_bytes(block[at : at + DRAW_BYTES], "big") for at in range(0, len(block), DRAW_BYTES))
        counter += 1


def _below(stream: Iterator[int], most: int) -> int:
    """A number from 0 to most - 1, each as likely."""
    limit = (1 << 8 * DRAW_BYTES) // most * most
    return next(number % most for number in stream if number < limit)


def drawn_coalitions(orders: Sequence[Sequence[int]]) -> list[int]:
    """Every mask but the empty one that some order goes through, ascending."""
    found = set()
    for order in orders:
        mask = 0
        for owner in order:
            mask |= 1 << owner
            found.add(mask)
    return sorted(found)


def _steps(losses: Mapping[int, int], orders: Sequence[Sequence[int]], owners: int) -> list[list[int]]:
    """What each owner adds in each order: owners lists of len(orders)."""
    found: list[list[int]] = [[] for _ in range(owners)]
    for order in orders:
        mask = 0
        for owner in order:
            found[owner].append(losses[mask] - losses[mask | 1 << owner])
            mask |= 1 << owner
    return found


def drawn_values(losses: Mapping[int, int], orders: Sequence[Sequence[int]], owners: int) -> Values:
    """The mean over orders. The denominator is their number. Raises KeyError when a coalition is missing."""
    return Values(tuple(sum(steps) for steps in _steps(losses, orders, owners)), len(orders))


def drawn_errors(losses: Mapping[int, int], orders: Sequence[Sequence[int]], owners: int, most: int, confidence: float) -> list[float]:
    """By how much each drawn value may be off, in units of a loss, with `confidence` for all owners together: sqrt(2 V L / m) +
    7 R L / (3 (m - 1)), L = ln(4 n / (1 - confidence)). most: the largest loss there can be, so that one step lies within +-most."""
    count, spread = len(orders), 2.0 * most
    term = math.log(4 * owners / (1 - confidence))
    found = []
    for steps in _steps(losses, orders, owners):
        variance = float(np.var(np.array(steps, dtype=np.float64), ddof=1))
        found.append(math.sqrt(2 * variance * term / count) + 7 * spread * term / (3 * (count - 1)))
    return found


def weights_of(values: Values, rows: Sequence[int]) -> tuple[tuple[int, ...], bool]:
    """(weights that sum to WEIGHT_TOTAL exactly, whether they are by rows). Negative values count as nothing; with none above nothing, or
    without rows either, the weights are by rows, or equal. The largest remainders get what rounding leaves, the first owner first."""
    kept = [max(0, numerator) for numerator in values.numerators]
    by_rows = not any(kept)
    if by_rows:
        kept = list(rows) if any(rows) else [1] * len(kept)
    total = sum(kept)
    exact = [divmod(part * WEIGHT_TOTAL, total) for part in kept]
    left = WEIGHT_TOTAL - sum(whole for whole, _ in exact)
    first = frozenset(sorted(range(len(exact)), key=lambda place: -exact[place][1])[:left])
    return tuple(whole + (place in first) for place, (whole, _) in enumerate(exact)), by_rows


def value_matrix(masks: Sequence[int], owners: int, orders: Sequence[Sequence[int]] | None) -> Floats:
    """(owners, 1 + masks): values are this times (prior's loss, losses), for many losses at once. orders: None where every coalition is
    there."""
    place = {0: 0, **{mask: index for index, mask in enumerate(masks, start=1)}}
    found = np.zeros((owners, len(place)))
    if orders is None:
        for mask in range(1 << owners):
            size = mask.bit_count()
            for owner in range(owners):
                if not mask >> owner & 1:
                    weight = 1.0 / (owners * math.comb(owners - 1, size))
                    found[owner, place[mask]] += weight
                    found[owner, place[mask | 1 << owner]] -= weight
        return found
    for order in orders:
        mask = 0
        for owner in order:
            found[owner, place[mask]] += 1.0 / len(orders)
            mask |= 1 << owner
            found[owner, place[mask]] -= 1.0 / len(orders)
    return found


def share_intervals(matrix: Floats, losses: Floats, draws: int, confidence: float, seed: int) -> list[tuple[float, float]]:
    """Intervals of the owners' shares when the parts of the held-out records are drawn anew, with replacement (percentile bootstrap over
    clusters, Efron 1979). losses: (parts, 1 + masks), the prior's first. A draw without any positive value has no shares: left out."""
    rng = np.random.default_rng(seed)
    parts = losses.shape[0]
    counts = rng.multinomial(parts, np.full(parts, 1.0 / parts), size=draws).astype(np.float64)
    values = np.maximum(counts @ (losses @ matrix.T), 0.0)
    totals = values.sum(axis=1)
    shares = values[totals > 0] / totals[totals > 0, None]
    if not len(shares):
        return [(0.0, 1.0)] * matrix.shape[0]
    tail = (1 - confidence) / 2
    return [(float(low), float(high)) for low, high in zip(*np.quantile(shares, (tail, 1 - tail), axis=0), strict=True)]
