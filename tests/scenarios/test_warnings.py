"""What is to be warned of: levels, earlier alerts for the same day, and answers that a person has to judge."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from isthmus.contracts.certificate import Claims, Predicate
from isthmus.contracts.errors import CertificateError, FolderError, InputError
from isthmus.contracts.targets import Target
from isthmus.contracts.warning import Warnings
from isthmus.gateway.wire import Answer
from isthmus.scenarios.cap import Issued, issued_from
from isthmus.scenarios.warnings import Decided, Proven, Served, decide, issued_alerts, read_warnings, served_answer
from tests.scenarios.cap_rules import breaches

AT = datetime(2026, 3, 1, 18, 0, tzinfo=timezone(timedelta(hours=1)))
DAY = timedelta(days=1)
TARGETS = tuple(Target(name=f"flow_{lead}d", unit="m3/s", low=0.0, high=100.0) for lead in (1, 2))
LEVELS = """
sender: warnings@river.example
sender_name: Authority
gauge: Mill weir
area:
  description: Valley
  polygon: [[50.5, 8.6], [50.6, 8.7], [50.5, 8.8], [50.5, 8.6]]
  geocodes: {HASC: DE.HE.LD}
levels:
  - {target: flow_1d, level: 40, lead_days: 1}
  - {target: flow_2d, level: 40, lead_days: 2}
