"""From a served answer to CAP 1.2 alerts: which levels are to be warned of, and what became of earlier warnings for the same day.

An alert rests on an answer that the exchange served under a certificate that is valid now; the certificate is checked here again, and its
digest stands in the alert beside the receipt's id. An earlier alert of the same sender for the same gauge and day is updated, or cancelled
where the new forecast stays below the level. What the model leaves to a person is no warning, unless one is asked for that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from isthmus.assurance.certificate import certificate_digest, check_digest
from isthmus.client.http import ExchangeClient
from isthmus.contracts.bars import PPM
from isthmus.contracts.certificate import Predicate
from isthmus.contracts.errors import CertificateError, FolderError, InputError, StorageError
from isthmus.contracts.inference import ModelMetadata
from isthmus.contracts.targets import Target
from isthmus.contracts.warning import WarningLevel, Warnings
from isthmus.gateway.wire import Answer
from isthmus.kit.records import RECORD_DECODER
from isthmus.kit.signing import Envelope, key_id
from isthmus.scenarios.cap import Area, FloodWarning, Issued, Kind, flood_alert, identifier, is_due, issued_from
from isthmus.scenarios.located import read_yaml
from isthmus.scenarios.structure import structure_faults

PERSON, MET = "person", "defect"
ALERTS_MAX = 10_000


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A model that serves, and its certificate, which was checked. targets: of a model that foretells numbers."""

    predicate: Predicate
    certificate: str
    artefact: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A served answer and what proves it."""

    answer: Answer
    proven: Proven

    @property
    def receipt(self) -> str:
        return str(self.answer.parameters["receipt"])


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One level. kind: of the alert that is to be written, or none. why: in a sentence. text: the alert's XML."""

    lead_days: int
    kind: Kind | None
    why: str
    name: str = ""
    text: bytes = b""
    before: tuple[Issued, ...] = ()


def read_warnings(path: Path) -> Warnings:
    """The file of levels. Raises FolderError with the line that is wrong, InputError."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FolderError(f"{path} cannot be read: {error.strerror}", "give a YAML file with sender, gauge, area and levels") from error
    document, found = read_yaml(path.name, raw)
    if document is not None:
        found += structure_faults(document, Warnings)
    if document is None or found:
        first = found[0]
        raise FolderError(f"{path} line {first.line}: {first.what}", first.next)
    wanted = msgspec.convert(document.value, Warnings)
    leads = [level.lead_days for level in wanted.levels]
    if not leads or len(set(leads)) < len(leads):
        raise InputError(f"{path} names no level, or two for one lead", "name one level for each number of days ahead")
    return wanted


def proven_model(exchange: ExchangeClient, model: str, public_key: str, now_s: float) -> Proven:
    """The model's certificate, held against the pinned key, the artefact that serves, and the time; before anything is asked of the model.

    Raises CertificateError; InputError for a model of pictures.
    """
    properties = msgspec.convert(exchange.get(f"/v2/models/{model}"), ModelMetadata).properties
    if "columns" not in properties:
        raise InputError(f"{model} judges pictures, and warnings are of records", "name a model of rows or windows")
    envelope = msgspec.convert(exchange.get(f"/v1/certificates/{properties['certificate']}"), Envelope)
    digest = certificate_digest(envelope)
    if digest != properties["certificate"]:
        raise CertificateError(f"{model} names the certificate {properties['certificate'][:19]}, another came", "ask again")
    revoked = frozenset(one["digest"] for one in exchange.get("/v1/certificates") if one["revoked"])
    trusted = {key_id(public_key): public_key}
    found = check_digest(envelope, properties["artefact"], trusted, properties["tier"], now_s, revoked, RECORD_DECODER)
    targets = msgspec.json.decode(properties.get("targets", "[]"), type=tuple[Target, ...])
    return Proven(predicate=found.predicate, certificate=digest, artefact=properties["artefact"], targets=targets)


def served_answer(answer: Answer, proven: Proven) -> Served:
    """The answer, if it is the proven model's. Raises CertificateError when another version came between."""
    said = (answer.parameters.get("certificate"), answer.parameters.get("artefact"))
    if said != (proven.certificate, proven.artefact):
        raise CertificateError(f"another version of {answer.model} answered than the one that was checked", "ask again")
    return Served(answer=answer, proven=proven)


def issued_alerts(folder: Path, wanted: Warnings) -> list[Issued]:
    """Alerts of this sender for this gauge that were written into a folder, oldest first. Raises FolderError, InputError."""
    try:
        paths = sorted(folder.glob("*.xml")) if folder.is_dir() else []
        if len(paths) > ALERTS_MAX:
            raise FolderError(f"{folder} holds more than {ALERTS_MAX} alerts", "move old ones away")
        found = [issued_from(path.read_bytes(), path.name) for path in paths]
    except OSError as error:
        raise StorageError(f"the alerts in {folder} cannot be read: {error.strerror}", "check the folder") from error
    own = [one for one in found if (one.sender, one.gauge) == (wanted.sender, wanted.gauge)]
    return sorted(own, key=lambda one: datetime.fromisoformat(one.sent))


