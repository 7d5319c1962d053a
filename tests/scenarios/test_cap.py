"""Flood warnings as CAP 1.2 alerts, held against the standard's rules by a checker that is itself tested."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import InputError
from isthmus.scenarios.cap import Area, FloodWarning, flood_alert, identifier, is_due, moment, reference, severity
from tests.scenarios.cap_rules import SPACE, breaches

AREA = Area(
    description="Lahn valley from Gießen to Leun",
    polygon=((50.5, 8.6), (50.6, 8.7), (50.5, 8.8), (50.5, 8.6)),
    geocodes=(("HASC", "DE.HE.LD"),),
)
WARNING = FloodWarning(
    sender="warnings@river.example",
    sender_name="River authority <Lahn & Dill>",
    gauge="Leun",
    area=AREA,
    issued=datetime(2021, 1, 28, 9, 30, tzinfo=timezone(timedelta(hours=1))),
    lead_days=1,
    level=4.3,
    value=5.1,
    low=4.1,
    high=6.6,
    held=0.9,
    unit="mm/d",
    web="https://river.example/leun",
)


def told(text: bytes, name: str) -> str:
    found = ElementTree.fromstring(text).find(f".//{SPACE}{name}")
    assert found is not None
    return found.text or ""


def test_an_alert_keeps_the_standard() -> None:
    text = flood_alert(WARNING)
    assert breaches(text) == [] and text == flood_alert(WARNING)
    assert [told(text, n) for n in ("status", "msgType", "category", "event")] == ["Exercise", "Alert", "Met", "Flood"]
    assert [told(text, n) for n in ("urgency", "severity", "certainty")] == ["Future", "Moderate", "Likely"]
    assert told(text, "sent") == "2021-01-28T09:30:00+01:00" and told(text, "expires") == "2021-01-30T09:30:00+01:00"
    assert told(text, "senderName") == "River authority <Lahn & Dill>"


def test_only_the_caller_makes_it_actual() -> None:
    assert told(flood_alert(replace(WARNING, status="Actual")), "status") == "Actual"


def test_what_only_may_happen_is_said_so() -> None:
    maybe = replace(WARNING, value=3.9, low=3.0)
    text = flood_alert(maybe)
    assert breaches(text) == []
    assert [told(text, n) for n in ("severity", "certainty", "responseType")] == ["Minor", "Possible", "Monitor"]
    assert "could reach" in told(text, "headline")
    assert severity(replace(WARNING, value=6.5)) == "Severe"


def test_updates_and_cancellations_name_what_they_replace() -> None:
    later = replace(WARNING, issued=WARNING.issued + timedelta(hours=6))
    update = flood_alert(later, "Update", (WARNING,))
    cancel = flood_alert(replace(later, value=2.0, low=1.0, high=3.0), "Cancel", (WARNING, later))
    assert breaches(update) == [] and breaches(cancel) == []
    assert told(update, "references") == reference(WARNING) and told(cancel, "references").count(" ") == 1
    assert told(cancel, "responseType") == "AllClear"
    assert len({told(flood_alert(WARNING), "identifier"), told(update, "identifier"), told(cancel, "identifier")}) == 3


def test_utc_is_written_as_the_standard_wants_it() -> None:
    assert moment(datetime(2021, 1, 28, 9, 30, 12, 999, tzinfo=UTC)) == "2021-01-28T09:30:12-00:00"


@given(
    gauge=st.text(min_size=1, max_size=60).filter(lambda s: s.strip()),
    words=st.text(min_size=1, max_size=60),
    lead=st.integers(1, 10),
    value=st.floats(0.001, 1e6),
    kind=st.sampled_from(["Alert", "Update"]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_goes_in_an_alert_keeps_the_standard_or_is_refused(gauge: str, words: str, lead: int, value: float, kind: str) -> None:
    given_ = replace(WARNING, gauge=gauge, area=Area(description=words), lead_days=lead, value=value, low=value / 2, high=value * 2)
    try:
        text = flood_alert(given_, kind, () if kind == "Alert" else (WARNING,))  # type: ignore[arg-type]
    except InputError as error:
        assert error.message and error.next_step
        return
    assert breaches(text) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sender": "river authority"}, "sender"),
        ({"sender": ""}, "sender"),
        ({"issued": datetime(2021, 1, 28, 9)}, "no zone"),  # noqa: DTZ001
        ({"lead_days": 0}, "0 days ahead"),
        ({"level": float("nan")}, "not finite"),
        ({"level": 0.0}, "not above 0"),
        ({"low": 5.2}, "does not hold the forecast"),
        ({"held": 1.0}, "no share"),
        ({"status": "Real"}, "Real"),
        ({"value": 1.0, "low": 0.5, "high": 2.0}, "nothing to warn of"),
        ({"sender_name": "\x07"}, "sender's name"),
        ({"unit": " "}, "unit"),
        ({"web": "a b"}, "address"),
        ({"area": Area(description=" ")}, "area's description"),
        ({"area": Area(description="x", polygon=((1.0, 2.0), (1.0, 3.0), (2.0, 2.0)))}, "not closed"),
        ({"area": Area(description="x", polygon=((95.0, 2.0), (1.0, 3.0), (2.0, 2.0), (95.0, 2.0)))}, "leaves the globe"),
    ],
)
def test_bad_warnings_get_one_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        flood_alert(replace(WARNING, **changes))  # type: ignore[arg-type]
    assert said in caught.value.message


def test_messages_that_refer_wrongly_are_refused() -> None:
    for kind, before in (("Alert", (WARNING,)), ("Update", ()), ("Cancel", ()), ("Ack", (WARNING,))):
        with pytest.raises(InputError, match="cannot refer"):
            flood_alert(WARNING, kind, before)  # type: ignore[arg-type]
    assert is_due(WARNING) and not is_due(replace(WARNING, high=4.2, value=4.2)) and " " not in identifier(replace(WARNING, gauge="a b,c"))


def test_the_checker_finds_what_is_wrong() -> None:
    good = flood_alert(WARNING).decode("utf-8")
    for old, new in (
        (">Met<", ">Weather<"),
        (">Future<", ">Soon<"),
        ("2021-01-28T09:30:00+01:00</sent>", "2021-01-28T08:30:00Z</sent>"),
        ("<event>Flood</event>", ""),
        ("<scope>Public</scope>", "<scope>Public</scope><scope>Public</scope>"),
        (">warnings@river.example<", ">river, authority<"),
        ("<msgType>Alert</msgType>", "<msgType>Update</msgType>"),
        ("cap:1.2", "cap:1.1"),
        ("<language>en</language>", "<language>en</language><nonsense>x</nonsense>"),
        ("50.5,8.6</polygon>", "50.5,8.7</polygon>"),
    ):
        assert old in good and breaches(good.replace(old, new, 1).encode("utf-8")), old
    head, tail = good.split("<status>")[0], good.split("<status>")[1]
    swapped = (
        head.replace("<sender>warnings@river.example</sender>", "")
        + "<status>"
        + tail.replace("</status>", "</status><sender>a@b</sender>", 1)
    )
    assert any("out of order" in one for one in breaches(swapped.encode("utf-8")))
