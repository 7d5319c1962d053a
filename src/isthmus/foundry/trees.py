"""Boosted trees from summed gradient histograms: the very trees that pooled rows give.

Owners put each quantised feature into common bins. For each level of a tree, what leaves an owner is, for each open node, feature and bin,
the sum of its records' gradients and curvatures, as integers in fixed point; the exchange adds the owners' and splits. So how the records
are divided among owners changes no digit (Chen and Guestrin, "XGBoost", KDD 2016, section 3; their `hist` method grows the same trees).
Growth is level by level; of equal gains the lowest feature, then the lowest bin, is taken. The two sides are pure functions:

    owner      histograms(growth, rows) -> integers             exchange      grown(growth, total) -> growth

Bins are equal parts of the declared range, or come from one round of summed counts over fine bins, neighbours merged until each holds at
least `group_min` records of all owners together (`merged_edges`); the second tells each bin's count.

What gradient histograms reveal. They are sums over records, but many and sharp: the first tree's are counts of good and of defect in each
bin of each feature; a node deep in a tree may hold few records, and the sums of a bin with one record in it are that record's. Masks hide
an owner's part in the total and do not change what the total tells. `numbers_told` counts what leaves: for 11 features in 16 bins and 100
trees of depth 3, 246,400 numbers. One node's histograms are a statistic of `node_dimension` features, here 165, so by the dimension rule
each open node must hold four times as many records, 660. A record's curvature is at most its weight / 4 (logistic), so a plan whose
`child_weight_min` is at least `node_dimension` (weights 1) keeps the rule in every node; it may then hardly split a small roster. The rule
knows nothing of repetition: each tree tells the same records again with other weights. So with few records, and without that floor, trees
are for owners who let the exchange see sums this fine, under an agreement that says so, or for one owner's own sites.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.forest import VALUE_BITS, Forest
from isthmus.contracts.head import Array
from isthmus.contracts.sums import FEATURE_MAX, Ints

GRADIENT_UNIT = 1 << 30
BINS_MAX = 256
FINE_BINS = 256
GAIN_MIN = 1e-6
DEPTH_MAX, TREES_MAX = 10, 2000
MARGIN_MAX = 2.0**10
WEIGHT_MAX = 1 << 10
Floats = NDArray[np.float64]
Edges = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class TreePlan:
    """How trees are grown. rate: each leaf's share. l2: added to a leaf's curvature. child_weight_min: least curvature on each side of a
    split. edges: for each feature, ascending whole numbers; bin b holds values from edges[b - 1] up to below edges[b]."""

    edges: Edges
    trees: int
    depth: int
    rate: float = 0.1
    l2: float = 1.0
    child_weight_min: float = 1.0
    loss: Literal["logistic", "squared"] = "logistic"

    @property
    def starts(self) -> Ints:
        """(features + 1,) where each feature's bins begin in a node's histogram, and its length."""
        return np.cumsum([0, *(len(edges) + 1 for edges in self.edges)])


def checked_plan(plan: TreePlan) -> TreePlan:
    """The plan if trees can be grown by it; raises InputError."""
    if not (1 <= plan.trees <= TREES_MAX and 1 <= plan.depth <= DEPTH_MAX):
        raise InputError(f"{plan.trees} trees of depth {plan.depth} were asked for", f"use up to {TREES_MAX} of depth up to {DEPTH_MAX}")
    numbers = (plan.rate, plan.l2, plan.child_weight_min)
    if not all(math.isfinite(number) for number in numbers) or not 0 < plan.rate <= 1 or plan.l2 < 0 or plan.child_weight_min <= 0:
        raise InputError("the rate, l2 or least child weight cannot be used", "use 0 < rate <= 1, l2 >= 0 and a least child weight above 0")
    sorted_up = all(list(edges) == sorted(set(edges)) for edges in plan.edges)
    most = max((len(edges) for edges in plan.edges), default=0) + 1
    if not sorted_up or not 2 <= most <= BINS_MAX:
        raise InputError("the bins of trees cannot be used", f"give ascending edges, 2 to {BINS_MAX} bins for at least one feature")
    return plan


def equal_edges(features: int, bins: int) -> Edges:
    """Equal parts of the public range, the same for each feature."""
    if not 2 <= bins <= BINS_MAX:
        raise InputError(f"{bins} bins were asked for", f"use 2 to {BINS_MAX}")
    return (tuple(int(v) for v in np.ceil(np.linspace(-FEATURE_MAX, FEATURE_MAX + 1, bins + 1)[1:-1])),) * features


def fine_counts(q: NDArray[np.int16], edges: Edges) -> Ints:
    """(features, FINE_BINS) records in each of the fine equal bins: the owner's part of the round that chooses bins."""
    binned = binned_rows(q, edges)
    return np.stack([np.bincount(column, minlength=FINE_BINS) for column in binned.T]).astype(np.int64)


