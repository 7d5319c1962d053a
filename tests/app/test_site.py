"""Another site: the fleet's sums and a few of its own records, proven on some, measured on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from isthmus.app.build import Build
from isthmus.app.site import SiteBuild, site_purpose, site_scenario
from isthmus.contracts.build import SiteRequest
from isthmus.contracts.errors import ConflictError, InputError, JobFailedError, NotFoundError
from isthmus.kit.signing import payload_of
from isthmus.scenarios.replicate import site_terms
from tests.app.world import PURPOSE, House, SyntheticOwner, house, part, request, site

SITE_PURPOSE = PURPOSE + "/site"


@pytest.fixture
def ready(tmp_path: Path) -> House:
    """A house whose fleet run `run_1` has ended."""
    of = house(tmp_path)
    wanted = request()
    of.begun("run_1", wanted)
    certified, result = Build(of.shop, "run_1", wanted).walk()
    assert certified
    of.catalogue.end("run_1", "certified", result, None)
    return of


def carried(of: House, found: SyntheticOwner, run_id: str = "site_1", **more: Any) -> tuple[bool, dict[str, Any]]:
    of.jobs.owners[found.party] = found
    of.jobs.agree(SITE_PURPOSE, found.party)
    wanted = SiteRequest(run="run_1", site=found.party, fit=found.asset.records_train, proof=found.asset.records_holdout, **more)
    of.begun(run_id, wanted)
    return SiteBuild(of.shop, run_id, wanted).walk()


def test_without_proof_it_is_refused_with_the_labels_still_needed(ready: House) -> None:
    certified, result = carried(ready, site("line-4", 50))
    assert not certified and result["certificate"] is None and result["claims"] is None
    assert result["arithmetic"]["answered_needed"] == 29, "for 10 %"
    assert result["arithmetic"]["labels_needed"] >= 29 and "no labels were kept for proof" in result["failures"][0]
    assert set(result["candidates"]) == {"fleet", "combined", "local"}
    assert all(c["auc"] is not None for c in result["candidates"].values())


def test_with_proof_enough_it_is_certified_for_the_site(ready: House) -> None:
    certified, result = carried(ready, site("line-4", 50, proof=250))
    assert certified and result["failures"] == [], result["failures"]
    envelope = ready.catalogue.certificate(result["certificate"]["digest"])
    assert msgspec.to_builtins(envelope) == result["certificate"]["envelope"]
    assert result["claims"]["records"] == result["claims"]["groups"] == 250
    assert {asked.purpose for asked in ready.jobs.asked if asked.roster == ("line-4",)} == {SITE_PURPOSE}


def test_purpose_is_the_one_that_the_site_signs() -> None:
    assert site_purpose(PURPOSE) == site_terms(PURPOSE).purpose == SITE_PURPOSE


def test_audit_never_counts_for_the_verdict(ready: House) -> None:
    one = site("line-4", 50, proof=250)
    (_, a), other = carried(ready, one), one
    hopeless = part(999, 400, group=1)
    other.parts["audit"] = type(hopeless)(-hopeless.y, hopeless.groups, hopeless.noise, hopeless.kinds)
    certified, b = carried(ready, other, "site_2")
    assert certified and b["claims"] == a["claims"] and b["best"] == a["best"] and b["artefact_digest"] == a["artefact_digest"]
    best = b["best"]
    assert b["candidates"][best]["auc"] < 0.5 < a["candidates"][best]["auc"], "what was measured did change"


def test_a_good_audit_is_no_proof(ready: House) -> None:
    certified, result = carried(ready, site("line-4", 50, audit=1000))
    assert not certified and result["candidates"][result["best"]]["counts"]["records"] == 1000


def test_proof_records_choose_nothing(ready: House) -> None:
    _, a = carried(ready, site("line-4", 50, proof=100))
    found = site("line-4", 50, proof=100)
    found.parts["holdout"] = part(4321, 100, group=1)
    _, b = carried(ready, found, "site_2")
    assert a["artefact_digest"] == b["artefact_digest"] and a["thresholds"] == b["thresholds"]


def test_records_that_belong_together_are_no_random_draw(ready: House) -> None:
    """Their errors cluster, and a design effect of 1 would flatter the bound."""
    found = site("line-4", 50)
    found.parts["holdout"] = part(60, 250, group=10)
    with pytest.raises(ConflictError, match="250 in 25 groups"):
        carried(ready, found)


def test_a_site_that_agrees_anew_meanwhile_is_told(ready: House) -> None:
    ready.jobs.before = lambda asked: ready.jobs.agree(SITE_PURPOSE, "line-4", version=2)
    with pytest.raises(JobFailedError, match="line-4 made a new agreement"):
        carried(ready, site("line-4", 50, proof=250))


def test_a_site_may_not_take_the_fleets_name(ready: House) -> None:
    with pytest.raises(InputError, match="cannot be called fleet"):
        carried(ready, site("fleet", 50))


def test_a_run_that_is_not_there_or_not_over(ready: House) -> None:
    ready.jobs.owners["line-4"] = site("line-4", 50)
    ready.jobs.agree(SITE_PURPOSE, "line-4")
    with pytest.raises(NotFoundError):
        SiteBuild(ready.shop, "site_1", SiteRequest(run="run_none", site="line-4", fit=40, proof=0))
    ready.begun("run_2", request(label="going on"))
    with pytest.raises(ConflictError, match="no model to carry"):
        SiteBuild(ready.shop, "site_1", SiteRequest(run="run_2", site="line-4", fit=40, proof=0))


def test_cut_off_after_certifying_it_keeps_its_certificate(ready: House) -> None:
    found = site("line-4", 50, proof=250)
    _, first = carried(ready, found)
    ready.clock.advance(600)
    _, again = carried(ready, found)
    assert again["certificate"] == first["certificate"]


# A site's own values.


def test_a_site_may_have_its_own_price_and_validity(ready: House) -> None:
    known = request().scenario
    serve = msgspec.structs.replace(known.serve, micros_per_inference=known.serve.micros_per_inference + 1)
    certify = msgspec.structs.replace(known.certify, validity_days=7)
    own = msgspec.structs.replace(known, serve=serve, certify=certify)
    certified, result = carried(ready, site("line-4", 50, proof=250), scenario=own)
    assert certified
    envelope = ready.catalogue.certificate(result["certificate"]["digest"])
    said = msgspec.json.decode(payload_of(envelope))["predicate"]
    assert said["not_after_s"] - said["not_before_s"] == 7 * 24 * 3600
    wanted = SiteRequest(run="run_1", site="line-4", fit=50, proof=250, scenario=own)
    assert site_scenario(known, wanted) == own
    assert site_scenario(known, msgspec.structs.replace(wanted, scenario=None)) == known


@pytest.mark.parametrize("field", ["tier", "purpose", "recipe", "certify", "id", "prohibited_use"])
def test_a_site_may_not_change_what_was_certified(ready: House, field: str) -> None:
    known = request().scenario
    other: Any = {
        "tier": "T3",
        "purpose": "else",
        "recipe": msgspec.structs.replace(known.recipe, sure_weight=3),
        "certify": msgspec.structs.replace(known.certify, recall_ppm_min=1),
        "id": "other",
        "prohibited_use": "nothing",
    }[field]
    with pytest.raises(ConflictError, match=f"another {field}"):
        carried(ready, site("line-4", 50, proof=250), scenario=msgspec.structs.replace(known, **{field: other}))


# The site's own thresholds.


def test_thresholds_are_the_sites_own(tmp_path: Path) -> None:
    """The fleet's scores lie elsewhere than those of a site whose classes lie far apart: its labels alone place the thresholds."""
    of, wanted = house(tmp_path), request(15_000)
    of.begun("run_1", wanted)
    _, fleet = Build(of.shop, "run_1", wanted).walk()
    of.catalogue.end("run_1", "refused", fleet, None)
    _, result = carried(of, site("line-4", 50, fit=60, proof=250, skill=3.0))
    assert result["thresholds"]["basis"] == "site" and not result["exchangeability"]["trusted"]
    assert "not trusted" in result["exchangeability"]["sentence"] and result["exchangeability"]["p"] <= 0.05
    own = {name: result["thresholds"][name] for name in ("lo", "hi")}
    assert own != {name: fleet["thresholds"][name] for name in ("lo", "hi")}
    assert own == {name: result["head"][name] for name in ("lo", "hi")}
    assert "thresholds rest on the scores of: site" in result["notes"]


