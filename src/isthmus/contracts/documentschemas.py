"""JSON Schemas of documents that are no Structs: the ODRL agreement that is signed, and an asset's public description.

And the ODRL profile itself, as JSON-LD, for readers that know ODRL and not this product.
"""

from __future__ import annotations

from typing import Any

from isthmus.contracts.agreement import OUTPUTS
from isthmus.contracts.croissant import CONFORMS
from isthmus.contracts.odrl import ASSET, CLAUSES, CONTEXT, KEY, NAMESPACE, OWN, OWNERS_SHARE, PARTY, PROFILE, PROFILE_TERMS, UID, Clause

Schema = dict[str, Any]
TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
MOMENT: Schema = {
    "type": "object",
    "properties": {"@type": {"const": "xsd:dateTime"}, "@value": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}},
    "required": ["@type", "@value"],
    "additionalProperties": False,
}


def _keys(name: str) -> Schema:
    properties = {"@id": {"type": "string", "pattern": f"^{KEY}"}, OWN + name: {"type": "string"}}
    one = {"type": "object", "properties": properties, "required": ["@id", OWN + name], "additionalProperties": False}
    return {"type": "array", "items": one}


TAKES: dict[str, Schema] = {
    "purposes": TEXTS,
    "issued_at_s": MOMENT,
    "expires_at_s": MOMENT,
    "participants": _keys("party"),
    "issuers": _keys("issuer"),
    "visibility": {"enum": ["aggregate", "individual"]},
    "stages": TEXTS,
    "allow_own_head": {"type": "boolean"},
    "contribution": {"type": "boolean"},
    "privacy.epsilon": {"type": "number"},
    "privacy.delta": {"type": "number"},
    "privacy.unit": {"enum": ["record", "group"]},
    "sums_to": TEXTS,
    "models_to": TEXTS,
    "outputs": {"type": "array", "items": {"enum": list(OUTPUTS)}},
}
"""Of each clause's right operand; those that are not named take a whole number."""


def _constraint(left: str, operator: str, right: Schema, means: str = "") -> Schema:
    properties = {"leftOperand": {"const": left}, "operator": {"const": operator}, "rightOperand": right}
    found: Schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {**found, "description": means} if means else found


def _clause(clause: Clause) -> Schema:
    return _constraint(clause.left, clause.operator, TAKES.get(clause.field, {"type": "integer"}), clause.means)


