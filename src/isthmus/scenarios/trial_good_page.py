"""What a trial of good images only tells: sentences, one HTML file without a script, and one JSON object."""

from __future__ import annotations

import html
import math
import re
import shlex
from pathlib import Path
from typing import Any

from isthmus.foundry.gaussian import top_of
from isthmus.scenarios.folder import shown
from isthmus.scenarios.trial_good import GoodTrial, Shown
from isthmus.scenarios.trial_page import PARTS, emphasised
from isthmus.scenarios.trial_words import Caution, bound_percent, percent, say

SHELVES = ("unlabelled", "alarms", "scratched")
SIGHT_MIN = 0.5
"""Of drawn scratches: with fewer caught the page warns that the model hardly sees."""


def good_headline(trial: GoodTrial) -> str:
    """The one sentence of the trial."""
    wanted = trial.settings
    values = {"error": percent(wanted.error), "confidence": percent(wanted.confidence), "bound": bound_percent(trial.bound)}
    return say("good.headline.proven" if trial.proven else "good.headline.bound", **values)


def good_lines(trial: GoodTrial) -> list[str]:
    """The sample arithmetic: what these images prove, and what is missing."""
    return [line.sentence for line in trial.prospects if line.kind == "promise"]


def good_about(trial: GoodTrial) -> str:
    gathered = trial.gathered
    text = say("good.about", learned=len(gathered.readings) - trial.good, tested=trial.good, alarms=trial.alarms)
    groups = len(set(gathered.groups.tolist()))
    how = say("good.about.groups", groups=groups, how=gathered.grouped_by) if gathered.grouped_by else say("good.about.each")
    return f"{text} {how}"


def good_cautions(trial: GoodTrial) -> list[Caution]:
    """What a reader must know, the most serious first."""
    found = [Caution("care", say("good.recall.title"), say("good.recall", caught=trial.drawn_caught, drawn=trial.drawn))]
    if trial.drawn and trial.drawn_caught < SIGHT_MIN * trial.drawn:
        text = say("good.blind", caught=trial.drawn_caught, drawn=trial.drawn)
        found.insert(0, Caution("stop", say("good.blind.title"), text))
    others = trial.of_kind("unlabelled")
    if others:
        text = say("good.unlabelled", alarms=sum(one.alarm for one in others), count=len(others))
        found.append(Caution("note", say("good.shelf.unlabelled"), text))
    unread = (*trial.gathered.unread, *trial.unlabelled_unread)
    if unread:
        text = say("unread", name=unread[0].name, reason=unread[0].reason)
        found.append(Caution("care", say("unread.title", n=len(unread)), text))
    if trial.model.thresholds.note:
        found.append(Caution("note", say("note.title"), trial.model.thresholds.note[:1].upper() + trial.model.thresholds.note[1:] + "."))
    return found


def _how(trial: GoodTrial) -> list[str]:
    stage, fitted = trial.model.stage, trial.model.fitted
    numbers = {"features": stage.dimension, "positions": stage.positions, "zones": stage.zones, "top": top_of(stage)}
    return [
        say("good.how.model", shrinkage=fitted.shrinkage, **numbers),
        say("good.how.threshold"),
        say("how.time", images=len(trial.outcomes), seconds=math.ceil(trial.wall_s)),
    ]


def _item(one: Shown, lo: float) -> str:
    name, said = html.escape(one.name), html.escape(say("good.said.person" if one.score > lo else "good.said.good"))
    heat = f'<img class="heat" src="{one.heat}" alt="">'
    return (
        f'<div class="item"><div class="pic"><img class="photo" src="{one.thumb}" alt="{name}">{heat}</div>'
        f'<div class="text"><b>{said}</b> {one.score:.2f}<span class="name" title="{name}">{name}</span></div></div>'
    )


def _shelf(trial: GoodTrial, name: str) -> str:
    items = "".join(_item(one, trial.model.thresholds.lo) for one in trial.shelves[name])
    inside = f'<div class="shelf">{items}</div>' if items else f"<p>{html.escape(say('good.shelf.none'))}</p>"
    return f'<section id="{name}"><h2>{html.escape(say(f"good.shelf.{name}"))}</h2>{inside}</section>'


def good_page(trial: GoodTrial) -> str:
    """The whole page as text."""
    folder = shown(str(trial.gathered.survey.folder))
    values = {
        "title": f"{say('page.title')}: {shown(trial.gathered.survey.folder.resolve().name)}",
        "folder": folder,
        "folder_argument": shlex.quote(folder),
        "missing": " ".join(good_lines(trial)),
        "about": good_about(trial),
        "heat": say("good.heat"),
        "heat_about": say("good.heat.about"),
        "next_title": say("next.title"),
        "next": say("good.next"),
        "how_title": say("how.title"),
        "private": say("page.private"),
    }
    blocks = {key: html.escape(value) for key, value in values.items()} | {
        "headline": emphasised(good_headline(trial)),
        "cautions": "".join(
            f'<div class="caution {c.level}"><b>{html.escape(c.title)}</b><p>{html.escape(c.text)}</p></div>' for c in good_cautions(trial)
        ),
        "shelves": "".join(_shelf(trial, name) for name in SHELVES),
        "how": "".join(f"<p>{html.escape(line)}</p>" for line in _how(trial)),
        "style": (PARTS / "style.css").read_text(encoding="utf-8"),
    }
    page = (PARTS / "good.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: blocks[match.group(1)], page)


def good_summary(trial: GoodTrial, target: Path, wall_s: float) -> dict[str, Any]:
    """The trial as one JSON object."""
    gathered, others = trial.gathered, trial.of_kind("unlabelled")
    return {
        "folder": str(gathered.survey.folder),
        "headline": good_headline(trial),
        "only_good": True,
        "images": {
            "used": len(gathered.readings),
            "learned": len(gathered.readings) - trial.good,
            "tested": trial.good,
            "unlabelled": len(others),
            "unreadable": len(gathered.unread) + len(trial.unlabelled_unread),
            "copies": len(gathered.copies),
            "over_limit": gathered.skipped,
        },
        "error": trial.settings.error,
        "confidence": trial.settings.confidence,
        "proven": trial.proven,
        "alarms": trial.alarms,
        "alarm_bound": trial.bound,
        "design_effect": trial.effect,
        "threshold": trial.model.thresholds.lo,
        "shrinkage": trial.model.fitted.shrinkage,
        "grouped_by": gathered.grouped_by or None,
        "recall": None,
        "drawn": trial.drawn,
        "drawn_caught": trial.drawn_caught,
        "unlabelled_alarms": sum(one.alarm for one in others),
        "doubtful": [one.name for one in trial.shelves["unlabelled"]],
        "prospects": good_lines(trial),
        "cautions": [{"level": c.level, "title": c.title, "text": c.text} for c in good_cautions(trial)],
        "page": str(target),
        "next": say("good.next"),
        "wall_s": round(wall_s, 2),
    }
