"""The scenario package's manifest: what `scenario.yaml` may say. Unknown fields are refused."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.statistic import Corruption, TrainingParams


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of the manifest."""


class Interface(_Part, frozen=True, kw_only=True):
    """What a caller sends and gets. columns: of a table's row, or of each of the `steps` of a window of a series (contracts.schema)."""

    input: Literal["image", "table", "series"]
    output: Literal["verdict"]
    classes: tuple[str, str]
    columns: tuple[Column, ...] = ()
    steps: int = 1

    @property
    def schema(self) -> Schema | None:
        """Of records that are not pictures."""
        return None if self.input == "image" else Schema(columns=self.columns, steps=self.steps)


class Augmentation(_Part, frozen=True, kw_only=True):
    """A declared corruption, as in `certify`, that training records are put through as well; each severity is one more row of a record."""

    family: str
    severities: tuple[int, ...]


class Recipe(_Part, frozen=True, kw_only=True):
    """How the model is made of sums.

    parts: the features (contracts.parts, tableparts, seriesparts), few enough that sums over them say little of anybody.
    parts_after_leaving: others, none of which the first are made of, for rosters after a leaver; none where all features are made of the
    same columns. views: identity first; the others, of pictures, add to the training sums only, and so do augmentations, of any record.
    sure_weight and unsure_weight: integers. drawn_weight: of a copy of each good picture with drawn defects, as a defect; 0: none.
    lambdas: grid of ridge penalties per unit of weight. records_per_feature: the dimension rule
    that owners are asked to agree to: records behind what becomes visible, for each feature.
    """

    backbone: str
    parts: tuple[str, ...]
    parts_after_leaving: tuple[str, ...]
    views: tuple[Literal["identity", "flip-left-right", "flip-up-down", "rotate-180"], ...]
    sure_weight: int
    unsure_weight: int
    lambdas: tuple[float, ...]
    records_per_feature: int
    augmentations: tuple[Augmentation, ...] = ()
    drawn_weight: int = 0

    @property
    def training(self) -> TrainingParams:
        """How records enter the training sums, as nodes are told."""
        return TrainingParams(
            views=self.views,
            augmentations=tuple(Corruption(family=one.family, severity=s) for one in self.augmentations for s in one.severities),
            sure_weight=self.sure_weight,
            unsure_weight=self.unsure_weight,
            drawn_weight=self.drawn_weight,
        )


class Certify(_Part, frozen=True, kw_only=True):
    """What must be proved on held-out records before anything serves; see contracts.bars.Bars for the bars.

    promises_ppm: greatest error rates among answered, easiest first. They are tried in this fixed sequence, each with thresholds
    planned for it, and the strictest that is proven is what the certificate says and what serves (fixed-sequence testing: no
    confidence is spent on the order). planning_*: what the thresholds are planned with:
    the least design effect that is assumed (training folds may show a larger one), and the chance of
    passing that is wanted. validity_days: how long a certificate lasts.
    """

    promises_ppm: tuple[int, ...]
    confidence_ppm: int
    groups_min: int
    answered_ppm_min: int
    recall_ppm_min: int
    specificity_ppm_min: int
    auc_ppm_min: int
    slice_records_min: int
    families: tuple[str, ...]
    severities: tuple[int, ...]
    planning_design_effect: float
    planning_power: float
    validity_days: int


class Serve(_Part, frozen=True, kw_only=True):
    """Price and split. Shares in parts per million of the charge; owners' part is divided by training rows."""

    currency: str
    micros_per_inference: int
    compute_ppm: int
    model_vendor_ppm: int
    owners_ppm: int
    exchange_ppm: int
    sample_requests: int


class Replicate(_Part, frozen=True, kw_only=True):
    """What the next site brings, and the weights of its samples that the combiner may choose from.

    families, severities: the corruptions that are measured at a site, as in `certify`; left out, all of those. A certificate of the site
    says when they are fewer.
    """

    samples_default: int
    weightings: tuple[float, ...]
    families: tuple[str, ...] | None = None
    severities: tuple[int, ...] | None = None


class Scenario(_Part, frozen=True, kw_only=True):
    """One folder's manifest."""

    id: str
    version: str
    title: str
    tier: Literal["T1", "T2", "T3"]
    task: Literal["image-inspection", "table-inspection", "series-inspection"]
    purpose: str
    intended_use: str
    prohibited_use: str
    interface: Interface
    recipe: Recipe
    certify: Certify
    serve: Serve
    replicate: Replicate
    sample_data: Literal["elpv", "heart", "credit", "wine", "shuttle", "lahn", "none"] = "none"
