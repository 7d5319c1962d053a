"""What OASIS CAP 1.2 (section 3.2 and its schema) asks of an alert, as a checker of its own: order, counts, enumerations, forms."""

from __future__ import annotations

import re
from xml.etree import ElementTree

SPACE = "{urn:oasis:names:tc:emergency:cap:1.2}"
MOMENT = re.compile(r"\d\d\d\d-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d")
NAME = re.compile(r"[^\s,<&]+")
# name: (least, most) in order; most 0 means any number.
ALERT = {
    "identifier": (1, 1),
    "sender": (1, 1),
    "sent": (1, 1),
    "status": (1, 1),
    "msgType": (1, 1),
    "source": (0, 1),
    "scope": (1, 1),
    "restriction": (0, 1),
    "addresses": (0, 1),
    "code": (0, 0),
    "note": (0, 1),
    "references": (0, 1),
    "incidents": (0, 1),
    "info": (0, 0),
}
INFO = {
    "language": (0, 1),
    "category": (1, 0),
    "event": (1, 1),
    "responseType": (0, 0),
    "urgency": (1, 1),
    "severity": (1, 1),
    "certainty": (1, 1),
    "audience": (0, 1),
    "eventCode": (0, 0),
    "effective": (0, 1),
    "onset": (0, 1),
    "expires": (0, 1),
    "senderName": (0, 1),
    "headline": (0, 1),
    "description": (0, 1),
    "instruction": (0, 1),
    "web": (0, 1),
    "contact": (0, 1),
    "parameter": (0, 0),
    "resource": (0, 0),
    "area": (0, 0),
}
AREA = {"areaDesc": (1, 1), "polygon": (0, 0), "circle": (0, 0), "geocode": (0, 0), "altitude": (0, 1), "ceiling": (0, 1)}
PAIR = {"valueName": (1, 1), "value": (1, 1)}
INSIDE = {"info": INFO, "area": AREA, "parameter": PAIR, "geocode": PAIR, "eventCode": PAIR}
WORDS = {
    "status": "Actual Exercise System Test Draft",
    "msgType": "Alert Update Cancel Ack Error",
    "scope": "Public Restricted Private",
    "category": "Geo Met Safety Security Rescue Fire Health Env Transport Infra CBRNE Other",
    "responseType": "Shelter Evacuate Prepare Execute Avoid Monitor Assess AllClear None",
    "urgency": "Immediate Expected Future Past Unknown",
    "severity": "Extreme Severe Moderate Minor Unknown",
    "certainty": "Observed Likely Possible Unlikely Unknown",
}


def _named(element: ElementTree.Element) -> str:
    return element.tag.removeprefix(SPACE) if element.tag.startswith(SPACE) else f"?{element.tag}"


def _children(element: ElementTree.Element, rules: dict[str, tuple[int, int]]) -> list[str]:
    found, wrong = [_named(child) for child in element], []
    known = list(rules)
    wrong += [f"{_named(element)} holds an unknown {name}" for name in found if name not in rules]
    places = [known.index(name) for name in found if name in rules]
    if places != sorted(places):
        wrong.append(f"{_named(element)} has its elements out of order: {found}")
    for name, (least, most) in rules.items():
        if found.count(name) < least or (most and found.count(name) > most):
            wrong.append(f"{_named(element)} has {found.count(name)} of {name}")
    return wrong


def breaches(text: bytes) -> list[str]:
    """Every way in which the bytes are no CAP 1.2 alert; empty when they are one."""
    alert = ElementTree.fromstring(text)
    if alert.tag != f"{SPACE}alert":
        return [f"the root is {alert.tag}"]
    wrong = _children(alert, ALERT)
    for element in alert.iter():
        name, value = _named(element), element.text or ""
        if name in INSIDE:
            wrong += _children(element, INSIDE[name])
        if name in WORDS and value not in WORDS[name].split():
            wrong.append(f"{name} is {value!r}")
        if name in ("sent", "effective", "onset", "expires") and not MOMENT.fullmatch(value):
            wrong.append(f"{name} is {value!r}")
        if name in ("identifier", "sender") and not NAME.fullmatch(value):
            wrong.append(f"{name} is {value!r}")
        if name == "polygon":
            points = value.split()
            if len(points) < 4 or points[0] != points[-1] or not all(re.fullmatch(r"-?[\d.]+,-?[\d.]+", p) for p in points):
                wrong.append(f"polygon is {value!r}")
    kinds = {name: alert.findtext(f"{SPACE}{name}") for name in ("msgType", "references", "scope", "restriction", "addresses")}
    if kinds["msgType"] in ("Update", "Cancel") and not kinds["references"]:
        wrong.append("an update or cancellation refers to nothing")
    for one in (kinds["references"] or "").split():
        parts = one.split(",")
        if len(parts) != 3 or not MOMENT.fullmatch(parts[2]):
            wrong.append(f"a reference is {one!r}")
    return wrong
