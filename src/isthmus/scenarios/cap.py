"""A flood warning as an alert that other systems read: OASIS Common Alerting Protocol 1.2 (urn:oasis:names:tc:emergency:cap:1.2).

What the standard asks: one `alert` with identifier, sender, sent, status, msgType and scope, then one `info` with its elements in the
standard's order; times with seconds and a zone, never `Z`; no spaces, commas, `<` or `&` in identifier and sender; an update or a
cancellation names what it refers to. The status is `Exercise` unless the caller says `Actual`: no alert goes out as a real one by default.

How a forecast is put into the standard's words. Urgency: Future, since it is a day or more ahead. Certainty: Likely when the forecast
itself reaches the level, Possible when only the upper end of its band does, and no alert at all below that. Severity: by how far the
forecast stands above the level; Extreme is never said, that is for a person. Of a verdict without a number, the level that is met is
Likely; one that the model leaves to a person is Unknown in both, says so, and is written only when it is asked for.
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
ALERT_BYTES_MAX = 1024 * 1024
"""An alert that is read back."""

LASTS = timedelta(days=1)
NO_UNIT = "1"
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
    level: the gauge's warning level; value, low, high: the forecast and its band; all in `unit`. held: the band's rate, between 0 and 1.

    verdict: met or doubtful, of a model that gives no number; value, low, high and held then say nothing. proof: pairs that say where the
    forecast comes from, such as ("certificate", "sha256:…")."""

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
    verdict: Literal["", "met", "doubtful"] = ""
    proof: tuple[tuple[str, str], ...] = ()

    @property
    def onset(self) -> datetime:
        return self.issued + timedelta(days=self.lead_days)


@dataclass(frozen=True, kw_only=True)
class Issued:
    """What an alert of ours says of itself, as it was read back. references: of the alerts that it replaces. onset: None where it has none;
    gauge: empty where it names none."""

    identifier: str
    sender: str
    sent: str
    kind: str
    gauge: str
    onset: datetime | None
    references: tuple[str, ...]

    @property
    def reference(self) -> str:
        """sender,identifier,sent."""
        return f"{_plain(self.sender, 'sender')},{_plain(self.identifier, 'identifier')},{self.sent}"


def issued_from(raw: bytes, name: str) -> Issued:
    """An alert's file, read back. Raises InputError when it is none."""
    wrong = InputError(f"{name} is no CAP 1.2 alert", "give the folder of alerts as they were written")
    if len(raw) > ALERT_BYTES_MAX or b"<!" in raw.replace(b"<!--", b""):  # no document type, hence no entities
        raise wrong
    try:
        alert = ElementTree.fromstring(raw)
        onset = alert.findtext(f"{{{NAMESPACE}}}info/{{{NAMESPACE}}}onset")
        said = {key: alert.findtext(f"{{{NAMESPACE}}}{key}") or "" for key in ("identifier", "sender", "sent", "msgType", "references")}
        pairs = {
            one.findtext(f"{{{NAMESPACE}}}valueName"): one.findtext(f"{{{NAMESPACE}}}value") or ""
            for one in alert.iterfind(f"{{{NAMESPACE}}}info/{{{NAMESPACE}}}parameter")
        }
        moment_of = None if onset is None else datetime.fromisoformat(onset)
    except (ElementTree.ParseError, ValueError) as error:
        raise wrong from error
    if alert.tag != f"{{{NAMESPACE}}}alert" or not all(said[key] for key in ("identifier", "sender", "sent", "msgType")):
        raise wrong
    return Issued(
        identifier=said["identifier"],
        sender=said["sender"],
        sent=said["sent"],
        kind=said["msgType"],
        gauge=pairs.get("isthmus:gauge", ""),
        onset=moment_of,
        references=tuple(said["references"].split()),
    )


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
    if (not warning.verdict and not warning.low <= warning.value <= warning.high) or not 0.0 < warning.held < 1.0:
        raise InputError("the band does not hold the forecast, or its rate is no share", "give low <= value <= high, and a rate below 1")
    if not 1 <= warning.lead_days <= LEAD_DAYS_MAX:
        raise InputError(f"a warning cannot be {warning.lead_days} days ahead", f"give 1 to {LEAD_DAYS_MAX} days")
    if warning.status not in STATUSES:
        raise InputError(f"the status {warning.status!r} is not one of the standard's", f"use one of {', '.join(STATUSES)}")
    return warning