def merged_edges(counts: Ints, group_min: int, bins: int) -> Edges:
    """Neighbouring fine bins merged until each holds at least `group_min` records and about a share 1 / bins of all.

    counts: (features, FINE_BINS) of all owners. What is left over at the upper end joins the last bin.
    """
    fine = equal_edges(1, counts.shape[1])[0]
    result = []
    for row in counts:
        goal = max(group_min, math.ceil(int(row.sum()) / bins))
        held, left, found = 0, int(row.sum()), []
        for place, count in enumerate(row[:-1]):
            held, left = held + int(count), left - int(count)
            if held >= goal and left >= group_min and left > 0:
                found.append(fine[place])
                held = 0
        result.append(tuple(found))
    return tuple(result)


def binned_rows(q: NDArray[np.int16], edges: Edges) -> NDArray[np.uint8]:
    """(n, d) features -> (n, d) bins. Raises InputError when there are not as many features as edges."""
    if q.ndim != 2 or q.shape[1] != len(edges):
        raise InputError(f"the features are {q.shape}, the bins are for {len(edges)}", "use the features that the plan was made for")
    result = np.empty(q.shape, dtype=np.uint8)
    for place, row in enumerate(edges):
        result[:, place] = np.searchsorted(np.array(row, dtype=np.int64), q[:, place], side="right")
    return result


@dataclass(frozen=True)
class Tree:
    """Nodes in the order they were opened, root first. feature, edge, left, right, value as in contracts.forest. bin: a record goes left
    when its bin is at most this."""

    feature: Ints
    bin: Ints
    edge: Ints
    left: Ints
    right: Ints
    value: Floats


def _tree(columns: Sequence[Sequence[int]], value: Sequence[float]) -> Tree:
    feature, bins, edge, left, right = (np.array(column, dtype=np.int64) for column in columns)
    return Tree(feature, bins, edge, left, right, np.array(value, dtype=np.float64))


ROOT = _tree([[-1]] * 5, [0.0])


@dataclass(frozen=True)
class Growth:
    """How far a forest is. grown: whole trees. tree: the one that is growing. open: its nodes that wait for histograms, ascending."""

    plan: TreePlan
    base: float
    grown: tuple[Tree, ...] = ()
    tree: Tree = ROOT
    open: tuple[int, ...] = (0,)

    @property
    def done(self) -> bool:
        return len(self.grown) == self.plan.trees

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the histograms that are asked for next: (open nodes, bins of all features in turn, 2); gradient first."""
        return (len(self.open), int(self.plan.starts[-1]), 2)


def start(plan: TreePlan, sum_w: int, sum_wy: float) -> Growth:
    """The forest before its first tree. sum_w, sum_wy: of all records, y as in `Rows`; both are in any fit's moments.

    Raises InputError when the plan cannot be used, or records of only one class are given to the logistic loss.
    """
    if not sum_w > 0:
        raise InputError("there is nothing to fit on: the sums hold no record", "check the owners' folders and the split")
    mean = float(sum_wy) / float(sum_w)
    if checked_plan(plan).loss == "squared":
        return Growth(plan, _snapped(mean))
    if not abs(mean) < 1:
        raise InputError("all records are of one class, so no model can be fitted", "give examples of good and of defect")
    return Growth(plan, _snapped(math.log((1.0 + mean) / (1.0 - mean))))


def _snapped(value: float) -> float:
    return round(value * 2.0**VALUE_BITS) * 2.0**-VALUE_BITS


def _walked(tree: Tree, binned: NDArray[np.uint8]) -> Ints:
    """(n,) the node that each record has come to."""
    at = np.zeros(binned.shape[0], dtype=np.int64)
    rows = np.arange(binned.shape[0])
    while True:
        moving = rows[tree.feature[at[rows]] >= 0]
        if not len(moving):
            return at
        here = at[moving]
        goes_left = binned[moving, tree.feature[here]] <= tree.bin[here]
        at[moving] = np.where(goes_left, tree.left[here], tree.right[here])
        rows = moving


@dataclass
class Rows:
    """An owner's records. binned: (n, d) of `binned_rows`. y: (n,) -1 or +1 for the logistic loss, numbers in -1..1 for the squared.
    w: (n,) positive whole weights. Scores of whole trees are kept, so that each is walked once."""

    binned: NDArray[np.uint8]
    y: Floats
    w: Ints
    _known: tuple[Tree, ...] = field(default=(), repr=False)
    _scores: Floats | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        least, most = int(self.w.min(initial=1)), int(self.w.max(initial=1))
        if not len(self.y) == len(self.w) == len(self.binned) or least < 1 or most > WEIGHT_MAX or np.abs(self.y).max(initial=0) > 1:
            raise InputError("the records' labels or weights cannot be used", f"give labels in -1..1 and weights from 1 to {WEIGHT_MAX}")

    def scores(self, growth: Growth) -> Floats:
        """(n,) by the whole trees."""
        kept = len(self._known)
        same = self._scores is not None and all(a is b for a, b in zip(self._known, growth.grown, strict=False))
        if not same or kept > len(growth.grown) or kept == 0:
            self._known, self._scores = (), np.full(len(self.y), growth.base)
        total = np.asarray(self._scores)
        for tree in growth.grown[len(self._known) :]:
            total = total + tree.value[_walked(tree, self.binned)]
        self._known, self._scores = growth.grown, total
        return total


def gradients(growth: Growth, rows: Rows) -> Ints:
    """(n, 2) gradient and curvature of the loss at each record's score, times its weight, in 1 / GRADIENT_UNIT."""
    scores = rows.scores(growth)
    if growth.plan.loss == "squared":
        slope, curve = scores - rows.y, np.ones(len(rows.y))
    else:
        chance = 1.0 / (1.0 + np.exp(-scores))
        slope, curve = chance - (rows.y > 0), np.maximum(chance * (1.0 - chance), 1e-16)
    return np.asarray(np.rint(np.stack([slope, curve], axis=1) * GRADIENT_UNIT).astype(np.int64) * rows.w[:, None])


