"""A flood warning as an alert that other systems read: OASIS Common Alerting Protocol 1.2 (urn:oasis:names:tc:emergency:cap:1.2).

What the standard asks: one `alert` with identifier, sender, sent, status, msgType and scope, then one `info` with its elements in the
standard's order; times with seconds and a zone, never `Z`; no spaces, commas, `<` or `&` in identifier and sender; an update or a
cancellation names what it refers to. The status is `Exercise` unless the caller says `Actual`: no alert goes out as a real one by default.

How a forecast is put into the standard's words. Urgency: Future, since it is a day or more ahead. Certainty: Likely when the forecast
itself reaches the level, Possible when only the upper end of its band does, and no alert at all below that. Severity: by how far the
forecast stands above the level; Extreme is never said, that is for a person.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from xml.etree import ElementTree

from isthmus.contracts.errors import InputError

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
STATUSES = ("Actual", "Exercise", "System", "Test", "Draft")
SEVERE_RATIO = 1.5
LEAD_DAYS_MAX = 10
TEXT_CHARS_MAX = 2000
NAME_CHARS_MAX = 200
LASTS = timedelta(days=1)
PLAIN_NAME = re.compile(r"[^\s,<&]+")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
Kind = Literal["Alert", "Update", "Cancel"]


@dataclass(frozen=True, kw_only=True)
class Area:
    """description: in words. polygon: (latitude, longitude) in degrees (WGS 84), first and last the same, or none. geocodes: pairs of a
    system's name and a code, such as ("HASC", "DE.HE.LD")."""

    description: str
    polygon: tuple[tuple[float, float], ...] = ()
    geocodes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FloodWarning:
    """One gauge, one lead time. sender: whose alert it is, a name of the internet such as warnings@river.example. issued: with a zone.
    level: the gauge's warning level; value, low, high: the forecast and its band; all in `unit`. held: the band's rate, between 0 and 1."""

    sender: str
    sender_name: str
    gauge: str
    area: Area
    issued: datetime
    lead_days: int
    level: float
    value: float
    low: float
    high: float
    held: float
    unit: str
    status: str = "Exercise"
    language: str = "en"
    web: str = ""


def moment(time: datetime) -> str:
    """A time as the standard writes it. Raises InputError when it has no zone."""
    offset = time.utcoffset()
    if offset is None:
        raise InputError(f"the time {time.isoformat()} has no zone", "give a time with its zone")
    text = time.replace(microsecond=0).isoformat()
    return text[:-6] + "-00:00" if not offset else text


def _plain(name: str, what: str) -> str:
    if not PLAIN_NAME.fullmatch(name) or CONTROL.search(name) or len(name) > NAME_CHARS_MAX:
        raise InputError(f"the {what} {name!r} cannot stand in an alert", "leave out spaces, commas, < and &; 200 characters at most")
    return name


def _text(text: str, what: str) -> str:
    if not text.strip() or CONTROL.search(text) or len(text) > TEXT_CHARS_MAX:
        raise InputError(f"the {what} is empty, too long or holds a control character", f"write 1 to {TEXT_CHARS_MAX} plain characters")
    return text.strip()


def _checked(warning: FloodWarning) -> FloodWarning:
    numbers = (warning.level, warning.value, warning.low, warning.high, warning.held)
    if not all(math.isfinite(number) for number in numbers) or warning.level <= 0:
        raise InputError("a number of the warning is not finite, or its level is not above 0", "give the forecast and the gauge's level")
    if not warning.low <= warning.value <= warning.high or not 0.0 < warning.held < 1.0:
        raise InputError("the band does not hold the forecast, or its rate is no share", "give low <= value <= high, and a rate below 1")
    if not 1 <= warning.lead_days <= LEAD_DAYS_MAX:
        raise InputError(f"a warning cannot be {warning.lead_days} days ahead", f"give 1 to {LEAD_DAYS_MAX} days")
    if warning.status not in STATUSES:
        raise InputError(f"the status {warning.status!r} is not one of the standard's", f"use one of {', '.join(STATUSES)}")
    return warning


def is_due(warning: FloodWarning) -> bool:
    """Whether the upper end of the band reaches the level: what is below it is no warning."""
    return _checked(warning).high >= warning.level


def severity(warning: FloodWarning) -> str:
    """Minor: only the band's upper end reaches the level. Moderate: the forecast does. Severe: by half as much again."""
    ratio = warning.value / warning.level
    return "Severe" if ratio >= SEVERE_RATIO else "Moderate" if ratio >= 1.0 else "Minor"


def identifier(warning: FloodWarning) -> str:
    """Unique for sender, gauge, time and lead; no spaces or commas."""
    gauge = re.sub(r"[^A-Za-z0-9_.-]+", "-", warning.gauge).strip("-") or "gauge"
    return f"flood-{gauge}-{warning.issued.strftime('%Y%m%dT%H%M%S%z')}-{warning.lead_days}d".replace("+", "p")


def reference(warning: FloodWarning) -> str:
    """How a later message names this one: sender,identifier,sent."""
    return f"{_plain(warning.sender, 'sender')},{_plain(identifier(warning), 'identifier')},{moment(warning.issued)}"


