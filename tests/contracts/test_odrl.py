"""The ODRL form of an agreement: nothing is lost either way, and what is not known is refused with its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.agreement import Agreement, PrivacyTerms
from isthmus.contracts.documentschemas import agreement_document_schema, profile_document
from isthmus.contracts.errors import AgreementError
from isthmus.contracts.odrl import CLAUSES, PROFILE_TERMS, agreement_of, document_of
from isthmus.kit.canonical import canonical_bytes, parse_canonical

TEXT = st.text(max_size=12)
NAMES = st.lists(TEXT, max_size=4).map(tuple)
WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
KEYS = st.dictionaries(TEXT, TEXT, max_size=4)
TIMES = st.integers(-62135596800, 253402300799)
NUMBERS = st.floats(-1e9, 1e9).map(lambda x: x + 0.0)
BUDGETS = st.builds(PrivacyTerms, epsilon=NUMBERS, delta=NUMBERS, unit=st.sampled_from(["record", "group"]), unit_records_max=WHOLE)
AGREEMENTS = st.builds(
    Agreement,
    owner=TEXT,
    asset=TEXT,
    exchange=TEXT,
    purposes=NAMES,
    operations=NAMES,
    participants=KEYS,
    issued_at_s=TIMES,
    expires_at_s=TIMES,
    runs_max=WHOLE,
    least_group_size=WHOLE,
    least_participants=WHOLE,
    visibility=st.sampled_from(["aggregate", "individual"]),
    stages=NAMES,
    dimension_records_min_ratio=WHOLE,
    allow_own_head=st.booleans(),
    contribution=st.booleans(),
    overlap_owners_min=WHOLE,
    sample=st.booleans(),
    privacy=st.none() | BUDGETS,
    sums_to=NAMES,
    models_to=NAMES,
    outputs=st.lists(st.sampled_from(["model", "evaluation", "statistics"]), max_size=3).map(tuple),
    issuers=KEYS,
    owners_share_ppm_min=WHOLE,
    deletion_days=st.none() | st.integers(0, 10**9 - 1),
)
PLAIN = Agreement(
    owner="alfa",
    asset="sha256:" + "a" * 64,
    exchange="e" * 64,
    purposes=("inspect",),
    operations=("moments/1", "evaluate/1"),
    participants={"alfa": "1" * 64, "bravo": "2" * 64, "carol": "3" * 64},
    issued_at_s=1_790_000_000,
    expires_at_s=1_800_000_000,
    runs_max=5,
    least_group_size=20,
    least_participants=3,
    privacy=PrivacyTerms(epsilon=1.0, delta=1e-5),
    sums_to=("de", "eu"),
    models_to=("eu",),
    outputs=("model", "evaluation"),
    issuers={"park": "4" * 64},
    owners_share_ppm_min=400_000,
    deletion_days=30,
)


@settings(max_examples=60, deadline=None)
@given(AGREEMENTS)
def test_both_ways_lose_nothing(agreement: Agreement) -> None:
    document = document_of(agreement)
    assert agreement_of(document) == agreement
    assert agreement_of(parse_canonical(canonical_bytes(document))) == agreement
    assert document_of(agreement_of(document)) == document


@settings(max_examples=25, deadline=None)
@given(AGREEMENTS, AGREEMENTS)
def test_other_terms_are_another_document(one: Agreement, other: Agreement) -> None:
    assert (document_of(one)["uid"] == document_of(other)["uid"]) == (one == other)


@pytest.mark.parametrize("field", Agreement.__struct_fields__)
def test_every_term_stands_in_the_document(field: str) -> None:
    changed: dict[str, Any] = {
        "visibility": "individual",
        "outputs": ("statistics",),
        "privacy": PrivacyTerms(epsilon=2.0, delta=1e-5),
        "participants": {"alfa": "1" * 64},
        "issuers": {},
        "deletion_days": None,
    }
    value = getattr(PLAIN, field)
    other = changed.get(
        field, not value if type(value) is bool else value + 1 if type(value) is int else (*value, "x") if type(value) is tuple else "x"
    )
    assert document_of(msgspec.structs.replace(PLAIN, **{field: other})) != document_of(PLAIN)


Change = Callable[[dict[str, Any]], Any]


def constraint(document: dict[str, Any], left: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in document["permission"][0]["constraint"] if c["leftOperand"] == left)
    return found


def rule(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["permission"][0]
    return found


UNKNOWN: list[tuple[str, str, Change]] = [
    ("document.prohibition", "permission", lambda d: d.update(prohibition=[{"action": "distribute"}])),
    ("document.inheritFrom", "permission", lambda d: d.update(inheritFrom="urn:x")),
    ("@context", "odrl.jsonld", lambda d: d.update({"@context": "http://www.w3.org/ns/odrl.jsonld"})),
    ("@type", "Agreement", lambda d: d.update({"@type": "Offer"})),
    ("profile", "odrl-profile:1", lambda d: d.update(profile="urn:isthmus:odrl-profile:2")),
    ("conflict", "prohibit", lambda d: d.update(conflict="perm")),
    ("permission", "one permission", lambda d: d["permission"].append(copy.deepcopy(rule(d)))),
    ("permission[0].remedy", "duty", lambda d: rule(d).update(remedy=[])),
    ("permission[0].action[0]", "isthmus:", lambda d: rule(d)["action"].insert(0, "distribute")),
    (
        "permission[0].constraint[0].leftOperand",
        "purpose",
        lambda d: rule(d)["constraint"].insert(0, {"leftOperand": "industry", "operator": "eq", "rightOperand": 1}),
    ),
    ("permission[0].constraint[0].operator", "isAnyOf", lambda d: constraint(d, "purpose").update(operator="isNoneOf")),
    ("permission[0].constraint[0].unit", "rightOperand", lambda d: constraint(d, "purpose").update(unit="day")),
    ("rightOperand", "a whole number", lambda d: constraint(d, "isthmus:runs").update(rightOperand="5")),
    ("rightOperand", "a whole number", lambda d: constraint(d, "isthmus:runs").update(rightOperand=True)),
    ("rightOperand", "2026-01-31", lambda d: constraint(d, "dateTime")["rightOperand"].update({"@value": "soon"})),
    ("rightOperand", "aggregate", lambda d: constraint(d, "isthmus:visibility").update(rightOperand="everybody")),
    ("rightOperand[0]", "model", lambda d: constraint(d, "isthmus:output").update(rightOperand=["advertising"])),
    ("second time", "once", lambda d: rule(d)["constraint"].append(copy.deepcopy(constraint(d, "isthmus:runs")))),
    ("does not say isthmus:runs", "required", lambda d: rule(d)["constraint"].remove(constraint(d, "isthmus:runs"))),
    ("without delta", "all of its terms", lambda d: rule(d)["constraint"].remove(constraint(d, "isthmus:delta"))),
    ("permission[0].duty[2].action", "compensate, delete", lambda d: rule(d)["duty"].append({"action": "attribute", "constraint": []})),
    ("duty[1].constraint[0].rightOperand", "policyUsage", lambda d: rule(d)["duty"][1]["constraint"][0].update(rightOperand="sale")),
    ("duty[1].constraint[1].rightOperand", "P30D", lambda d: rule(d)["duty"][1]["constraint"][1]["rightOperand"].update({"@value": "P1M"})),
    ("duty[0].constraint", "known there", lambda d: rule(d)["duty"][0].update(constraint=[])),
    ("second time", "once", lambda d: rule(d)["duty"].append(copy.deepcopy(rule(d)["duty"][0]))),
    ("assigner", "urn:isthmus:party:", lambda d: d.update(assigner="alfa")),
    ("document.uid", "permission", lambda d: d.pop("uid")),
    ("uid is not its own", "agree", lambda d: d.update(uid="urn:isthmus:agreement:0")),
    ("form or order", "agree", lambda d: rule(d)["constraint"].reverse()),
    (
        "rightOperand",
        "order of their ids",
        lambda d: constraint(d, "isthmus:participantKey")["rightOperand"].reverse(),
    ),
]


@pytest.mark.parametrize(("place", "known", "change"), UNKNOWN)
def test_unknown_terms_refuse_the_whole_agreement(place: str, known: str, change: Change) -> None:
    document = document_of(PLAIN)
    document = json.loads(json.dumps(document))
    change(document)
    with pytest.raises(AgreementError) as caught:
        agreement_of(document)
    assert place in caught.value.message and known in caught.value.next_step, (caught.value.message, caught.value.next_step)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_whatever_is_put_anywhere_is_refused_or_means_the_same(data: st.DataObject) -> None:
    """No place of the document can be overwritten with anything that is then read as other terms without saying so."""
    document = json.loads(json.dumps(document_of(PLAIN)))
    here: Any = document
    while isinstance(here, dict | list) and here:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else list(range(len(here)))))
        if not isinstance(here[key], dict | list) or not here[key] or data.draw(st.booleans()):
            here[key] = data.draw(JUNK)
            break
        here = here[key]
    try:
        found = agreement_of(document)
    except AgreementError:
        return
    assert json.dumps(document_of(found), sort_keys=True) == json.dumps(document, sort_keys=True)


def test_the_profile_says_each_of_its_terms() -> None:
    used = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            used.update(name for name in value if name.startswith("isthmus:"))
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(document_of(PLAIN))
    used |= {clause.left for clause in CLAUSES if clause.left.startswith("isthmus:")}
    used |= {c["leftOperand"] for d in rule(document_of(PLAIN))["duty"] for c in d["constraint"] if c["leftOperand"].startswith("isthmus:")}
    assert used == set(PROFILE_TERMS) and all(PROFILE_TERMS.values())


def test_an_offer_is_no_agreement() -> None:
    offer = document_of(PLAIN, "Offer")
    assert agreement_of(offer, "Offer") == PLAIN and offer["uid"] != document_of(PLAIN)["uid"]
    with pytest.raises(AgreementError):
        agreement_of(offer)


SCHEMA = jsonschema.Draft202012Validator(agreement_document_schema())


@settings(max_examples=30, deadline=None)
@given(AGREEMENTS)
def test_every_document_fits_the_published_schema(agreement: Agreement) -> None:
    SCHEMA.validate(parse_canonical(canonical_bytes(document_of(agreement))))


@pytest.mark.parametrize(("place", "known", "change"), UNKNOWN)
def test_the_published_schema_refuses_what_the_reader_refuses(place: str, known: str, change: Change) -> None:
    """But for order and uid, which follow from the terms and which no schema says."""
    document = json.loads(json.dumps(document_of(PLAIN)))
    change(document)
    beyond = {"form or order", "order of their ids", "second time", "uid is not its own", "without delta", "2026-01-31"}
    if document["@type"] == "Agreement" and not {place, known} & beyond and known != "agree" and place != "uid is not its own":
        assert not SCHEMA.is_valid(document)


def test_the_profile_document_says_every_term() -> None:
    assert {one["@id"] for one in profile_document()["@graph"]} == set(PROFILE_TERMS)
