"""Records that are the same, or nearly: found by locality-sensitive hashing, so that a hundred thousand records need no square of them.

Rows and windows: Euclidean hashing of standardised values (Datar, Immorlica, Indyk and Mirrokni, "Locality-sensitive hashing scheme
based on p-stable distributions", SoCG 2004). Pictures: signs of random projections (Charikar, STOC 2002) of small grey copies less the
folder's mean picture, so that what all pictures of one camera share does not count as likeness. Texts: minima of hashed word triples
(Broder 1997). Candidates are always compared in full before they are told.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.sandbox.quality.material import Floats, Material, Table, numbers_of

SEED = 20_240_611
ROW_DISTANCE_MAX = 0.02
"""Root mean square over columns, in standard deviations, below which two rows count as nearly the same."""
ROW_COLUMNS_MIN, DISTINCT_MIN = 3, 20
ROW_TABLES, ROW_PROJECTIONS, ROW_WIDTHS = 10, 8, 8.0
PICTURE_LIKENESS_MIN, PICTURE_RATIO_MAX = 0.95, 0.2
"""Two pictures count as nearly the same where they agree so well, and the distance between them is so small a part of that to the
REFERENCE_RANK-th nearest of the pictures around them (Lowe's ratio test, IJCV 2004): cells of one module are all alike, without being
copies."""
REFERENCE_RANK, REFERENCE_NEAR, REFERENCE_DRAWN = 10, 32, 500
PICTURE_TABLES, PICTURE_BITS = 24, 18
TEXT_LIKENESS_MIN = 0.7
TEXT_BANDS, TEXT_ROWS = 20, 4
WORDS = 3
BUCKET_MAX = 64
"""Records in one bucket that are compared with one another; of more, each is compared with its neighbours in order."""
Pairs = dict[tuple[int, int], float]


@dataclass(frozen=True)
class Twins:
    """Pairs of records, the earlier first. same: whose contents are equal. near: and how alike, 0 to 1. reason: why nothing near could be
    looked for, or empty."""

    same: tuple[tuple[int, int], ...]
    near: Pairs
    reason: str = ""


def twins_of(material: Material, numeric: tuple[str, ...], other: tuple[str, ...]) -> Twins:
    """numeric, other: the table's columns of numbers, and the others that must be equal in near-duplicates."""
    same = _same(material.digests)
    copies = {later for _, later in same}
    if material.kind == "rows" and material.table is not None:
        near, reason = _near_rows(material.table, numeric, other)
    elif material.kind == "image" and material.thumbs is not None:
        near, reason = near_pictures(material.thumbs), ""
    else:
        near, reason = near_texts(material.texts), ""
    return Twins(same, {pair: v for pair, v in near.items() if pair[0] not in copies and pair[1] not in copies}, reason)


def _same(digests: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    first: dict[str, int] = {}
    found = []
    for place, digest in enumerate(digests):
        if first.setdefault(digest, place) != place:
            found.append((first[digest], place))
    return tuple(found)


def _candidates(keys: Iterable[object], order: Floats) -> Iterable[tuple[int, int]]:
    """Pairs within one bucket; of a crowded bucket, neighbours in the given order."""
    buckets: dict[object, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        buckets[key].append(place)
    for rows in buckets.values():
        if len(rows) < 2:
            continue
        if len(rows) <= BUCKET_MAX:
            yield from ((a, b) for i, a in enumerate(rows) for b in rows[i + 1 :])
            continue
        ranked = sorted(rows, key=lambda row: float(order[row]))
        for i, a in enumerate(ranked):
            yield from ((min(a, b), max(a, b)) for b in ranked[i + 1 : i + 9])


def _near_rows(table: Table, numeric: tuple[str, ...], other: tuple[str, ...]) -> tuple[Pairs, str]:
    if len(set(table.steps.tolist())) > 1:
        return {}, "windows have different numbers of steps"
    told = [name for name in numeric if name in table.cells]
    columns = {name: numbers_of(table.cells[name]) for name in told}
    wide = [name for name in told if len(np.unique(columns[name][np.isfinite(columns[name])])) >= DISTINCT_MIN]
    if len(wide) < ROW_COLUMNS_MIN:
        return {}, f"fewer than {ROW_COLUMNS_MIN} columns of numbers vary enough to tell copies from chance"
    places = table.first[:, None] + np.arange(int(table.steps[0]))
    parts = []
    for name in wide:
        values = np.where(np.isfinite(columns[name]), columns[name], np.nan)
        spread = float(np.nanstd(values)) or 1.0
        parts.append(((values - float(np.nanmean(values))) / spread)[places])
    rest = [name for name in (*told, *other) if name in table.cells and name not in wide]
    fixed = [hash(tuple(tuple(table.cells[name][r] for r in rows) for name in rest)) for rows in places.tolist()] if rest else []
    return near_rows(np.concatenate(parts, axis=1), fixed or None), ""


def near_rows(values: Floats, fixed: list[int] | None = None) -> Pairs:
    """values: (n, d) standardised, NaN where missing, which must match. fixed: what must be equal besides."""
    gone = np.isnan(values)
    filled = np.where(gone, 0.0, values)
    n, d = values.shape
    pattern = [row.tobytes() for row in np.packbits(gone, axis=1)]
    rng = np.random.default_rng(SEED)
    reach = ROW_DISTANCE_MAX * np.sqrt(d)
    order = filled @ rng.standard_normal(d)
    found: Pairs = {}
    for _ in range(ROW_TABLES):
        along = filled @ rng.standard_normal((d, ROW_PROJECTIONS)) / (ROW_WIDTHS * reach) + rng.random(ROW_PROJECTIONS)
        cells = np.floor(along).astype(np.int64)
        keys = [(cells[i].tobytes(), pattern[i], 0 if fixed is None else fixed[i]) for i in range(n)]
        for pair in _candidates(keys, order):
            if pair not in found:
                distance = float(np.sqrt(np.mean((filled[pair[0]] - filled[pair[1]]) ** 2)))
                if distance <= ROW_DISTANCE_MAX:
                    found[pair] = 1.0 - distance
    return found


def near_pictures(thumbs: NDArray[np.uint8]) -> Pairs:
    """Pairs whose grey copies, less the mean picture and each brought to one size, agree by PICTURE_LIKENESS_MIN or more."""
    n = len(thumbs)
    if n < 2:
        return {}
    flat = thumbs.reshape(n, -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    scale = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.maximum(scale, 1e-6)
    if n >= DISTINCT_MIN:
        flat -= flat.mean(axis=0)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    rng = np.random.default_rng(SEED)
    order = flat @ rng.standard_normal(flat.shape[1]).astype(np.float32)
    found: Pairs = {}
    seen: set[tuple[int, int]] = set()
    for _ in range(PICTURE_TABLES):
        bits = np.packbits(flat @ rng.standard_normal((flat.shape[1], PICTURE_BITS)).astype(np.float32) > 0, axis=1)
        for pair in _candidates([row.tobytes() for row in bits], order.astype(np.float64)):
            if pair in seen:
                continue
            seen.add(pair)
            likeness = float(flat[pair[0]] @ flat[pair[1]])
            if likeness >= PICTURE_LIKENESS_MIN:
                found[pair] = likeness
    return _standing_out(flat, found, rng.permutation(n)[:REFERENCE_DRAWN])


def _standing_out(flat: NDArray[np.float32], pairs: Pairs, drawn: NDArray[np.int64]) -> Pairs:
    """Pairs that pass the ratio test from both sides."""
    usual: dict[int, float] = {}
    for place in {place for pair in pairs for place in pair}:
        around = np.arange(max(0, place - REFERENCE_NEAR), min(len(flat), place + REFERENCE_NEAR + 1))
        others = np.setdiff1d(np.concatenate([around, drawn]), [place])
        distances = np.sort(1.0 - flat[others] @ flat[place])
        usual[place] = float(distances[min(REFERENCE_RANK, len(distances)) - 1])
    return {pair: v for pair, v in pairs.items() if 1.0 - v <= PICTURE_RATIO_MAX * min(usual[pair[0]], usual[pair[1]])}


def _shingles(text: str) -> set[int]:
    words = re.findall(r"\w+", text.casefold())
    triples = [" ".join(words[i : i + WORDS]) for i in range(max(1, len(words) - WORDS + 1))]
    return {int.from_bytes(hashlib.blake2b(triple.encode(), digest_size=4).digest()) for triple in triples}


def near_texts(texts: tuple[str, ...]) -> Pairs:
    """Pairs of texts whose word triples agree by TEXT_LIKENESS_MIN (Jaccard) or more."""
    sets = [_shingles(text) for text in texts]
    rng = np.random.default_rng(SEED)
    factors = rng.integers(0, 1 << 63, (TEXT_BANDS * TEXT_ROWS, 2), dtype=np.uint64) | np.uint64(1)
    signatures = []
    for shingles in sets:  # multiply and shift (Dietzfelbinger et al. 1997), modulo 2^64
        known = np.array(sorted(shingles), dtype=np.uint64)
        hashed = (factors[:, :1] * known + factors[:, 1:]) >> np.uint64(20)
        signatures.append(hashed.min(axis=1).tolist())
    found: Pairs = {}
    order = np.array([len(shingles) for shingles in sets], dtype=np.float64)
    for band in range(TEXT_BANDS):
        keys = [tuple(signature[band * TEXT_ROWS : (band + 1) * TEXT_ROWS]) for signature in signatures]
        for pair in _candidates(keys, order):
            if pair in found:
                continue
            a, b = sets[pair[0]], sets[pair[1]]
            likeness = len(a & b) / len(a | b)
            if likeness >= TEXT_LIKENESS_MIN:
                found[pair] = likeness
    return found
