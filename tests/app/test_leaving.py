"""What descends from a leaver lapses at once, and what is made in its place never saw it: the same digests as a run that never had it."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.contracts.build import SiteRequest
from isthmus.contracts.edge import EdgeOrder
from isthmus.contracts.errors import AgreementError, CertificateRevokedError, ConflictError
from isthmus.contracts.life import RollbackOrder
from isthmus.contracts.withdrawal import Departure
from tests.app.town import PURPOSE, Town

INDIVIDUAL = {"visibility": "individual", "least_participants": 1}


def departure(town: Town, run: str) -> Departure:
    return town.exchange.departures.departure(run)


def serves(town: Town, name: str) -> str:
    """The run whose version serves; raises as a request would."""
    town.exchange.registry.admit(town.exchange.registry.find(name))
    serving = town.exchange.lives.life(name).serving
    assert serving is not None
    return serving.run


def test_individual_the_new_model_is_that_of_a_run_that_never_had_the_leaver(tmp_path: Path) -> None:
    with Town(tmp_path / "town", INDIVIDUAL) as town:
        town.add("alder", "birch", "cedar", "dogwood")
        first = town.run("build", town.request("alder", "birch", "cedar", "dogwood"))
        assert first.state == "certified", first.result or first.error
        name = first.result["deployment"]["name"]
        assert serves(town, name) == first.id
        box = town.exchange.edge.enrol(EdgeOrder(deployment=name, party="line", allowance=5, credit=True))
        town.leave("dogwood")
        with pytest.raises(AgreementError, match="dogwood has left"):
            town.exchange._submitted("build", town.request("alder", "birch", "cedar", "dogwood"))
        found = departure(town, first.id)
        assert [one.party for one in found.leavers] == ["dogwood"] and found.refit.way == "same-features"
        (lapsed,) = found.lapsed
        assert lapsed.deployments == (name,) and [b.box for b in lapsed.boxes] == [box.box]
        assert town.exchange.catalogue.revoked() == {first.result["certificate"]["digest"]}
        again = town.ended(found.refit.run)
        assert again.state == "certified", again.error
        assert serves(town, name) == again.id
        with pytest.raises(ConflictError, match="dogwood, who left since"):
            town.exchange.lives.rollback(name, RollbackOrder(id="r", why="back"), "test")
        sums, artefact = again.result["sums"], again.result["artefact_digest"]
        assert departure(town, first.id).refit.sums == {name: tuple(d) for name, d in sums.items()}
    with Town(tmp_path / "fresh", INDIVIDUAL) as fresh:
        fresh.add("alder", "birch", "cedar")
        never = fresh.run("build", fresh.request("alder", "birch", "cedar"))
        assert never.state == "certified" and never.result["sums"] == sums and never.result["artefact_digest"] == artefact
        for part in ("penalty", "thresholds", "head_digest", "claims"):
            assert never.result[part] == again.result[part]
        assert sums["moments/1"] != first.result["sums"]["moments/1"]


def test_aggregate_one_is_refused_and_two_are_not(tmp_path: Path) -> None:
    owners = ("alder", "birch", "cedar", "dogwood", "elm")
    with Town(tmp_path / "town") as town:
        town.add(*owners)
        first = town.run("build", town.request(*owners))
        assert first.state == "certified", first.result or first.error
        name = first.result["deployment"]["name"]
        town.leave("elm")
        found = departure(town, first.id)
        assert found.refit.way == "would-reveal" and "elm" in found.refit.reason and "wait until 2 have left" in found.refit.next
        with pytest.raises(CertificateRevokedError):
            serves(town, name)
        (row,) = town.exchange_overview().lives
        assert row.problem.endswith("elm left, it is not made again (would-reveal)")
        assert "would-reveal" not in town.refusals("alder")  # it was not even asked for
        town.leave("dogwood")
        found = departure(town, first.id)
        assert [one.party for one in found.leavers] == ["dogwood", "elm"] and found.refit.way == "together"
        again = town.ended(found.refit.run)
        assert again.state == "certified", again.error
        assert serves(town, name) == again.id
        (moments,) = again.result["sums"]["moments/1"]
    with Town(tmp_path / "fresh") as fresh:
        fresh.add(*owners[:3])
        assert fresh.run("build", fresh.request(*owners[:3])).result["sums"]["moments/1"] == [moments]


def test_an_expired_agreement_is_a_leaver_and_a_renewed_one_is_not(tmp_path: Path) -> None:
    with Town(tmp_path, INDIVIDUAL) as town:
        town.add("alder", "birch", "cedar", "dogwood")
        first = town.run("build", town.request("alder", "birch", "cedar", "dogwood"))
        town.clock.advance(29 * 86_400)
        keys = {name: home.key.public_hex for name, home in town.homes.items()}
        for owner in ("alder", "birch", "cedar"):
            town.agree(owner, keys, PURPOSE)
            town.start(owner)
        town.exchange.departures.turn()
        assert town.exchange.departures.told() == []
        town.clock.advance(2 * 86_400)
        town.exchange.departures.turn()
        found = departure(town, first.id)
        assert [(one.party, one.cause) for one in found.leavers] == [("dogwood", "expiry")]
        assert town.ended(found.refit.run).state == "certified"


def test_sites_lapse_with_their_fleet_and_follow_its_successor(tmp_path: Path) -> None:
    with Town(tmp_path, INDIVIDUAL) as town:
        town.add("alder", "birch", "cedar", "dogwood")
        town.add_site("site-a")
        first = town.run("build", town.request("alder", "birch", "cedar", "dogwood"))
        site = town.run("site", SiteRequest(run=first.id, site="site-a", fit=40, proof=110))
        assert site.state == "certified", site.error or site.result
        served = site.result["deployment"]["name"]
        town.leave("dogwood")
        with pytest.raises(CertificateRevokedError):
            serves(town, served)
        town.until(lambda: all(one.state not in ("waits", "running") for one in departure(town, first.id).sites))
        (again,) = departure(town, first.id).sites
        assert again.state == "certified" and again.old == site.id, again
        assert serves(town, served) == again.run
        town.leave("site-a", purpose=PURPOSE + "/site")
        with pytest.raises(CertificateRevokedError):
            serves(town, served)


def test_a_crash_between_any_two_steps_is_made_good_by_the_next_turn(tmp_path: Path) -> None:
    with Town(tmp_path, INDIVIDUAL) as town:
        town.add("alder", "birch", "cedar", "dogwood")
        first = town.run("build", town.request("alder", "birch", "cedar", "dogwood"))
        put = town.exchange.withdrawals.put
        town.exchange.withdrawals.put = lambda found: (_ for _ in ()).throw(ConflictError("killed", ""))  # type: ignore[method-assign]
        town.leave("dogwood")
        assert town.exchange.withdrawals.departures() == [] and town.exchange.catalogue.revoked()
        town.exchange.withdrawals.put = put  # type: ignore[method-assign]
        town.exchange.departures.turn()
        once = departure(town, first.id)
        town.exchange.departures.turn()
        assert departure(town, first.id).refit.run == once.refit.run
        assert town.ended(once.refit.run).state == "certified"
        town.exchange.departures.turn()
        assert len(town.exchange.catalogue.runs()) == 2
