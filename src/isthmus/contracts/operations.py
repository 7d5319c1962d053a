"""Which statistics a scenario's head is made of: what an owner's agreement has to allow for it."""

from __future__ import annotations

from isthmus.contracts.statistic import (
    CLUSTERS,
    EVALUATE,
    FOLD_OUT,
    GAUSSIAN,
    GAUSSIAN_CLUSTERS,
    GAUSSIAN_FOLD_OUT,
    IRLS,
    MOMENTS,
    OWN_HEAD,
    PAIR,
    SITE_GAUSSIAN,
    SITE_HEAD,
)
from isthmus.contracts.treesums import TREE_OPERATIONS

_LINEAR = (MOMENTS, FOLD_OUT, CLUSTERS)
OPERATIONS: dict[str, tuple[str, ...]] = {
    "ridge": _LINEAR,
    "logistic": (*_LINEAR, IRLS),
    "trees": (*_LINEAR, *TREE_OPERATIONS),
    "gaussian": (GAUSSIAN, GAUSSIAN_FOLD_OUT, GAUSSIAN_CLUSTERS),
}
"""By the recipe's head: what owners answer who fit it together."""
SITE_OPERATIONS: dict[str, str] = {"gaussian": SITE_GAUSSIAN}
"""By the recipe's head: what a site answers; others than these `SITE_HEAD`."""


def fleet_operations(head: str) -> tuple[str, ...]:
    """What owners allow who fit such a head together; no owner's own Gaussian leaves, as its matrix would say all of its sums."""
    return (*OPERATIONS[head], EVALUATE, *((OWN_HEAD,) if head != "gaussian" else ()), PAIR)


def site_operations(head: str) -> tuple[str, ...]:
    """What a site allows whose model is made of the fleet's and its own records."""
    return (SITE_OPERATIONS.get(head, SITE_HEAD), EVALUATE, PAIR)
