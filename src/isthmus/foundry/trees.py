"""Boosted trees from summed gradient histograms: the very trees that pooled rows give.

For each level of a tree, what leaves an owner is, for each open node and each cut that may be asked, the sum of its records' gradients and
curvatures on the left of it, as integers in fixed point; the exchange adds the owners' and splits. So how the records are divided among
owners changes no digit (Chen and Guestrin, "XGBoost", KDD 2016, section 3; their `hist` method grows the same trees). Growth is level by
level; of equal gains the lowest feature, then the lowest edge, is taken. The two sides are pure functions:

    owner      histograms(growth, rows) -> integers             exchange      grown(growth, total) -> growth

Cuts are equal parts of the declared range, or come from one round of summed counts (`merged_edges`), or are drawn anew for each tree
(`drawn_edges`): few at a time, so that one node's sums are a statistic of few features, and many over all trees, so that they are fine
(Geurts, Ernst, Wehenkel, "Extremely randomized trees", 2006).

What gradient histograms reveal. They are sums over records, but many and sharp: the first tree's are counts of good and of defect left of
each cut; a node deep in a tree may hold few records. Masks hide an owner's part in the total and do not change what the total tells. One
node's sums are a statistic of `node_dimension` features, so by the dimension rule each open node must hold that many times the agreed
ratio, with the largest owner set aside. A plan with `owners_min` 2 keeps that in every node, by the owners' own word: a cut is only
taken where on each side as many records stand with the largest owner set aside, and no owner with fewer than its least group size. The rule
knows nothing of repetition: each tree tells the same records again with other weights (`numbers_told`); bench/tree_leak.py attacks that.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import InputError
from isthmus.contracts.head import Forest
from isthmus.contracts.sums import FEATURE_MAX, Ints
from isthmus.contracts.treesums import GRADIENT_UNIT, NUMBERS, VALUE_BITS
from isthmus.kit.treewalk import (
    EXACT_MAX,
    MARGIN_MAX,
    Features,
    Nodes,
    cut_sums,
    forest_doc,
    gradients,
    standing_counts,
    walked,
)

BINS_MAX = 256
FINE_BINS = 256
GAIN_MIN = 1e-6
DEPTH_MAX, TREES_MAX = 10, 2000
WEIGHT_MAX = 1 << 10
SPREAD = 3.0
Floats = NDArray[np.float64]
Edges = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class TreePlan:
    """How trees are grown. rate: each leaf's share. l2: added to a leaf's curvature. child_weight_min: least curvature on each side of a
    split. edges: for each feature, ascending whole numbers; bin b holds values from edges[b - 1] up to below edges[b]. drawn: edges of each
    tree, instead. owners_min, owner_records_min: so many times so many records must stand on each side of a split, each owner's counted up
    to the latter; with 2, that many remain with the largest owner set aside.
    """

    trees: int
    depth: int
    edges: Edges = ()
    drawn: tuple[Edges, ...] = ()
    rate: float = 0.1
    l2: float = 1.0
    child_weight_min: float = 1.0
    loss: Literal["logistic", "squared"] = "logistic"
    owners_min: int = 0
    owner_records_min: int = 1

    @property
    def held_min(self) -> int:
        """Records that must stand on each side of a split, each owner's counted up to `owner_records_min`."""
        return self.owners_min * self.owner_records_min

    def edges_of(self, tree: int) -> Edges:
        """What the tree of this number may ask."""
        return self.drawn[tree] if self.drawn else self.edges


@lru_cache(maxsize=1024)
def cuts_of(edges: Edges) -> Ints:
    """(k, 2) feature and edge, ascending. Not to be changed."""
    pairs = [(place, edge) for place, row in enumerate(edges) for edge in row]
    found = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)
    found.setflags(write=False)
    return found


