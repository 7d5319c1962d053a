"""Agreements come about and end by the protocol's states, on both sides, whoever of them lies."""

from __future__ import annotations

import itertools
import json
from typing import Any, get_args

import msgspec
import pytest
from click.testing import CliRunner

from isthmus.cli.main import isthmus
from isthmus.contracts.agreement import Agreement
from isthmus.contracts.errors import AgreementError, ConflictError, InputError, IsthmusError, NotFoundError, SignatureError
from isthmus.contracts.negotiation import (
    TERMS_EVENT_TYPE,
    VERIFICATION_TYPE,
    Message,
    Negotiation,
    OfferOfTerms,
    Side,
    State,
    TermsEvent,
    TermsRequest,
)
from isthmus.contracts.statistic import CLUSTERS, EVALUATE, FOLD_OUT, MOMENTS
from isthmus.kit.signing import SigningKey, seal
from isthmus.sandbox.agreements import sealed_terms
from isthmus.sandbox.negotiation import TRANSITIONS, next_state
from isthmus.sandbox.outlog import undeclared, verify_log
from tests.sandbox.modified import signed_anew
from tests.sandbox.world import World

STRANGER = SigningKey.from_seed(b"s" * 32)
WANTED = TermsRequest(
    owners=("alfa", "bravo", "carol"),
    purpose="forecast",
    operations=(MOMENTS, FOLD_OUT, CLUSTERS, EVALUATE),
    days=30,
    runs_max=3,
    least_group_size=3,
    least_participants=3,
    sums_to=("de",),
    deletion_days=7,
)


def test_every_step_that_the_protocol_does_not_know_is_refused() -> None:
    """The whole machine: of all 7 x 8 x 2 steps only those of the protocol, and a termination of what has not ended."""
    allowed = set()
    for state, message, sender in itertools.product((None, *get_args(State)), get_args(Message), get_args(Side)):
        try:
            next_state(state, message, sender)
        except ConflictError as error:
            assert "termination" in error.next_step
        else:
            allowed.add((state, message, sender))
    endings = {(state, "termination", sender) for state in get_args(State) if state != "TERMINATED" for sender in get_args(Side)}
    assert allowed == {*TRANSITIONS, *endings}
    assert list(TRANSITIONS.values()).count("FINALIZED") == 1


def states(world: World, name: str) -> tuple[list[State], list[State]]:
    """Of an owner's negotiations, at its node and at the exchange."""
    here = [kept.negotiation.state for kept in world.owners[name].home.store.negotiations.all()]
    return here, [one.state for one in world.service.desk.all() if one.owner == name]


def told(negotiation: Negotiation) -> list[tuple[str, str]]:
    return [(said.sender, said.message) for said in negotiation.messages]


def test_an_owners_own_terms_pass_all_states_and_both_sides_keep_every_message(world: World) -> None:
    assert states(world, "alfa") == (["FINALIZED"], ["FINALIZED"])
    chain = [
        ("provider", "offer"),
        ("consumer", "accept"),
        ("provider", "agreement"),
        ("consumer", "verification"),
        ("provider", "finalization"),
    ]
    assert told(world.service.desk.all()[0]) == chain
    assert told(world.owners["alfa"].home.store.negotiations.all()[0].negotiation) == chain
    entries = verify_log(world.owners["alfa"].log, world.owners["alfa"].home.key.public_hex)
    assert [entry.kind for entry in entries] == ["party", "asset", "agreement", "terms"] and not undeclared(entries)


def asked(world: World) -> str:
    """The exchange asks all three for terms; id of alfa's offer, which its node has fetched."""
    found = world.service.desk.request(WANTED)
    assert [one.state for one in found] == ["REQUESTED"] * 3
    world.clock.advance(60)
    world.steps(1)
    assert states(world, "alfa") == (["FINALIZED", "REQUESTED"], ["FINALIZED", "REQUESTED"])
    return found[0].id


def command(world: World, *words: str) -> Any:
    state = str(world.root / "alfa" / "state")
    run = CliRunner().invoke(isthmus, ["node", "agree", "--state", state, *words])
    assert run.exit_code == 0, run.output
    return json.loads(run.output) if "--json" in words else run.output


def test_an_exchange_asks_and_the_owner_signs_exactly_that(world: World) -> None:
    offer = asked(world)
    listed = command(world, "--offers", "--json")
    assert [one["id"] for one in listed] == [offer] and listed[0]["terms"]["deletion_days"] == 7
    assert "asked by the exchange with key" in command(world, "--offers")
    with pytest.raises(AgreementError, match="forecast"):
        world.service.create_job(world.request(purpose="forecast"))
    signed = command(world, "--offer", offer, "--exchange-key", world.exchange_key.public_hex, "--json")
    world.clock.advance(60)
    world.steps(1)
    assert states(world, "alfa") == (["FINALIZED", "FINALIZED"], ["FINALIZED", "FINALIZED"])
    found = world.service.agreement_of("alfa", "forecast")
    assert found[0] == signed["agreement"] and found[1].sums_to == ("de",) and found[1].deletion_days == 7
    assert told(world.service.desk.all()[-3])[0] == ("consumer", "request")
    page = command(world, "--show")
    assert "all deleted within 7 days" in page and "finalization" in page
    assert [one["state"] for one in command(world, "--show", "--json")] == ["FINALIZED", "FINALIZED"]
    document = json.loads(command(world, "--show", "--odrl"))
    assert document["@type"] == "Agreement" and document["assigner"] == "urn:isthmus:party:alfa"


