"""Parameters of the built-in statistics, and how the sums of an evaluation are laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.head import Array, Head
from isthmus.contracts.sums import SCORE_BINS

MOMENTS = "moments/1"
FOLD_OUT = "foldout/2"
CLUSTERS = "clusters/2"
OWN_HEAD = "own-head/1"
SITE_HEAD = "site-head/1"
EVALUATE = "evaluate/1"
PAIR = "pair/1"

View = Literal["identity", "flip-left-right", "flip-up-down", "rotate-180"]
VIEWS: tuple[View, ...] = ("identity", "flip-left-right", "flip-up-down", "rotate-180")
WEIGHT_MAX = 16
CANDIDATES_MAX = 32
CONDITIONS_MAX = 64
AUGMENTATIONS_MAX = 8
"""Changed copies of a record in the training sums; each costs as much as one more view of all records."""
SLICES_MAX = 16
OTHER_HEADS_MAX = 16
CLEAN = "clean"
ALL_RECORDS = "all"
JOINT = "joint"


class _Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parameters."""


class Corruption(_Params, frozen=True, kw_only=True):
    """One declared corruption."""

    family: str
    severity: int


class TrainingParams(_Params, frozen=True, kw_only=True):
    """How training records enter. views: identity first. Weights: integers 1 to WEIGHT_MAX for sure and unsure labels.

    augmentations: declared corruptions of the record as it is, each one more row with the record's label and weight. All rows of a record,
    views and augmentations, share its group and count as one record.
    drawn_weight: of one more row of each good picture, with drawn defects and the other label; 0: no such rows.
    """

    views: tuple[View, ...] = ("identity",)
    augmentations: tuple[Corruption, ...] = ()
    sure_weight: int = 2
    unsure_weight: int = 1
    drawn_weight: int = 0

    @property
    def rows_per_record(self) -> int:
        """How often a record stands in the sums as what it is."""
        return len(self.views) + len(self.augmentations)


class MomentsParams(TrainingParams, frozen=True, kw_only=True):
    """moments/1: packed Moments."""


class Candidate(_Params, frozen=True, kw_only=True):
    """One ridge fit of the roster's total. penalty: its lambda, per unit of weight. coefficients: (d,) on raw features q; bias.

    The total itself does not come with it: whoever stands in the roster could subtract its own share, and what is left would say more of
    the others than d + 1 coefficients a penalty do.
    """

    penalty: float
    bias: float
    coefficients: Array


class FoldOutParams(TrainingParams, frozen=True, kw_only=True):
    """foldout/2: packed FoldOut, one row a candidate. total_weight: of the roster's rows, all views and augmentations counted.
    histograms: whether scores are told too, or the losses only (zeros in their place). Of one candidate only: many
    histograms tell more of who was in them than one.
    """

    candidates: tuple[Candidate, ...]
    total_weight: int
    histograms: bool = False


class ClustersParams(TrainingParams, frozen=True, kw_only=True):
    """clusters/2: packed GroupSums of fold-out verdicts. score >= hi: defect; else score <= lo: good; else not
    answered. total_weight: as in FoldOutParams."""

    candidate: Candidate
    total_weight: int
    lo: float
    hi: float


class OwnHeadParams(TrainingParams, frozen=True, kw_only=True):
    """own-head/1: float64 (bias, coefficients on raw q...) of the owner's own fit.

    penalties: grid of ridge penalties per unit of weight; the owner's own leave-one-group-out loss chooses.
    """

    penalties: tuple[float, ...]


class SiteHeadParams(TrainingParams, frozen=True, kw_only=True):
    """site-head/1: packed SiteHeads: the fleet's sums joined with this owner's own records, at the node.

    fleet: packed Moments of the fleet (int64). fleet_penalty: the fleet's own. factors: weightings of the own records, and
    penalties, both averaged over by the own records' leave-one-group-out loss.
    """

    fleet: Array
    fleet_penalty: float
    factors: tuple[float, ...]
    penalties: tuple[float, ...]


