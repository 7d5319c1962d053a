"""Whose warnings are sent for one gauge, at which levels and how far ahead: what `isthmus warn` is given as a file."""

from __future__ import annotations

import msgspec


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part."""


class WarningArea(_Part, frozen=True, kw_only=True):
    """polygon: [latitude, longitude] in degrees, closed, or none. geocodes: a system's name to a code."""

    description: str
    polygon: tuple[tuple[float, float], ...] = ()
    geocodes: dict[str, str] = {}


class WarningLevel(_Part, frozen=True, kw_only=True):
    """What is warned of. target: of a model that foretells numbers; left out, of one that gives verdicts, whose second class is then the
    level met. level: in the target's unit. lead_days: how far ahead the target lies."""

    lead_days: int
    level: float = 1.0
    target: str = ""


class Warnings(_Part, frozen=True, kw_only=True):
    """sender: a name of the internet; gauge: for people; levels: at most one a lead."""

    sender: str
    sender_name: str
    gauge: str
    area: WarningArea
    levels: tuple[WarningLevel, ...]
    language: str = "en"
    web: str = ""
