"""From error bounds, volumes and a site's own costs to escapes avoided, hours, money and a break-even; exact fractions, rounded against us.

Every figure is the worst that the bounds allow. Let D and G be the day's defects and good parts, r and f the greatest shares of answered
defects and of answered good parts that are called wrongly (1 - the lower bounds of recall and specificity). Of the defects an unknown
share x is answered: the certificate bounds it only as far as no more can be left to a person than the bound of the share answered allows.
So escapes are at most

    max over these x of   min(D x r, W) + D (1 - x) m,

where m is what a person misses and W the most wrong answers there can be. Recall and specificity are of one class each, so they hold at
another mix of good and defect too, as long as each looks the same. The error among answered and the share answered do not: they enter only
where the site says that its mix is as certified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import msgspec

from isthmus.assurance.bars import ppm_down, ppm_up
from isthmus.assurance.bounds import korn_graubard_lower, korn_graubard_upper
from isthmus.contracts.bars import PPM
from isthmus.contracts.certificate import Claims
from isthmus.contracts.errors import InputError
from isthmus.contracts.money import AMOUNT_MAX, currency
from isthmus.contracts.worth import SiteCosts, Worth, WorthLine

MINUTE_MS = 60_000
MILLI = 1000
RECALL, SPECIFICITY, ERROR, ANSWERED, ANSWERED_MOST = "recall", "specificity", "error", "answered at least", "answered at most"
OWN_SHARE = "the site's own answered share"


def checked_costs(costs: SiteCosts) -> SiteCosts:
    """The costs if they can be reckoned with; raises InputError with the field that cannot."""
    currency(costs.currency)
    for name in ("defect_ppm", "inspected_ppm", "missed_ppm", "person_alarm_ppm", "answered_ppm"):
        value = getattr(costs, name)
        if value is not None and not 0 <= value <= PPM:
            raise InputError(f"{name} is {value}, which is no share", "give 0 to 1,000,000 parts per million")
    for name in (*(n for n in SiteCosts.__struct_fields__ if n.endswith(("micros", "_ms", "_per_day"))), "parts_per_day"):
        value = getattr(costs, name)
        if not 0 <= value <= AMOUNT_MAX:
            raise InputError(f"{name} is {value}", f"give 0 to {AMOUNT_MAX}")
    if costs.parts_per_day < 1:
        raise InputError("no parts a day", "give at least 1")
    if (costs.mix == "other") != (costs.answered_ppm is not None):
        raise InputError(
            f"the mix is {costs.mix} and the answered share is {'not given' if costs.answered_ppm is None else 'given'}",
            "with the mix `other` give the share that the model answers at the site; with `as-certified` leave it out",
        )
    return costs


def worth_bounds(claims: Claims, costs: SiteCosts) -> dict[str, int]:
    """Name -> parts per million of the bounds that may be used at this site's mix.

    The bounds of the share answered are Korn and Graubard's with the certificate's design effect, which was estimated for errors: an
    approximation.
    """
    found = {RECALL: claims.recall_bound_ppm, SPECIFICITY: claims.specificity_bound_ppm}
    if costs.mix == "as-certified":
        counts = (claims.answered, claims.records, claims.design_effect_ppm / PPM, claims.groups, claims.confidence_ppm / PPM)
        found[ERROR] = claims.error_bound_ppm
        found[ANSWERED] = ppm_down(korn_graubard_lower(*counts))
        found[ANSWERED_MOST] = ppm_up(korn_graubard_upper(*counts))
    return found


@dataclass(frozen=True)
class Day:
    """A day at the site, in exact parts. r, f: greatest shares of wrong calls. least, most: share answered. wrong: most wrong answers."""

    costs: SiteCosts
    parts: Fraction
    defects: Fraction
    r: Fraction
    f: Fraction
    least: Fraction
    most: Fraction
    wrong: Fraction

    @property
    def good(self) -> Fraction:
        return self.parts - self.defects

    @property
    def missed(self) -> Fraction:
        return Fraction(self.costs.missed_ppm, PPM)

    @property
    def to_person(self) -> Fraction:
        """Parts that the model leaves to a person, at most."""
        return self.parts * (1 - self.least)

    def corners(self) -> list[Fraction]:
        """Shares of answered defects at which a bound may be worst: what is maximised is linear in between."""
        low, high, found = Fraction(0), Fraction(1), list[Fraction]()
        if self.defects > 0:  # no more can be left to a person, or be answered, than the bounds of the share allow
            low = max(low, 1 - self.to_person / self.defects)
            high = min(high, self.parts * self.most / self.defects)
        if self.defects * self.r > 0:
            missed = self.defects * self.r
            found = [self.wrong / missed, (self.wrong - min(self.good * self.f, self.wrong)) / missed]
        return [low, high, *(x for x in found if low <= x <= high)]

    def escapes(self) -> Fraction:
        """Defects that leave as good, by the model or by a person, at most."""
        return max(min(self.defects * x * self.r, self.wrong) + self.defects * (1 - x) * self.missed for x in self.corners())

    def false_alarms(self) -> Fraction:
        """Good parts that are refused, by the model or by a person, at most."""
        return min(self.good * self.f, self.wrong) + self.to_person * Fraction(self.costs.person_alarm_ppm, PPM)

    def mistakes_micros(self) -> Fraction:
        """What wrong calls cost, at most: all kinds together, because the wrong answers are bounded together."""
        escape, alarm = self.costs.escape_micros, self.costs.false_alarm_micros

        def at(x: Fraction) -> Fraction:
            missed, alarmed = self.defects * x * self.r, self.good * self.f
            if escape >= alarm:
                first = min(missed, self.wrong)
                model = first * escape + min(alarmed, self.wrong - first) * alarm
            else:
                first = min(alarmed, self.wrong)
                model = first * alarm + min(missed, self.wrong - first) * escape
            return model + self.defects * (1 - x) * self.missed * escape

        return max(at(x) for x in self.corners()) + self.to_person * Fraction(self.costs.person_alarm_ppm, PPM) * alarm


def day_of(costs: SiteCosts, bounds: dict[str, int]) -> Day:
    """The site's day under these bounds."""
    parts = Fraction(costs.parts_per_day)
    most = Fraction(bounds.get(ANSWERED_MOST, PPM), PPM)
    if costs.answered_ppm is not None:
        most = Fraction(costs.answered_ppm, PPM)
    return Day(
        costs=costs,
        parts=parts,
        defects=parts * Fraction(costs.defect_ppm, PPM),
        r=1 - Fraction(bounds[RECALL], PPM),
        f=1 - Fraction(bounds[SPECIFICITY], PPM),
        least=Fraction(bounds[ANSWERED] if costs.answered_ppm is None else costs.answered_ppm, PPM),
        most=most,
        wrong=parts * most * Fraction(bounds.get(ERROR, PPM), PPM),
    )


