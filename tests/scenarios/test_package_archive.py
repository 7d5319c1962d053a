"""Archives: one content, one file; and nothing but what is made here is taken."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.contracts.errors import ConflictError, PackageError
from isthmus.kit.canonical import sha256_hex
from isthmus.scenarios.archive import ARCHIVE_BYTES_MAX, MODE, WHEN, archive_name, packed, unpacked
from isthmus.scenarios.contents import FILE_BYTES_MAX, LOCK, MANIFEST, PACKAGE_FILES_MAX, README, contents_faults, path_fault, read_contents
from isthmus.scenarios.lock import lock_bytes, lock_of, read_lock
from isthmus.scenarios.shelves import write_contents
from isthmus.scenarios.workbench import contents_of, pack
from tests.scenarios.package_parts import Files, locked, on_disk, package

step = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,8}[a-z0-9]", fullmatch=True)
paths = st.lists(step, min_size=1, max_size=3).map("/".join).filter(lambda path: not path_fault(path))


def disjoint(files: Files) -> bool:
    """Whether no path is a folder of another."""
    return not any(other.startswith(path + "/") for path in files for other in files)


contents = st.dictionaries(paths, st.binary(max_size=200), min_size=1, max_size=8).filter(lambda f: disjoint(f) and not contents_faults(f))


@settings(deadline=None)
@given(files=contents)
def test_packing_and_unpacking_give_the_same_files_and_digest(files: Files) -> None:
    whole = locked(files)
    raw = packed(whole)
    assert unpacked(raw) == whole
    assert read_lock(unpacked(raw)[LOCK]).digest == lock_of(files, "x", "1.0.0").digest


@settings(deadline=None)
@given(files=contents)
def test_packing_does_not_depend_on_order(files: Files) -> None:
    whole = locked(files)
    assert packed(dict(reversed(list(whole.items())))) == packed(whole)


@settings(max_examples=20, deadline=None)
@given(files=contents)
def test_a_folder_is_read_as_it_was_written(files: Files, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("p")
    write_contents(folder, files)
    found, wrong = read_contents(folder)
    assert found == files and list(found) == sorted(found) and not wrong


def test_the_bytes_are_these_on_every_machine_and_version() -> None:
    raw = packed({"a.txt": b"one", "b/c.txt": b"two"})
    assert sha256_hex(raw) == "8eb082f7235bfe6010c8ee07e260cbdcfa029e1aac9328d3d1486b077e829860"


def test_pack_twice_is_the_same_and_other_content_is_refused(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "p", package())
    one, lock = pack(folder, tmp_path / "dist")
    first = one.read_bytes()
    assert one.name == archive_name(lock) == "bottle-caps-0.1.0.isthmus.zip"
    (folder / MANIFEST).touch()
    assert pack(folder, tmp_path / "dist")[0].read_bytes() == first
    assert contents_of(str(one), tmp_path) == package()
    on_disk(folder, locked({**package(), README: package()[README] + b"\nmore\n"}))
    with pytest.raises(ConflictError, match="other content"):
        pack(folder, tmp_path / "dist")
    assert one.read_bytes() == first


def test_a_stale_or_missing_lock_is_not_packed(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "p", package())
    (folder / README).write_bytes(package()[README] + b"\nmore\n")
    with pytest.raises(PackageError, match="changed since"):
        pack(folder, tmp_path)
    (folder / LOCK).unlink()
    with pytest.raises(PackageError, match=r"no scenario\.lock"):
        pack(folder, tmp_path)


# Archives that somebody else made.


def member(name: str, raw: bytes = b"x", mode: int = MODE, how: int = zipfile.ZIP_STORED) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo("placeholder", WHEN)
    info.filename = name
    info.external_attr, info.create_system, info.compress_type = mode, 3, how
    return info, raw


def archive(*members: tuple[zipfile.ZipInfo, bytes], comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        made.comment = comment
        for info, raw in members:
            made.writestr(info, raw, compress_type=info.compress_type)
    return out.getvalue()


def beside(*more: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    """A good package and more."""
    return archive(*(member(path, raw) for path, raw in sorted(package().items())), *more)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../out", "a/../../out", "..", "C:\\x", "a\\b", "", "a//b", "./a", "a/", ".hidden", "x" * 300, "nul", "ü"]
)
def test_a_member_that_leads_out_or_has_no_plain_name(name: str) -> None:
    with pytest.raises(PackageError):
        unpacked(beside(member(name)))


@pytest.mark.parametrize("kind", [stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFCHR | 0o644, stat.S_IFREG | 0o4755])
def test_a_link_a_folder_a_device_a_mode(kind: int) -> None:
    with pytest.raises(PackageError, match="no plain file"):
        unpacked(beside(member("prompts/a.txt", b"../../etc/passwd", kind << 16)))


def test_bombs() -> None:
    with pytest.raises(PackageError, match="compressed"):
        unpacked(beside(member("prompts/a.txt", b"0" * 3_000_000, how=zipfile.ZIP_DEFLATED)))
    with pytest.raises(PackageError, match=r"member a\.txt has"):
        unpacked(archive(member("a.txt", b"0" * (FILE_BYTES_MAX + 1))))
    with pytest.raises(PackageError, match="files"):
        unpacked(archive(*(member(f"n{place}") for place in range(PACKAGE_FILES_MAX + 1))))
    with pytest.raises(PackageError, match="holds more than"):
        unpacked(archive(*(member(f"n{place}", b"0" * FILE_BYTES_MAX) for place in range(8)), member("o")))
    with pytest.raises(PackageError, match="allowed"):
        unpacked(b"0" * (ARCHIVE_BYTES_MAX + 1))


def test_overlapping_members_are_no_more_than_one() -> None:
    """Two entries of the directory that point at one member's bytes."""
    raw = bytearray(archive(member("a", b"same"), member("b", b"same")))
    first, second = (raw.find(b"PK\x01\x02", start) for start in (0, raw.find(b"PK\x01\x02") + 4))
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]
    with pytest.raises(PackageError):
        unpacked(bytes(raw))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice_and_two_that_differ_in_case() -> None:
    with pytest.raises(PackageError, match="twice"):
        unpacked(beside(member(README, b"other")))
    with pytest.raises(PackageError, match="case"):
        unpacked(beside(member("readme.md", b"other")))


