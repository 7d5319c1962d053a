"""Walks boosted trees over records, and sums what they are grown from: the same on an owner's node and on pooled rows.

Everything is integers or multiples of a power of two, so that no division of records among owners, and no order, changes a digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import DocumentError, InputError
from isthmus.contracts.head import SCORE_SHARE, Array, Forest, Head
from isthmus.contracts.treesums import GRADIENT_UNIT, NUMBERS, STANDING, STANDING_END, VALUE_BITS
from isthmus.kit.logits import scores_of

EDGE_SHIFT = 1 << 16
FEATURE_BITS = 17
EXACT_MAX = 1 << 52
MARGIN_MAX = 2.0**10
CURVE_MIN = 1e-16
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Features = NDArray[np.int16]


@dataclass(frozen=True)
class Nodes:
    """One tree's nodes in the order in which they were opened. feature: -1 at a leaf. edge, left: of those that ask; the right child stands
    after the left. value: of leaves."""

    feature: Ints
    edge: Ints
    left: Ints
    value: Floats

    @property
    def size(self) -> int:
        return int(self.feature.shape[0])


def packed(nodes: Nodes) -> Ints:
    """(size,) one integer a node; see contracts.head.Forest."""
    asks = (((nodes.feature << FEATURE_BITS) + nodes.edge + EDGE_SHIFT) << 1) | 1
    return np.where(nodes.feature >= 0, asks, np.rint(nodes.value * 2.0**VALUE_BITS).astype(np.int64) << 1)


def unpacked(codes: Ints, features: int) -> Nodes:
    """Inverse of `packed`. Raises InputError for nodes that are no tree over so many features."""
    inner = (codes & 1).astype(bool)
    asked = np.where(inner, codes >> 1, 0)
    feature = np.where(inner, asked >> FEATURE_BITS, -1)
    edge = np.where(inner, (asked & ((1 << FEATURE_BITS) - 1)) - EDGE_SHIFT, -1)
    left = np.where(inner, 2 * np.cumsum(inner) - 1, -1)
    value = np.where(inner, 0.0, (codes >> 1).astype(np.float64) * 2.0**-VALUE_BITS)
    whole = codes.ndim == 1 and codes.shape[0] == 2 * int(inner.sum()) + 1
    known = bool(((feature >= 0) == inner).all() and (feature < features).all())
    if not whole or not known or not bool((left[inner] > np.flatnonzero(inner)).all()):
        raise InputError("the nodes of a tree lead nowhere, or ask about features that are not there", "send the trees as they were grown")
    if float(np.abs(value).max(initial=0.0)) >= MARGIN_MAX:
        raise InputError("a leaf's value is too large to be added exactly", "send the trees as they were grown")
    return Nodes(feature, edge, left, value)


def forest_doc(loss: Literal["logistic", "squared"], base: float, trees: Sequence[Nodes]) -> Forest:
    """The document of whole trees."""
    codes = np.concatenate([packed(nodes) for nodes in trees]) if trees else np.zeros(0, dtype=np.int64)
    return Forest(loss=loss, base=base, sizes=Array.of(np.array([nodes.size for nodes in trees], dtype=np.int64)), nodes=Array.of(codes))


def trees_of(forest: Forest, features: int) -> list[Nodes]:
    """The trees of a document. Raises InputError, DocumentError."""
    sizes, codes = forest.sizes.array(), forest.nodes.array()
    fits = sizes.ndim == codes.ndim == 1 and sizes.dtype == codes.dtype == np.int64 and bool((sizes > 0).all())
    if not fits or int(sizes.sum()) != codes.shape[0] or not np.isfinite(forest.base) or abs(forest.base) >= MARGIN_MAX:
        raise InputError("the trees' tables do not belong together", "send the trees as they were grown")
    return [unpacked(part, features) for part in np.split(codes, np.cumsum(sizes)[:-1])] if len(sizes) else []


def walked(nodes: Nodes, q: Features) -> Ints:
    """(n,) the node that each record has come to. Ends, because children stand after their parent."""
    at, rows = np.zeros(q.shape[0], dtype=np.int64), np.arange(q.shape[0])
    while True:
        rows = rows[nodes.feature[at[rows]] >= 0]
        if not len(rows):
            return at
        here = at[rows]
        at[rows] = nodes.left[here] + (q[rows, nodes.feature[here]] >= nodes.edge[here])


def margins(base: float, trees: list[Nodes], q: Features) -> Floats:
    """(n,) base and the values of the leaves."""
    total = np.full(q.shape[0], base)
    for nodes in trees:
        total = total + nodes.value[walked(nodes, q)]
    return total


def probability(loss: str, score: Floats) -> Floats:
    """(n,) of a defect, by the trees' own scores; of the squared loss it may leave 0 to 1."""
    return (score + 1.0) / 2.0 if loss == "squared" else 1.0 / (1.0 + np.exp(-score))


def gradients(loss: str, score: Floats, y: NDArray[Any], w: Ints) -> Ints:
    """(n, 2) gradient and curvature of the loss at each record's score, times its weight, in 1 / GRADIENT_UNIT."""
    if loss == "squared":
        slope, curve = score - y, np.ones(len(y))
    else:
        chance = probability(loss, score)
        slope, curve = chance - (y > 0), np.maximum(chance * (1.0 - chance), CURVE_MIN)
    return np.asarray(np.rint(np.stack([slope, curve], axis=1) * GRADIENT_UNIT).astype(np.int64) * w[:, None])