def histograms(growth: Growth, rows: Rows) -> Ints:
    """The owner's part of a round: `growth.shape` integers, sums of `gradients` over its records in each open node and bin."""
    nodes, bins, _ = growth.shape
    features, starts = len(growth.plan.edges), growth.plan.starts[:-1]
    place = np.full(len(growth.tree.feature), -1, dtype=np.int64)
    place[list(growth.open)] = np.arange(nodes)
    node = place[_walked(growth.tree, rows.binned)]
    inside = node >= 0
    node, binned, found = node[inside], rows.binned[inside], gradients(growth, rows)[inside]
    index = (node[:, None] * bins + starts + binned).reshape(-1)
    # Sums stay below 2^53 (checked in `grown`), so doubles hold them exactly.
    parts = [np.bincount(index, weights=np.repeat(found[:, part], features), minlength=nodes * bins) for part in range(2)]
    return np.rint(np.stack(parts, axis=1)).astype(np.int64).reshape(nodes, bins, 2)


def node_dimension(plan: TreePlan) -> int:
    """How many features one open node's histograms are a statistic of: a record falls into one bin of each feature."""
    return sum(len(edges) for edges in plan.edges)


def numbers_told(growth: Growth) -> int:
    """Numbers in the histograms of a whole forest, told so far."""
    per_node = int(growth.plan.starts[-1]) * 2
    trees = [*growth.grown, *([growth.tree] if growth.tree is not ROOT else [])]
    return per_node * sum(_opened(tree, growth.plan.depth) for tree in trees)


def _opened(tree: Tree, depth_max: int) -> int:
    """Nodes above the last level: each had histograms."""
    depth = np.zeros(len(tree.feature), dtype=np.int64)
    for node in range(len(tree.feature)):
        if tree.feature[node] >= 0:
            depth[[tree.left[node], tree.right[node]]] = depth[node] + 1
    return int((depth < depth_max).sum())


def _score_of(gradient: Floats, curve: Floats, l2: float) -> Floats:
    return np.asarray(gradient * gradient / (curve + l2))


def _best_split(sums: Floats, plan: TreePlan) -> tuple[float, int, int]:
    """(gain, feature, bin) of one node's histograms (bins, 2); of equal gains the lowest feature, then the lowest bin."""
    starts, size = plan.starts, np.diff(plan.starts)
    run = np.cumsum(sums, axis=0)
    left = run - np.repeat(run[starts[:-1]] - sums[starts[:-1]], size, axis=0)
    total = left[starts[1] - 1]
    right = total - left
    enough = (left[:, 1] >= plan.child_weight_min) & (right[:, 1] >= plan.child_weight_min)
    enough[starts[1:] - 1] = False
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = _score_of(left[:, 0], left[:, 1], plan.l2) + _score_of(right[:, 0], right[:, 1], plan.l2)
        gain = parts - _score_of(total[0], total[1], plan.l2)
    gain = np.where(enough, gain, -1.0).astype(np.float32)  # near ties are ties, as in single precision
    best = int(gain.argmax())
    feature = int(np.searchsorted(starts, best, side="right")) - 1
    return float(gain[best]), feature, best - int(starts[feature])


def _leaf(gradient: float, curve: float, plan: TreePlan) -> float:
    return _snapped(-plan.rate * gradient / (curve + plan.l2)) if curve + plan.l2 > 0 else 0.0


