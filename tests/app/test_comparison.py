"""Upgrades: shown not to be inferior on the owners' held-out records, or accepted with a reason that stays in the record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.app.comparison import Comparison, comparison_request
from isthmus.contracts.deployment import Deployment
from isthmus.contracts.errors import ConflictError, InputError, JobRefusedError, NotFoundError
from isthmus.contracts.job import JobRefusal
from isthmus.contracts.life import ComparisonOrder, DeployedVersion, RetireOrder, RollbackOrder, UpgradeOrder
from isthmus.contracts.ports import Json
from isthmus.kit.canonical import parse_canonical
from isthmus.kit.signing import payload_of
from tests.app.test_lives import NAME, WHO, serves
from tests.app.versions import Versions


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    found = Versions(tmp_path)
    found.put("run_1", 100_000)
    yield found
    found.close()


def compared(versions: Versions, run_id: str = "cmp_1", **order: Any) -> tuple[bool, Json]:
    request = comparison_request(versions.lives, NAME, ComparisonOrder(**order))
    versions.house.catalogue.begin(run_id, "comparison", request)
    return Comparison(versions.house.shop, versions.lives, run_id, request).walk()


def order(order_id: str = "u1", **more: Any) -> UpgradeOrder:
    return UpgradeOrder(id=order_id, why="more owners", **more)


def test_a_version_that_is_not_inferior_takes_over(versions: Versions) -> None:
    versions.put("run_2", 200_000, candidate=True)
    passed, found = compared(versions, margin_ppm=150_000, lost_margin_ppm=150_000)
    assert passed and found["passed"] and found["failures"] == [] and found["records_needed"] == 0
    assert found["records"] == 600 and sum(map(sum, found["table"])) == 600 and found["groups"] == 60
    assert [one["what"] for one in found["differences"]] == ["wrong answers", "right answers lost"]
    assert serves(versions) == 1, "a comparison changes nothing"
    step = versions.lives.upgrade(NAME, order(comparison="cmp_1"), WHO, found)
    assert (step.before, step.after) == (1, 2) and serves(versions) == 2
    assert step.proof is not None and step.proof["found"] == found and step.proof["unproven"] == []
    assert versions.lives.upgrade(NAME, order(comparison="cmp_1"), WHO, found) == step
    assert versions.lives.rollback(NAME, RollbackOrder(id="b", why="x"), WHO).after == 1


def test_the_counts_are_those_of_both_models(versions: Versions) -> None:
    """A version with thresholds for another promise answers other records; the table's margins are each model's own evaluation."""
    versions.put("run_2", 200_000, candidate=True)
    _, found = compared(versions)
    views = [versions.house.catalogue.certificate(v.version.deployment.certificate_digest) for v in versions.lives.view(NAME).versions]
    answered = []
    for envelope in views:
        claims = parse_canonical(payload_of(envelope))["predicate"]["claims"]
        answered.append((claims["answered"] - claims["errors"], claims["errors"]))
    table = found["table"]
    old, new = [sum(row) for row in table], [sum(row[place] for row in table) for place in range(3)]
    assert [(old[0], old[1]), (new[0], new[1])] == answered


def test_other_margins_ask_the_owners_nothing_more(versions: Versions) -> None:
    versions.put("run_2", 200_000, candidate=True)
    first, made = compared(versions)[1], versions.house.jobs.made
    second = compared(versions, "cmp_2", margin_ppm=100)[1]
    assert versions.house.jobs.made == made and first["table"] == second["table"] and first["job"] == second["job"]


def test_what_is_not_shown_is_refused_with_reasons_or_accepted_with_one(versions: Versions) -> None:
    versions.put("run_2", 200_000, candidate=True)
    passed, found = compared(versions, margin_ppm=100, lost_margin_ppm=100)
    assert not passed and found["failures"] and "is asked for" in found["failures"][0]
    with pytest.raises(ConflictError, match=r"is not shown to be as good: .* is asked for"):
        versions.lives.upgrade(NAME, order(comparison="cmp_1"), WHO, found)
    with pytest.raises(ConflictError, match="was not compared"):
        versions.lives.upgrade(NAME, order(), WHO, None)
    assert serves(versions) == 1 and len(versions.lives.steps(NAME)) == 2
    step = versions.lives.upgrade(NAME, order("u2", accept_worse="the old lamp is gone"), WHO, None)
    assert step.proof is not None and step.proof["accepted"] == "the old lamp is gone" and step.proof["unproven"]
    assert serves(versions) == 2


def test_a_reason_does_not_stand_for_a_certificate(versions: Versions) -> None:
    second = versions.put("run_2", 200_000, candidate=True)
    versions.house.catalogue.revoke(second.certificate_digest, "wrong labels")
    with pytest.raises(ConflictError, match="cannot serve: the certificate was withdrawn"):
        versions.lives.upgrade(NAME, order(accept_worse="it must be"), WHO, None)
    assert serves(versions) == 1


def test_a_comparison_counts_for_its_own_pair_only(versions: Versions) -> None:
    versions.put("run_2", 200_000, candidate=True)
    _, found = compared(versions, margin_ppm=150_000, lost_margin_ppm=150_000)
    versions.put("run_3", 150_000)
    with pytest.raises(ConflictError, match="the comparison is of versions 1 and 2, not of 3 and 2"):
        versions.lives.upgrade(NAME, order(to=2, comparison="cmp_1"), WHO, found)


def test_what_cannot_be_compared_is_refused(versions: Versions) -> None:
    with pytest.raises(ConflictError, match=r"no version of .* is proposed"):
        comparison_request(versions.lives, NAME, ComparisonOrder())
    with pytest.raises(ConflictError, match="serves version 1 already"):
        comparison_request(versions.lives, NAME, ComparisonOrder(to=1))
    with pytest.raises(NotFoundError):
        comparison_request(versions.lives, NAME, ComparisonOrder(to=9))
    versions.put("run_2", 200_000, candidate=True)
    for bad in ({"margin_ppm": 0}, {"lost_margin_ppm": 500_001}, {"confidence_ppm": 499_999}, {"confidence_ppm": 1_000_000}):
        with pytest.raises(InputError):
            comparison_request(versions.lives, NAME, ComparisonOrder(**bad))
    versions.lives.retire(NAME, RetireOrder(id="r", why="x"), WHO)
    with pytest.raises(ConflictError, match="nothing serves"):
        comparison_request(versions.lives, NAME, ComparisonOrder())
    versions.lives.upgrade(NAME, order(), WHO, None)
    assert serves(versions) == 2, "where nothing serves, nothing is to be beaten"


def test_an_owner_may_refuse(versions: Versions) -> None:
    versions.put("run_2", 200_000, candidate=True)
    versions.house.jobs.refusing["pair/1"] = (JobRefusal(party="alba", clause="operation", message="not allowed", next="ask"),)
    with pytest.raises(JobRefusedError, match="alba refused by its clause operation"):
        compared(versions)


def test_a_version_that_no_run_made_cannot_be_compared_with(versions: Versions) -> None:
    first: Deployment = versions.lives.view(NAME).versions[0].version.deployment
    other = DeployedVersion(number=0, deployment=msgspec.structs.replace(first, price_id="other"))
    versions.lives.deploy(other, "adopted-x", WHO, "taken over", propose=True)
    with pytest.raises(ConflictError, match="was not made by a run"):
        compared(versions)
