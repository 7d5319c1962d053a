"""Boosted trees as a document: all that is needed, beside the public stage, to rebuild the artefact, or to go on growing."""

from __future__ import annotations

import msgspec

from isthmus.contracts.head import Array, Stage


class Forest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """score = base + the values of the leaves that a record comes to, one a tree.

    Node tables, all of one length: feature: which quantised feature is asked about, -1 at a leaf. edge: a record goes left when its feature
    is below it. left, right: where to; -1 at a leaf. value: of a leaf, a multiple of 2^-VALUE_BITS, so that sums are exact in any order.
    roots: (trees,) each tree's first node; a tree's nodes stand together, level by level. loss: logistic (the score is the logarithm of the
    odds of a defect) or squared.
    """

    loss: str
    base: float
    roots: Array
    feature: Array
    edge: Array
    left: Array
    right: Array
    value: Array


class ForestHead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A forest behind a stage. score <= lo: good. score >= hi: defect. Between: a person decides. lo <= hi. `decoder` names how records
    are read."""

    stage: Stage
    forest: Forest
    lo: float
    hi: float
    decoder: str


VALUE_BITS = 40