"""
VERDICTS = LEVELS.partition("levels:")[0] + "levels:\n  - {lead_days: 1}\n"
CLAIMS = Claims(**{n: 0 for n in Claims.__struct_fields__ if n not in ("slices", "corruptions", "values")})  # type: ignore[arg-type]
PREDICATE = Predicate(
    tier="T1",
    scenario="river@1",
    site="fleet",
    decoder="d",
    head_digest="h",
    stage_digest="s",
    bars_digest="b",
    evidence_digest="e",
    claims=CLAIMS,
    parties=(),
    agreements=(),
    not_before_s=0,
    not_after_s=1,
)
PROVEN = Proven(predicate=PREDICATE, certificate="sha256:c", artefact="sha256:a", targets=TARGETS)


def served(*values: tuple[float, float, float], verdict: str = "", proven: Proven = PROVEN) -> Served:
    """(value, low, high) of each lead; or a verdict."""
    parameters = {"receipt": "rcp_1", "certificate": "sha256:c", "artefact": "sha256:a", "held_ppm": 900_000}
    numbers = np.array(values, dtype=np.float32).T[None] if values else None
    answer = Answer("river", "1", "id", parameters, np.zeros(0, np.float32), (verdict,) if verdict else (), numbers)
    return served_answer(answer, proven if values else replace(proven, targets=()))


def levels(tmp_path: Path, text: str = LEVELS) -> Warnings:
    (tmp_path / "levels.yaml").write_text(text, encoding="utf-8")
    return read_warnings(tmp_path / "levels.yaml")


def kept(folder: Path, found: tuple[Decided, ...]) -> None:
    for one in found:
        if one.kind:
            assert breaches(one.text) == []
            (folder / one.name).write_bytes(one.text)


CALM, MAYBE, HIGH = (20.0, 15.0, 30.0), (30.0, 20.0, 45.0), (50.0, 41.0, 70.0)


def test_each_lead_is_decided_by_its_own_band(tmp_path: Path) -> None:
    found = decide(served(MAYBE, CALM), levels(tmp_path), [], AT)
    assert [one.kind for one in found] == ["Alert", None]
    assert b"<certainty>Possible</certainty>" in found[0].text and "the forecast does not" in found[0].why
    assert b"<value>sha256:c</value>" in found[0].text and b"<value>rcp_1</value>" in found[0].text and b"in 90%" in found[0].text


def test_a_share_is_told_without_a_unit(tmp_path: Path) -> None:
    shares = replace(PROVEN, targets=tuple(Target(name=one.name, unit="1", low=0.0, high=100.0) for one in TARGETS))
    text = decide(served(HIGH, HIGH, proven=shares), levels(tmp_path), [], AT)[0].text
    assert b"in 1 day: 50, between 41 and 70 in 90%" in text and b"<value>50</value>" in text and breaches(text) == []


def test_the_alert_for_a_day_is_updated_then_cancelled_and_another_gauges_is_left_alone(tmp_path: Path) -> None:
    wanted, alerts = levels(tmp_path), tmp_path / "alerts"
    alerts.mkdir()
    kept(alerts, decide(served(CALM, HIGH), wanted, issued_alerts(alerts, wanted), AT))
    other = levels(tmp_path, LEVELS.replace("Mill weir", "Bridge"))
    kept(alerts, decide(served(HIGH, CALM), other, issued_alerts(alerts, other), AT + DAY))
    second = decide(served(HIGH, CALM), wanted, issued_alerts(alerts, wanted), AT + DAY)
    assert [(one.kind, [b.identifier for b in one.before]) for one in second] == [
        ("Update", ["flood-Mill-weir-20260301T180000p0100-2d"]),
        (None, []),
    ]
    kept(alerts, second)
    third = decide(served(CALM, CALM), wanted, issued_alerts(alerts, wanted), AT + DAY + timedelta(hours=3))
    assert [one.kind for one in third] == ["Cancel", None] and third[0].before[0].kind == "Update"
    kept(alerts, third)
    assert [one.kind for one in decide(served(CALM, CALM), wanted, issued_alerts(alerts, wanted), AT + DAY)] == [None, None]


def test_a_doubtful_verdict_is_no_alert_unless_it_may_say_so(tmp_path: Path) -> None:
    wanted = levels(tmp_path, VERDICTS)
    assert [one.kind for one in decide(served(verdict="good"), wanted, [], AT)] == [None]
    (met,) = decide(served(verdict="defect"), wanted, [], AT)
    assert breaches(met.text) == [] and b"<certainty>Likely</certainty>" in met.text and b"it gives no height" in met.text
    (quiet,) = decide(served(verdict="person"), wanted, [], AT)
    assert quiet.kind is None and "leaves it to a person" in quiet.why
    (said,) = decide(served(verdict="person"), wanted, [], AT, doubtful=True)
    assert breaches(said.text) == [] and b"A person has to judge it" in said.text and b"<certainty>Unknown</certainty>" in said.text


def test_another_versions_answer_is_not_taken() -> None:
    with pytest.raises(CertificateError, match="another version"):
        served(HIGH, HIGH, proven=replace(PROVEN, artefact="sha256:b"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEVELS.replace("lead_days: 2", "lead_days: 1"), "two for one lead"),
        (LEVELS.replace("gauge: Mill weir", "gage: Mill weir"), "no field gage"),
        (LEVELS.replace("level: 40", "level: high"), "levels[0].level is 'high'"),
        ("sender: [", "line"),
    ],
)
def test_a_wrong_file_of_levels_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises((FolderError, InputError)) as error:
        levels(tmp_path, text)
    assert said in error.value.message


def test_targets_and_verdicts_belong_to_their_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="foretells no 'flow_9d'"):
        decide(served(HIGH, HIGH), levels(tmp_path, LEVELS.replace("flow_2d", "flow_9d")), [], AT)
    with pytest.raises(InputError, match="gives verdicts"):
        decide(served(verdict="good"), levels(tmp_path), [], AT)


@pytest.mark.parametrize("raw", [b"", b"<alert/>", b"<!DOCTYPE x><alert/>", b"\xff\xfe", b"<a>&b;</a>"])
def test_what_is_no_alert_of_ours_is_refused(raw: bytes) -> None:
    with pytest.raises(InputError, match=r"no CAP 1\.2 alert"):
        issued_from(raw, "x.xml")


def test_an_alert_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    (one, _) = decide(served(HIGH, HIGH), levels(tmp_path), [], AT)
    found = issued_from(one.text, one.name)
    assert found == Issued(
        identifier=one.name.removesuffix(".xml"),
        sender="warnings@river.example",
        sent="2026-03-01T18:00:00+01:00",
        kind="Alert",
        gauge="Mill weir",
        onset=AT + DAY,
        references=(),
    )
