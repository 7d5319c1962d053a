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
GAUSSIAN = "gaussian/1"
GAUSSIAN_FOLD_OUT = "gaussian-foldout/1"
GAUSSIAN_CLUSTERS = "gaussian-clusters/1"
SITE_GAUSSIAN = "site-gaussian/1"
IRLS = "irls/1"

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


class IrlsParams(TrainingParams, frozen=True, kw_only=True):
    """irls/1: packed LogisticSums (contracts.logistic) at these coefficients: (d + 1,), the bias first, on (1, q). total_weight: of the
    roster's rows, all views counted; it decides the units."""

    coefficients: Array
    total_weight: int


class Working(_Params, frozen=True, kw_only=True):
    """Where a logistic candidate's last step began: its weights p (1 - p) and its working response are those at these coefficients,
    (d + 1,), the bias first. weight: the roster's sum of w p (1 - p) there. freedom: the fit's effective number of parameters, the sum of
    all rows' leverages."""

    coefficients: Array
    weight: float
    freedom: float


class Candidate(_Params, frozen=True, kw_only=True, omit_defaults=True):
    """One fit of the roster's total, a ridge fit unless it has `working`. penalty: its lambda, per unit of weight.
    coefficients: (d,) on raw features q; bias.

    The total itself does not come with it: whoever stands in the roster could subtract its own share, and what is left would say more of
    the others than d + 1 coefficients a penalty do.
    """

    penalty: float
    bias: float
    coefficients: Array
    working: Working | None = None


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


class FleetCurve(_Params, frozen=True, kw_only=True):
    """A fleet's logistic loss near its optimum: packed LogisticSums (int64) at coefficients (d + 1,), the bias first."""

    sums: Array
    coefficients: Array


class SiteHeadParams(TrainingParams, frozen=True, kw_only=True):
    """site-head/1: packed SiteHeads: the fleet's sums joined with this owner's own records, at the node.

    fleet: packed Moments of the fleet (int64). fleet_penalty: the fleet's own. factors: weightings of the own records, and
    penalties, both averaged over by the own records' leave-one-group-out loss. head: of a fleet whose head has trees; the site's is then
    that and a linear correction. logistic: where the fleet's head is of that kind.
    """

    fleet: Array
    fleet_penalty: float
    factors: tuple[float, ...]
    penalties: tuple[float, ...]
    head: Head | None = None
    logistic: FleetCurve | None = None


class GaussianParams(TrainingParams, frozen=True, kw_only=True):
    """gaussian/1: packed GoodMoments of the records labelled good, over all positions of the stage."""


class GaussianFoldOutParams(TrainingParams, frozen=True, kw_only=True):
    """gaussian-foldout/1: packed FoldOut, one row a shrinkage: of good records the weighted negative log-likelihood, by the Gaussian that
    saw nothing of their group, and the scores of records of both classes.

    total: packed GoodMoments of the roster (int64). It comes to the nodes because a Gaussian is its mean and covariance: the head that they
    rebuild says as much. top: places whose distances a score is the mean of. histograms: as in FoldOutParams.
    """

    total: Array
    shrinkages: tuple[float, ...]
    top: int
    histograms: bool = False


class GaussianClustersParams(TrainingParams, frozen=True, kw_only=True):
    """gaussian-clusters/1: packed GroupSums of fold-out verdicts at lo and hi, as in ClustersParams. alarms: of good records only, where
    one that is not called good counts as an error."""

    total: Array
    shrinkage: float
    top: int
    lo: float
    hi: float
    alarms: bool = False


class SiteGaussianParams(TrainingParams, frozen=True, kw_only=True):
    """site-gaussian/1: packed SiteGaussians: the fleet's sums of good records joined with this owner's own, at the node.

    total: packed GoodMoments of the fleet (int64). fleet_shrinkage: the fleet's own. factors: weightings of the own records. shrinkages:
    tried at each weighting.
    """

    total: Array
    fleet_shrinkage: float
    factors: tuple[float, ...]
    shrinkages: tuple[float, ...]
    top: int


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


LOCAL = "local"
SITE_HEADS = ("fleet", "combined", LOCAL)


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


@dataclass(frozen=True)
class SiteGaussians:
    """What site-gaussian/1 says of three Gaussians, in the order of SITE_HEADS.

    known: (3,) whether there is such a one. factors: (3,) share of the own records in the moments, 0 to 1. penalties: (3,) shrinkages.
    losses: (3,). matrices: (3, zones, d, d); centres: (3, zones, d), as in contracts.head.Gaussian. histograms: (3, 2, SCORE_BINS) left-out
    scores of the own records by class. The site's is "combined".
    """

    known: NDArray[np.bool_]
    factors: NDArray[np.float64]
    penalties: NDArray[np.float64]
    losses: NDArray[np.float64]
    matrices: NDArray[np.float64]
    centres: NDArray[np.float64]
    histograms: NDArray[np.int64]

    @property
    def best(self) -> int:
        """Index of the site's."""
        return SITE_HEADS.index("combined")

    def packed(self) -> NDArray[np.float64]:
        """One float64 vector of `site_gaussians_size(d, zones)` entries."""
        parts = (self.known, self.factors, self.penalties, self.losses, self.matrices, self.centres, self.histograms)
        return np.concatenate([part.astype(np.float64).reshape(-1) for part in parts])


def site_gaussians_size(dimension: int, zones: int = 1) -> int:
    return 4 * 3 + 3 * zones * dimension * (dimension + 1) + 3 * 2 * SCORE_BINS


def site_gaussians_from(vector: NDArray[np.float64], dimension: int, zones: int = 1) -> SiteGaussians:
    """Inverse of `SiteGaussians.packed`. Raises ValueError on a wrong size."""
    d, size = dimension, site_gaussians_size(dimension, zones)
    if vector.shape != (size,):
        raise ValueError(f"site Gaussians of {d} features in {zones} zones have {size} entries, not {vector.shape}")
    known, shares, shrinkages, losses = vector[:12].reshape(4, 3)
    first, second = 12 + 3 * zones * d * d, 12 + 3 * zones * d * (d + 1)
    matrices, centres = vector[12:first].reshape(3, zones, d, d), vector[first:second].reshape(3, zones, d)
    histograms = vector[second:].reshape(3, 2, SCORE_BINS).astype(np.int64)
    return SiteGaussians(known > 0, shares, shrinkages, losses, matrices, centres, histograms)
