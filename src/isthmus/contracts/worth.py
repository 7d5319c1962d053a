"""What a certified model is worth at a site: the site's own figures in, bounds out.

Money is integer micro-units of one currency, shares are parts per million, counts of parts a day are in thousandths of a part.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Mix = Literal["as-certified", "other"]


class SiteCosts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A site's own figures; nobody vouches for them but the site.

    defect_ppm: of parts. mix: whether parts are mixed of good and defect as the certified ones were; with `other` the share that the model
    answers is the site's own to give, in answered_ppm. inspected_ppm: of parts, that a person looks at today. missed_ppm: of the defects
    that a person looks at, let through. person_alarm_ppm: of the good parts that a person looks at, refused. inspection_ms: for a part.
    """

    currency: str
    parts_per_day: int
    defect_ppm: int
    mix: Mix
    inspected_ppm: int
    missed_ppm: int
    person_alarm_ppm: int
    inspection_ms: int
    escape_micros: int
    false_alarm_micros: int
    minute_micros: int
    inference_micros: int
    fixed_micros_per_day: int
    setup_micros: int
    answered_ppm: int | None = None


class WorthLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure. value: None where there is none, and `why` says so. unit: `parts/1000 a day`, `micros`, `micros a day`, `micros a part`,
    `seconds a day`, `days` or `parts a day`. side: whether the truth is at most or at least that, or it is the site's own figure. rests_on:
    the bounds behind it, by name."""

    name: str
    value: int | None
    unit: str
    side: Literal["at most", "at least", "site"]
    rests_on: tuple[str, ...]
    why: str


class Worth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All figures. confidence_ppm: of each bound by itself; together_ppm: of all that are used at once (Bonferroni). bounds: name -> parts
    per million."""

    currency: str
    confidence_ppm: int
    together_ppm: int
    bounds: dict[str, int]
    lines: tuple[WorthLine, ...]
    notes: tuple[str, ...]
