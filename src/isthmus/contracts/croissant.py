"""An asset's public description as MLCommons Croissant 1.1 in JSON-LD (docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html).

It says what kind of records an owner has, never one of them: fields and their declared ranges, how many records in a band, the licence,
what looks personal, a salted commitment, a quality report, and a sample that was made up. Files have no checksums: a checksum of records is
something that a guess of the records can be tested with; the commitment, which is salted, binds the version instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from isthmus.contracts.errors import DocumentError
from isthmus.contracts.ports import Json

CONFORMS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
NAMESPACE = "urn:isthmus:asset-description:1#"
RECORDS = "records"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "isthmus": NAMESPACE,
    "annotation": "cr:annotation",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "excludes": "cr:excludes",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "readLines": "cr:readLines",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sdVersion": "cr:sdVersion",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
    "unArchive": "cr:unArchive",
    "value": "cr:value",
}
FileKind = Literal["image", "text", "table", "parquet", "arrow", "tables"]
"""tables: in files of several of these makes."""
FORMATS: dict[FileKind, tuple[str, tuple[str, ...]]] = {
    "image": ("image/*", ("*.png", "*.jpg", "*.jpeg", "*.bmp", "*.tif", "*.tiff", "*.webp", "*.gif", "*.ppm", "*.pgm")),
    "text": ("text/plain", ("*.txt",)),
    "table": ("text/csv", ("*.csv",)),
    "parquet": ("application/vnd.apache.parquet", ("*.parquet", "*.pq")),
    "arrow": ("application/vnd.apache.arrow.file", ("*.arrow", "*.feather", "*.ipc")),
    "tables": ("application/octet-stream", ("*.csv", "*.parquet", "*.pq", "*.arrow", "*.feather", "*.ipc")),
}
SHARE_DIGITS = 2
"""Of a published share: four would tell how many records there are, which is said as a band only."""
MADE_UP = "The examples are made up from the declared schema alone; no record was looked at for them."


@dataclass(frozen=True)
class FieldFact:
    """One field of a record. type: a Croissant data type. parses: of a column without a declared schema, whether all, some or none of its
    values are of the narrowest type tried; low, high, levels: declared, never found in the data."""

    name: str
    type: str
    says: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    levels: tuple[str, ...] = ()
    steps: int = 1
    parses: Literal["all", "some", "none", ""] = ""
    content: bool = False


class QualityFinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a finding may be published: no counts and no sentences."""

    check: str
    level: str
    share: float = 0.0
    column: str = ""