def _duty(action: str, *constraints: Schema) -> Schema:
    listed = {"type": "array", "prefixItems": list(constraints), "minItems": len(constraints), "items": False}
    properties = {"action": {"const": action}, "constraint": listed}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def agreement_document_schema() -> Schema:
    """Of an ODRL Agreement or Offer in the profile. A document that fits may still be refused: order and uid follow from its terms."""
    period = {
        "type": "object",
        "properties": {"@type": {"const": "xsd:duration"}, "@value": {"type": "string", "pattern": r"^P\d+D$"}},
        "required": ["@type", "@value"],
        "additionalProperties": False,
    }
    duties = [
        _duty("compensate", _constraint(OWNERS_SHARE, "gteq", {"type": "integer"}, PROFILE_TERMS[OWNERS_SHARE])),
        _duty("delete", _constraint("event", "gt", {"const": "policyUsage"}), _constraint("elapsedTime", "lteq", period)),
    ]
    required = [{"contains": _constraint(c.left, c.operator, True)} for c in CLAUSES if c.absent is ...]  # type: ignore[arg-type]
    rule = {
        "type": "object",
        "properties": {
            "action": {"type": "array", "items": {"type": "string", "pattern": f"^{OWN}"}},
            "constraint": {"type": "array", "items": {"oneOf": [_clause(clause) for clause in CLAUSES]}, "allOf": required},
            "duty": {"type": "array", "items": {"oneOf": duties}, "maxItems": len(duties)},
        },
        "required": ["action", "constraint"],
        "additionalProperties": False,
    }
    properties = {
        "@context": {"const": CONTEXT},
        "@type": {"enum": ["Agreement", "Offer"]},
        "uid": {"type": "string", "pattern": f"^{UID}[0-9a-f]{{32}}$"},
        "profile": {"const": PROFILE},
        "conflict": {"const": "prohibit"},
        "assigner": {"type": "string", "pattern": f"^{PARTY}"},
        "assignee": {"type": "string", "pattern": f"^{KEY}"},
        "target": {"type": "string", "pattern": f"^{ASSET}"},
        "permission": {"type": "array", "items": rule, "minItems": 1, "maxItems": 1},
        "isthmus:sample": {"type": "boolean"},
    }
    return {
        "title": "AgreementDocument",
        "description": "An agreement as it is signed and sent: one ODRL policy on one asset.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def asset_description_schema() -> Schema:
    """Of an asset's public description: what Croissant 1.1 requires of it, and that no file has a checksum and no field embeds data."""
    text = {"type": "string", "minLength": 1}
    field = {
        "type": "object",
        "properties": {"@type": {"const": "cr:Field"}, "@id": text, "name": text, "dataType": {"type": "string", "pattern": "^sc:"}},
        "required": ["@type", "@id", "name", "dataType", "source"],
        "not": {"anyOf": [{"required": ["value"]}, {"required": ["data"]}]},
    }
    records = {
        "type": "object",
        "properties": {
            "@type": {"const": "cr:RecordSet"},
            "field": {"type": "array", "items": field, "minItems": 1},
            "examples": {"type": "array", "items": {"type": "object"}, "minItems": 1},
        },
        "required": ["@type", "@id", "field", "examples", "description"],
        "not": {"required": ["data"]},
    }
    files = {
        "type": "object",
        "properties": {"@type": {"const": "cr:FileSet"}, "includes": {"type": "array", "items": text}},
        "required": ["@type", "@id", "encodingFormat", "includes"],
        "not": {"anyOf": [{"required": ["sha256"]}, {"required": ["contentUrl"]}]},
    }
    properties = {
        "@type": {"const": "sc:Dataset"},
        "conformsTo": {"const": CONFORMS},
        **dict.fromkeys(("name", "description", "license", "url", "datePublished", "version"), text),
        "isLiveDataset": {"const": True},
        "distribution": {"type": "array", "items": files, "minItems": 1},
        "recordSet": {"type": "array", "items": records, "minItems": 1},
        "rai:personalSensitiveInformation": {"type": "array", "items": text, "minItems": 1},
        "isthmus:recordsBand": {"type": "string", "pattern": r"^(fewer than 10|[1-9][0-9,]*-[1-9][0-9,]*)$"},
    }
    return {
        "title": "AssetDescription",
        "description": "What an owner says of an asset in public, as MLCommons Croissant 1.1.",
        "type": "object",
        "properties": properties,
        "required": ["@context", "creator", *properties],
    }


def profile_document() -> Schema:
    """The ODRL profile as JSON-LD: each of its terms with what it means."""
    terms = [
        {
            "@id": name,
            "@type": "odrl:LeftOperand" if name in {c.left for c in CLAUSES} | {OWNERS_SHARE} else "rdf:Property",
            "skos:definition": means,
        }
        for name, means in sorted(PROFILE_TERMS.items())
    ]
    action = "An action is one statistic of the sandbox, by its name (isthmus:moments/1); a node computes it as its release defines it."
    return {
        "@context": {
            "odrl": "http://www.w3.org/ns/odrl/2/",
            "skos": "http://www.w3.org/2004/02/skos/core#",
            "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
            "isthmus": NAMESPACE,
        },
        "@id": PROFILE,
        "@type": "odrl:Profile",
        "skos:definition": f"Agreements on sums over data that stays. {action} What is named neither here nor in ODRL is refused.",
        "@graph": terms,
    }
