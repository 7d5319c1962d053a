"""A trial of good images only: what can be promised of false alarms, what looks unlike them, and where.

One half of the good images (whole groups, by the digest of their bytes) teaches a Gaussian of their places (foundry.patches,
kit.mahalanobis); its threshold is planned on scores that each group got without itself. The other half proves how many good ones are
called unlike. Nothing is proven of misses: scratches drawn over the tested half show only whether the model sees anything at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.assurance.arithmetic import Prospect, prospects
from isthmus.assurance.bounds import clopper_pearson_upper, design_effect, korn_graubard_bounds, korn_graubard_upper, too_few_groups
from isthmus.assurance.corruptions import SCRATCH, corrupt
from isthmus.contracts.errors import FolderError, PictureError
from isthmus.contracts.head import Stage
from isthmus.contracts.ports import Clock, Progress
from isthmus.foundry.foldout import ThresholdPlan, Thresholds, choose_alarm_threshold, loose_edges
from isthmus.foundry.gaussian import SHRINKAGES, top_of
from isthmus.foundry.runtime import Images
from isthmus.kit.mahalanobis import Whitening, distances, scores, spread_of, squared_distances, whitening
from isthmus.sandbox.statistics.foldout import group_sums, score_histogram
from isthmus.sandbox.statistics.gaussian import LeftOut, good_moments, summed_loss
from isthmus.sandbox.statistics.records import Records, TrainingRecords
from isthmus.scenarios.folder import Survey
from isthmus.scenarios.trial_gallery import DISTANCE_SPAN, SHELF_IMAGES_MAX, distance_heat, heat_uri
from isthmus.scenarios.trial_images import ImageReader, Pixels, Reading, Unread, data_uri, in_order
from isthmus.scenarios.trial_material import Gathered, TrialSettings, gather_good, tested_half
from isthmus.scenarios.trial_model import Flags, Reals

PARTS = ("patch-defects/max", "patch-deep/4", "patch-rings/3")
BACKBONE = "efficientnet-lite0-dim"
SCRATCHED_MAX, SCRATCH_SEVERITY = 60, 3
PLANNED_POWER = 0.8


class PatchExtractor(Protocol):
    """A stage of patches (foundry.patches.PatchStages)."""

    stage: Stage

    def rows(self, images: Images, /) -> NDArray[np.int16]: ...


class Rows:
    """A patch extractor as the reader of images takes one: rows laid out flat."""

    def __init__(self, extractor: PatchExtractor) -> None:
        self.digest, self.dimension = extractor.stage.digest, extractor.stage.width
        self._extractor = extractor

    def quantised(self, images: list[NDArray[np.uint8]]) -> NDArray[np.int16]:
        return self._extractor.rows(images)


@dataclass(frozen=True)
class GoodModel:
    """Threshold and Gaussian. shrinkage: the likeliest for images left out."""

    stage: Stage
    fitted: Whitening
    thresholds: Thresholds

    def places(self, rows: NDArray[np.int16]) -> Reals:
        """(n, positions) squared distances."""
        q = rows.reshape(len(rows), self.stage.positions, self.stage.dimension)
        return squared_distances(q, self.fitted.matrix, self.fitted.centre)

    def scores(self, rows: NDArray[np.int16]) -> Reals:
        """(n,) scores."""
        return scores(self.places(rows), top_of(self.stage), self.stage.dimension)

    def heat(self, row: NDArray[np.int16]) -> str:
        """A picture's heat map, as a data URI to lay over it."""
        far = distances(self.places(row[None]), self.stage.dimension)[0]
        side = int(np.sqrt(self.stage.positions))
        return heat_uri(distance_heat(far.reshape(side, side)), DISTANCE_SPAN)


@dataclass(frozen=True)
class GoodOutcome:
    """One image. score: by a model that did not see it. alarm: not called good. kind: learned, tested or unlabelled."""

    reading: Reading
    score: float
    alarm: bool
    kind: str


@dataclass(frozen=True)
class Shown:
    """One image on a shelf. thumb, heat: data URIs."""

    name: str
    score: float
    thumb: str
    heat: str


@dataclass(frozen=True)
class GoodTrial:
    """All that is told. good, alarms: of the tested half. bound: proven on the share of alarms. drawn, drawn_caught: scratches."""

    gathered: Gathered
    unlabelled_unread: tuple[Unread, ...]
    settings: TrialSettings
    model: GoodModel
    outcomes: tuple[GoodOutcome, ...]
    good: int
    alarms: int
    effect: float
    bound: float
    drawn: int
    drawn_caught: int
    prospects: tuple[Prospect, ...]
    shelves: dict[str, tuple[Shown, ...]]
    wall_s: float

    @property
    def proven(self) -> bool:
        return self.bound <= self.settings.error

    def of_kind(self, kind: str) -> list[GoodOutcome]:
        return [one for one in self.outcomes if one.kind == kind]