class PublishedQuality(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a quality report (`isthmus asset check`) may stand in a public description."""

    score: int
    findings: tuple[QualityFinding, ...] = ()
    personal: tuple[str, ...] = ()


def published(report: Json) -> PublishedQuality:
    """The part of a quality report that may be told: what is not named in these nouns is left out. Raises DocumentError."""
    try:
        given: tuple[Json, ...] = tuple(report.get("findings", ()))
        findings: list[Json] = [{name: one[name] for name in QualityFinding.__struct_fields__ if name in one} for one in given]
        known: Json = {name: report[name] for name in ("score", "personal") if name in report}
        found = msgspec.convert({**known, "findings": findings}, PublishedQuality)
        rounded = tuple(msgspec.structs.replace(one, share=round(one.share, SHARE_DIGITS)) for one in found.findings)
        return msgspec.structs.replace(found, findings=rounded)
    except (msgspec.ValidationError, TypeError, AttributeError) as error:
        raise DocumentError(f"the quality report is malformed: {error}", "give what isthmus asset check --json wrote") from error


@dataclass(frozen=True)
class AssetFacts:
    """What is known of an asset and may be told. band: how many records, as text. personal: sentences; heuristic. mock: made-up records.
    commitment: salted; empty where no salt is kept."""

    name: str
    owner: str
    licence: str
    kind: FileKind
    fields: tuple[FieldFact, ...]
    band: str
    personal: tuple[str, ...]
    mock: tuple[Json, ...]
    date: str
    commitment: str = ""
    quality: PublishedQuality | None = None
    sample: bool = False


def band_of(count: int) -> str:
    """A count as the band of its first digit: 1234 -> "1,000-1,999"; below ten it is only said to be so."""
    if count < 10:
        return "fewer than 10"
    step = 10 ** (len(str(count)) - 1)
    low = count // step * step
    return f"{low:,}-{low + step - 1:,}"


def description_of(facts: AssetFacts) -> Json:
    """The document. Deterministic in the facts."""
    found: Json = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": facts.name,
        "description": _said(facts),
        "license": _licence(facts.licence),
        "url": f"urn:isthmus:asset:{facts.commitment or facts.name}",
        "creator": {"@type": "sc:Organization", "name": facts.owner},
        "citeAs": f"{facts.owner}: {facts.name}, described on {facts.date}",
        "datePublished": facts.date,
        "version": "1.0.0",
        "isLiveDataset": True,
        "usageInfo": {
            "@type": "sc:CreativeWork",
            "name": "Sums only, under an ODRL Agreement with the owner (profile urn:isthmus:odrl-profile:1)",
        },
        "distribution": [_files(facts)],
        "recordSet": [_records(facts)],
        "rai:personalSensitiveInformation": list(facts.personal)
        or ["Nothing that looks personal was found; this is a heuristic, not a promise."],
        "isthmus:sample": facts.sample,
        "isthmus:recordsBand": facts.band,
    }
    if facts.commitment:
        found["isthmus:commitment"] = facts.commitment
    if facts.quality is not None:
        found["isthmus:quality"] = msgspec.to_builtins(facts.quality)
    return found


def _said(facts: AssetFacts) -> str:
    kinds = {"image": "pictures", "text": "texts"}
    made_up = " The data is made up, for demonstration." if facts.sample else ""
    kind = kinds.get(facts.kind, "rows of tables")
    return f"{facts.band} labelled records ({kind}) that stay with {facts.owner}; only sums leave, by agreement.{made_up}"


def _licence(licence: str) -> str:
    """A known licence by its page at SPDX, anything else as it stands."""
    known = bool(licence) and licence.replace("-", "").replace(".", "").replace("+", "").isalnum() and any(c.isdigit() for c in licence)
    return f"https://spdx.org/licenses/{licence}" if known else licence


def _files(facts: AssetFacts) -> Json:
    mime, patterns = FORMATS[facts.kind]
    said = "Files at the owner's node; their names are not told, and none can be fetched."
    return {"@type": "cr:FileSet", "@id": "files", "name": "files", "description": said, "encodingFormat": mime, "includes": list(patterns)}


def _records(facts: AssetFacts) -> Json:
    count = {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/band",
        "name": "band",
        "description": "How many records, as a band.",
        "value": facts.band,
        "dataType": "sc:Text",
    }
    return {
        "@type": "cr:RecordSet",
        "@id": RECORDS,
        "name": RECORDS,
        "description": MADE_UP,
        "annotation": [count],
        "field": [_field(fact) for fact in facts.fields],
        "examples": [{f"{RECORDS}/{name}": value for name, value in record.items()} for record in facts.mock],
    }


def _field(fact: FieldFact) -> Json:
    source: Json = {"fileSet": {"@id": "files"}}
    source["extract"] = {"fileProperty": "content"} if fact.content else {"column": fact.name}
    found: Json = {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/{fact.name}",
        "name": fact.name,
        "description": fact.says or fact.name,
        "dataType": fact.type,
        "source": source,
    }
    if fact.steps > 1:
        found |= {"isArray": True, "arrayShape": str(fact.steps)}
    if fact.unit:
        found["isthmus:unit"] = fact.unit
    if fact.low is not None and fact.high is not None:
        found |= {"isthmus:declaredLow": fact.low, "isthmus:declaredHigh": fact.high}
    if fact.levels:
        found["isthmus:declaredLevels"] = list(fact.levels)
    if fact.parses:
        found["isthmus:parses"] = fact.parses
    return found
