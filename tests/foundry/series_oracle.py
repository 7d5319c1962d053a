"""The features of one window, written once more with plain numpy, from the parts' descriptions alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.schema import Schema
from isthmus.foundry.serieskernels import kernels, mixtures

TOP = 32767


def whole_numbers(schema: Schema, record: NDArray[np.float32]) -> NDArray[np.int64]:
    """(steps, numbers): missing filled, clipped, scaled."""
    found = []
    for place, column in enumerate(schema.columns):
        if column.kind != "number":
            continue
        see = math.log if column.log else float
        low, high = see(column.low), see(column.high)
        values, last = [], (low + high) / 2
        for value in record[:, place].astype(float):
            if not math.isnan(value):
                last = see(min(max(value, column.low), column.high))
            values.append(round((last - (low + high) / 2) * 2 * TOP / (high - low)))
        found.append(values)
    return np.array(found, dtype=np.int64).T


def summary(x: NDArray[np.int64]) -> NDArray[np.float64]:
    t = np.arange(len(x))
    slope = np.array([np.polyfit(t, column, 1)[0] for column in x.T])
    rows = [x.mean(0), 2 * x.std(0) - TOP, x.min(0), x.max(0), slope * (len(x) - 1) / 2, (x[-1] - x.mean(0)) / 2]
    return np.concatenate(rows)


def memory(x: NDArray[np.int64], half_life: int) -> NDArray[np.float64]:
    weights = 0.5 ** (np.arange(len(x))[::-1] / half_life)
    return np.asarray(weights @ x / weights.sum())


def hinges(x: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    seen = np.concatenate([x[-1], np.rint(memory(x, 2)), np.rint(memory(x, 8))])
    weights, offsets = mixtures(len(seen), count)
    size = np.abs(weights).sum(0)
    return np.asarray(np.minimum(np.maximum(seen @ weights / size - offsets * TOP / 1024, 0.0) * 1.6 - TOP, TOP))


def changes(x: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    jumps = [x[t : t + width].mean(0) - x[t - width : t].mean(0) for t in range(width, len(x) - width + 1)]
    return np.concatenate([jumps[-1] / 2, np.abs(jumps).max(0) - TOP])


def kernel_shares(x: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    found = []
    for kernel in kernels(len(x), x.shape[1], count):
        column = x[:, kernel.channel].astype(float)
        row = column - np.rint(column.mean())
        if kernel.padded:
            row = np.pad(row, 4 * kernel.dilation)
        positions = len(row) - 8 * kernel.dilation
        taps = [2.0 if k in kernel.twos else -1.0 for k in range(9)]
        answers = [sum(w * row[t + k * kernel.dilation] for k, w in enumerate(taps)) for t in range(positions)]
        limit = kernel.bias * max(column.std(), 32.0)
        found.append((2.0 * np.mean(np.array(answers) > limit) - 1.0) * TOP)
    return np.array(found)


def levels(schema: Schema, record: NDArray[np.float32]) -> NDArray[np.float64]:
    found: list[Any] = []
    for place, column in enumerate(schema.columns):
        if column.kind == "category":
            found += [(2.0 * np.mean(record[:, place] == code) - 1.0) * TOP for code in range(len(column.levels))]
    return np.array(found)
