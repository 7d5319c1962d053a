"""What the commands do with packages: begin, lock, pack, install, list. The edge where bytes become files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec

from isthmus.assurance.probes import checked_cases
from isthmus.contracts.errors import ConflictError, DocumentError, FolderError, InputError, IsthmusError, PackageError, StorageError
from isthmus.contracts.life import Origin
from isthmus.contracts.package import Finding, PackageLock, ProbeCase, Probes
from isthmus.contracts.ports import Json
from isthmus.contracts.scenario import Scenario
from isthmus.contracts.schema import Column
from isthmus.sandbox.folder import RECORDS_NAME, is_text_file, read_labels
from isthmus.scenarios.archive import ARCHIVE_BYTES_MAX, archive_name, packed, unpacked
from isthmus.scenarios.columns import Proposed, proposed_columns
from isthmus.scenarios.contents import LOCK, MANIFEST, PROBES, PROBES_FILE, Contents, read_contents
from isthmus.scenarios.located import read_yaml
from isthmus.scenarios.lock import LOCK_CODES, lock_bytes, lock_of, read_lock
from isthmus.scenarios.package import SiteValues, find_package, scenario_of, shipped, shipped_folder, site_values
from isthmus.scenarios.shelves import Shelved, distributed, install, installed, write_contents
from isthmus.scenarios.structure import structure_faults
from isthmus.scenarios.template import begun, classes_of, text_classes_of
from isthmus.scenarios.validation import content_findings, ordered


def begin(folder: Path, name: str, title: str, source: Path | None) -> PackageLock:
    """Writes a new package into a folder that is not there, or is empty. source: an owner's folder, of images by class or with records.csv,
    whose classes or columns the package begins with. Raises ConflictError, FolderError, InputError, StorageError."""
    table = proposed_columns(source) if source is not None and (source / RECORDS_NAME).is_file() else None
    classes = None
    if source is not None and table is None:
        texts = source.is_dir() and any(is_text_file(file.path) for file in read_labels(source).files)
        classes = text_classes_of(source) if texts else classes_of(source)
        table = Proposed((Column(name="text", kind="text"),), {}, sum(classes.values())) if texts else None
    contents = begun(name, title, classes, table)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConflictError(f"{folder} is there already", "choose another name, or another place with --into")
        folder.mkdir(parents=True, exist_ok=True)
        write_contents(folder, contents)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}", "name another place with --into") from error
    return read_lock(contents[LOCK])


def checked(contents: Contents, found: list[Finding], *, lock_too: bool) -> tuple[Finding, ...]:
    """All findings of a package's files. lock_too: whether the lock counts. Raises PackageError when there is an error among them."""
    everything = ordered([*found, *content_findings(contents)])
    errors = [one for one in everything if one.level == "error" and (lock_too or one.code not in LOCK_CODES)]
    if errors:
        first, more = errors[0], f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise PackageError(f"{first.place}: {first.what}{more}", f"{first.next}; all of them: isthmus scenario validate FOLDER")
    if lock_too and LOCK not in contents:
        raise PackageError(f"the package has no {LOCK}", "lock it: isthmus scenario lock FOLDER")
    return everything


def relock(folder: Path) -> tuple[PackageLock, bool]:
    """(the lock that a folder's files have now, whether it was written anew). Raises PackageError when the package has another error."""
    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder", "give the folder of a package")
    contents, found = read_contents(folder)
    checked(contents, found, lock_too=False)
    named = scenario_of(contents, where=str(folder))
    lock = lock_of(contents, named.id, named.version)
    raw = lock_bytes(lock)
    if contents.get(LOCK) == raw:
        return lock, False
    _write(folder / LOCK, raw)
    return lock, True


def pack(folder: Path, into: Path) -> tuple[Path, PackageLock]:
    """Packs a folder without errors, its lock current. Raises PackageError; ConflictError when another archive of this name and version
    stands there."""
    if not folder.is_dir():
        raise FolderError(f"{folder} is no folder", "give the folder of a package")
    contents, found = read_contents(folder)
    checked(contents, found, lock_too=True)
    lock = read_lock(contents[LOCK])
    target, raw = into / archive_name(lock), packed(contents)
    if target.exists() and _read(target) != raw:
        raise ConflictError(f"{target} stands there with other content", "give the package another version, or remove the file")
    _write(target, raw)
    return target, lock