def grown(growth: Growth, total: Ints) -> Growth:
    """The exchange's part of a round: open nodes are split or become leaves; at the last level the tree is whole and the next begins.

    total: the owners' histograms, added. Raises InputError when they do not fit the growth.
    """
    plan = growth.plan
    if total.shape != growth.shape or growth.done:
        raise InputError(f"histograms of shape {total.shape} came, {growth.shape} were asked for", "send the round that was asked for")
    starts = plan.starts
    whole = np.add.reduceat(total, starts[:-1], axis=1)
    if int(whole[..., 1].max(initial=0)) >= 1 << 52:
        raise InputError("the histograms hold more records than can be added exactly", "use smaller weights")
    sums = total.astype(np.float64) / GRADIENT_UNIT
    parts = [growth.tree.feature, growth.tree.bin, growth.tree.edge, growth.tree.left, growth.tree.right]
    feature, bins, edge, left, right = (part.tolist() for part in parts)
    value = growth.tree.value.tolist()
    opened: list[int] = []
    last = _level(growth) == plan.depth - 1
    for place, node in enumerate(growth.open):
        if not (whole[place] == whole[place, 0]).all():
            raise InputError("the histograms belong to no records: their features' sums differ", "run the round again; a share was damaged")
        gain, best, cut = _best_split(sums[place], plan)
        gradient, curve = whole[place, 0] / GRADIENT_UNIT
        if not gain > GAIN_MIN:
            value[node] = _leaf(gradient, curve, plan)
            continue
        begin, middle, end = starts[best], starts[best] + cut + 1, starts[best + 1]
        sides = sums[place, begin:middle].sum(axis=0), sums[place, middle:end].sum(axis=0)
        feature[node], bins[node], edge[node] = best, cut, plan.edges[best][cut]
        left[node], right[node] = len(feature), len(feature) + 1
        for side in sides:
            for column in (feature, bins, edge, left, right):
                column.append(-1)
            value.append(_leaf(side[0], side[1], plan))
        opened += [left[node], right[node]]
    tree = _tree((feature, bins, edge, left, right), value)
    if last or not opened:
        return replace(growth, grown=(*growth.grown, _closed(tree)), tree=ROOT, open=(0,))
    return replace(growth, tree=tree, open=tuple(opened))


def _closed(tree: Tree) -> Tree:
    return replace(tree, value=np.where(tree.feature >= 0, 0.0, tree.value))


def _level(growth: Growth) -> int:
    """Of the open nodes; the root's is 0."""
    parent = {int(child): node for node, children in enumerate(zip(growth.tree.left, growth.tree.right, strict=True)) for child in children}
    node, level = growth.open[0], 0
    while node != 0:
        node, level = parent[node], level + 1
    return level


def grow(first: Growth, owners: Sequence[Rows], heard: Callable[[Growth], None] | None = None) -> Growth:
    """A whole forest from owners in this process. heard: called after each tree."""
    growth = first
    while not growth.done:
        trees = len(growth.grown)
        growth = grown(growth, np.sum([histograms(growth, rows) for rows in owners], axis=0))
        if heard is not None and len(growth.grown) > trees:
            heard(growth)
    return growth


def forest_of(growth: Growth) -> Forest:
    """The whole trees as a document. Raises InputError when scores could leave what is exact."""
    starts = np.cumsum([0, *(len(tree.feature) for tree in growth.grown)])
    if abs(growth.base) + sum(float(np.abs(tree.value).max()) for tree in growth.grown) >= MARGIN_MAX:
        raise InputError("the trees' values are too large to be added exactly", "use a larger l2 or fewer trees")

    def joined(name: str, shift: bool = False) -> Array:
        parts = [np.asarray(getattr(tree, name)) for tree in growth.grown]
        moved = [np.where(part >= 0, part + start, -1) if shift else part for part, start in zip(parts, starts, strict=False)]
        return Array.of(np.concatenate(moved) if moved else np.zeros(0, dtype=np.int64))

    return Forest(
        loss=growth.plan.loss,
        base=growth.base,
        roots=Array.of(starts[:-1].astype(np.int64)),
        feature=joined("feature"),
        edge=joined("edge"),
        left=joined("left", shift=True),
        right=joined("right", shift=True),
        value=joined("value"),
    )


def forest_scores(forest: Forest, q: NDArray[Any]) -> Floats:
    """(n,) scores of quantised features (n, d): exact sums."""
    feature, edge, left, right = (part.array() for part in (forest.feature, forest.edge, forest.left, forest.right))
    value, total, rows = forest.value.array(), np.full(q.shape[0], forest.base), np.arange(q.shape[0])
    for root in forest.roots.array():
        at = np.full(q.shape[0], int(root))
        while (feature[at] >= 0).any():
            asked = np.maximum(feature[at], 0)
            at = np.where(feature[at] < 0, at, np.where(q[rows, asked] < edge[at], left[at], right[at]))
        total = total + value[at]
    return total