@dataclass(frozen=True)
class Reckoned:
    """A day's totals, exact. today: as it is now. model: at most, without price and fixed costs."""

    day: Day
    escapes_today: Fraction
    looked_at: Fraction
    today: Fraction
    model: Fraction


def _reckoned(day: Day) -> Reckoned:
    c = day.costs
    inspected = Fraction(c.inspected_ppm, PPM)
    escapes = day.defects * (1 - inspected + inspected * day.missed)
    alarms = day.good * inspected * Fraction(c.person_alarm_ppm, PPM)
    look = Fraction(c.inspection_ms, MINUTE_MS) * c.minute_micros
    today = escapes * c.escape_micros + alarms * c.false_alarm_micros + day.parts * inspected * look
    return Reckoned(day, escapes, day.parts * inspected, today, day.mistakes_micros() + day.to_person * look)


def worth(claims: Claims, costs: SiteCosts) -> Worth:
    """What the model is worth at the site, each figure with the bounds behind it. Raises InputError."""
    if not isinstance(claims.values, msgspec.UnsetType):
        raise InputError("the certificate is of numbers, and worth is reckoned from verdicts", "give the certificate of an inspection")
    bounds = worth_bounds(claims, checked_costs(costs))
    lines = tuple(_counts(found := _reckoned(day_of(costs, bounds)))) + tuple(_money(found)) + tuple(_break_even(found))
    together = max(0, PPM - len(bounds) * (PPM - claims.confidence_ppm))
    return Worth(
        currency=costs.currency,
        confidence_ppm=claims.confidence_ppm,
        together_ppm=together,
        bounds=bounds,
        lines=lines,
        notes=_notes(claims, costs),
    )


def _rests(day: Day, *names: str) -> tuple[str, ...]:
    """Names of the bounds behind a figure, as far as they are used at this mix."""
    if day.costs.mix == "as-certified":
        return names
    kept = tuple(name for name in names if name in (RECALL, SPECIFICITY))
    return (*kept, OWN_SHARE) if {ANSWERED, ANSWERED_MOST} & set(names) else kept


