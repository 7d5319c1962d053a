"""The scenario package's manifest: what `scenario.yaml` may say. Unknown fields are refused."""

from __future__ import annotations

from typing import Literal

import msgspec

from isthmus.contracts.bars import ValueBars
from isthmus.contracts.schema import Column, Schema
from isthmus.contracts.statistic import Corruption, TrainingParams
from isthmus.contracts.targets import Target, Weighing


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of the manifest."""


class Interface(_Part, frozen=True, kw_only=True):
    """What a caller sends and gets. columns: of a table's row, or of each of the `steps` of a window of a series (contracts.schema); of a
    text, the one that holds it where it stands in a table.

    output: verdict, one of the two `classes`, the good one first, or a person; or value, a number with a band for each of `targets`.
    """

    input: Literal["image", "table", "series", "text"]
    output: Literal["verdict", "value"]
    classes: tuple[str, str] = ("good", "defect")
    columns: tuple[Column, ...] = ()
    steps: int = 1
    targets: tuple[Target, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def foretold(self) -> tuple[Target, ...]:
        """The targets; none of a task that gives verdicts."""
        return () if self.targets is msgspec.UNSET else self.targets

    @property
    def schema(self) -> Schema | None:
        """Of records that are not pictures. A text stands in the column `text` where no other is declared."""
        if self.input == "text" and not self.columns:
            return Schema(columns=(Column(name="text", kind="text"),), steps=self.steps)
        return None if self.input == "image" else Schema(columns=self.columns, steps=self.steps)


class Augmentation(_Part, frozen=True, kw_only=True):
    """A declared corruption, as in `certify`, that training records are put through as well; each severity is one more row of a record."""

    family: str
    severities: tuple[int, ...]


class Trees(_Part, frozen=True, kw_only=True):
    """How boosted trees are grown, where `head` is trees; see foundry.trees.

    trees, depth: at most so many, of so many levels; how many of them are kept is chosen on the groups set aside. rate: each leaf's share.
    l2: added to a leaf's curvature. features, cuts: what a tree may ask: up to so many cuts on each of so many features, drawn anew for
    each tree. Their product is the number of features that a node's sums are a statistic of. aside: of each owner's training groups one in
    so many is not grown on, and chooses the number of trees and the thresholds. start: share: from the share of defects; ridge: they go on
    from the ridge head of the same sums, whose score is then a part of theirs. Where `parts` begins with `columns`, trees ask about these
    only.
    """

    trees: int = 60
    depth: int = 4
    rate: float = 0.4
    l2: float = 1.0
    features: int = 5
    cuts: int = 2
    aside: int = 4
    start: Literal["share", "ridge"] = "share"


class Privacy(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """A run whose sums carry noise, for owners who agreed to that only (contracts.agreement.PrivacyTerms).

    epsilon, delta: what a run costs each owner, of its budget for the data's lifetime. unit, unit_records_max: as in the owners' terms.
    norm: rows of features are shortened to this share of the longest that declared ranges allow; shorter rows need less noise. penalty: the
    ridge penalty per unit of weight, to which the noise's own is added: it is not chosen by data, because that would have to be paid for.
    """

    epsilon: float
    delta: float = 1e-5
    unit: Literal["record", "group"] = "record"
    unit_records_max: int = 1
    norm: float = 0.5
    penalty: float = 0.001


class Recipe(_Part, frozen=True, kw_only=True, omit_defaults=True):
    """How the model is made of sums.

    parts: the features (contracts.parts, tableparts, seriesparts, textparts), few enough that sums over them say little of anybody.
    parts_after_leaving: others, none of which the first are made of, for rosters after a leaver; none where all features are made of the
    same columns. views: identity first; the others, of pictures, add to the training sums only, and so do augmentations, of any record.
    sure_weight and unsure_weight: integers. drawn_weight: of a copy of each good picture with drawn defects, as a defect; 0: none.
    lambdas: grid of ridge penalties per unit of weight. records_per_feature: the dimension rule that owners are asked to agree to: records
    behind what becomes visible, for each feature. weigh: how much each record counts in the fit of numbers; left out, all count once.
    privacy: sums carry noise (head ridge, verdicts only).
    head: ridge, in one round; logistic, whose score tells a probability, in a few rounds (irls/1); trees, in a round for each of their
    levels; all fitted on both classes. Or gaussian, fitted on good records only, whose lambdas are shrinkages above 0 and at most 1.
    """

    backbone: str
    parts: tuple[str, ...]
    parts_after_leaving: tuple[str, ...]
    views: tuple[Literal["identity", "flip-left-right", "flip-up-down", "rotate-180"], ...]
    sure_weight: int
    unsure_weight: int
    lambdas: tuple[float, ...]
    records_per_feature: int
    weigh: Weighing | msgspec.UnsetType = msgspec.UNSET
    head: Literal["ridge", "logistic", "trees", "gaussian"] = "ridge"
    trees: Trees | None = None
    augmentations: tuple[Augmentation, ...] = ()
    drawn_weight: int = 0
    privacy: Privacy | None = None

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
    passing that is wanted. validity_days: how long a certificate lasts. values: bars of a task that gives numbers, whose promises are
    greatest shares of outcomes beyond their bands; the bars on answers, recall, specificity and area are of verdicts only.
    promise: what promises_ppm bound: error among answered; or alarms, the share of good records that are not called good, where thresholds
    are chosen on good records only (head gaussian).
    """

    promises_ppm: tuple[int, ...]
    confidence_ppm: int
    groups_min: int
    answered_ppm_min: int = 50_000
    recall_ppm_min: int = 500_000
    specificity_ppm_min: int = 600_000
    auc_ppm_min: int = 600_000
    slice_records_min: int
    families: tuple[str, ...]
    severities: tuple[int, ...]
    planning_design_effect: float
    planning_power: float
    validity_days: int
    values: ValueBars | msgspec.UnsetType = msgspec.UNSET
    promise: Literal["error", "alarms"] = "error"


class Serve(_Part, frozen=True, kw_only=True):
    """Price and split. Shares in parts per million of the charge; owners' part is divided by training rows. residency: jurisdictions where
    the model may serve, as owners are told before they send sums; left out, where the exchange stands."""

    currency: str
    micros_per_inference: int
    compute_ppm: int
    model_vendor_ppm: int
    owners_ppm: int
    exchange_ppm: int
    sample_requests: int
    residency: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def models_to(self) -> tuple[str, ...]:
        """What a job says of where its model will serve; nothing where the package does not say."""
        return () if self.residency is msgspec.UNSET else self.residency


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
    task: Literal["image-inspection", "table-inspection", "series-inspection", "text-inspection", "table-forecast", "series-forecast"]
    purpose: str
    intended_use: str
    prohibited_use: str
    interface: Interface
    recipe: Recipe
    certify: Certify
    serve: Serve
    replicate: Replicate
    sample_data: Literal["elpv", "heart", "credit", "wine", "shuttle", "lahn", "lahn-discharge", "batteries", "reviews", "none"] = "none"
