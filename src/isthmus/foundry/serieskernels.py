"""Which kernels and mixtures the features of a series are made with. All of it is public: fixed, or drawn from a seed; nothing is data.

Kernels: Dempster, Schmidt and Webb, "MiniRocket" (KDD 2021): the 84 kernels of length 9 with three weights 2 and six weights -1, dilated,
every other one padded; the feature is the share of positions whose response exceeds a bias. There the biases are quantiles of the
responses to training records. Here they are quantiles of the responses to drawn series, as training records are somebody's. Responses are
measured in the window's own standard deviations, so that a bias fits whatever part of its declared range a column uses.

Draws use the raw 64-bit numbers of PCG64, whose stream numpy guarantees, so that every node draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.seriesparts import KERNEL_STEPS

KERNELS = tuple(combinations(range(KERNEL_STEPS), 3))
"""Positions of the weights 2, for each kernel."""
SEED, MIXTURE_SEED = 20211, 20212
DRAWN, BURN_IN = 48, 64
BIAS_GRID = 256.0
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
KERNEL_STRIDE, CHANNEL_STRIDE = 37, 1
"""Going through the 84 kernels by a stride without a common divisor, so that few kernels are unlike each other."""
MIXED, MIXTURE_WEIGHT_MAX = 3, 8
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """One feature: which weights, how far apart, on which number column, padded or not, and above how many of the window's deviations."""

    twos: tuple[int, ...]
    dilation: int
    padded: bool
    channel: int
    bias: float

    def weights(self) -> Floats:
        """(9,): 2 and -1, which sum to zero: the window's level does not matter."""
        found = np.full(KERNEL_STEPS, -1.0)
        found[list(self.twos)] = 2.0
        return found


def dilations(steps: int) -> tuple[int, ...]:
    """1, 2, 4 … while a kernel fits into the window."""
    most = (steps - 1) // (KERNEL_STEPS - 1)
    return tuple(2**k for k in range(max(1, most.bit_length())) if 2**k <= most)


def _uniform(generator: np.random.PCG64, count: int) -> Floats:
    """(count,) in [-1, 1)."""
    raw = np.asarray(generator.random_raw(count), dtype=np.uint64) >> np.uint64(11)
    return raw.astype(np.float64) * 2.0**-52 - 1.0


def _drawn(generator: np.random.PCG64, kind: int, steps: int) -> Floats:
    """(steps,) of one of six kinds: noise, a walk, noise that lasts, a swing, levels, showers that run off."""
    total = steps + BURN_IN
    noise, rare = _uniform(generator, total) + _uniform(generator, total), _uniform(generator, total)
    keep, again = ((0.0, 0.0), (1.0, 0.0), (0.8, 0.0), (1.6, -0.9), (1.0, 0.0), (0.85, 0.0))[kind]
    shock = noise if kind < 4 else np.where(rare > 0.9, noise if kind == 4 else np.abs(noise), 0.0)
    found = np.zeros(total)
    for t in range(total):
        found[t] = keep * found[t - 1] + again * found[t - 2] + shock[t] if t > 1 else shock[t]
    return found[BURN_IN:] + (0.05 * noise[BURN_IN:] if kind > 3 else 0.0)


@cache
def drawn_series(steps: int) -> Floats:
    """(DRAWN, steps), each of mean 0 and standard deviation 1."""
    generator = np.random.PCG64(SEED)
    found = np.stack([_drawn(generator, index % 6, steps) for index in range(DRAWN)])
    found = found - found.mean(axis=1, keepdims=True)
    return np.asarray(found / np.maximum(found.std(axis=1, keepdims=True), 1e-9))


def responses(series: Floats, weights: Floats, dilation: int, padded: bool) -> Floats:
    """(n, positions): the kernel along (n, steps)."""
    reach = dilation * (KERNEL_STEPS - 1)
    rows = np.pad(series, ((0, 0), (reach // 2, reach // 2))) if padded else series
    positions = rows.shape[1] - reach
    return np.asarray(sum(w * rows[:, k * dilation : k * dilation + positions] for k, w in enumerate(weights)))


@cache
def kernels(steps: int, channels: int, count: int) -> tuple[Kernel, ...]:
    """The first `count` of a fixed sequence; each column gets its share of kernels and dilations."""
    spread, series, found = dilations(steps), drawn_series(steps), []
    for place in range(count):
        turn = place // channels
        dilation, padded = spread[turn % len(spread)], (turn // len(spread)) % 2 == 0
        plain = Kernel(KERNELS[(place * KERNEL_STRIDE) % len(KERNELS)], dilation, padded, place % channels, 0.0)
        level = (0.5 + place * GOLDEN) % 1.0
        answer = np.sort(responses(series, plain.weights(), dilation, padded).reshape(-1))
        bias = np.round(answer[int(level * (len(answer) - 1))] * BIAS_GRID) / BIAS_GRID
        found.append(Kernel(plain.twos, dilation, padded, plain.channel, float(bias)))
    return tuple(found)


def mixtures(inputs: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(weights (inputs, count), offsets (count,)): each mixture has up to MIXED inputs with whole weights, and an offset in units of the
    range times weight, in 1/1024."""
    generator = np.random.PCG64(MIXTURE_SEED)
    weights, offsets = np.zeros((inputs, count), dtype=np.int64), np.zeros(count, dtype=np.int64)
    for place in range(count):
        raw = _uniform(generator, 2 * MIXED + 1)
        for k in range(MIXED):
            chosen = min(inputs - 1, int((raw[2 * k] + 1.0) / 2.0 * inputs))
            weights[chosen, place] += int(np.rint(raw[2 * k + 1] * MIXTURE_WEIGHT_MAX))
        if not weights[:, place].any():
            weights[place % inputs, place] = MIXTURE_WEIGHT_MAX
        offsets[place] = int(np.rint(raw[-1] * 256.0))
    return weights, offsets