def is_due(warning: FloodWarning) -> bool:
    """Whether the upper end of the band reaches the level, or the model says that it is met, or cannot say: what is below is no warning."""
    return _checked(warning).high >= warning.level or bool(warning.verdict)


def _is_likely(warning: FloodWarning) -> bool:
    return warning.verdict == "met" if warning.verdict else warning.value >= warning.level


def severity(warning: FloodWarning) -> str:
    """Minor: only the band's upper end reaches the level. Moderate: the forecast does. Severe: by half as much again."""
    if warning.verdict:
        return "Moderate" if warning.verdict == "met" else "Unknown"
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
    if warning.verdict == "doubtful":
        headline = f"{warning.gauge}: whether its warning level is met in {days} is doubtful"[:160]
        return headline, f"The model does not say whether {warning.gauge} will meet its warning level in {days}. A person has to judge it."
    if warning.verdict:
        headline = f"{warning.gauge} expected to reach its warning level in {days}"[:160]
        return headline, f"The model says that {warning.gauge} will meet its warning level in {days}; it gives no height."
    likely = "expected to reach" if warning.value >= warning.level else "could reach"
    headline = f"{warning.gauge} {likely} its warning level in {days}"[:160]
    unit = "" if warning.unit == NO_UNIT else f" {warning.unit}"
    band = f"between {warning.low:.3g} and {warning.high:.3g}{unit} in {warning.held:.0%} of such forecasts"
    return (
        headline,
        f"Forecast for {warning.gauge} in {days}: {warning.value:.3g}{unit}, {band}; level {warning.level:.3g}{unit}.",
    )


def _add_info(alert: ElementTree.Element, warning: FloodWarning, over: bool) -> None:
    headline, description = _words(warning)
    if over:
        headline, description = f"Warning for {warning.gauge} withdrawn"[:160], f"The warning for {warning.gauge} is withdrawn."
    likely, doubtful = _is_likely(warning), warning.verdict == "doubtful"
    info = ElementTree.SubElement(alert, f"{{{NAMESPACE}}}info")
    pairs = [
        ("language", _plain(warning.language, "language")),
        ("category", "Met"),
        ("event", "Flood"),
        ("responseType", "AllClear" if over else "Assess" if doubtful else "Prepare" if likely else "Monitor"),
        ("urgency", "Past" if over else "Future"),
        ("severity", severity(warning)),
        ("certainty", "Unlikely" if over else "Unknown" if doubtful else "Likely" if likely else "Possible"),
        ("effective", moment(warning.issued)),
        ("onset", moment(warning.onset)),
        ("expires", moment(warning.onset + LASTS)),
        ("senderName", _text(warning.sender_name, "sender's name")),
        ("headline", _text(headline, "headline")),
        ("description", _text(description, "description")),
        ("web", warning.web and _plain(warning.web, "address")),
    ]
    _add(info, pairs)
    numbers = {"level": warning.level, "value": warning.value, "low": warning.low, "high": warning.high}
    unit = "" if warning.unit == NO_UNIT else f" {_text(warning.unit, 'unit')}"
    said = [(name, f"{number:.6g}{unit}") for name, number in numbers.items() if not warning.verdict]
    said += [("verdict", warning.verdict), ("gauge", _text(warning.gauge, "gauge"))]
    for name, value in (*said, *warning.proof):
        if value:
            parameter = ElementTree.SubElement(info, f"{{{NAMESPACE}}}parameter")
            _add(parameter, [("valueName", f"isthmus:{_plain(name, 'name')}"), ("value", _text(value, name))])
    _add_area(info, warning.area)


def flood_alert(warning: FloodWarning, kind: Kind = "Alert", before: tuple[FloodWarning | Issued, ...] = ()) -> bytes:
    """UTF-8 XML of one alert. before: the warnings that an update or a cancellation replaces, or what was read of them. Raises InputError,
    also when nothing is to be warned of."""
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
        ("references", " ".join(one.reference if isinstance(one, Issued) else reference(one) for one in before)),
    ]
    _add(alert, pairs)
    _add_info(alert, warning, over)
    ElementTree.indent(alert)
    return bytes(ElementTree.tostring(alert, encoding="utf-8", xml_declaration=True)) + b"\n"