class NamedHead(_Params, frozen=True, kw_only=True):
    """Another head, scored beside the artefact on clean records."""

    name: str
    head: Head


class EvaluateParams(_Params, frozen=True, kw_only=True):
    """evaluate/1: packed Evaluations, one after the other in the order of `evaluation_keys`.

    artefact: digest of the artefact's bytes, which the node rebuilds from `head`. others: scored on clean records only.
    slices: record kinds beside all. records: the split that is evaluated. Histograms of scores are told for clean records of all kinds
    only.
    """

    artefact: str
    head: Head
    others: tuple[NamedHead, ...] = ()
    slices: tuple[str, ...] = ()
    corruptions: tuple[Corruption, ...] = ()
    records: str = "holdout"


class PairParams(_Params, frozen=True, kw_only=True):
    """pair/1: packed PairSums of two heads on clean records of one split. The job's stage is the new head's; the old one's may differ."""

    old: Head
    new: Head
    records: str = "holdout"


class EvaluationKey(NamedTuple):
    """Which evaluation: head ("joint" or another's name), condition ("clean" or "family/severity"), slice ("all" or a kind)."""

    head: str
    condition: str
    slice: str


def condition_name(corruption: Corruption) -> str:
    """`family/severity`."""
    return f"{corruption.family}/{corruption.severity}"


def evaluation_keys(params: EvaluateParams) -> tuple[EvaluationKey, ...]:
    """The declared order: the artefact on clean and then each corruption, then the others on clean; slices innermost."""
    slices = (ALL_RECORDS, *params.slices)
    conditions = (CLEAN, *(condition_name(c) for c in params.corruptions))
    joint = [EvaluationKey(JOINT, condition, part) for condition in conditions for part in slices]
    return (*joint, *(EvaluationKey(other.name, CLEAN, part) for other in params.others for part in slices))


SITE_HEADS = ("fleet", "combined", "local")


@dataclass(frozen=True)
class SiteHeads:
    """What site-head/1 says of three heads, in the order of SITE_HEADS.

    best: index of the site's. known: (3,) whether there is such a head. factors: (3,) weighting of the own records; -1 for "alone"; of
    "combined", which averages all, that of the heaviest. penalties, losses: (3,). heads: (3, d + 1) bias and coefficients on raw q.
    histograms: (3, 2, SCORE_BINS) fold-out scores of the own records by class. Unknown ones are zeros.
    """

    best: int
    known: NDArray[np.bool_]
    factors: NDArray[np.float64]
    penalties: NDArray[np.float64]
    losses: NDArray[np.float64]
    heads: NDArray[np.float64]
    histograms: NDArray[np.int64]

    def packed(self) -> NDArray[np.float64]:
        """One float64 vector of `site_heads_size(d)` entries."""
        parts = (self.known, self.factors, self.penalties, self.losses, self.heads.reshape(-1), self.histograms.reshape(-1))
        return np.concatenate([[float(self.best)], *(part.astype(np.float64) for part in parts)])


def site_heads_size(dimension: int) -> int:
    return 1 + 4 * 3 + 3 * (dimension + 1) + 3 * 2 * SCORE_BINS


def site_heads_from(vector: NDArray[np.float64], dimension: int) -> SiteHeads:
    """Inverse of `SiteHeads.packed`. Raises ValueError on a wrong size."""
    if vector.shape != (site_heads_size(dimension),):
        raise ValueError(f"site heads of {dimension} features have {site_heads_size(dimension)} entries, not {vector.shape}")
    known, factors, penalties, losses = vector[1:13].reshape(4, 3)
    split = 13 + 3 * (dimension + 1)
    histograms = vector[split:].reshape(3, 2, SCORE_BINS).astype(np.int64)
    return SiteHeads(int(vector[0]), known > 0, factors, penalties, losses, vector[13:split].reshape(3, dimension + 1), histograms)
