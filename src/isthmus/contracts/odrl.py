"""An agreement as one ODRL Agreement (W3C ODRL Information Model 2.2) in JSON-LD: the document that is signed and sent.

Permission and duties stand in ODRL's own words where it has them (purpose, dateTime, spatial, compensate, delete), the rest in the
profile `isthmus`, whose terms `PROFILE_TERMS` says. Both ways lose nothing: `agreement_of(document_of(a)) == a`. What is not known is
refused, with its place and what is known there: a term that a reader skips is a term that nobody keeps.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import msgspec

from isthmus.contracts.agreement import ANY_STAGE, ANYWHERE, OUTPUTS, Agreement, PrivacyTerms
from isthmus.contracts.errors import AgreementError

NAMESPACE = "urn:isthmus:terms:1#"
PROFILE = "urn:isthmus:odrl-profile:1"
CONTEXT: list[Any] = ["http://www.w3.org/ns/odrl.jsonld", {"isthmus": NAMESPACE, "xsd": "http://www.w3.org/2001/XMLSchema#"}]
PARTY, KEY, ASSET, UID = "urn:isthmus:party:", "urn:isthmus:key:ed25519:", "urn:isthmus:asset:", "urn:isthmus:agreement:"
OWN = "isthmus:"
UID_DIGITS = 32
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_DAYS = re.compile(r"P(0|[1-9]\d{0,8})D")
PolicyKind = Literal["Agreement", "Offer"]


@dataclass(frozen=True)
class Clause:
    """How one term of the agreement stands in the document: as a constraint on the permission.

    field: of Agreement, or `privacy.` and one of PrivacyTerms. absent: the value for which the constraint is left out. means: its sentence.
    """

    field: str
    left: str
    operator: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any, str], Any]
    means: str
    absent: Any = ...


def refused(path: str, what: str, known: str) -> NoReturn:
    """Raises AgreementError naming the place."""
    raise AgreementError(f"the agreement's {path} {what}", known)


def _same(value: Any) -> Any:
    return value


def _whole(value: Any, path: str) -> int:
    if type(value) is not int:
        refused(path, f"is {value!r}", "a whole number is known there")
    return value


def _number(value: Any, path: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        refused(path, f"is {value!r}", "a number is known there")
    return float(value)


def _yes(value: Any, path: str) -> bool:
    if type(value) is not bool:
        refused(path, f"is {value!r}", "true or false is known there")
    return value


def _text(value: Any, path: str) -> str:
    if type(value) is not str:
        refused(path, f"is {value!r}", "text is known there")
    return value


def _texts(value: Any, path: str) -> tuple[str, ...]:
    if type(value) is not list:
        refused(path, f"is {value!r}", "a list of texts is known there")
    return tuple(_text(one, f"{path}[{place}]") for place, one in enumerate(value))


def _one_of(*allowed: str) -> Callable[[Any, str], str]:
    def decode(value: Any, path: str) -> str:
        if type(value) is not str or value not in allowed:
            refused(path, f"is {value!r}", f"{', '.join(allowed)} are known there")
        return value

    return decode


def _some_of(*allowed: str) -> Callable[[Any, str], tuple[str, ...]]:
    one = _one_of(*allowed)

    def decode(value: Any, path: str) -> tuple[str, ...]:
        return tuple(one(name, f"{path}[{place}]") for place, name in enumerate(_texts(value, path)))

    return decode


def moment_text(at_s: int) -> dict[str, str]:
    """Whole seconds since the Unix epoch as a typed value. Raises AgreementError beyond the years that have four digits."""
    try:
        found = datetime.datetime.fromtimestamp(at_s, tz=datetime.UTC)
    except (OverflowError, OSError, ValueError):
        refused("times", f"hold {at_s}, which is no date", "use seconds since 1970, up to the year 9999")
    return {"@type": "xsd:dateTime", "@value": found.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")}


def _moment(value: Any, path: str) -> int:
    said = _typed(value, path, "xsd:dateTime")
    try:
        if not _TIME.fullmatch(said):
            raise ValueError
        return int(datetime.datetime.strptime(said, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC).timestamp())
    except ValueError:
        refused(path, f"is {said!r}", "a time such as 2026-01-31T12:00:00Z is known there")


def _typed(value: Any, path: str, kind: str) -> str:
    if type(value) is not dict or set(value) != {"@type", "@value"} or value["@type"] != kind:
        refused(path, f"is {value!r}", f"an object of @type {kind} and @value is known there")
    return _text(value["@value"], f"{path}.@value")


def _keys_of(name: str) -> Callable[[Mapping[str, str]], Any]:
    def encode(keys: Mapping[str, str]) -> Any:
        return [{"@id": KEY + key, OWN + name: who} for who, key in sorted(keys.items())]

    return encode


def _keys(name: str) -> Callable[[Any, str], dict[str, str]]:
    def decode(value: Any, path: str) -> dict[str, str]:
        if type(value) is not list:
            refused(path, f"is {value!r}", "a list of keys is known there")
        found: dict[str, str] = {}
        for place, one in enumerate(value):
            at = f"{path}[{place}]"
            if type(one) is not dict or set(one) != {"@id", OWN + name}:
                refused(at, f"is {one!r}", f"an object of @id and {OWN}{name} is known there")
            found[_text(one[OWN + name], f"{at}.{OWN}{name}")] = _after(one["@id"], KEY, f"{at}.@id")
        if len(found) < len(value) or list(found) != sorted(found):
            refused(path, "names somebody twice, or out of order", "each once, in the order of their ids, is known there")
        return found

    return decode


def _after(value: Any, prefix: str, path: str) -> str:
    said = _text(value, path)
    if not said.startswith(prefix):
        refused(path, f"is {said!r}", f"an identifier that begins with {prefix} is known there")
    return said.removeprefix(prefix)


CLAUSES = (
    Clause("purposes", "purpose", "isAnyOf", list, _texts, "What the sums may be used for."),
    Clause("issued_at_s", "dateTime", "gteq", moment_text, _moment, "When the agreement begins."),
    Clause("expires_at_s", "dateTime", "lt", moment_text, _moment, "When it ends."),
    Clause("runs_max", "isthmus:runs", "lteq", _same, _whole, "How many different runs it allows, over its whole time."),
    Clause("least_group_size", "isthmus:groupSize", "gteq", _same, _whole, "Fewest own records behind any number that leaves."),
    Clause("least_participants", "isthmus:rosterSize", "gteq", _same, _whole, "Fewest owners in a roster, this one included."),
    Clause(
        "participants",
        "isthmus:participantKey",
        "isAnyOf",
        _keys_of("party"),
        _keys("party"),
        "Who may stand in a roster, under which key.",
    ),
    Clause(
        "issuers",
        "isthmus:issuerKey",
        "isAnyOf",
        _keys_of("issuer"),
        _keys("issuer"),
        "Whose word makes a key count as a participant's.",
        {},
    ),
    Clause(
        "visibility", "isthmus:visibility", "eq", _same, _one_of("aggregate", "individual"), "Whether this owner's sums may be seen alone."
    ),
    Clause("stages", "isthmus:features", "isAnyOf", list, _texts, "Digests of the feature extractors that may be used.", (ANY_STAGE,)),
    Clause(
        "dimension_records_min_ratio", "isthmus:recordsPerFeature", "gteq", _same, _whole, "Records behind what becomes visible, a feature."
    ),
    Clause("allow_own_head", "isthmus:ownHead", "eq", _same, _yes, "Whether this owner's own fitted head may leave, seen singly."),
    Clause("contribution", "isthmus:ownScore", "eq", _same, _yes, "Whether this owner may be scored by its own sums."),
    Clause("overlap_owners_min", "isthmus:rosterDifference", "gteq", _same, _whole, "By how many owners overlapping rosters must differ."),
    Clause(
        "privacy.epsilon", "isthmus:epsilon", "lteq", _same, _number, "Epsilon of all noisy answers about the data, for its lifetime.", None
    ),
    Clause("privacy.delta", "isthmus:delta", "lteq", _same, _number, "Delta of the same.", None),
    Clause("privacy.unit", "isthmus:privacyUnit", "eq", _same, _one_of("record", "group"), "What one unit of privacy is.", None),
    Clause("privacy.unit_records_max", "isthmus:recordsPerUnit", "lteq", _same, _whole, "The most records of a unit.", None),
    Clause("sums_to", "spatial", "isAnyOf", list, _texts, "Where the exchange that gets the sums may be.", (ANYWHERE,)),
    Clause("models_to", "isthmus:modelSpatial", "isAnyOf", list, _texts, "Where models made of them may serve.", (ANYWHERE,)),
    Clause("outputs", "isthmus:output", "isAnyOf", list, _some_of(*OUTPUTS), "What may be made of the sums."),
)
OWNERS_SHARE = "isthmus:ownersSharePpm"
POLICY_TERMS = ("@context", "@type", "uid", "profile", "conflict", "assigner", "assignee", "target", "permission", "isthmus:sample")
RULE_TERMS = ("action", "constraint", "duty")
CONSTRAINT_TERMS = ("leftOperand", "operator", "rightOperand")
PROFILE_TERMS: dict[str, str] = {
    **{clause.left: clause.means for clause in CLAUSES if clause.left.startswith(OWN)},
    OWNERS_SHARE: "The owners' part of each charge, in parts per million.",
    "isthmus:sample": "Made up, for demonstration.",
    "isthmus:party": "The id of the party that a key is of.",
    "isthmus:issuer": "The id of the issuer that a key is of.",
}


def document_of(agreement: Agreement, kind: PolicyKind = "Agreement") -> dict[str, Any]:
    """The ODRL policy; its uid follows from all else that it says. Raises AgreementError for a time that is no date."""
    rule: dict[str, Any] = {"action": [OWN + name for name in agreement.operations], "constraint": _constraints(agreement)}
    duties = _duties(agreement)
    if duties:
        rule["duty"] = duties
    policy: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": kind,
        "profile": PROFILE,
        "conflict": "prohibit",
        "assigner": PARTY + agreement.owner,
        "assignee": KEY + agreement.exchange,
        "target": ASSET + agreement.asset,
        "permission": [rule],
        "isthmus:sample": agreement.sample,
    }
    return {**policy, "uid": _uid(policy)}


def _uid(policy: Mapping[str, Any]) -> str:
    return UID + hashlib.sha256(msgspec.json.encode(policy, order="deterministic")).hexdigest()[:UID_DIGITS]


def _value(agreement: Agreement, field: str) -> Any:
    if not field.startswith("privacy."):
        return getattr(agreement, field)
    return None if agreement.privacy is None else getattr(agreement.privacy, field.removeprefix("privacy."))


def _constraints(agreement: Agreement) -> list[dict[str, Any]]:
    found = []
    for clause in CLAUSES:
        value = _value(agreement, clause.field)
        if clause.absent is ... or value != clause.absent:
            found.append({"leftOperand": clause.left, "operator": clause.operator, "rightOperand": clause.encode(value)})
    return found


def _duties(agreement: Agreement) -> list[dict[str, Any]]:
    duties: list[dict[str, Any]] = []
    if agreement.owners_share_ppm_min:
        share = {"leftOperand": OWNERS_SHARE, "operator": "gteq", "rightOperand": agreement.owners_share_ppm_min}
        duties.append({"action": "compensate", "constraint": [share]})
    if agreement.deletion_days is not None:
        period = {"@type": "xsd:duration", "@value": f"P{agreement.deletion_days}D"}
        after = {"leftOperand": "event", "operator": "gt", "rightOperand": "policyUsage"}
        within = {"leftOperand": "elapsedTime", "operator": "lteq", "rightOperand": period}
        duties.append({"action": "delete", "constraint": [after, within]})
    return duties


def agreement_of(document: Any, kind: PolicyKind = "Agreement") -> Agreement:
    """The terms of an ODRL policy. Raises AgreementError with the place of anything that is not known, twice there, or missing."""
    policy = _object(document, "document", POLICY_TERMS, optional=())
    for name, wanted in (("@context", CONTEXT), ("@type", kind), ("profile", PROFILE), ("conflict", "prohibit")):
        if policy[name] != wanted:
            refused(name, f"is {policy[name]!r}", f"{wanted!r} is known there")
    rules = policy["permission"]
    if type(rules) is not list or len(rules) != 1:
        refused("permission", "is not one rule", "a list of one permission is known there")
    rule = _object(rules[0], "permission[0]", RULE_TERMS, optional=("duty",))
    values = _constrained(rule["constraint"])
    budget = {name.removeprefix("privacy."): values.pop(name) for name in list(values) if name.startswith("privacy.")}
    found = Agreement(
        owner=_after(policy["assigner"], PARTY, "assigner"),
        exchange=_after(policy["assignee"], KEY, "assignee"),
        asset=_after(policy["target"], ASSET, "target"),
        operations=_actions(rule["action"]),
        sample=_yes(policy["isthmus:sample"], "isthmus:sample"),
        privacy=_budget(budget),
        **values,
        **_dutiful(rule.get("duty", [])),
    )
    if _plain(policy) != _plain(_like(document_of(found, kind), policy)):
        refused(
            "document",
            "says something in another form or order than the profile, or its uid is not its own",
            "take it as `agree` writes it",
        )
    return found


def _plain(document: Any) -> bytes:
    return msgspec.json.encode(document, order="deterministic")


def _like(written: Any, given: Any) -> Any:
    """The document as written here, with whole numbers where the given one has them: JSON does not tell 1 from 1.0."""
    if isinstance(written, float) and type(given) is int and written == given:
        return given
    if isinstance(written, dict) and isinstance(given, dict):
        return {name: _like(value, given.get(name)) for name, value in written.items()}
    if isinstance(written, list) and isinstance(given, list) and len(written) == len(given):
        return [_like(one, other) for one, other in zip(written, given, strict=True)]
    return written


def _object(value: Any, path: str, known: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    if type(value) is not dict:
        refused(path, "is no object", f"an object of {', '.join(known)} is known there")
    unknown = sorted(set(value) - set(known))
    if unknown:
        refused(f"{path}.{unknown[0]}", "is not a term that is known", f"{', '.join(known)} are known there")
    missing = [name for name in known if name not in value and name not in optional]
    if missing:
        refused(f"{path}.{missing[0]}", "is missing", f"{', '.join(known)} are known there")
    return value


def _constrained(given: Any) -> dict[str, Any]:
    """Values by field of Agreement, and by `privacy.` fields."""
    if type(given) is not list:
        refused("permission[0].constraint", "is no list", "a list of constraints is known there")
    by_left = {(clause.left, clause.operator): clause for clause in CLAUSES}
    values: dict[str, Any] = {}
    for place, one in enumerate(given):
        path = f"permission[0].constraint[{place}]"
        constraint = _object(one, path, CONSTRAINT_TERMS, optional=())
        left, operator = _text(constraint["leftOperand"], f"{path}.leftOperand"), _text(constraint["operator"], f"{path}.operator")
        if left not in {clause.left for clause in CLAUSES}:
            names = ", ".join(dict.fromkeys(clause.left for clause in CLAUSES))
            refused(f"{path}.leftOperand", f"is {left!r}, an operand that is not known", f"{names} are known there")
        clause = by_left.get((left, operator))
        if clause is None:
            known = ", ".join(clause.operator for clause in CLAUSES if clause.left == left)
            refused(f"{path}.operator", f"is {operator!r}, which is not known with {left}", f"{known} is known there")
        if clause.field in values:
            refused(path, f"says {left} {operator} a second time", "each once is known there")
        values[clause.field] = clause.decode(constraint["rightOperand"], f"{path}.rightOperand")
    for clause in CLAUSES:
        if clause.field not in values and clause.absent is ...:
            refused("permission[0].constraint", f"does not say {clause.left} {clause.operator}", "it is required there")
    return values


def _actions(given: Any) -> tuple[str, ...]:
    return tuple(_after(name, OWN, f"permission[0].action[{place}]") for place, name in enumerate(_texts(given, "permission[0].action")))


def _budget(given: dict[str, Any]) -> PrivacyTerms | None:
    if not given:
        return None
    missing = [name for name in PrivacyTerms.__struct_fields__ if name not in given]
    if missing:
        refused("permission[0].constraint", f"has a privacy budget without {missing[0]}", "all of its terms or none are known there")
    return PrivacyTerms(**given)


def _dutiful(given: Any) -> dict[str, Any]:
    """Fields of Agreement that duties say."""
    if type(given) is not list:
        refused("permission[0].duty", "is no list", "a list of duties is known there")
    found: dict[str, Any] = {}
    for place, one in enumerate(given):
        path = f"permission[0].duty[{place}]"
        duty = _object(one, path, ("action", "constraint"), optional=())
        if duty["action"] == "compensate":
            right = _right(duty, path, (OWNERS_SHARE, "gteq"))
            name, value = "owners_share_ppm_min", _whole(right, f"{path}.constraint[0].rightOperand")
        elif duty["action"] == "delete":
            right = _right(duty, path, ("event", "gt"), ("elapsedTime", "lteq"))
            said = _typed(right, f"{path}.constraint[1].rightOperand", "xsd:duration")
            if not _DAYS.fullmatch(said):
                refused(f"{path}.constraint[1].rightOperand", f"is {said!r}", "whole days such as P30D are known there")
            name, value = "deletion_days", int(said[1:-1])
        else:
            refused(f"{path}.action", f"is {duty['action']!r}, a duty that is not known", "compensate, delete are known there")
        if name in found:
            refused(path, f"says {duty['action']} a second time", "each once is known there")
        found[name] = value
    return found


def _right(duty: dict[str, Any], path: str, *wanted: tuple[str, str]) -> Any:
    """The right operand of the last of a duty's constraints, which must be exactly these."""
    given = duty["constraint"]
    if type(given) is not list or len(given) != len(wanted):
        refused(f"{path}.constraint", "is not what the duty takes", f"{', then '.join(' '.join(one) for one in wanted)} is known there")
    for place, (one, (left, operator)) in enumerate(zip(given, wanted, strict=True)):
        constraint = _object(one, f"{path}.constraint[{place}]", CONSTRAINT_TERMS, optional=())
        if (constraint["leftOperand"], constraint["operator"]) != (left, operator):
            said = f"is {constraint['leftOperand']!r} {constraint['operator']!r}"
            refused(f"{path}.constraint[{place}]", said, f"{left} {operator} is known there")
        if left == "event" and constraint["rightOperand"] != "policyUsage":
            refused(f"{path}.constraint[{place}].rightOperand", f"is {constraint['rightOperand']!r}", "policyUsage is known there")
    return given[-1]["rightOperand"]
