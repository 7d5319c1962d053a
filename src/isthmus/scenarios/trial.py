"""A trial: one folder, one person, one minute. What can be promised, what is doubtful, what is missing.

One half of the images (whole groups, by the digest of their bytes, classes in equal parts) teaches a ridge model; the other
half proves what it may promise (see `trial_proof`). An image is answered when its margin reaches the threshold, when it
looks like what was learned (`trial_model`), and when its light lies in the range that was learned.

With two folders, or one that is called good, the question is 'good or not'; otherwise 'which folder'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from isthmus.contracts.ports import Clock, Extractor, Progress
from isthmus.scenarios.trial_images import ImageReader, Reading
from isthmus.scenarios.trial_light import STOPS, LightStudy, Relit, relit
from isthmus.scenarios.trial_material import Gathered, TrialSettings, gather, tested_half, usable
from isthmus.scenarios.trial_model import Flags, Integers, Reals, Scored, TrialModel
from isthmus.scenarios.trial_proof import Promise, Side, Step, more_needed, prove
from isthmus.scenarios.trial_shortcuts import Shortcut, shortcuts

STATES = ("right", "wrong", "person")
RIGHT, WRONG, PERSON = 0, 1, 2
REASONS = ("", "doubt", "unlike", "light")
DOUBT, UNLIKE, LIGHT = 1, 2, 3
LIGHT_IMAGES = 100
LIGHT_SLACK_GREYS = 2.0
PLAUSIBLE_MIN = 0.2
LADDER = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Outcome:
    """One image, scored by a model that never saw it.

    state: index into STATES. reason: index into REASONS, why it goes to a person. score: first output, 0 = undecided.
    """

    reading: Reading
    truth: int
    tested: bool
    verdict: int
    score: float
    margin: float
    unfamiliarity: float
    state: int
    reason: int


@dataclass(frozen=True)
class Missing:
    """What would prove `error`: more answered images without an error, at the threshold planned for it."""

    error: float
    more: int | None
    step: Step

    @property
    def in_reach(self) -> bool:
        """False when so many errors were seen that `error` is hardly the true share: numbers alone will not help."""
        plausible = float(stats.binom.sf(self.step.errors - 1, self.step.answered, self.error))
        return self.more is not None and plausible >= PLAUSIBLE_MIN


@dataclass(frozen=True)
class Trial:
    """All that the page, the table and the JSON object tell. missing: for the asked error (when not proven) and for a smaller one.

    typical: (features,) mean of what was learned of the first answer.
    """

    gathered: Gathered
    settings: TrialSettings
    promise: Promise
    ladder: tuple[Promise, ...]
    missing: tuple[Missing, ...]
    shortcuts: tuple[Shortcut, ...]
    outcomes: tuple[Outcome, ...]
    light: LightStudy
    model: TrialModel
    typical: Reals
    reader: ImageReader
    wall_s: float

    @property
    def tested(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.tested]


class Judge:
    """A trained model with its two guards: light as learned, looks as learned."""

    def __init__(self, model: TrialModel, readings: Sequence[Reading]) -> None:
        light, contrast = np.array([r.light for r in readings]), np.array([r.contrast for r in readings])
        slack = LIGHT_SLACK_GREYS
        self.model = model
        self.range = (float(light.min()) - slack, float(light.max()) + slack, float(contrast.min()) - slack, float(contrast.max()) + slack)

    def guarded(self, scored: Scored, light: Reals, contrast: Reals) -> tuple[Reals, Integers]:
        """(margin, or -1 where a guard speaks; index into REASONS of the guard, 0 for none)."""
        low, high, flat, harsh = self.range
        lit = (light >= low) & (light <= high) & (contrast >= flat) & (contrast <= harsh)
        reason = np.where(~lit, LIGHT, np.where(scored.familiar, 0, UNLIKE)).astype(np.int64)
        return np.where(reason == 0, scored.margin, -1.0), reason


def states_at(margin: Reals, right: Flags, threshold: float) -> Integers:
    """Index into STATES of each image at a threshold."""
    return np.where(margin < threshold, PERSON, np.where(right, RIGHT, WRONG)).astype(np.int64)


def run_trial(folder: Path, extractor: Callable[[], Extractor], settings: TrialSettings, clock: Clock, progress: Progress) -> Trial:
    """The whole trial. extractor: made only when the folder is fit for use. Raises FolderError."""
    started_s = clock.monotonic_s()
    found = usable(folder, settings)
    reader = ImageReader(extractor())
    gathered = gather(found, settings, reader, progress)
    tested = tested_half(gathered)
    features = np.stack([r.quantised for r in gathered.readings]).astype(np.float64)
    model = TrialModel(features[~tested], gathered.classes[~tested], gathered.groups[~tested], len(gathered.answers))
    judge = Judge(model, [r for r, t in zip(gathered.readings, tested, strict=True) if not t])
    scored = _both_halves(model, features, tested)
    margin, guard = judge.guarded(scored, np.array([r.light for r in gathered.readings]), np.array([r.contrast for r in gathered.readings]))
    right = scored.verdict == gathered.classes
    sides = [Side(margin[half], right[half], gathered.groups[half]) for half in (~tested, tested)]
    promise = prove(sides[0], sides[1], settings.error, settings.confidence)
    threshold = promise.chosen.threshold
    outcomes = _outcomes(gathered, scored, tested, margin, guard, threshold)
    light = light_study(gathered, judge, tested, threshold, reader, settings, clock, progress)
    good = features[~tested & (gathered.classes == 0)]
    return Trial(
        gathered=gathered,
        settings=settings,
        promise=promise,
        ladder=tuple(prove(sides[0], sides[1], e, settings.confidence) for e in sorted({*LADDER, settings.error})),
        missing=_missing(sides[0], sides[1], promise),
        shortcuts=tuple(shortcuts(gathered.readings, gathered.classes, gathered.answers)),
        outcomes=outcomes,
        light=light,
        model=model,
        typical=good.mean(axis=0),
        reader=reader,
        wall_s=clock.monotonic_s() - started_s,
    )


def _both_halves(model: TrialModel, features: Reals, tested: Flags) -> Scored:
    """Scores of all images: leave-group-out for those learned from, plain for the others."""
    fresh = model.score(features[tested])

    def merged(own: np.ndarray, new: np.ndarray) -> np.ndarray:
        result = np.zeros((len(tested), *own.shape[1:]), dtype=own.dtype)
        result[~tested], result[tested] = own, new
        return result

    names = ("outputs", "verdict", "margin", "familiar", "unfamiliarity")
    return Scored(*(merged(getattr(model.own, name), getattr(fresh, name)) for name in names))


def _outcomes(gathered: Gathered, scored: Scored, tested: Flags, margin: Reals, guard: Integers, threshold: float) -> tuple[Outcome, ...]:
    states = states_at(margin, scored.verdict == gathered.classes, threshold)
    reasons = np.where(states != PERSON, 0, np.where(guard == 0, DOUBT, guard))
    return tuple(
        Outcome(
            reading=reading,
            truth=int(gathered.classes[row]),
            tested=bool(tested[row]),
            verdict=int(scored.verdict[row]),
            score=float(scored.outputs[row, 0]),
            margin=float(scored.margin[row]),
            unfamiliarity=float(scored.unfamiliarity[row]),
            state=int(states[row]),
            reason=int(reasons[row]),
        )
        for row, reading in enumerate(gathered.readings)
    )


def _missing(learned: Side, tested: Side, promise: Promise) -> tuple[Missing, ...]:
    """What the asked error lacks, when it is not proven, and what the next smaller one lacks, at the threshold planned for it."""
    smaller = [e for e in (0.01, 0.001) if e < promise.error] or [promise.error / 10]
    result = [] if promise.proven else [Missing(promise.error, _more(promise), promise.chosen)]
    for error in smaller:
        further = prove(learned, tested, error, promise.confidence)
        if not further.proven:
            return (*result, Missing(error, _more(further), further.chosen))
    return tuple(result)


def _more(promise: Promise) -> int | None:
    return more_needed(promise.chosen, promise.error, promise.confidence)


def light_study(
    gathered: Gathered,
    judge: Judge,
    tested: Flags,
    threshold: float,
    reader: ImageReader,
    settings: TrialSettings,
    clock: Clock,
    progress: Progress,
) -> LightStudy:
    """Answers of up to LIGHT_IMAGES images of the tested half, in the order of their digests, at every level of light."""
    rows = sorted(np.flatnonzero(tested).tolist(), key=lambda row: gathered.readings[row].digest)[:LIGHT_IMAGES]
    deadline_s = clock.monotonic_s() + settings.light_budget_s
    done: list[Relit] = relit([gathered.readings[row] for row in rows], reader, clock, deadline_s, progress)
    rows = rows[: len(done)]
    states, scores = np.zeros((len(done), len(STOPS)), np.int64), np.zeros((len(done), len(STOPS)))
    for column in range(len(STOPS)):
        scored = judge.model.score(np.stack([item.quantised[column] for item in done]))
        light, contrast = (np.array([getattr(item, name)[column] for item in done]) for name in ("light", "contrast"))
        margin, _ = judge.guarded(scored, light, contrast)
        states[:, column] = states_at(margin, scored.verdict == gathered.classes[rows], threshold)
        scores[:, column] = scored.outputs[:, 0]
    wanted = min(LIGHT_IMAGES, int(tested.sum()))
    return LightStudy(STOPS, tuple(rows), tuple(item.thumb for item in done), states, scores, wanted)