def test_an_owner_ends_an_offer_and_it_cannot_be_signed_any_more(world: World) -> None:
    offer = asked(world)
    command(world, "--end", offer, "--reason", "not for this")
    world.clock.advance(60)
    world.steps(1)
    assert states(world, "alfa") == (["FINALIZED", "TERMINATED"], ["FINALIZED", "TERMINATED"])
    assert world.service.desk.all()[3].messages[-1].reason == "not for this"
    run = CliRunner().invoke(isthmus, ["node", "agree", "--state", str(world.root / "alfa" / "state"), "--offer", offer])
    assert isinstance(run.exception, InputError) and "TERMINATED already" in run.exception.message


def test_whoever_ends_an_agreement_ends_the_jobs_under_it(world: World) -> None:
    world.service.desk.terminate(world.service.desk.all()[0].id, "no longer needed")
    with pytest.raises(AgreementError, match="TERMINATED"):
        world.service.create_job(world.request())
    world.clock.advance(60)
    world.steps(1)
    assert states(world, "alfa")[0] == ["TERMINATED"] and states(world, "bravo")[0] == ["FINALIZED"]


def test_terms_end_with_their_time_on_both_sides(world: World) -> None:
    world.clock.advance(3600)
    assert {one.state for one in world.service.desk.expire()} == {"TERMINATED"} and world.service.desk.expire() == []
    world.steps(1)
    assert states(world, "alfa") == (["TERMINATED"], ["TERMINATED"])


def test_an_exchange_cannot_finalize_what_was_not_signed_nor_revive_what_ended(world: World) -> None:
    """It signs verifications of an offer that waits, and of an agreement that was ended."""
    offer = asked(world)
    alfa = world.owners["alfa"]
    ended = alfa.home.store.negotiations.all()[0].negotiation
    alfa.node._terms.terminate(ended.id, "over", int(world.clock.now_s()))

    def lied(listed: list[OfferOfTerms]) -> list[OfferOfTerms]:
        words = [TermsEvent(id=one.id, agreement=one.agreement or "", message="verification", at_s=1) for one in listed]
        sealed = [msgspec.to_builtins(seal(world.exchange_key, VERIFICATION_TYPE, word)) for word in words]
        return [
            msgspec.structs.replace(one, state="VERIFIED", verification=word, termination=None)
            for one, word in zip(listed, sealed, strict=True)
        ]

    alfa.uplink.tampered_terms = lied
    world.clock.advance(60)
    world.steps(1)
    assert states(world, "alfa")[0] == ["TERMINATED", "REQUESTED"]
    assert alfa.home.store.negotiations.get(offer).negotiation.agreement is None  # type: ignore[union-attr]


@pytest.mark.parametrize("key", [STRANGER, "bravo"], ids=["stranger", "another owner"])
def test_a_verification_or_an_ending_by_another_key_moves_nothing(world: World, key: Any) -> None:
    alfa = world.owners["alfa"]
    signer = world.owners["bravo"].home.key if key == "bravo" else key
    newest = signed_anew_unseen(world)

    def lied(listed: list[OfferOfTerms]) -> list[OfferOfTerms]:
        found = []
        for one in listed:
            verified = TermsEvent(id=one.id, agreement=one.agreement or "", message="verification", at_s=1)
            over = TermsEvent(id=one.id, agreement=one.agreement or "", message="termination", at_s=1)
            found.append(
                msgspec.structs.replace(
                    one,
                    verification=msgspec.to_builtins(seal(signer, VERIFICATION_TYPE, verified)),
                    termination=msgspec.to_builtins(seal(signer, TERMS_EVENT_TYPE, over)),
                )
            )
        return found

    alfa.uplink.tampered_terms = lied
    alfa.node.step(0)
    assert states(world, "alfa")[0] == ["FINALIZED", "OFFERED"] and newest.runs_max == 77


def signed_anew_unseen(world: World) -> Agreement:
    """Alfa signs further terms while its node hears nothing of their standing."""
    alfa = world.owners["alfa"]
    alfa.uplink.tampered_terms = lambda listed: []
    found = signed_anew(world, runs_max=77)
    alfa.uplink.tampered_terms = lambda listed: listed
    world.clock.advance(60)
    return found


