"""What boosted trees are grown from: parameters and layouts of the sums that nodes tell about a forest that is growing.

`histograms/1`: for each open node of the level that grows, sums over the records that come to it, in all and left of each cut.
`aside-scores/1`, `aside-clusters/1`: how whole trees do on groups that were set aside and not grown on.
"""

from __future__ import annotations

import msgspec

from isthmus.contracts.head import Array, Forest
from isthmus.contracts.statistic import Candidate, TrainingParams
from isthmus.contracts.sums import foldout_size

HISTOGRAMS = "histograms/1"
ASIDE_SCORES = "aside-scores/1"
ASIDE_CLUSTERS = "aside-clusters/1"
TREE_OPERATIONS = (HISTOGRAMS, ASIDE_SCORES, ASIDE_CLUSTERS)

GRADIENT_UNIT = 1 << 30
"""Gradients and curvatures are told in 1 / GRADIENT_UNIT."""
VALUE_BITS = 40
"""A leaf's value is a multiple of 2^-VALUE_BITS."""
TREES_MAX, DEPTH_MAX = 200, 6
ROUNDS_MAX = 400
"""Levels of all trees of one run: every round is an answer about the same records again."""
CUTS_MAX = 4096
OPEN_MAX = 1 << DEPTH_MAX
ASIDE_MIN, ASIDE_MAX = 2, 20
PREFIXES_MAX = 32
STEEPNESS_MAX = 64.0
NUMBERS = 3
"""Numbers a row of `histograms/1`: gradient, curvature, standing."""
STANDING = {"held_left": 0, "held_right": 20, "few_left": 40, "few_right": 50}
"""Bits at which a standing's counts begin; each ends where the next begins, so that standings add up as integers do. held: an owner's own
records left or right of a cut, counted up to `owner_records_min`; so where the sum is twice that, as many remain with the largest owner set
aside. few: owners with some records there, but fewer than their least group size."""
STANDING_END = 60
OWNER_RECORDS_MAX = (1 << 20) // 256 - 1
"""The largest `owner_records_min`, so that 256 owners' counts fit."""


class Beginning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A linear head that trees go on from. They begin at `steepness` times its scores, of each record as by the fit that never saw its
    group. candidate, total_weight: as in contracts.statistic.FoldOutParams."""

    candidate: Candidate
    total_weight: int
    steepness: float


class ForestParams(TrainingParams, frozen=True, kw_only=True):
    """forest: the whole trees so far. aside: of each owner's training groups one in so many is set aside, chosen by a hash, and not grown
    on. beginning: None where trees begin at the share of defects, which is the forest's base."""

    forest: Forest
    aside: int
    beginning: Beginning | None = None


class HistogramsParams(ForestParams, frozen=True, kw_only=True):
    """histograms/1: (open nodes, 1 + cuts, NUMBERS) int64. growing: nodes of the tree that grows, as in Forest. open: those that wait,
    ascending. cuts: (k, 2) feature and edge, ascending: what may be asked next; a record is left when its feature is below the edge.

    Row 0 of a node: all its records; row 1 + c: those left of cut c. Their gradients and curvatures, in 1 / GRADIENT_UNIT, are sums; the
    standing says how much of that is whose (STANDING; in row 0 of the node itself, on the left).
    """

    growing: Array
    open: tuple[int, ...]
    cuts: Array
    owner_records_min: int


class AsideScoresParams(ForestParams, frozen=True, kw_only=True):
    """aside-scores/1: packed FoldOut of records set aside, one row for each of the first `prefixes` trees: 4 w times the squared error of
    the probability, and, of one prefix only, a histogram of published scores."""

    prefixes: tuple[int, ...]
    histograms: bool = False


class AsideClustersParams(ForestParams, frozen=True, kw_only=True):
    """aside-clusters/1: packed GroupSums of verdicts on records set aside, by all the trees at these thresholds."""

    lo: float
    hi: float


def histograms_size(params: HistogramsParams) -> int:
    """Entries of a packed answer."""
    return len(params.open) * (1 + params.cuts.shape[0]) * NUMBERS


def aside_scores_size(params: AsideScoresParams) -> int:
    return foldout_size(len(params.prefixes))


def told_dimension(params: HistogramsParams) -> int:
    """How many features one open node's sums are a statistic of: as many as there are cuts, and more by what is set aside, because the
    dimension rule counts all training records of an owner and these are not among them."""
    return -(-params.cuts.shape[0] * params.aside // (params.aside - 1))
