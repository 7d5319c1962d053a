"""What a trial says in sentences: the headline, what to beware of, what to do next. For terminal and page alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from isthmus.assurance.bounds import clopper_pearson_upper, needed_samples
from isthmus.scenarios.trial import PERSON, RIGHT, WRONG, Missing, Trial
from isthmus.scenarios.trial_shortcuts import Shortcut

TEXTS_FILE = Path(__file__).parent / "trial_page" / "texts_en.json"
PERFECT_MIN = 30


@cache
def texts() -> dict[str, str]:
    """Sentences by key."""
    return {str(k): str(v) for k, v in json.loads(TEXTS_FILE.read_text(encoding="utf-8")).items()}


def say(key: str, **values: object) -> str:
    """One sentence with {names} filled in."""
    return texts()[key].format_map(values)


def percent(share: float) -> str:
    """0.7136 -> '71 %', 0.0489 -> '4.9 %', 0.001 -> '0.1 %'."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or abs(value - round(value)) < 0.05 else f"{value:.1f} %"


def bound_percent(share: float) -> str:
    """Like `percent`, rounded upwards, so that what is written is not less than what was proven."""
    step = 1.0 if share >= 0.1 else 0.1
    value = -(-100 * share // step) * step
    return f"{value:.0f} %" if abs(value - round(value)) < 1e-9 else f"{value:.1f} %"


@dataclass(frozen=True)
class ClassRow:
    """How one class fared in the tested half. wrong_bound: on the share of this class that is answered wrongly, from above."""

    name: str
    tested: int
    right: int
    wrong: int
    person: int
    wrong_bound: float


@dataclass(frozen=True)
class Caution:
    """level: 'stop' (the figures may mean nothing), 'care' or 'note'."""

    level: str
    title: str
    text: str


def class_rows(trial: Trial) -> list[ClassRow]:
    rows: list[ClassRow] = []
    for number, name in enumerate(trial.gathered.answers):
        own = [o.state for o in trial.tested if o.truth == number]
        wrong = own.count(WRONG)
        bound = clopper_pearson_upper(wrong, len(own), trial.settings.confidence)
        rows.append(ClassRow(name, len(own), own.count(RIGHT), wrong, own.count(PERSON), bound))
    return rows


def headline(trial: Trial) -> str:
    """The one sentence of the trial."""
    promise, step = trial.promise, trial.promise.chosen
    values = {
        "share": percent(step.share),
        "error": percent(promise.error),
        "confidence": percent(promise.confidence),
        "bound": bound_percent(step.bound),
        "tested": step.records,
        "answered": step.answered,
    }
    if promise.proven:
        return say("headline.proven", **values)
    return say("headline.bound" if step.bound < 0.5 else "headline.nothing", **values)


def missing_line(missing: Missing) -> str:
    """What would prove a smaller error."""
    values = {"error": percent(missing.error), "more": missing.more, "seen": missing.step.errors, "answered": missing.step.answered}
    if missing.more is None:
        return say("missing.far", **values)
    return say("missing.more" if missing.in_reach else "missing.errors", **values)


def more_images(missing: Missing) -> int | None:
    """Roughly how many further images in the folder that means, as half of them teach and not all are answered."""
    if missing.more is None or not missing.step.answered:
        return None
    return round(2 * missing.more / missing.step.share)


def about(trial: Trial) -> list[str]:
    """What the promise is about, and what it is not."""
    gathered = trial.gathered
    rows = class_rows(trial)
    mix = ", ".join(f"{row.name} {percent(row.tested / max(1, trial.promise.chosen.records))}" for row in rows)
    lines = [say("about.like_these", mix=mix)]
    if gathered.grouped_by:
        lines.append(say("about.groups", groups=len(set(gathered.groups.tolist())), how=gathered.grouped_by))
    else:
        lines.append(say("about.each"))
    lines.append(say("about.halves", learned=len(gathered.readings) - trial.promise.chosen.records, tested=trial.promise.chosen.records))
    return lines


def _shortcut_caution(shortcut: Shortcut) -> Caution:
    key = "recording" if shortcut.of_recording else "scene"
    values = {
        "aspect": say(f"aspect.{shortcut.aspect}"),
        "name": shortcut.class_name,
        "here": shortcut.here,
        "rest": shortcut.rest,
        "accuracy": percent(shortcut.accuracy),
    }
    return Caution("stop" if shortcut.of_recording else "care", say(f"shortcut.{key}.title", **values), say(f"shortcut.{key}", **values))


def cautions(trial: Trial) -> list[Caution]:
    """What a reader must know before believing the figures, the most serious first."""
    gathered, promise = trial.gathered, trial.promise
    found = [_shortcut_caution(s) for s in trial.shortcuts]
    rows = class_rows(trial)
    largest = max(rows, key=lambda row: row.tested)
    lazy = 1 - largest.tested / max(1, promise.chosen.records)
    if lazy <= promise.error:
        found.append(Caution("stop", say("lazy.title"), say("lazy", name=largest.name, share=percent(lazy))))
    needed = needed_samples(promise.error, promise.confidence)
    if promise.chosen.records < needed:
        values = {"tested": promise.chosen.records, "needed": needed, "images": 2 * needed, "error": percent(promise.error)}
        found.append(Caution("care", say("few.title"), say("few", **values)))
    tested = trial.tested
    if len(tested) >= PERFECT_MIN and all(o.verdict == o.truth for o in tested) and not trial.shortcuts:
        found.append(Caution("note", say("perfect.title"), say("perfect")))
    if gathered.conflicts:
        names = " = ".join(gathered.conflicts[0])
        found.append(Caution("care", say("conflicts.title", n=len(gathered.conflicts)), say("conflicts", names=names)))
    if gathered.unread:
        first = gathered.unread[0]
        found.append(Caution("care", say("unread.title", n=len(gathered.unread)), say("unread", name=first.name, reason=first.reason)))
    if gathered.copies:
        found.append(Caution("note", say("copies.title", n=len(gathered.copies)), say("copies")))
    if gathered.skipped:
        found.append(Caution("note", say("skipped.title", n=gathered.skipped), say("skipped", used=len(gathered.readings))))
    return found + [Caution("note", say("note.title"), note) for note in gathered.survey.notes]


def next_step(trial: Trial) -> str:
    """One sentence: what to do now."""
    if any(s.of_recording for s in trial.shortcuts):
        return say("next.shortcut")
    first = trial.missing[0] if trial.missing else None
    if first is None:
        return say("next.owner")
    images = more_images(first)
    if not first.in_reach:
        return say("next.errors")
    if images is None:
        return say("next.more")
    return say("next.images", images=images, error=percent(first.error))