def test_offers_that_are_not_for_this_owner_or_not_signed_are_not_kept(world: World) -> None:
    asked(world)
    alfa, bravo = world.owners["alfa"], world.owners["bravo"]
    theirs = next(one for one in world.service.desk.of_party("bravo") if one.state == "REQUESTED")
    forged_terms = msgspec.structs.replace(world.agreement(alfa.home, {"alfa": alfa.home.key.public_hex}), purposes=("forged",))
    forged = sealed_terms(STRANGER, forged_terms, "Offer")
    odd = [
        theirs,
        msgspec.structs.replace(theirs, offer={"a": 1}),
        OfferOfTerms(id="x", state="REQUESTED", offer=msgspec.to_builtins(forged)),
    ]
    before = states(world, "alfa")[0]
    assert alfa.node._terms.answers(odd, int(world.clock.now_s())) == [] and states(world, "alfa")[0] == before
    assert states(world, "bravo")[0] == ["FINALIZED", "REQUESTED"] and bravo.refusals() == []


def test_a_finalization_that_was_lost_is_said_again(world: World) -> None:
    alfa = world.owners["alfa"]
    post, lost = alfa.uplink.post, []

    def losing(path: str, body: bytes, content_type: str) -> None:
        if path.endswith("/terms") and not lost:
            lost.append(body)
            raise InputError("lost", "")
        post(path, body, content_type)

    alfa.uplink.post = losing  # type: ignore[method-assign]
    signed_anew(world, runs_max=78)
    assert states(world, "alfa") == (["FINALIZED", "FINALIZED"], ["FINALIZED", "VERIFIED"]) and lost
    assert world.service.create_job(world.request()).phase == "countersign", "what is verified may be asked; the node finalizes first"
    world.clock.advance(60)
    world.steps(1)
    assert states(world, "alfa") == (["FINALIZED", "FINALIZED"], ["FINALIZED", "FINALIZED"])


def test_owners_speak_for_their_own_agreements_only(world: World) -> None:
    desk, bravo = world.service.desk, world.owners["bravo"].home.key
    alfas = desk.all()[0]
    word = TermsEvent(id=alfas.id, agreement=alfas.agreement or "", message="termination", at_s=1)
    with pytest.raises(SignatureError):
        desk.take_event("bravo", seal(bravo, TERMS_EVENT_TYPE, word))
    with pytest.raises(SignatureError):
        desk.take_event("alfa", seal(bravo, TERMS_EVENT_TYPE, word))
    alfa = world.owners["alfa"].home.key
    with pytest.raises(NotFoundError):
        desk.take_event("alfa", seal(alfa, TERMS_EVENT_TYPE, msgspec.structs.replace(word, id="urn:x")))
    with pytest.raises(ConflictError):
        desk.take_event("alfa", seal(alfa, TERMS_EVENT_TYPE, msgspec.structs.replace(word, message="verification")))
    assert desk.take_event("alfa", seal(alfa, TERMS_EVENT_TYPE, msgspec.structs.replace(word, message="finalization"))) == "FINALIZED"
    assert desk.take_event("alfa", seal(alfa, TERMS_EVENT_TYPE, word)) == "TERMINATED"
    assert desk.take_event("alfa", seal(alfa, TERMS_EVENT_TYPE, word)) == "TERMINATED", "the same word again changes nothing"


def test_terms_that_cannot_be_kept_are_not_even_asked_for(world: World) -> None:
    for changes in ({"least_participants": 2}, {"operations": ("rows/1",)}, {"sums_to": ()}, {"days": 0}):
        with pytest.raises(AgreementError):
            world.service.desk.request(msgspec.structs.replace(WANTED, **changes))
    for owners in ((), ("nobody",)):
        with pytest.raises(NotFoundError):
            world.service.desk.request(msgspec.structs.replace(WANTED, owners=owners))
    assert len(world.service.desk.all()) == 3


def test_the_command_says_what_it_needs(world: World) -> None:
    state = str(world.root / "alfa" / "state")
    for words, said in (
        ([], "no purpose"),
        (["--show", "--offers"], "at once"),
        (["--offer", "urn:none"], "no offer"),
        (["--purpose", "x", "--exchange-key", "0" * 64, "--owners-share", "140"], "no share"),
        (["--purpose", "x", "--exchange-key", "0" * 64, "--sums-to", "Germany!"], "no slug"),
    ):
        run = CliRunner().invoke(isthmus, ["node", "agree", "--state", state, *words])
        assert isinstance(run.exception, IsthmusError) and said in run.exception.message


def test_the_options_reach_the_signed_document(world: World) -> None:
    keys = [word for name in ("bravo", "carol") for word in ("--participant", f"{name}={world.owners[name].home.key.public_hex}")]
    words = [
        "--purpose",
        "triage",
        "--exchange-key",
        world.exchange_key.public_hex,
        *keys,
        "--sums-to",
        "de",
        "--models-to",
        "eu",
        "--models-to",
        "de",
    ]
    words += ["--output", "model", "--issuer", f"park={'4' * 64}", "--owners-share", "40.5", "--deletion-days", "14"]
    command(world, *words)
    newest = next(one["terms"] for one in command(world, "--show", "--json") if one["terms"]["purposes"] == ["triage"])
    assert (newest["sums_to"], newest["models_to"], newest["outputs"]) == (["de"], ["eu", "de"], ["model"])
    assert (newest["issuers"], newest["owners_share_ppm_min"], newest["deletion_days"]) == ({"park": "4" * 64}, 405_000, 14)