def contents_of(given: str, state: Path) -> dict[str, bytes]:
    """The files of a package: an archive, a folder, or a name. Raises NotFoundError, PackageError."""
    path = Path(given)
    if path.is_file():
        return unpacked(_read(path))
    folder = find_package(given, state)
    contents, found = read_contents(folder)
    if found:
        raise PackageError(f"{folder}: {found[0].place}: {found[0].what}", found[0].next)
    return contents


def lock_given(given: str, state: Path) -> PackageLock:
    """The lock of an archive, folder or name, once its files are those of the lock. Raises PackageError, NotFoundError."""
    contents = contents_of(given, state)
    checked(contents, [], lock_too=True)
    return read_lock(contents[LOCK])


def install_given(given: str, state: Path) -> tuple[PackageLock, Path, bool]:
    """(lock, folder, whether it is new) of an archive, folder or name, once it has no errors and its lock is current.

    Raises PackageError, ConflictError, NotFoundError, StorageError.
    """
    contents = contents_of(given, state)
    checked(contents, [], lock_too=True)
    folder, new = install(state, contents)
    return read_lock(contents[LOCK]), folder, new


def listed(state: Path) -> list[tuple[Shelved, Scenario | None, str]]:
    """(where it stands, its manifest, what is wrong with it) of every package that a name can find."""
    stands = [*installed(state), *distributed(), *(Shelved(name, "", "shipped", shipped_folder() / name) for name in shipped())]
    found: list[tuple[Shelved, Scenario | None, str]] = []
    for one in stands:
        try:
            contents, wrong = read_contents(one.folder)
            checked(contents, wrong, lock_too=True)
            found.append((one, scenario_of(contents, where=str(one.folder)), ""))
        except IsthmusError as error:
            found.append((one, None, error.message))
    return found


def digest_of_contents(contents: Contents) -> str:
    """The package's digest, from its lock or, where there is none, as it would be. Raises DocumentError."""
    if LOCK in contents:
        return read_lock(contents[LOCK]).digest
    named = scenario_of(contents, where=MANIFEST)
    return lock_of(contents, named.id, named.version).digest


def origin_of(folder: Path, values: SiteValues | None) -> Origin:
    """What a scenario of this folder is loaded from: the package's digest, and the site values that apply. Raises as scenario_of."""
    contents, _ = read_contents(folder)
    return Origin(package=digest_of_contents(contents), values=dict(site_values(contents, values)))


def probe_cases(contents: Contents) -> tuple[ProbeCase, ...]:
    """The package's cases with their images. Raises DocumentError when the list or an image is not there or has a fault."""
    if PROBES_FILE not in contents:
        return ()
    document, found = read_yaml(PROBES_FILE, contents[PROBES_FILE])
    found += structure_faults(document, Probes) if document is not None else []
    if document is None or found:
        first = found[0]
        raise DocumentError(f"{first.place}: {first.what}", first.next)
    cases = msgspec.convert(document.value, Probes).cases
    missing = [case.file for case in cases if f"{PROBES}/{case.file}" not in contents]
    if missing:
        raise DocumentError(f"{PROBES_FILE}: {missing[0]} is not in {PROBES}", "add the image, or remove the case")
    return tuple(ProbeCase(**msgspec.structs.asdict(case), image=contents[f"{PROBES}/{case.file}"]) for case in cases)


def probe_fields(folder: Path) -> Json:
    """The request's `probes` of a package in a folder; empty when it has none."""
    cases = checked_cases(probe_cases(read_contents(folder)[0]))
    return {"probes": msgspec.to_builtins(cases)} if cases else {}


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > ARCHIVE_BYTES_MAX:
            raise PackageError(f"{path} has more than the {ARCHIVE_BYTES_MAX} bytes that a package may have", "give the right file")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error


def _write(target: Path, raw: bytes) -> None:
    """The file whole, or as it was."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".isthmus-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{target} cannot be written: {error.strerror}", "check the folder and the disk") from error