def test_where_the_fleets_scores_are_trusted_they_are_joined(ready: House) -> None:
    _, result = carried(ready, site("line-4", 50, proof=250))
    assert result["exchangeability"]["trusted"] and result["thresholds"]["basis"] == "site and fleet"
    tests = result["exchangeability"]["classes"]
    assert sum(one["site"] for one in tests) == 40 and sum(one["fleet"] for one in tests) == 600


def test_promises_are_tried_from_the_easiest_until_one_fails(tmp_path: Path) -> None:
    of = house(tmp_path)
    wanted = request(300_000, 200_000, 1_000)
    of.begun("run_1", wanted)
    _, fleet = Build(of.shop, "run_1", wanted).walk()
    of.catalogue.end("run_1", "certified", fleet, None)
    certified, result = carried(of, site("line-4", 50, proof=250))
    tried = result["promises"]
    assert [one["error_ppm_max"] for one in tried] == [300_000, 200_000, 1_000] and [one["passed"] for one in tried] == [True, True, False]
    assert certified and result["bars"]["error_ppm_max"] == 200_000 and result["artefact_digest"] == tried[1]["artefact_digest"]
    assert signed_bars(of, result) == msgspec.json.decode(msgspec.json.encode(result["bars"]))


def signed_bars(of: House, result: dict[str, Any]) -> Any:
    """The bars that the certificate names, as they were signed."""
    said = msgspec.json.decode(payload_of(of.catalogue.certificate(result["certificate"]["digest"])))["predicate"]
    return msgspec.json.decode(payload_of(of.catalogue.bars(said["bars_digest"])))


def test_fewer_conditions_at_the_site_are_said_in_its_certificate(tmp_path: Path) -> None:
    of, wanted = house(tmp_path), request()
    fewer = msgspec.structs.replace(wanted.scenario.replicate, severities=(1,))
    wanted = msgspec.structs.replace(wanted, scenario=msgspec.structs.replace(wanted.scenario, replicate=fewer))
    of.begun("run_1", wanted)
    _, fleet = Build(of.shop, "run_1", wanted).walk()
    of.catalogue.end("run_1", "certified", fleet, None)
    certified, result = carried(of, site("line-4", 50, proof=250))
    assert certified and [(c["family"], c["severity"]) for c in result["claims"]["corruptions"]] == [("brightness", 1)]
    assert any("under 1 of the fleet's 2 conditions: brightness 1" in note for note in result["notes"])
    own = msgspec.structs.replace(wanted.scenario, replicate=msgspec.structs.replace(fewer, severities=()))
    with pytest.raises(ConflictError, match="another replicate"):
        carried(of, site("line-4", 50, proof=250), "site_2", scenario=own)
