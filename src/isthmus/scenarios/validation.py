"""Validates a package: every fault and doubt, with file, line and what to do. Decides on bytes; only `validate` reads a folder."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from isthmus.contracts.errors import FolderError, InputError
from isthmus.contracts.package import Finding, Probes
from isthmus.contracts.scenario import Interface, Scenario
from isthmus.kit.decoders import decoded_record
from isthmus.kit.pictures import SUFFIXES
from isthmus.kit.writing import TEXT_SUFFIXES
from isthmus.scenarios.contents import (
    HOOKS,
    LOCK,
    MANIFEST,
    PROBES,
    PROBES_FILE,
    PROMPTS,
    README,
    SCHEMA,
    VALUES,
    Contents,
    fault,
    read_contents,
    warning,
)
from isthmus.scenarios.hooks import hook_faults
from isthmus.scenarios.located import Document, dotted, read_json, read_yaml
from isthmus.scenarios.lock import LOCK_CODES, RENEW, lock_findings
from isthmus.scenarios.rules import SECTIONS, Breach, breaches, identity_breaches, small_shares
from isthmus.scenarios.structure import structure_faults
from isthmus.scenarios.values import Knob, applied, default_faults, given_faults, read_knobs

KNOWN = frozenset({MANIFEST, SCHEMA, VALUES, README, HOOKS, LOCK, "LICENSE", "NOTICE", "CHANGELOG.md", "__init__.py"})
PROMPT_SUFFIXES = frozenset({".md", ".txt"})
USES = ("intended use", "prohibited use")


def validate(folder: Path) -> tuple[Finding, ...]:
    """Findings in order of file and line, errors before warnings of one place. Raises FolderError when it is no folder."""
    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder", "give the folder of a package, or begin one: isthmus scenario init NAME")
    contents, found = read_contents(folder)
    return ordered([*found, *content_findings(contents)])


def ordered(found: list[Finding]) -> tuple[Finding, ...]:
    """In order of file and place, each once. What a new lock mends comes last, and after the rest is mended."""
    kept = sorted(set(found), key=lambda one: (one.file, one.line, one.column, one.level, one.code, one.what))
    rest = [one for one in kept if one.code not in LOCK_CODES]
    last = [one for one in kept if one.code in LOCK_CODES]
    if any(one.level == "error" for one in rest):
        last = [msgspec.structs.replace(one, next=f"once the rest is mended: {RENEW}") for one in last]
    return (*rest, *last)


def content_findings(contents: Contents) -> list[Finding]:
    """What is wrong within the files of a package, however they were read. Pure."""
    found = list(_kind_findings(contents))
    manifest, wrong = manifest_of(contents)
    found += wrong
    if manifest is not None:
        found += manifest_findings(manifest)
    faulty = {(one.line, one.column) for one in found if one.level == "error" and one.file == MANIFEST}
    found += _site_findings(contents, manifest, faulty)
    if HOOKS in contents:
        found += hook_faults(contents[HOOKS])
    found += _readme_findings(contents)
    found += _probe_findings(contents, _interface_of(manifest))
    named = manifest.value if manifest is not None and isinstance(manifest.value, dict) else {}
    return found + lock_findings(contents, str(named.get("id", "")), str(named.get("version", "")))


def manifest_of(contents: Contents) -> tuple[Document | None, list[Finding]]:
    """The manifest with places, or why there is none."""
    if MANIFEST not in contents:
        return None, [
            fault("no-manifest", MANIFEST, f"there is no {MANIFEST}, or it cannot be read", "begin one: isthmus scenario init NAME")
        ]
    return read_yaml(MANIFEST, contents[MANIFEST])


def manifest_findings(manifest: Document) -> list[Finding]:
    """Differences from the type, then rules that are broken, of all parts that have the right type."""
    found = structure_faults(manifest, Scenario)
    broken: list[Breach] = []
    if not found:
        broken = breaches(msgspec.convert(manifest.value, Scenario))
    elif isinstance(manifest.value, dict):
        types = typing.get_type_hints(Scenario)
        whole = {name: part for name, value in manifest.value.items() if name in types and (part := _part(value, types[name])) is not None}
        broken = list(identity_breaches(whole))
        for name, rule in SECTIONS.items():
            broken += rule(whole[name], whole.get("interface")) if name in whole else ()
    if isinstance(manifest.value, dict):
        broken += small_shares(manifest.value)
    return found + [_finding(manifest, breach) for breach in broken]


def _part(value: Any, wanted: Any) -> Any:
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return None


def _finding(document: Document, breach: Breach) -> Finding:
    line, column = document.place(breach.steps)
    what = f"{dotted(breach.steps)}: {breach.what}"
    return Finding(level=breach.level, code=breach.code, file=document.file, line=line, column=column, what=what, next=breach.next)


def _kind_findings(contents: Contents) -> Iterator[Finding]:
    """Files that a package has no use for. Code is one file, whose name is known; everything else is data."""
    for path, raw in contents.items():
        pure = PurePosixPath(path)
        top, suffix = pure.parts[0], pure.suffix.lower()
        if suffix in (".py", ".pyc", ".so", ".dll", ".pyd", ".exe", ".sh") and path != HOOKS and (path != "__init__.py" or raw.strip()):
            yield fault("stray-code", path, "it is code, and a package has no code but hooks.py", "remove it, or move its functions there")
        elif top == PROBES and len(pure.parts) > 1:
            if path != PROBES_FILE and suffix not in SUFFIXES | {".md", ".txt", ".json"}:
                yield warning("unknown-file", path, "it is neither a case nor a text", "remove it, or store it as PNG, or a row as JSON")
        elif top == PROMPTS and len(pure.parts) > 1:
            if suffix not in PROMPT_SUFFIXES:
                yield warning("unknown-file", path, "a prompt is a text", "store it as .md or .txt")
        elif path not in KNOWN:
            yield warning("unknown-file", path, "nothing in a package reads it", f"remove it; known are {', '.join(sorted(KNOWN))}")


def knobs_of(contents: Contents) -> tuple[Document | None, tuple[Knob, ...], list[Finding]]:
    """(the schema, the knobs that can be used, what is wrong with the schema). No schema: no knobs."""
    if SCHEMA not in contents:
        return None, (), []
    document, found = read_json(SCHEMA, contents[SCHEMA])
    if document is None:
        return None, (), found
    knobs, wrong = read_knobs(document)
    return document, knobs, [*found, *wrong]


def _site_findings(contents: Contents, manifest: Document | None, faulty: set[tuple[int, int]]) -> list[Finding]:
    """Of the schema and of the package's own values. faulty: places of the manifest's errors; values are tried on one that has none, and a
    default that differs from a faulty field is no fault of its own."""
    document, knobs, found = knobs_of(contents)
    if document is not None and manifest is not None:
        sound = tuple(knob for knob in knobs if manifest.place(knob.path) not in faulty)
        found += default_faults(document, sound, manifest.value)
    if VALUES not in contents:
        return found
    values, wrong = read_yaml(VALUES, contents[VALUES])
    if values is None:
        return found + wrong
    wrong += given_faults(values, knobs) if document is not None or SCHEMA not in contents else []
    if not faulty and manifest is not None and not found and not wrong:
        wrong += applied_findings(manifest, knobs, values)
    return found + wrong


def applied_findings(manifest: Document, knobs: tuple[Knob, ...], values: Document) -> list[Finding]:
    """What site values do to the manifest that is against its rules, told at the values. manifest, values: without faults of their own."""
    made = Document(values.file, applied(manifest.value, knobs, values.value))
    wrong = structure_faults(made, Scenario) or [_finding(made, b) for b in breaches(msgspec.convert(made.value, Scenario))]
    places = {dotted(knob.path): values.place((knob.name,)) for knob in knobs if knob.name in values.value}
    first = next(iter(places.values()), (0, 0))
    found = []
    for one in wrong:
        line, column = next((place for path, place in places.items() if path in one.what), first)
        what = f"with these values, {one.what}"
        found.append(msgspec.structs.replace(one, line=line, column=column, what=what))
    return found


def _readme_findings(contents: Contents) -> Iterator[Finding]:
    if README not in contents:
        yield fault("no-readme", README, f"there is no {README}: nobody is told what the scenario is for", "write one with both uses")
        return
    text = " ".join(contents[README].decode("utf-8", "replace").lower().split())
    for use in USES:
        if not re.search(rf"\b{use}\b", text):
            what = f"{README} does not say its {use}"
            yield fault("readme-use", README, what, f"add a paragraph that begins with **{use.capitalize()}.**", 1, 1)


def _interface_of(manifest: Document | None) -> Interface | None:
    """The manifest's, where it has no fault."""
    found: Interface | None = (
        _part(manifest.value.get("interface"), Interface) if manifest is not None and isinstance(manifest.value, dict) else None
    )
    return found