def _polygon(points: tuple[tuple[float, float], ...]) -> str:
    if len(points) < 4 or points[0] != points[-1]:
        raise InputError("the area's polygon is not closed, or has fewer than four points", "end with the first point")
    if not all(-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0 for latitude, longitude in points):
        raise InputError("the area's polygon leaves the globe", "give pairs of latitude and longitude in degrees")
    return " ".join(f"{latitude:.6g},{longitude:.6g}" for latitude, longitude in points)


def _add(parent: ElementTree.Element, pairs: Iterable[tuple[str, str]]) -> None:
    for name, value in pairs:
        if value:
            ElementTree.SubElement(parent, f"{{{NAMESPACE}}}{name}").text = value


def _add_area(info: ElementTree.Element, area: Area) -> None:
    element = ElementTree.SubElement(info, f"{{{NAMESPACE}}}area")
    _add(element, [("areaDesc", _text(area.description, "area's description"))])
    if area.polygon:
        _add(element, [("polygon", _polygon(area.polygon))])
    for name, value in area.geocodes:
        code = ElementTree.SubElement(element, f"{{{NAMESPACE}}}geocode")
        _add(code, [("valueName", _text(name, "geocode's name")), ("value", _text(value, "geocode"))])


def _words(warning: FloodWarning) -> tuple[str, str]:
    """(headline, description)."""
    days = "1 day" if warning.lead_days == 1 else f"{warning.lead_days} days"
    likely = "expected to reach" if warning.value >= warning.level else "could reach"
    headline = f"{warning.gauge} {likely} its warning level in {days}"[:160]
    band = f"between {warning.low:.3g} and {warning.high:.3g} {warning.unit} in {warning.held:.0%} of such forecasts"
    return (
        headline,
        f"Forecast for {warning.gauge} in {days}: {warning.value:.3g} {warning.unit}, {band}; level {warning.level:.3g} {warning.unit}.",
    )


def _add_info(alert: ElementTree.Element, warning: FloodWarning, over: bool) -> None:
    headline, description = _words(warning)
    if over:
        headline, description = f"Warning for {warning.gauge} withdrawn"[:160], f"The warning for {warning.gauge} is withdrawn."
    onset = warning.issued + timedelta(days=warning.lead_days)
    info = ElementTree.SubElement(alert, f"{{{NAMESPACE}}}info")
    pairs = [
        ("language", _plain(warning.language, "language")),
        ("category", "Met"),
        ("event", "Flood"),
        ("responseType", "AllClear" if over else "Prepare" if warning.value >= warning.level else "Monitor"),
        ("urgency", "Past" if over else "Future"),
        ("severity", severity(warning)),
        ("certainty", "Unlikely" if over else "Likely" if warning.value >= warning.level else "Possible"),
        ("effective", moment(warning.issued)),
        ("onset", moment(onset)),
        ("expires", moment(onset + LASTS)),
        ("senderName", _text(warning.sender_name, "sender's name")),
        ("headline", _text(headline, "headline")),
        ("description", _text(description, "description")),
        ("web", warning.web and _plain(warning.web, "address")),
    ]
    _add(info, pairs)
    for name, number in (("level", warning.level), ("value", warning.value), ("low", warning.low), ("high", warning.high)):
        parameter = ElementTree.SubElement(info, f"{{{NAMESPACE}}}parameter")
        _add(parameter, [("valueName", f"isthmus:{name}"), ("value", f"{number:.6g} {_text(warning.unit, 'unit')}")])
    _add_area(info, warning.area)


def flood_alert(warning: FloodWarning, kind: Kind = "Alert", before: tuple[FloodWarning, ...] = ()) -> bytes:
    """UTF-8 XML of one alert. before: the warnings that an update or a cancellation replaces. Raises InputError, also when nothing is to be
    warned of."""
    over = kind == "Cancel"
    if kind not in ("Alert", "Update", "Cancel") or (kind == "Alert") == bool(before):
        raise InputError(
            f"a message of kind {kind} cannot refer to {len(before)} warnings", "an Alert to none, an Update or Cancel to some"
        )
    if not is_due(warning) and not over:
        raise InputError(
            "the forecast's band stays below the level, so there is nothing to warn of", "send no alert, or cancel the last one"
        )
    ElementTree.register_namespace("", NAMESPACE)
    alert = ElementTree.Element(f"{{{NAMESPACE}}}alert")
    pairs = [
        ("identifier", _plain(f"{identifier(warning)}{'' if kind == 'Alert' else '-' + kind.lower()}", "identifier")),
        ("sender", _plain(warning.sender, "sender")),
        ("sent", moment(warning.issued)),
        ("status", warning.status),
        ("msgType", kind),
        ("scope", "Public"),
        ("references", " ".join(reference(one) for one in before)),
    ]
    _add(alert, pairs)
    _add_info(alert, warning, over)
    ElementTree.indent(alert)
    return bytes(ElementTree.tostring(alert, encoding="utf-8", xml_declaration=True)) + b"\n"
