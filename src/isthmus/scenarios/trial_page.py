"""The page of a trial: one HTML file that loads nothing, for light and dark, wide and narrow."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shlex
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.contracts.errors import StorageError
from isthmus.scenarios.folder import shown
from isthmus.scenarios.trial import Outcome, Trial
from isthmus.scenarios.trial_gallery import Exhibit, Gallery
from isthmus.scenarios.trial_images import PIXELS
from isthmus.scenarios.trial_light import UNCHANGED
from isthmus.scenarios.trial_words import (
    about,
    bound_percent,
    cautions,
    class_rows,
    headline,
    missing_line,
    next_step,
    percent,
    say,
    texts,
)

PARTS = Path(__file__).parent / "trial_page"
LISTED_MAX = 100
SCRIPT_KEYS = ("bar", "light", "look", "item", "scores", "ladder", "classes")
LIMIT_QUANTILE = 0.99


def rendered(trial: Trial, shelves: Gallery) -> str:
    """The whole page as text."""
    folder = shown(str(trial.gathered.survey.folder))
    values = {
        "title": f"{say('page.title')}: {shown(trial.gathered.survey.folder.resolve().name)}",
        "folder": folder,
        "folder_argument": shlex.quote(folder),
        "missing": " ".join(missing_line(m) for m in trial.missing),
        "promise_about": " ".join(about(trial)[:2]),
        "noscript": say("page.noscript"),
        "next_title": say("next.title"),
        "next": next_step(trial),
        "how_title": say("how.title"),
        "private": say("page.private"),
    }
    blocks = {key: html.escape(value) for key, value in values.items()} | {
        "headline": emphasised(headline(trial)),
        "cautions": "".join(
            f'<div class="caution {c.level}"><b>{html.escape(c.title)}</b><p>{html.escape(c.text)}</p></div>' for c in cautions(trial)
        ),
        "how": "".join(f"<p>{html.escape(line)}</p>" for line in _how(trial)),
        "aside": _aside(trial),
        "style": (PARTS / "style.css").read_text(encoding="utf-8"),
        "script": (PARTS / "page.js").read_text(encoding="utf-8"),
        "data": _embedded(_data(trial, shelves)),
    }
    page = (PARTS / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: blocks[match.group(1)], page)


def emphasised(sentence: str) -> str:
    """Escaped, its shares set off."""
    return re.sub(r"((?:≤ )?[\d.]+ %)", r"<b>\1</b>", html.escape(sentence))


def _embedded(data: dict[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _how(trial: Trial) -> list[str]:
    return [
        about(trial)[2],
        say("how.proof"),
        say("how.features", dimension=trial.gathered.readings[0].quantised.shape[0]),
        say("how.guards"),
        say("how.light", pixels=PIXELS),
        say("how.time", images=len(trial.gathered.readings), seconds=math.ceil(trial.wall_s)),
    ]


def _aside(trial: Trial) -> str:
    gathered = trial.gathered
    lines = [f"{u.name}: {u.reason}" for u in gathered.unread]
    lines += [" = ".join(names) for names in gathered.conflicts] + list(gathered.copies)
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines[:LISTED_MAX])
    more = f"<p>+ {len(lines) - LISTED_MAX}</p>" if len(lines) > LISTED_MAX else ""
    return f"<details><summary>{html.escape(say('aside.title'))} ({len(lines)})</summary><ul>{items}</ul>{more}</details>"


def _image(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.reading.file.name,
        "truth": outcome.truth,
        "verdict": outcome.verdict,
        "score": round(outcome.score, 4),
        "margin": round(outcome.margin, 4),
        "state": outcome.state,
    }


def _shelf(trial: Trial, exhibits: tuple[Exhibit, ...]) -> list[dict[str, Any]]:
    return [{"image": _image(trial.outcomes[e.row]), "thumb": e.thumb, "heat": e.heat} for e in exhibits]


def _data(trial: Trial, shelves: Gallery) -> dict[str, Any]:
    binary = len(trial.gathered.answers) == 2
    spread = np.array([abs(o.score) if binary else o.margin for o in trial.outcomes])
    threshold = trial.promise.chosen.threshold
    return {
        "texts": {key: value for key, value in texts().items() if key.split(".")[0] in SCRIPT_KEYS},
        "binary": binary,
        "answers": list(trial.gathered.answers),
        "confidence": percent(trial.settings.confidence),
        "tested": [sum(o.state == state for o in trial.tested) for state in range(3)],
        "threshold": threshold,
        "limit": float(max(np.quantile(spread, LIMIT_QUANTILE), threshold * 1.15, 1e-6)),
        "scores": [[round(o.score, 4), o.truth] if binary else [round(o.margin, 4), int(o.verdict != o.truth)] for o in trial.outcomes],
        "classes": [
            {
                "name": r.name,
                "tested": r.tested,
                "right": r.right,
                "wrong": r.wrong,
                "person": r.person,
                "bound": bound_percent(r.wrong_bound),
            }
            for r in class_rows(trial)
        ],
        "ladder": [
            {
                "error": percent(p.error),
                "share": p.chosen.share,
                "wrong": p.chosen.errors,
                "answered": p.chosen.answered,
                "bound": bound_percent(p.chosen.bound),
                "proven": p.proven,
                "asked": p.error == trial.settings.error,
            }
            for p in trial.ladder
        ],
        "light": _light(trial),
        "shelves": {name: _shelf(trial, getattr(shelves, name)) for name in ("doubtful", "wrong", "unlike")},
    }


def _light(trial: Trial) -> dict[str, Any]:
    study = trial.light
    order = sorted(range(len(study.images)), key=lambda i: trial.outcomes[study.images[i]].truth)
    return {
        "stops": list(study.stops),
        "unchanged": UNCHANGED,
        "wanted": study.wanted,
        "images": [
            {
                "name": trial.outcomes[study.images[i]].reading.file.name,
                "thumb": study.thumbs[i],
                "states": study.states[i].tolist(),
                "scores": [round(float(v), 3) for v in study.scores[i]],
            }
            for i in order
        ],
    }


def write_page(text: str, target: Path, option: str = "--out") -> None:
    """Writes a page whole or not at all. option: what names another place. Raises StorageError."""
    try:
        handle, name = tempfile.mkstemp(prefix=".isthmus-", suffix=".html", dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            f"the page cannot be written to {shown(str(target))}: {error.strerror}", f"give another place with {option}"
        ) from error


def check_writable(target: Path, option: str = "--out") -> None:
    """Finds out before the work starts whether the page can be written. Raises StorageError."""
    place = shown(str(target.parent))
    if target.is_dir():
        raise StorageError(f"{shown(str(target))} is a folder, so the page cannot be written there", f"give a file name with {option}")
    try:
        handle, name = tempfile.mkstemp(prefix=".isthmus-", suffix=".html", dir=target.parent)
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise StorageError(f"no page can be written in {place}: {error.strerror}", f"give another place with {option}") from error
