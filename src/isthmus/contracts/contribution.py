"""A contribution: what each owner's records added to a model, as a signed document from which anyone can recompute the split."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.head import Array

CONTRIBUTION_TYPE = "application/vnd.isthmus.contribution+json"
CONTRIBUTION_FORMAT: Literal["isthmus-contribution/1"] = "isthmus-contribution/1"
EXACT_OWNERS_MAX = 12
"""Owners whose every coalition is scored; with more, coalitions are drawn."""
SCORED_OWNERS_MAX = 50
PERMUTATIONS = 3000
"""Orders of the owners that are drawn when there are too many coalitions."""
WEIGHT_TOTAL = 1_000_000
"""All owners' weights together; the owners' part of each charge is divided by them."""
BOOTSTRAPS = 1000


class ScoredOwner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One owner as it stood when it was scored. agreement, asset: digests. commitment: to its records, training and held out. Its place
    in the document is its bit in a coalition's mask."""

    party: str
    agreement: str
    asset: str
    commitment: str
    records_train: int
    records_holdout: int


class OwnerShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """value_micros: the owner's Shapley value in millionths of the Brier score, negative when its records did harm. error_micros: by how
    much a drawn value may be off, with the document's confidence for all owners together; 0 where it is exact. weight_ppm: its share.
    low_ppm, high_ppm: interval of the share over held-out groups; None where there are too few parts of them."""

    party: str
    value_micros: int
    error_micros: int
    weight_ppm: int
    low_ppm: int | None
    high_ppm: int | None


class Contribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The worth of a coalition is by how much a ridge head fitted on its sums, with the run's penalty, lowers the Brier score on all
    owners' held-out records below that of stating the roster's share of defects for everybody.

    owners: sorted by party; the first is bit 0. method: exact, every coalition; drawn, `permutations` orders that follow from `seed`. seed:
    digest of the run and of all commitments, so it was fixed before anything was scored. masks: (n,) int64, the coalitions. losses: (n,)
    int64, sums of squared errors over `records` held-out records in 2^-24; of a coalition whose records are of one class, prior_loss.
    parts: of whole groups, that the held-out records were drawn anew by for the intervals; few parts make them too narrow.
    heads_digest: of the scored heads' bytes; job: digest of the job that scored them. by_rows: no owner had a positive value, so the
    shares are by training records. Times are seconds since the Unix epoch.
    """

    format: Literal["isthmus-contribution/1"]
    run: str
    scenario: str
    purpose: str
    stage: str
    penalty: float
    owners: tuple[ScoredOwner, ...]
    method: Literal["exact", "drawn"]
    permutations: int
    seed: str
    confidence_ppm: int
    records: int
    parts: int
    prior_loss: int
    masks: Array
    losses: Array
    heads_digest: str
    job: str
    shares: tuple[OwnerShare, ...]
    by_rows: bool
    at_s: int
