"""Loads a scenario package: a folder with `scenario.yaml`, by path or by name.

A name is looked for among installed packages, then among Python distributions with an entry point of the group `isthmus.scenarios`, then
among those that ship. A package found by name is what its lock says, or it is refused; a folder given by path is taken as it is, because
somebody may be working on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from isthmus.contracts.errors import DocumentError, InputError, NotFoundError, PackageError
from isthmus.contracts.package import Finding
from isthmus.contracts.scenario import Scenario
from isthmus.scenarios.contents import LOCK, MANIFEST, SCHEMA, VALUES, Contents, printable, read_contents
from isthmus.scenarios.located import Document, read_yaml
from isthmus.scenarios.lock import differences, read_lock
from isthmus.scenarios.shelves import distribution_folder, installed_folder, known_names
from isthmus.scenarios.validation import applied_findings, knobs_of, manifest_findings, manifest_of
from isthmus.scenarios.values import Knob, applied, default_faults, given_faults

SiteValues = Mapping[str, Any] | Path


def shipped_folder() -> Path:
    """Where the packages that ship with Isthmus lie: beside the code in a wheel, at the top of the tree in a checkout."""
    inside = Path(str(resources.files("isthmus"))) / "scenarios" / "packages"
    return inside if inside.is_dir() else Path(str(resources.files("isthmus"))).parents[1] / "scenarios"


def shipped() -> list[str]:
    """Names of the packages that ship."""
    folder = shipped_folder()
    return sorted(p.parent.name for p in folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []


def find_package(name_or_path: str, state: Path | None = None) -> Path:
    """The folder of a package: a path, else NAME or NAME@VERSION. state: the state folder that packages are installed in.

    Raises NotFoundError naming what there is, PackageError when the files are not those of their lock, ConflictError when two
    distributions claim the name.
    """
    direct = Path(name_or_path)
    if (direct / MANIFEST).is_file():
        return direct
    name, _, version = name_or_path.partition("@")
    if name and Path(name).name == name:
        named = installed_folder(state, name, version) or distribution_folder(name) or _shipped(name)
        if named is not None:
            return locked(named, name, version)
    known = ", ".join(known_names(state) | set(shipped())) or "none"
    raise NotFoundError(f"there is no scenario {name_or_path!r}", f"name one that is here ({known}) or give a folder that holds {MANIFEST}")


def _shipped(name: str) -> Path | None:
    named = shipped_folder() / name
    return named if (named / MANIFEST).is_file() else None


def locked(folder: Path, name: str, version: str = "") -> Path:
    """The folder, once its files were held against its lock. name, version: what was asked for; no version, any. Raises PackageError."""
    contents, found = read_contents(folder)
    if found:
        raise PackageError(f"{name}: {found[0].file}: {found[0].what}", found[0].next)
    if LOCK not in contents:
        raise PackageError(f"the package {name} in {folder} has no {LOCK}", f"lock it: isthmus scenario lock {folder}")
    lock = read_lock(contents[LOCK])
    wrong = list(differences(contents, lock).values())
    if lock.id != name or (version and lock.version != version):
        wrong.append(f"it is {lock.id} {lock.version}, and {name} {version} was asked for")
    if wrong:
        next_step = f"get the package anew; or, if the change is meant: isthmus scenario lock {folder}"
        raise PackageError(f"the package {name} in {folder} is not what its lock says: {wrong[0]}", next_step)
    return folder


def load_package(folder: Path, values: SiteValues | None = None) -> Scenario:
    """The manifest with site values applied and every rule kept.

    values: a mapping of knobs, or a YAML file of them; they count instead of the package's own `values.yaml`.
    Raises DocumentError naming file, line and field; InputError for values that the package does not take.
    """
    contents = {path: raw for path in (MANIFEST, SCHEMA, VALUES) if (raw := _raw(folder, path)) is not None}
    return scenario_of(contents, values, str(folder))


def scenario_of(contents: Contents, values: SiteValues | None = None, where: str = "") -> Scenario:
    """The same, of files that were read before. where: what the messages call the package."""
    manifest, found = manifest_of(contents)
    _refuse(where, found)
    assert manifest is not None
    _refuse(where, manifest_findings(manifest))
    given = _given(contents, values)
    if given is None:
        return msgspec.convert(manifest.value, Scenario)
    knobs = _knobs(contents, manifest, where)
    outside = values is not None
    wrong = list(given_faults(given, knobs)) or applied_findings(manifest, knobs, given)
    _refuse("" if outside else where, wrong, InputError if outside else DocumentError)
    return msgspec.convert(applied(manifest.value, knobs, given.value), Scenario)


def site_values(contents: Contents, values: SiteValues | None = None) -> Mapping[str, Any]:
    """The values that scenario_of applies; empty when there are none. Raises as scenario_of."""
    given = _given(contents, values)
    return {} if given is None or not isinstance(given.value, dict) else given.value


def _knobs(contents: Contents, manifest: Document, where: str) -> tuple[Knob, ...]:
    schema, knobs, found = knobs_of(contents)
    _refuse(where, [*found, *(default_faults(schema, knobs, manifest.value) if schema is not None else ())])
    return knobs


def _given(contents: Contents, values: SiteValues | None) -> Document | None:
    if isinstance(values, Path):
        try:
            raw = values.read_bytes()
        except OSError as error:
            raise InputError(f"{values} cannot be read: {error.strerror}", "check the path that --values names") from error
        document, found = read_yaml(str(values), raw)
        _refuse("", found, InputError)
        return document
    if values is not None:
        return Document("the values", dict(values))
    if VALUES not in contents:
        return None
    document, found = read_yaml(VALUES, contents[VALUES])
    _refuse("", found)
    return document


def _refuse(where: str, found: list[Finding], kind: type[InputError] = DocumentError) -> None:
    errors = [one for one in found if one.level == "error"]
    if errors:
        first, more = errors[0], f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        place = f"{where}/{first.place}" if where else first.place
        raise kind(f"{printable(place)}: {first.what}{more}", first.next)


def _raw(folder: Path, path: str) -> bytes | None:
    try:
        return (folder / path).read_bytes()
    except FileNotFoundError as error:
        if path == MANIFEST:
            raise DocumentError(f"{folder / path} cannot be read: {error.strerror}", "check the file and its permissions") from error
        return None
    except OSError as error:
        raise DocumentError(f"{folder / path} cannot be read: {error.strerror}", "check the file and its permissions") from error