def run_good_trial(
    found: Survey, extractor: Callable[[], PatchExtractor], settings: TrialSettings, clock: Clock, progress: Progress
) -> GoodTrial:
    """The whole trial of a folder of good images. Raises FolderError."""
    started_s = clock.monotonic_s()
    made = extractor()
    reader = ImageReader(Rows(made))
    gathered, others, unread = gather_good(found, settings, reader, progress)
    tested = tested_half(gathered)
    rows = np.stack([r.quantised for r in gathered.readings])
    training = _training(rows[~tested], gathered.groups[~tested])
    if min(len(np.unique(gathered.groups[half])) for half in (tested, ~tested)) < 2:
        raise FolderError("the good images are of too few groups to teach and to prove", "add images of other parts or lots")
    model, own, effect = _fitted(training, made.stage, int(tested.sum()), settings)
    lo = model.thresholds.lo
    fresh = model.scores(rows[tested])
    alarms, good = int((fresh > lo).sum()), int(tested.sum())
    each = {"learned": iter(own), "tested": iter(fresh)}
    kinds = ["tested" if t else "learned" for t in tested]
    outcomes = [_outcome(r, float(next(each[kind])), lo, kind) for r, kind in zip(gathered.readings, kinds, strict=True)]
    outcomes += [_outcome(r, float(model.scores(r.quantised[None])[0]), lo, "unlabelled") for r in others]
    scratched = _scratched(gathered, tested, model, reader, progress)
    return GoodTrial(
        gathered=gathered,
        unlabelled_unread=unread,
        settings=settings,
        model=model,
        outcomes=tuple(outcomes),
        good=good,
        alarms=alarms,
        effect=effect,
        bound=_bound(alarms, gathered.groups[tested], effect, settings.confidence),
        drawn=len(scratched),
        drawn_caught=sum(one.score > lo for one in scratched),
        prospects=prospects(good, 0, (), settings.confidence),
        shelves={**_shelves(outcomes, model, reader), "scratched": tuple(scratched[:SHELF_IMAGES_MAX])},
        wall_s=clock.monotonic_s() - started_s,
    )


def _training(rows: NDArray[np.int16], groups: NDArray[np.int64]) -> TrainingRecords:
    n = len(rows)
    return TrainingRecords(Records(np.full(n, -1, dtype=np.int64), groups, ("",) * n), (rows,), np.ones(n, dtype=np.int64))


def _fitted(training: TrainingRecords, stage: Stage, proof: int, settings: TrialSettings) -> tuple[GoodModel, Reals, float]:
    """(model, scores of the learned half, each without its group, design effect of alarms among them)."""
    sums, records = good_moments(training, stage), training.records
    left, everyone = LeftOut(training, stage, sums), np.ones(records.size, dtype=bool)
    shrinkage = min(SHRINKAGES, key=lambda s: summed_loss(left.losses(s), everyone, training.w))
    own = left.scores(shrinkage, top_of(stage))
    clustered = len(np.unique(records.groups)) < records.size
    groups = len(np.unique(records.groups)) if clustered else proof

    def planned(effect: float) -> Thresholds:
        plan = ThresholdPlan(
            bar=settings.error,
            records=proof,
            groups=groups,
            design_effect=effect,
            bound=lambda errors, n, deff, many: korn_graubard_bounds(errors, n, deff, many, settings.confidence),
            power=PLANNED_POWER,
        )
        return choose_alarm_threshold(score_histogram(own, records.y), plan, 1.0)

    thresholds, effect = planned(1.0), 1.0
    if clustered:
        edges = (thresholds.lo, *loose_edges(score_histogram(own, records.y)))
        effect = max(design_effect(group_sums(everyone, own > edge, records.groups)) for edge in edges)
        thresholds = planned(effect)
    return GoodModel(stage, whitening(spread_of(sums), shrinkage), thresholds), own, effect


def _bound(alarms: int, groups: NDArray[np.int64], effect: float, confidence: float) -> float:
    distinct = len(np.unique(groups))
    if distinct == len(groups):
        return clopper_pearson_upper(alarms, len(groups), confidence)
    return 1.0 if too_few_groups(distinct) else korn_graubard_upper(alarms, len(groups), effect, distinct, confidence)


def _outcome(reading: Reading, score: float, lo: float, kind: str) -> GoodOutcome:
    return GoodOutcome(reading, score, score > lo, kind)


def _scratched(gathered: Gathered, tested: Flags, model: GoodModel, reader: ImageReader, progress: Progress) -> list[Shown]:
    """Images of the tested half with a drawn scratch, in the order of their digests."""
    chosen = sorted((r for r, t in zip(gathered.readings, tested, strict=True) if t), key=lambda r: r.digest)[:SCRATCHED_MAX]

    def scratch(pixels: Pixels) -> Pixels:
        return np.asarray(corrupt(pixels, SCRATCH, SCRATCH_SEVERITY), dtype=np.uint8)

    def work(reading: Reading) -> Shown | None:
        try:
            _, images, rows = reader.views(reading.file, [scratch])
        except PictureError:  # changed since it was read
            return None
        return Shown(reading.file.name, float(model.scores(rows)[0]), data_uri(images[0][::2, ::2]), model.heat(rows[0]))

    found = []
    for done, one in enumerate(in_order(work, chosen), start=1):
        found += [] if one is None else [one]
        progress(done, len(chosen), "images with a drawn scratch")
    return found


def _shelves(outcomes: list[GoodOutcome], model: GoodModel, reader: ImageReader) -> dict[str, tuple[Shown, ...]]:
    """Farthest first: what has no label, and good ones that are not called good."""
    shelves = {}
    for name, kinds, only_alarms in (("unlabelled", ("unlabelled",), False), ("alarms", ("tested", "learned"), True)):
        wanted = sorted((o for o in outcomes if o.kind in kinds and (o.alarm or not only_alarms)), key=lambda o: -o.score)
        shown = []
        for one in wanted[:SHELF_IMAGES_MAX]:
            try:
                thumb, _ = reader.thumb(one.reading.file)
            except PictureError:
                continue
            shown.append(Shown(one.reading.file.name, one.score, thumb, model.heat(one.reading.quantised)))
        shelves[name] = tuple(shown)
    return shelves