def test_what_is_not_written_here_is_refused() -> None:
    good = packed(package())
    assert unpacked(good) == package()
    for raw in (
        b"",
        b"no archive",
        good[:-1],
        good[1:],
        b"#!/bin/sh\n" + good,
        good + b"more",
        archive(*(member(path, raw) for path, raw in package().items()), comment=b"hello"),
        archive(*(member(path, raw) for path, raw in reversed(package().items()))),
    ):
        with pytest.raises(PackageError):
            unpacked(raw)
    info, raw = member(README, package()[README])
    info.date_time = (2024, 1, 1, 0, 0, 0)
    others = [member(p, r) for p, r in sorted(package().items()) if p != README]
    with pytest.raises(PackageError, match="another program"):
        unpacked(archive((info, raw), *others))


def test_every_changed_byte_is_refused() -> None:
    good = packed(locked({"a.txt": b"one"}))
    for place in range(len(good)):
        edited = bytearray(good)
        edited[place] ^= 0x41
        with pytest.raises(PackageError):
            unpacked(bytes(edited))


@settings(deadline=None)
@given(raw=st.binary(max_size=400))
def test_no_bytes_make_it_fall(raw: bytes) -> None:
    for tried in (raw, raw + b"PK\x05\x06" + bytes(18), packed(package())[:200] + raw):
        with pytest.raises(PackageError):
            unpacked(tried)


def test_the_lock_must_be_of_the_files() -> None:
    files = package()
    with pytest.raises(PackageError, match=r"no scenario\.lock"):
        unpacked(packed({k: v for k, v in files.items() if k != LOCK}))
    with pytest.raises(PackageError, match=r"README\.md was changed"):
        unpacked(packed({**files, README: b"other"}))
    with pytest.raises(PackageError, match="not in the lock"):
        unpacked(packed({**files, "LICENSE": b"MIT"}))
    with pytest.raises(PackageError, match="in the lock and not"):
        unpacked(packed({k: v for k, v in files.items() if k != README}))
    forged = lock_bytes(lock_of(files, "x", "1.0.0")).replace(b'"sha256:', b'"sha256:0')
    with pytest.raises(PackageError, match="contradicts"):
        unpacked(packed({**files, LOCK: forged}))