def _counts(found: Reckoned) -> list[WorthLine]:
    day = found.day
    escapes, avoided = day.escapes(), found.escapes_today - day.escapes()
    seconds = Fraction(day.costs.inspection_ms, 1000)
    wrong = _rests(day, RECALL, ERROR, ANSWERED, ANSWERED_MOST)
    unit, hours = "parts/1000 a day", "seconds a day"
    person = _rests(day, ANSWERED)
    return [
        _line("escapes today", _up(found.escapes_today * MILLI), unit, "site", (), "defects times what is not seen today"),
        _line("escapes with the model", _up(escapes * MILLI), unit, "at most", wrong, "however the answered defects are spread"),
        _line("escapes avoided", _down(avoided * MILLI), unit, "at least", wrong, "below zero: more may escape than today"),
        _line(
            "false alarms with the model",
            _up(day.false_alarms() * MILLI),
            unit,
            "at most",
            _rests(day, SPECIFICITY, ERROR, ANSWERED, ANSWERED_MOST),
            "by the model, and by persons on what is left to them",
        ),
        _line(
            "inspection today", _up(found.looked_at * seconds), hours, "site", (), "parts that a person looks at, times the time for one"
        ),
        _line("re-inspection with the model", _up(day.to_person * seconds), hours, "at most", person, "parts that are left to a person"),
    ]


def _all(day: Day) -> tuple[str, ...]:
    return _rests(day, RECALL, SPECIFICITY, ERROR, ANSWERED, ANSWERED_MOST)


def _money(found: Reckoned) -> list[WorthLine]:
    day, c = found.day, found.day.costs
    total = found.model + day.parts * c.inference_micros + c.fixed_micros_per_day
    a_day, a_part = "micros a day", "micros a part"
    return [
        _line(
            "price per part today", _up(found.today / day.parts), a_part, "site", (), "escapes, false alarms and inspection, per part made"
        ),
        _line(
            "price per part with the model", _up(total / day.parts), a_part, "at most", _all(day), "the same, and inference and fixed costs"
        ),
        _line("saved", _down(found.today - total), a_day, "at least", _all(day), "below zero: the bounds do not promise a saving"),
    ]


def _break_even(found: Reckoned) -> list[WorthLine]:
    day, c = found.day, found.day.costs
    margin = (found.today - found.model) / day.parts
    per_part, a_day = margin - c.inference_micros, (margin - c.inference_micros) * day.parts - c.fixed_micros_per_day
    none = "there is none: the bounds promise no saving a part"
    price = _down(margin - Fraction(c.fixed_micros_per_day) / day.parts)
    volume = _up(Fraction(c.fixed_micros_per_day) / per_part) if per_part > 0 else None
    days = _up(Fraction(c.setup_micros) / a_day) if a_day > 0 else None
    return [
        _line(
            "break-even price per inference", price, "micros a part", "at least", _all(day), "up to it nothing is lost; below zero: none is"
        ),
        _line(
            "break-even volume",
            volume,
            "parts a day",
            "at most",
            _all(day),
            "parts a day that carry the fixed costs" if volume is not None else none,
        ),
        _line(
            "pay-back of the set-up",
            days,
            "days",
            "at most",
            _all(day),
            "days of savings that carry the set-up" if days is not None else "there is none: the bounds promise no saving a day",
        ),
    ]


def _line(name: str, value: int | None, unit: str, side: str, rests_on: tuple[str, ...], why: str) -> WorthLine:
    return WorthLine(
        name=name,
        value=value,
        unit=unit,
        side="site" if side == "site" else "at most" if side == "at most" else "at least",
        rests_on=rests_on,
        why=why,
    )


def _up(value: Fraction) -> int:
    return math.ceil(value)


def _down(value: Fraction) -> int:
    return math.floor(value)


def _notes(claims: Claims, costs: SiteCosts) -> tuple[str, ...]:
    said = [
        "figures marked `site` are the site's own, and every money figure rests on its costs; the bounds are the certificate's, for parts"
        " like those that it was tested on"
    ]
    if costs.mix == "as-certified":
        said.append("the site says that its parts are mixed of good and defect as the certified ones were; nothing here checks that")
    else:
        said.append(
            "the share answered is the site's own figure; the certificate's error among answered holds at its own mix, so it is not used"
        )
    if claims.groups_inferred:
        said.append("the certificate's groups were inferred from the order of files; its bounds rest on that")
    return tuple(said)
