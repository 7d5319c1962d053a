"""An asset: data at its owner's node, described and committed to. Never the rows."""

from __future__ import annotations

import msgspec

ASSET_TYPE = "application/vnd.isthmus.asset+json"
INSPECTION_SCHEMA, ROWS_SCHEMA, TEXTS_SCHEMA = "image-inspection/1", "row-inspection/1", "text-inspection/1"


class Asset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an owner says about its data. Its digest is the sha256 of its canonical JSON.

    records_*, groups_*: unweighted counts of labelled records and of groups (modules, lots) in each split.
    commitment: salted Merkle root over files and labels; it reveals nothing, and any change of a file or label changes it.
    records_audit: labelled records that are only ever
    measured, never fitted on or used as proof. kinds_holdout: names of the kinds (slices
    such as mono, poly) among held-out records. groups_inferred,
    splits_inferred: the owner did not name groups or splits; they follow from the files' order.
    """

    owner: str
    schema: str
    licence: str
    records_train: int
    records_holdout: int
    groups_train: int
    groups_holdout: int
    commitment: str
    groups_inferred: bool
    kinds_holdout: tuple[str, ...] = ()
    records_audit: int = 0
    splits_inferred: bool = False
    sample: bool = False