def _probe_findings(contents: Contents, interface: Interface | None) -> Iterator[Finding]:
    schema = None if interface is None else interface.schema
    if interface is not None and interface.output == "value" and PROBES_FILE in contents:
        yield fault("probes-of-numbers", PROBES_FILE, "probes ask for verdicts, and this package gives numbers", "remove the probes")
        return
    kinds = SUFFIXES if schema is None else TEXT_SUFFIXES if schema.written else frozenset({".json"})
    images = {path for path in contents if path.startswith(f"{PROBES}/") and PurePosixPath(path).suffix.lower() in kinds}
    if PROBES_FILE not in contents:
        if images:
            yield warning("no-probes", PROBES_FILE, f"{len(images)} files of probes are in no list", f"list them in {PROBES_FILE}")
        return
    document, found = read_yaml(PROBES_FILE, contents[PROBES_FILE])
    found += structure_faults(document, Probes) if document is not None else []
    yield from found
    if document is None or found:
        return
    listed: set[str] = set()
    for place, probe in enumerate(msgspec.convert(document.value, Probes).cases):
        line, column = document.place(("cases", place, "file"))
        path = f"{PROBES}/{probe.file}"
        if path not in contents:
            yield fault("probe-missing", PROBES_FILE, f"{probe.file} is not in {PROBES}", "add the file, or remove the case", line, column)
        elif path in listed:
            yield fault("probe-twice", PROBES_FILE, f"{probe.file} is listed twice", "keep one of the cases", line, column)
        elif probe.expect != "refused":
            try:
                decoded_record(contents[path], probe.file, schema)
            except InputError as error:
                yield fault("probe-unreadable", PROBES_FILE, error.message, f"{error.next_step}; or expect: refused", line, column)
        if not probe.why.strip():
            yield fault("empty-text", PROBES_FILE, f"the case {probe.file} does not say why", "say it in a sentence", line, column)
        listed.add(path)
    for path in sorted(images - listed):
        yield warning("no-probes", path, f"no case of {PROBES_FILE} names it", "add a case, or remove the file")
