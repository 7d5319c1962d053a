"""One package as one file: a zip archive with the same bytes for the same content, on any machine.

Members are stored uncompressed, in order of path, with one time and one mode, so that bytes depend on no compression library. An archive is
taken only if it is byte for byte what is written here of its content: no links, no devices, no paths that lead out, no hidden members,
no bombs, and one digest for one content.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from isthmus.contracts.errors import DocumentError, PackageError
from isthmus.contracts.package import PackageLock
from isthmus.scenarios.contents import (
    FILE_BYTES_MAX,
    LOCK,
    PACKAGE_BYTES_MAX,
    PACKAGE_FILES_MAX,
    PATH_CHARS_MAX,
    Contents,
    contents_faults,
    path_fault,
    printable,
)
from isthmus.scenarios.lock import differences, read_lock

SUFFIX = ".isthmus.zip"
WHEN = (1980, 1, 1, 0, 0, 0)
MODE = 0o100644 << 16
UNIX = 3
ARCHIVE_BYTES_MAX = PACKAGE_BYTES_MAX + 1024 * 1024
"""A packed scenario package; a larger one is refused before it is read."""

_DIRECTORY_BYTES_MAX = (PACKAGE_FILES_MAX + 1) * (46 + PATH_CHARS_MAX)
_END_BYTES, _ZIP64_BYTES = 22, 20
MAKE_ANEW = "ask its maker for one made by isthmus scenario package"


def archive_name(lock: PackageLock) -> str:
    """`NAME-VERSION.isthmus.zip`."""
    return f"{lock.id}-{lock.version}{SUFFIX}"


def packed(contents: Contents) -> bytes:
    """The archive's bytes. contents: without faults (contents_faults), their lock among them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for path, raw in sorted(contents.items()):
            info = zipfile.ZipInfo(path, WHEN)
            info.external_attr, info.create_system = MODE, UNIX
            archive.writestr(info, raw)
    return out.getvalue()


def unpacked(raw: bytes) -> dict[str, bytes]:
    """Path -> bytes, held against the lock. Raises PackageError; nothing is written anywhere."""
    _check_end(raw)
    contents: dict[str, bytes] = {}
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for info in archive.infolist():
                _check_member(info, contents)
                total += info.file_size
                if total > PACKAGE_BYTES_MAX:
                    raise PackageError(f"the archive holds more than {PACKAGE_BYTES_MAX} bytes", MAKE_ANEW)
                contents[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, struct.error) as error:
        raise PackageError(f"the archive is damaged: {error}", "get it again") from error
    _check_content(contents)
    if packed(contents) != raw:
        raise PackageError("the archive holds more than its files, or was written by another program", MAKE_ANEW)
    return contents


def _check_end(raw: bytes) -> None:
    """Sizes, before any structure is built of what the archive says of itself."""
    if len(raw) > ARCHIVE_BYTES_MAX:
        raise PackageError(f"the archive has {len(raw)} bytes, more than the {ARCHIVE_BYTES_MAX} allowed", MAKE_ANEW)
    end = raw[-_END_BYTES:]
    if len(end) < _END_BYTES or end[:4] != b"PK\x05\x06":
        raise PackageError("this is no archive of a scenario package, or it is cut short", MAKE_ANEW)
    count, directory_bytes = struct.unpack("<HL", end[10:16])
    zip64 = raw[-_END_BYTES - _ZIP64_BYTES :][:4] == b"PK\x06\x07"
    if count > PACKAGE_FILES_MAX or directory_bytes > _DIRECTORY_BYTES_MAX or zip64:
        raise PackageError(f"the archive lists more than {PACKAGE_FILES_MAX} files", MAKE_ANEW)


def _check_member(info: zipfile.ZipInfo, contents: Contents) -> None:
    name = printable(info.orig_filename)
    why = path_fault(info.orig_filename)
    if why or info.filename != info.orig_filename:
        raise PackageError(f"the archive's member {name} cannot be in a package: {why or 'its name is not plain'}", MAKE_ANEW)
    if info.filename in contents:
        raise PackageError(f"the archive holds {name} twice", MAKE_ANEW)
    if info.external_attr != MODE:
        raise PackageError(f"the archive's member {name} is no plain file (a link, a folder, a device, or of another mode)", MAKE_ANEW)
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits:
        raise PackageError(
            f"the archive's member {name} is compressed or encrypted; members of a package are stored as they are", MAKE_ANEW
        )
    if info.file_size > FILE_BYTES_MAX:
        raise PackageError(f"the archive's member {name} has {info.file_size} bytes, more than the {FILE_BYTES_MAX} allowed", MAKE_ANEW)


def _check_content(contents: Contents) -> None:
    wrong = contents_faults(contents)
    if wrong:
        raise PackageError(f"{wrong[0].file}: {wrong[0].what}", MAKE_ANEW)
    if LOCK not in contents:
        raise PackageError(f"the archive has no {LOCK}", MAKE_ANEW)
    try:
        wrong_files = list(differences(contents, read_lock(contents[LOCK])).values())
    except DocumentError as error:
        raise PackageError(error.message, MAKE_ANEW) from error
    if wrong_files:
        raise PackageError(f"the archive is not what its lock says: {wrong_files[0]}", MAKE_ANEW)
