"""histograms/1, aside-scores/1 and aside-clusters/1: what boosted trees grow from, and how they do on groups that were set aside.

A share of the owner's groups, chosen by a hash, is not grown on. It stands for records that the trees never saw, so that their number and
the thresholds are chosen without test data.

Trees are asked about level by level, and whoever asks chooses the nodes. So the node does not believe that an open node holds enough: it
counts, and refuses one that holds some of its own records, but fewer than its least group size. An exchange that splits as it should never
asks for one, because owners tell beforehand which cuts would make one (contracts.treesums.STANDING).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Forest
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, FoldOut, GroupSums
from isthmus.contracts.treesums import AsideClustersParams, AsideScoresParams, ForestParams, HistogramsParams
from isthmus.kit.treewalk import Floats, checked_cuts, cut_sums, gradients, margins, probability, share_of, trees_of, unpacked, walked
from isthmus.sandbox.statistics.foldout import candidate_scores, clusters, score_histogram
from isthmus.sandbox.statistics.records import Ints, Records, TrainingRecords


def _rank(group: int) -> bytes:
    return hashlib.sha256(f"set aside {group}".encode()).digest()


def set_aside(groups: Ints, share: int) -> NDArray[np.bool_]:
    """(n,) records whose group is set aside: of the owner's groups one in `share`, at least one and never all, by the order of a hash."""
    codes = sorted(np.unique(groups).tolist(), key=_rank)
    count = min(max(1, round(len(codes) / share)), len(codes) - 1)
    return np.isin(groups, codes[:count])


@dataclass(frozen=True)
class Part:
    """Some of an owner's training records. q: (n, d). w: (n,). first: (n,) scores before any tree."""

    records: Records
    q: NDArray[np.int16]
    w: Ints
    first: Floats


def beginnings(training: TrainingRecords, params: ForestParams) -> Floats:
    """(n,) scores of the training records before any tree."""
    base, known = np.full(training.records.size, params.forest.base), params.beginning
    if known is None:
        return base
    return np.asarray(base + known.steepness * candidate_scores(training, known.candidate, known.total_weight))


def _part(training: TrainingRecords, first: Floats, chosen: NDArray[np.bool_]) -> Part:
    of = training.records
    kinds = tuple(kind for kind, kept in zip(of.kinds, chosen.tolist(), strict=True) if kept)
    return Part(Records(of.y[chosen], of.groups[chosen], kinds), training.views[0][chosen], training.w[chosen], first[chosen])


def _parted(training: TrainingRecords, params: ForestParams, first: Floats) -> tuple[Part, Part]:
    """(grown on, set aside)."""
    aside = set_aside(training.records.groups, params.aside)
    return _part(training, first, ~aside), _part(training, first, aside)


def histograms(training: TrainingRecords, params: HistogramsParams, first: Floats, least: int) -> Ints:
    """The owner's sums of the open nodes; see HistogramsParams. Raises RefusedError for a node that holds too few of its records."""
    own, _ = _parted(training, params, first)
    features = training.dimension
    cuts, growing = checked_cuts(params.cuts.array(), features), unpacked(params.growing.array(), features)
    place = np.full(growing.size, -1, dtype=np.int64)
    place[list(params.open)] = np.arange(len(params.open))
    at = place[walked(growing, own.q)]
    held = np.bincount(at[at >= 0], minlength=len(params.open))
    if bool(((held > 0) & (held < least)).any()):
        raise RefusedError(
            "least-group-size",
            f"an open node of the tree holds fewer than {least} of the records here, but some",
            "split only where no owner is left with so few",
        )
    score = own.first + margins(0.0, trees_of(params.forest, features), own.q)
    found = gradients(params.forest.loss, score, own.records.y, own.w)
    return cut_sums(own.q, at, len(params.open), found, cuts, params.owner_records_min, least).reshape(-1)


def aside_scores(training: TrainingRecords, params: AsideScoresParams, first: Floats) -> FoldOut:
    """Losses, and where asked for scores, of the records set aside, after each of the prefixes."""
    _, own = _parted(training, params, first)
    trees = trees_of(params.forest, training.dimension)
    loss, counted = np.zeros(len(params.prefixes), dtype=np.int64), np.zeros((len(params.prefixes), 2, SCORE_BINS), dtype=np.int64)
    score, known = own.first, 0
    for place, count in enumerate(params.prefixes):
        score, known = score + margins(0.0, trees[known:count], own.q), count
        wrong = (own.records.y - 2.0 * probability(params.forest.loss, score) + 1.0) ** 2
        loss[place] = int((own.w * np.rint(np.minimum(wrong, 4.0) * LOSS_UNIT).astype(np.int64)).sum())
        if params.histograms:
            counted[place] = score_histogram(_published(params.forest, score), own.records.y)
    return FoldOut(int(own.w.sum()), loss, counted)


def aside_clusters(training: TrainingRecords, params: AsideClustersParams, first: Floats) -> GroupSums:
    """Answered and wrong verdicts on the records set aside, by group."""
    _, own = _parted(training, params, first)
    score = own.first + margins(0.0, trees_of(params.forest, training.dimension), own.q)
    return clusters(own.records, _published(params.forest, score), params.lo, params.hi)


def _published(forest: Forest, score: Floats) -> Floats:
    """As an artefact says it: float32."""
    return np.asarray((score * share_of(forest)).astype(np.float32).astype(np.float64))