def standing(issued: Sequence[Issued], warning: FloodWarning) -> tuple[Issued, ...]:
    """The last alert for the day of the warning that was neither replaced nor cancelled; none where there is no such."""
    replaced = {reference for one in issued for reference in one.references}
    day = warning.onset.date()
    left = [
        one
        for one in issued
        if one.kind != "Cancel" and one.reference not in replaced and one.onset is not None and _day(one.onset, warning) == day
    ]
    return tuple(left[-1:])


def _day(onset: datetime, warning: FloodWarning) -> Any:
    return onset.astimezone(warning.issued.tzinfo).date()


def warning_of(served: Served, wanted: Warnings, level: WarningLevel, issued: datetime, status: str) -> FloodWarning:
    """What is foretold for one lead, with what proves it. Raises InputError when the model does not give what the level names."""
    proof = (
        ("scenario", served.proven.predicate.scenario),
        ("tier", served.proven.predicate.tier),
        ("certificate", served.proven.certificate),
        ("receipt", served.receipt),
        ("model", f"{served.answer.model} {served.answer.version}"),
    )
    area = Area(description=wanted.area.description, polygon=wanted.area.polygon, geocodes=tuple(sorted(wanted.area.geocodes.items())))
    named: dict[str, Any] = {
        "sender": wanted.sender,
        "sender_name": wanted.sender_name,
        "gauge": wanted.gauge,
        "area": area,
        "issued": issued,
        "lead_days": level.lead_days,
        "level": level.level,
        "status": status,
        "language": wanted.language,
        "web": wanted.web,
        "proof": proof,
    }
    if not served.proven.targets:
        return _of_verdict(served, level, named)
    names = [target.name for target in served.proven.targets]
    if level.target not in names:
        raise InputError(f"{served.answer.model} foretells no {level.target!r}", f"name one of {', '.join(names)} as target")
    place = names.index(level.target)
    assert served.answer.values is not None
    value, low, high = (float(one) for one in served.answer.values[0, :, place])
    held = int(served.answer.parameters["held_ppm"]) / PPM
    return FloodWarning(value=value, low=low, high=high, held=held, unit=served.proven.targets[place].unit or "1", **named)


def _of_verdict(served: Served, level: WarningLevel, named: Mapping[str, Any]) -> FloodWarning:
    if level.target:
        raise InputError(f"{served.answer.model} gives verdicts, not {level.target}", "leave target out")
    said = served.answer.verdicts[0]
    verdict: Literal["", "met", "doubtful"] = "met" if said == MET else "doubtful" if said == PERSON else ""
    return FloodWarning(value=0.0, low=0.0, high=0.0, held=0.5, unit="1", verdict=verdict, **named)


def decide(
    served: Served, wanted: Warnings, issued: Sequence[Issued], at: datetime, status: str = "Exercise", doubtful: bool = False
) -> tuple[Decided, ...]:
    """What is to be written for each level. doubtful: also for what the model leaves to a person. Raises InputError."""
    found = []
    for level in wanted.levels:
        warning = warning_of(served, wanted, level, at, status)
        before, lead = standing(issued, warning), level.lead_days
        if warning.verdict == "doubtful" and not doubtful:
            why = "the model leaves it to a person, so nothing is written; --doubtful writes an alert that says so"
            found.append(Decided(lead_days=lead, kind=None, why=why))
        elif is_due(warning):
            kind: Kind = "Update" if before else "Alert"
            found.append(_written(warning, kind, before, "the level is met" if warning.verdict == "met" else _due(warning)))
        elif before:
            found.append(_written(warning, "Cancel", before, "the forecast stays below the level now"))
        else:
            found.append(Decided(lead_days=lead, kind=None, why="the forecast stays below the level"))
    return tuple(found)


def _due(warning: FloodWarning) -> str:
    if warning.verdict == "doubtful":
        return "a person has to judge it"
    return "the forecast reaches the level" if warning.value >= warning.level else "the band reaches the level, the forecast does not"


def _written(warning: FloodWarning, kind: Kind, before: tuple[Issued, ...], why: str) -> Decided:
    text = flood_alert(warning, kind, before)
    name = f"{identifier(warning)}{'' if kind == 'Alert' else '-' + kind.lower()}.xml"
    return Decided(lead_days=warning.lead_days, kind=kind, why=why, name=name, text=text, before=before)
