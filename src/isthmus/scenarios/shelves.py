"""Where packages stand: installed in the state folder, or brought by Python distributions.

A distribution names its package with an entry point of the group `isthmus.scenarios`; the value is a top-level package, or a folder below
one, that holds `scenario.yaml`. It is found and never imported: no code of a distribution runs because its scenario is looked for.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cmp_to_key
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from isthmus.contracts.errors import ConflictError, PackageError, StorageError
from isthmus.scenarios.contents import LOCK, MANIFEST, Contents, read_contents
from isthmus.scenarios.lock import differences, read_lock

GROUP = "isthmus.scenarios"
PACKAGES = "packages"
_VALUE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Shelved:
    """A package found by name. where: installed, distribution or shipped."""

    name: str
    version: str
    where: str
    folder: Path


def version_order(one: str, other: str) -> int:
    """Below 0, 0 or above 0, as semver.org orders two versions; what stands behind + counts for nothing."""
    (a, pre_a), (b, pre_b) = ((v.partition("+")[0].partition("-")[0], v.partition("+")[0].partition("-")[2]) for v in (one, other))
    numbers_a, numbers_b = ([int(n) for n in _DIGITS.findall(v)] for v in (a, b))
    if numbers_a != numbers_b:
        return -1 if numbers_a < numbers_b else 1
    if not pre_a or not pre_b:
        return bool(pre_b) - bool(pre_a)
    keys_a, keys_b = ([(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pre.split(".")] for pre in (pre_a, pre_b))
    return (keys_a > keys_b) - (keys_a < keys_b)


def installed(state: Path | None) -> Iterator[Shelved]:
    """Every installed package, by name, the latest version first."""
    root = state / PACKAGES if state is not None else None
    if root is None or not root.is_dir():
        return
    for name in sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        versions = [entry.name for entry in (root / name).iterdir() if (entry / MANIFEST).is_file()]
        for version in sorted(versions, key=cmp_to_key(version_order), reverse=True):
            yield Shelved(name, version, "installed", root / name / version)


def installed_folder(state: Path | None, name: str, version: str = "") -> Path | None:
    """Of this version, or of the latest that is no pre-release, or of the latest."""
    found = [one for one in installed(state) if one.name == name and version in ("", one.version)]
    plain = [one for one in found if "-" not in one.version.partition("+")[0]]
    return (plain or found)[0].folder if found else None


def distributed() -> Iterator[Shelved]:
    """Every package that a distribution on the path names and has. Versions are the distributions'."""
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda one: (one.name, one.value)):
        folder = _entry_folder(entry.value)
        if folder is not None:
            yield Shelved(entry.name, entry.dist.version if entry.dist is not None else "", "distribution", folder)


def _entry_folder(value: str) -> Path | None:
    if not _VALUE.fullmatch(value):
        return None
    top, *below = value.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place, *below)
        if (folder / MANIFEST).is_file():
            return folder
    return None


def distribution_folder(name: str) -> Path | None:
    """Raises ConflictError when distributions bring two packages of one name."""
    found = list(dict.fromkeys(one.folder for one in distributed() if one.name == name))
    if len(found) > 1:
        places = " and ".join(str(folder) for folder in found)
        raise ConflictError(f"two distributions bring a scenario {name}: {places}", "uninstall one, or give the folder that you mean")
    return found[0] if found else None


def known_names(state: Path | None) -> set[str]:
    """Names of installed and distributed packages."""
    return {one.name for one in (*installed(state), *distributed())}


def install(state: Path, contents: Contents) -> tuple[Path, bool]:
    """(folder, whether it is new). contents: without faults, their lock among them.

    Installing the same content again changes nothing. Raises ConflictError when the version stands with other content, PackageError when
    it stands and was edited, StorageError.
    """
    lock = read_lock(contents[LOCK])
    target = state / PACKAGES / lock.id / lock.version
    try:
        if _stands(target, contents):
            return target, False
        target.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=state / PACKAGES))
        try:
            write_contents(making, contents)
            making.chmod(0o755)
            try:
                making.rename(target)
            except OSError:
                if not _stands(target, contents):
                    raise
                return target, False
        finally:
            shutil.rmtree(making, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"the package cannot be installed in {state}: {error.strerror}", "check the folder, or name another --state"
        ) from error
    return target, True


def _stands(target: Path, contents: Contents) -> bool:
    if not target.is_dir():
        return False
    there, found = read_contents(target)
    if not found and there == dict(contents):
        return True
    name = f"{target.parent.name} {target.name}"
    if not found and LOCK in there and not differences(there, read_lock(there[LOCK])):
        raise ConflictError(
            f"{name} is installed with other content", "give the package another version, or remove the folder " + str(target)
        )
    raise PackageError(f"{name} is installed and was edited there", f"remove the folder {target}, then install again")


def write_contents(folder: Path, contents: Contents) -> None:
    """Writes every file to the disk, below a folder that exists. Raises OSError. contents: paths without fault."""
    for path, raw in contents.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            opened.write(raw)
            opened.flush()
            os.fsync(opened.fileno())