def checked_cuts(cuts: Ints, features: int) -> Ints:
    """(k, 2) feature and edge, ascending. Raises InputError."""
    ordered = cuts.ndim == 2 and cuts.shape[1:] == (2,) and cuts.dtype == np.int64 and len(cuts) > 0
    if ordered:
        step = np.diff(cuts, axis=0)
        ordered = bool(((step[:, 0] > 0) | ((step[:, 0] == 0) & (step[:, 1] > 0))).all()) and int(cuts[:, 0].min()) >= 0
    if not ordered or int(cuts[:, 0].max()) >= features or int(np.abs(cuts[:, 1]).max()) >= EDGE_SHIFT:
        raise InputError("the cuts are not ascending, or of features that are not there", "send (feature, edge) pairs in order")
    return cuts


def standings(left: Ints, right: Ints, held_max: int, few: int) -> Ints:
    """An owner's standing by its own counts left and right; see contracts.treesums.STANDING."""
    parts = {
        "held_left": np.minimum(left, held_max),
        "held_right": np.minimum(right, held_max),
        "few_left": (left > 0) & (left < few),
        "few_right": (right > 0) & (right < few),
    }
    return np.asarray(sum(part.astype(np.int64) << STANDING[name] for name, part in parts.items()))


def standing_counts(standing: Ints) -> Ints:
    """(..., 4) in the order of STANDING."""
    ends = [*list(STANDING.values())[1:], STANDING_END]
    parts = [(standing >> begin) & ((1 << (end - begin)) - 1) for begin, end in zip(STANDING.values(), ends, strict=True)]
    return np.stack(parts, axis=-1)


def cut_parts(q: Features, place: Ints, nodes: int, found: Ints, cuts: Ints) -> tuple[Ints, Ints]:
    """((nodes, 3) sums of all records in each node, (nodes, cuts, 3) of those left of each cut): gradient, curvature, records. They add up
    over any pieces of the records. place: (n,) which open node a record has come to, -1 for none. found: (n, 2) of `gradients`."""
    inside = place >= 0
    place, q, found = place[inside], q[inside], found[inside]
    if int(np.abs(found).sum()) >= EXACT_MAX:
        raise InputError("the weights are too large to be added exactly", "use smaller weights")
    weights = (found[:, 0], found[:, 1], np.ones(len(place)))
    whole = np.stack([np.bincount(place, part, nodes) for part in weights], axis=1)
    left = np.zeros((nodes, len(cuts), 3))
    for feature in np.unique(cuts[:, 0]):
        own = np.flatnonzero(cuts[:, 0] == feature)
        index = place * (len(own) + 1) + np.searchsorted(cuts[own, 1], q[:, feature], side="right")
        for part, weight in enumerate(weights):
            binned = np.bincount(index, weight, nodes * (len(own) + 1)).reshape(nodes, len(own) + 1)
            left[:, own, part] = np.cumsum(binned, axis=1)[:, :-1]
    return np.rint(whole).astype(np.int64), np.rint(left).astype(np.int64)  # sums below 2^52: doubles hold them exactly


def told_cuts(whole: Ints, left: Ints, held_max: int = 1, few: int = 1) -> Ints:
    """(nodes, 1 + cuts, NUMBERS) of summed `cut_parts`: an owner's part of a round; see contracts.treesums.HistogramsParams. held_max, few:
    up to which own records are counted, and the owner's least group size."""
    result = np.zeros((whole.shape[0], 1 + left.shape[1], NUMBERS), dtype=np.int64)
    result[:, 0, :2], result[:, 1:, :2] = whole[:, :2], left[..., :2]
    counts, total = left[..., 2], whole[:, 2]
    result[:, 0, 2] = standings(total, np.zeros_like(total), held_max, few)
    result[:, 1:, 2] = standings(counts, total[:, None] - counts, held_max, few)
    return result


def cut_sums(q: Features, place: Ints, nodes: int, found: Ints, cuts: Ints, held_max: int = 1, few: int = 1) -> Ints:
    """`told_cuts` of records that are all at hand."""
    return told_cuts(*cut_parts(q, place, nodes, found, cuts), held_max, few)


# A published forest.


def share_of(forest: Forest) -> float:
    """What a head's score takes of the trees' sum: a power of two, so that it rounds nothing."""
    return SCORE_SHARE if forest.loss == "logistic" else 1.0


def checked_forest(forest: Forest, features: int) -> list[Nodes]:
    """Its trees, if every path ends in a leaf; raises DocumentError."""
    try:
        found = trees_of(forest, features)
    except InputError as error:
        raise DocumentError(error.message, error.next_step) from error
    if not found or abs(forest.base) + sum(float(np.abs(nodes.value).max()) for nodes in found) >= MARGIN_MAX:
        raise DocumentError("the trees are none, or their values are too large to be added exactly", "grow them again")
    return found


def forest_scores(forest: Forest, q: NDArray[Any]) -> Floats:
    """(n,) what the trees add to a head's score, of quantised features q (n, d): exact. Raises DocumentError."""
    return margins(forest.base, checked_forest(forest, q.shape[1]), q) * share_of(forest)


def head_scores(head: Head, q: Features) -> Floats:
    """(n,) scores of quantised features, rounded to float32 as an artefact publishes them. Raises DocumentError for a head that does not
    fit them."""
    coefficients = head.coefficients.array()
    if coefficients.shape != (q.shape[1],):
        raise DocumentError(f"the head has coefficients {coefficients.shape} for {q.shape[1]} features", "send it as it was fitted")
    total = q.astype(np.float64) @ coefficients + head.bias
    if head.forest is not None:
        total = total + forest_scores(head.forest, q).astype(np.float32).astype(np.float64)
    if head.link == "logistic":
        total = scores_of(total)
    return np.asarray(total.astype(np.float32).astype(np.float64))