def checked_plan(plan: TreePlan) -> TreePlan:
    """The plan if trees can be grown by it; raises InputError."""
    if not (1 <= plan.trees <= TREES_MAX and 1 <= plan.depth <= DEPTH_MAX):
        raise InputError(f"{plan.trees} trees of depth {plan.depth} were asked for", f"use up to {TREES_MAX} of depth up to {DEPTH_MAX}")
    numbers = (plan.rate, plan.l2, plan.child_weight_min)
    if not all(math.isfinite(number) for number in numbers) or not 0 < plan.rate <= 1 or plan.l2 < 0 or plan.child_weight_min <= 0:
        raise InputError("the rate, l2 or least child weight cannot be used", "use 0 < rate <= 1, l2 >= 0 and a least child weight above 0")
    if plan.drawn and len(plan.drawn) < plan.trees:
        raise InputError(f"{len(plan.drawn)} trees' cuts for {plan.trees} trees", "draw as many")
    for edges in {plan.edges_of(tree) for tree in range(plan.trees)}:
        sorted_up = all(list(row) == sorted(set(row)) for row in edges)
        most = max((len(row) for row in edges), default=0) + 1
        if not sorted_up or not 2 <= most <= BINS_MAX:
            raise InputError("the bins of trees cannot be used", f"give ascending edges, 2 to {BINS_MAX} bins for at least one feature")
    return plan


def equal_edges(features: int, bins: int) -> Edges:
    """Equal parts of the public range, the same for each feature."""
    if not 2 <= bins <= BINS_MAX:
        raise InputError(f"{bins} bins were asked for", f"use 2 to {BINS_MAX}")
    return (tuple(int(v) for v in np.ceil(np.linspace(-FEATURE_MAX, FEATURE_MAX + 1, bins + 1)[1:-1])),) * features


