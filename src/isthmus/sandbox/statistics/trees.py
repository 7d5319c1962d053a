"""histograms/1, aside-scores/1 and aside-clusters/1: what boosted trees grow from, and how they do on groups that were set aside.

A share of the owner's groups, chosen by a hash, is not grown on. It stands for records that the trees never saw, so that their number and
the thresholds are chosen without test data.

Trees are asked about level by level, and whoever asks chooses the nodes. So the node does not believe that an open node holds enough: it
counts, and refuses one that holds some of its own records, but fewer than its least group size. An exchange that splits as it should never
asks for one, because owners tell beforehand which cuts would make one (contracts.treesums.STANDING).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import RefusedError
from isthmus.contracts.head import Forest
from isthmus.contracts.sums import LOSS_UNIT, SCORE_BINS, FoldOut, GroupSums
from isthmus.contracts.treesums import AsideClustersParams, AsideScoresParams, ForestParams, HistogramsParams
from isthmus.kit.treewalk import (
    Floats,
    checked_cuts,
    cut_parts,
    gradients,
    margins,
    probability,
    share_of,
    told_cuts,
    trees_of,
    unpacked,
    walked,
)
from isthmus.sandbox.statistics.foldout import candidate_scores, score_histogram, tallied, tally_of, verdicts
from isthmus.sandbox.statistics.records import GroupTally, Ints, Records, Training, TrainingRecords


def _rank(group: int) -> bytes:
    return hashlib.sha256(f"set aside {group}".encode()).digest()


def set_aside(groups: Ints, share: int) -> NDArray[np.bool_]:
    """(n,) records whose group is set aside: of the owner's groups one in `share`, at least one and never all, by the order of a hash."""
    return np.isin(groups, aside_codes(np.unique(groups), share))


def aside_codes(codes: Ints, share: int) -> Ints:
    """The codes that `set_aside` takes. codes: of all the owner's groups."""
    if len(codes) and int(codes[-1]) == len(codes) - 1:
        return _aside_of(len(codes), share)
    return _first_ranked(codes.tolist(), share)


@lru_cache(maxsize=8)
def _aside_of(count: int, share: int) -> Ints:
    """Trees ask for the same some hundred times in a row."""
    return _first_ranked(list(range(count)), share)


def _first_ranked(codes: list[int], share: int) -> Ints:
    count = min(max(1, round(len(codes) / share)), len(codes) - 1)
    return np.array(sorted(codes, key=_rank)[:count], dtype=np.int64)


@dataclass(frozen=True)
class Part:
    """Some of an owner's training records. q: (n, d). w: (n,). first: (n,) scores before any tree."""

    records: Records
    q: NDArray[np.int16]
    w: Ints
    first: Floats


def beginnings(training: Training, params: ForestParams) -> Floats:
    """(n,) scores of the training records before any tree; (1,) where all begin alike."""
    known = params.beginning
    if known is None:
        return np.full(1, params.forest.base)
    scores = candidate_scores(training, known.candidate, known.total_weight)
    return np.asarray(params.forest.base + known.steepness * scores)


def _part(chunk: TrainingRecords, first: Floats, chosen: NDArray[np.bool_]) -> Part:
    of = chunk.records
    kinds = tuple(kind for kind, kept in zip(of.kinds, chosen.tolist(), strict=True) if kept)
    return Part(Records(of.y[chosen], of.groups[chosen], kinds), chunk.views[0][chosen], chunk.w[chosen], first[chosen])


def _parted(training: Training, params: ForestParams, first: Floats, aside: bool) -> Iterator[Part]:
    """The records that are set aside, or those that are grown on, chunk by chunk."""
    codes, start = aside_codes(training.group_list, params.aside), 0
    for chunk in training.chunks():
        end = start + chunk.size
        own = np.broadcast_to(first, chunk.size) if first.shape == (1,) else first[start:end]
        yield _part(chunk, own, np.isin(chunk.records.groups, codes) == aside)
        start = end


def histograms(training: Training, params: HistogramsParams, first: Floats, least: int) -> Ints:
    """The owner's sums of the open nodes; see HistogramsParams. Raises RefusedError for a node that holds too few of its records."""
    features, nodes = training.dimension, len(params.open)
    cuts, growing = checked_cuts(params.cuts.array(), features), unpacked(params.growing.array(), features)
    trees = trees_of(params.forest, features)
    place = np.full(growing.size, -1, dtype=np.int64)
    place[list(params.open)] = np.arange(nodes)
    whole, left = np.zeros((nodes, 3), dtype=np.int64), np.zeros((nodes, len(cuts), 3), dtype=np.int64)
    for own in _parted(training, params, first, aside=False):
        at = place[walked(growing, own.q)]
        found = gradients(params.forest.loss, own.first + margins(0.0, trees, own.q), own.records.y, own.w)
        more = cut_parts(own.q, at, nodes, found, cuts)
        whole, left = whole + more[0], left + more[1]
    held = whole[:, 2]
    if bool(((held > 0) & (held < least)).any()):
        raise RefusedError(
            "least-group-size",
            f"an open node of the tree holds fewer than {least} of the records here, but some",
            "split only where no owner is left with so few",
        )
    return told_cuts(whole, left, params.owner_records_min, least).reshape(-1)


def aside_scores(training: Training, params: AsideScoresParams, first: Floats) -> FoldOut:
    """Losses, and where asked for scores, of the records set aside, after each of the prefixes."""
    trees, sum_w = trees_of(params.forest, training.dimension), 0
    loss, counted = np.zeros(len(params.prefixes), dtype=np.int64), np.zeros((len(params.prefixes), 2, SCORE_BINS), dtype=np.int64)
    for own in _parted(training, params, first, aside=True):
        score, known = own.first, 0
        sum_w += int(own.w.sum())
        for place, count in enumerate(params.prefixes):
            score, known = score + margins(0.0, trees[known:count], own.q), count
            wrong = (own.records.y - 2.0 * probability(params.forest.loss, score) + 1.0) ** 2
            loss[place] += int((own.w * np.rint(np.minimum(wrong, 4.0) * LOSS_UNIT).astype(np.int64)).sum())
            if params.histograms:
                counted[place] += score_histogram(_published(params.forest, score), own.records.y)
    return FoldOut(sum_w, loss, counted)


def aside_clusters(training: Training, params: AsideClustersParams, first: Floats) -> GroupSums:
    """Answered and wrong verdicts on the records set aside, by group."""
    trees, tally = trees_of(params.forest, training.dimension), GroupTally(2)
    for own in _parted(training, params, first, aside=True):
        score = own.first + margins(0.0, trees, own.q)
        said = verdicts(_published(params.forest, score), params.lo, params.hi)
        tally.add(tally_of(said != 0, said != own.records.y), own.records.groups)
    return tallied(tally)


def _published(forest: Forest, score: Floats) -> Floats:
    """As an artefact says it: float32."""
    return np.asarray((score * share_of(forest)).astype(np.float32).astype(np.float64))