def _uniform(*words: int) -> float:
    """In [0, 1), from a hash of the words: the same everywhere, for all time."""
    text = " ".join(str(word) for word in ("trees", *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2.0**48


def drawn_edges(mean: Floats, scale: Floats, tree: int, features: int, cuts: int) -> Edges:
    """Cuts of one tree: up to `cuts` for each of `features` of them, chosen by a hash, evenly over SPREAD deviations on either side of the
    mean. mean, scale: (d,) of the quantised features, from the fleet's moments. A cut that falls out of the range is left out."""
    order = sorted(range(len(mean)), key=lambda place: _uniform(tree, place))
    chosen = set(order[:features])
    result = []
    for place, (middle, width) in enumerate(zip(mean, scale, strict=True)):
        drawn = {round(middle + width * SPREAD * (2.0 * _uniform(tree, place, number + 1) - 1.0)) for number in range(cuts)}
        result.append(tuple(sorted(edge for edge in drawn if -FEATURE_MAX < edge <= FEATURE_MAX)) if place in chosen else ())
    return tuple(result) if any(result) else tuple((round(m),) if place == order[0] else () for place, m in enumerate(mean))


def fine_counts(q: Features, edges: Edges) -> Ints:
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


def binned_rows(q: Features, edges: Edges) -> NDArray[np.uint8]:
    """(n, d) features -> (n, d) bins. Raises InputError when there are not as many features as edges."""
    if q.ndim != 2 or q.shape[1] != len(edges):
        raise InputError(f"the features are {q.shape}, the bins are for {len(edges)}", "use the features that the plan was made for")
    result = np.empty(q.shape, dtype=np.uint8)
    for place, row in enumerate(edges):
        result[:, place] = np.searchsorted(np.array(row, dtype=np.int64), q[:, place], side="right")
    return result


def _nodes(columns: Sequence[Sequence[int]], value: Sequence[float]) -> Nodes:
    feature, edge, left = (np.array(column, dtype=np.int64) for column in columns)
    return Nodes(feature, edge, left, np.array(value, dtype=np.float64))


ROOT = _nodes([[-1]] * 3, [0.0])


@dataclass(frozen=True)
class Growth:
    """How far a forest is. grown: whole trees. tree: the one that is growing. open: its nodes that wait for histograms, ascending."""

    plan: TreePlan
    base: float
    grown: tuple[Nodes, ...] = ()
    tree: Nodes = ROOT
    open: tuple[int, ...] = (0,)

    @property
    def done(self) -> bool:
        return len(self.grown) == self.plan.trees

    @property
    def cuts(self) -> Ints:
        """(k, 2) what the growing tree may ask."""
        return cuts_of(self.plan.edges_of(len(self.grown)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the histograms that are asked for next; see contracts.treesums.HistogramsParams."""
        return (len(self.open), 1 + len(self.cuts), NUMBERS)


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


@dataclass
class Rows:
    """An owner's records. q: (n, d) int16 features. y: (n,) -1 or +1 for the logistic loss, numbers in -1..1 for the squared. w: (n,)
    positive whole weights. few: the owner's least group size. first: (n,) scores to begin at, beside the growth's base. Scores of whole
    trees are kept, so that each is walked once."""

    q: Features
    y: Floats
    w: Ints
    few: int = 1
    first: Floats | None = None
    _known: tuple[Nodes, ...] = field(default=(), repr=False)
    _scores: Floats | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        least, most = int(self.w.min(initial=1)), int(self.w.max(initial=1))
        if not len(self.y) == len(self.w) == len(self.q) or least < 1 or most > WEIGHT_MAX or np.abs(self.y).max(initial=0) > 1:
            raise InputError("the records' labels or weights cannot be used", f"give labels in -1..1 and weights from 1 to {WEIGHT_MAX}")

    def scores(self, growth: Growth) -> Floats:
        """(n,) by the whole trees."""
        kept = len(self._known)
        same = self._scores is not None and all(a is b for a, b in zip(self._known, growth.grown, strict=False))
        if not same or kept > len(growth.grown) or kept == 0:
            self._known, self._scores = (), np.full(len(self.y), growth.base) + (0.0 if self.first is None else self.first)
        total = np.asarray(self._scores)
        for tree in growth.grown[len(self._known) :]:
            total = total + tree.value[walked(tree, self.q)]
        self._known, self._scores = growth.grown, total
        return total


def histograms(growth: Growth, rows: Rows) -> Ints:
    """The owner's part of a round: `growth.shape` integers."""
    place = np.full(growth.tree.size, -1, dtype=np.int64)
    place[list(growth.open)] = np.arange(len(growth.open))
    plan = growth.plan
    found = gradients(plan.loss, rows.scores(growth), rows.y, rows.w)
    at = place[walked(growth.tree, rows.q)]
    return cut_sums(rows.q, at, len(growth.open), found, growth.cuts, plan.owner_records_min, rows.few)


def node_dimension(plan: TreePlan) -> int:
    """How many features one open node's histograms are a statistic of: one a cut, in the tree that has most."""
    return max(sum(len(row) for row in plan.edges_of(tree)) for tree in range(plan.trees))


def numbers_told(growth: Growth) -> int:
    """Numbers in the histograms of a whole forest, told so far."""
    plan, trees = growth.plan, [*growth.grown, *([growth.tree] if growth.tree is not ROOT else [])]
    return sum(_opened(tree, plan.depth) * (1 + len(cuts_of(plan.edges_of(place)))) * NUMBERS for place, tree in enumerate(trees))


def _depths(tree: Nodes) -> Ints:
    """(nodes,) the root's is 0."""
    depth = np.zeros(tree.size, dtype=np.int64)
    for node in np.flatnonzero(tree.feature >= 0):
        depth[tree.left[node] : tree.left[node] + 2] = depth[node] + 1
    return depth


def _opened(tree: Nodes, depth_max: int) -> int:
    """Nodes above the last level: each had histograms."""
    return int((_depths(tree) < depth_max).sum())


def _score_of(gradient: Any, curve: Any, l2: float) -> Any:
    return gradient * gradient / (curve + l2)


def _best_split(sums: Floats, standing: Ints, plan: TreePlan) -> tuple[float, int]:
    """(gain, cut) of one node's sums (1 + cuts, 2); of equal gains the lowest cut. standing: (cuts, 4) owners."""
    total, left = sums[0], sums[1:]
    right = total - left
    enough = (left[:, 1] >= plan.child_weight_min) & (right[:, 1] >= plan.child_weight_min)
    if plan.owners_min:
        enough &= (standing[:, :2] >= plan.held_min).all(axis=1) & (standing[:, 2:] == 0).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = _score_of(left[:, 0], left[:, 1], plan.l2) + _score_of(right[:, 0], right[:, 1], plan.l2)
        gain = parts - _score_of(total[0], total[1], plan.l2)
    gain = np.where(enough, gain, -1.0).astype(np.float32)  # near ties are ties, as in single precision
    best = int(gain.argmax())
    return float(gain[best]), best


def _leaf(gradient: float, curve: float, plan: TreePlan) -> float:
    return _snapped(-plan.rate * gradient / (curve + plan.l2)) if curve + plan.l2 > 0 else 0.0


def _checked(growth: Growth, total: Ints) -> Floats:
    """The sums as doubles, (open, 1 + cuts, 2). Raises InputError when they do not fit the growth."""
    if total.shape != growth.shape or growth.done:
        raise InputError(f"histograms of shape {total.shape} came, {growth.shape} were asked for", "send the round that was asked for")
    curve = total[..., 1]
    if int(np.abs(total[..., :2]).max(initial=0)) >= EXACT_MAX:
        raise InputError("the histograms hold more records than can be added exactly", "use smaller weights")
    if bool((curve < 0).any()) or bool((curve > curve[:, :1]).any()):
        raise InputError("the histograms belong to no records: a part is more than the whole", "run the round again; a share was damaged")
    plan, held = growth.plan, int(standing_counts(total[:, 0, 2])[0, 0])
    if growth.tree is ROOT and held < plan.held_min:
        raise InputError(
            f"with the largest owner set aside, fewer than {plan.owner_records_min} records are left to grow trees on",
            "use fewer cuts or features for each tree, or ask owners with more records",
        )
    return total[..., :2].astype(np.float64) / GRADIENT_UNIT


def grown(growth: Growth, total: Ints) -> Growth:
    """The exchange's part of a round: open nodes are split or become leaves; at the last level the tree is whole and the next begins.

    total: the owners' histograms, added. Raises InputError when they do not fit the growth.
    """
    plan, sums, cuts = growth.plan, _checked(growth, total), growth.cuts
    standing = standing_counts(total[:, 1:, 2])
    feature, edge, left = (part.tolist() for part in (growth.tree.feature, growth.tree.edge, growth.tree.left))
    value = growth.tree.value.tolist()
    opened: list[int] = []
    last = int(_depths(growth.tree)[growth.open[0]]) == plan.depth - 1
    for place, node in enumerate(growth.open):
        gain, best = _best_split(sums[place], standing[place], plan)
        whole = sums[place, 0]
        if not gain > GAIN_MIN:
            value[node] = _leaf(whole[0], whole[1], plan)
            continue
        below = sums[place, 1 + best]
        feature[node], edge[node], left[node], value[node] = int(cuts[best, 0]), int(cuts[best, 1]), len(feature), 0.0
        for side in (below, whole - below):
            for column in (feature, edge, left):
                column.append(-1)
            value.append(_leaf(side[0], side[1], plan))
        opened += [left[node], left[node] + 1]
    tree = _nodes((feature, edge, left), value)
    if last or not opened:
        return replace(growth, grown=(*growth.grown, tree), tree=ROOT, open=(0,))
    return replace(growth, tree=tree, open=tuple(opened))


def grow(first: Growth, owners: Sequence[Rows], heard: Callable[[Growth], None] | None = None) -> Growth:
    """A whole forest from owners in this process. heard: called after each tree."""
    growth = first
    while not growth.done:
        trees = len(growth.grown)
        growth = grown(growth, np.sum([histograms(growth, rows) for rows in owners], axis=0))
        if heard is not None and len(growth.grown) > trees:
            heard(growth)
    return growth


def forest_of(growth: Growth, trees: int | None = None) -> Forest:
    """The whole trees, or the first of them, as a document. Raises InputError when scores could leave what is exact."""
    kept = growth.grown[:trees]
    if abs(growth.base) + sum(float(np.abs(tree.value).max()) for tree in kept) >= MARGIN_MAX:
        raise InputError("the trees' values are too large to be added exactly", "use a larger l2 or fewer trees")
    return forest_doc(growth.plan.loss, growth.base, kept)
