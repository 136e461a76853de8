"""Rules for ZIP archives of pictures, for the gateway that accepts them and the worker that reads them.

Nothing is ever extracted to disk.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import IO, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import GIB, MIB

#: Maximum number of entries of one ZIP, including skipped files.
ENTRIES: Final = 5000
#: Maximum unpacked size of one file, and of all files together.
MEMBER_BYTES: Final = 512 * MIB
TOTAL_BYTES: Final = 32 * GIB
#: Pictures hardly compress: a file above this size and compression ratio is a ZIP bomb.
BOMB_RATIO: Final = 100
BOMB_BYTES: Final = 16 * MIB
#: Maximum length of a file name, in characters.
NAME_CHARS: Final = 512

PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".heic", ".heif", ".hif"})
_ARCHIVE_SUFFIXES: Final = frozenset({".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".cab"})
_SYSTEM_FILES: Final = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_LOCAL_HEADER_BYTES: Final = 30
#: The directory is read into memory; with ``ENTRIES`` entries it is far smaller than this.
_DIRECTORY_BYTES: Final = 16 * MIB
_END_BYTES: Final = 22 + 65_535
#: Sizes of ZIP64's locator, which is right before the end record, and of its record (APPNOTE 4.3.14 and 4.3.15).
_LOCATOR_BYTES, _WIDE_BYTES = 20, 56
_READ_BYTES: Final = 1 * MIB
_NUMBER: Final = re.compile(r"(\d+)")


@dataclass(frozen=True)
class ArchiveMember:
    """One picture in a ZIP. ``name`` is its path with forward slashes, safe to display and to split."""

    name: str
    bytes: int
    info: zipfile.ZipInfo = field(repr=False, compare=False)

    @property
    def mask(self) -> bool:
        """Whether the picture is in a folder of masks."""
        return any(part.lower() in ("mask", "masks") for part in PurePosixPath(self.name).parts[:-1])


@dataclass(frozen=True)
class ArchiveListing:
    """Pictures of a ZIP in natural order, and the names of files that are skipped."""

    pictures: list[ArchiveMember]
    skipped: list[str]


def natural_order(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that places ``photo 9`` before ``photo 10``."""
    parts = _NUMBER.split(name.casefold())
    return tuple((0, int(part), "") if part.isdigit() and part.isascii() else (1, 0, part) for part in parts if part)


def open_archive(file: IO[bytes]) -> zipfile.ZipFile:
    """Open a ZIP after checking the size of its directory.

    Raises:
        SaccadeError: ARCHIVE_UNREADABLE, ARCHIVE_TOO_LARGE.
    """
    _check_directory(file)
    file.seek(0)
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OverflowError) as error:
        message = f"The ZIP cannot be read ({type(error).__name__}: {str(error)[:100]})."
        raise SaccadeError(ErrorCode.ARCHIVE_UNREADABLE, message) from error


def list_archive(archive: zipfile.ZipFile) -> ArchiveListing:
    """Return a ZIP's pictures; a ZIP with an unsafe entry is refused as a whole, with an error that names the entry.

    Raises:
        SaccadeError: ARCHIVE_UNSAFE, ARCHIVE_ENCRYPTED, ARCHIVE_NESTED, ARCHIVE_TOO_LARGE, ARCHIVE_UNREADABLE,
            ARCHIVE_EMPTY.
    """
    infos = archive.infolist()
    if len(infos) > ENTRIES:
        message = f"The ZIP has {len(infos)} entries; at most {ENTRIES} are allowed."
        raise SaccadeError(ErrorCode.ARCHIVE_TOO_LARGE, message)
    pictures: list[ArchiveMember] = []
    skipped: list[str] = []
    for info in infos:
        name = _safe_name(info)
        _check_entry(info, name)
        if info.is_dir() or _is_system_file(name):
            continue
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in _ARCHIVE_SUFFIXES:
            message = f"{name} is an archive inside the archive."
            raise SaccadeError(ErrorCode.ARCHIVE_NESTED, message)
        if suffix in PICTURE_SUFFIXES:
            pictures.append(ArchiveMember(name, info.file_size, info))
        else:
            skipped.append(name)
    _check_whole(infos)
    if not pictures:
        held = f"{len(skipped)} other file{'s' * (len(skipped) > 1)}" if skipped else "nothing"
        raise SaccadeError(ErrorCode.ARCHIVE_EMPTY, f"The ZIP contains {held} and no photo.")
    return ArchiveListing(
        sorted(pictures, key=lambda picture: natural_order(picture.name)), sorted(skipped, key=natural_order)
    )


def read_member(archive: zipfile.ZipFile, member: ArchiveMember) -> bytes:
    """Return one unpacked file; reading stops at the size that its entry declares.

    Raises:
        SaccadeError: ARCHIVE_UNREADABLE, when the bytes are damaged.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        with archive.open(member.info) as file:
            while chunk := file.read(_READ_BYTES):
                size += len(chunk)
                if size > member.bytes:
                    raise SaccadeError(
                        ErrorCode.ARCHIVE_UNSAFE, f"{member.name} unpacks to more bytes than its entry declares."
                    )
                chunks.append(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise SaccadeError(ErrorCode.ARCHIVE_UNREADABLE, f"{member.name} is damaged inside the ZIP.") from error
    return b"".join(chunks)


def _check_directory(file: IO[bytes]) -> None:
    """Check the size of the directory, from the end of the ZIP, before memory is allocated for it (APPNOTE 4.3.16).

    Raises:
        SaccadeError: ARCHIVE_UNREADABLE, ARCHIVE_TOO_LARGE.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_BYTES))
    tail = file.read(_END_BYTES)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise SaccadeError(ErrorCode.ARCHIVE_UNREADABLE, "The ZIP has no directory at its end; it may be incomplete.")
    entries = int.from_bytes(tail[at + 10 : at + 12], "little")
    directory_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
    for wide_entries, wide_bytes in _wide_records(file, size - len(tail) + at):
        entries, directory_bytes = max(entries, wide_entries), max(directory_bytes, wide_bytes)
    if entries > ENTRIES or directory_bytes > _DIRECTORY_BYTES:
        message = f"The ZIP declares {entries} entries; at most {ENTRIES} are allowed."
        raise SaccadeError(ErrorCode.ARCHIVE_TOO_LARGE, message)


def _wide_records(file: IO[bytes], end: int) -> Iterator[tuple[int, int]]:
    """Yield the number of entries and the size of the directory of each ZIP64 record that a reader may take.

    CPython took the record right before the locator (until 2025), others and newer ones that to which the locator
    points. A file with two of them must not be checked by one and read by the other.
    """
    file.seek(max(0, end - _LOCATOR_BYTES))
    locator = file.read(_LOCATOR_BYTES)
    if end < _LOCATOR_BYTES or not locator.startswith(b"PK\x06\x07"):
        return
    for start in (end - _LOCATOR_BYTES - _WIDE_BYTES, int.from_bytes(locator[8:16], "little")):
        if not 0 <= start <= end - _LOCATOR_BYTES - _WIDE_BYTES:
            continue
        file.seek(start)
        record = file.read(_WIDE_BYTES)
        if record.startswith(b"PK\x06\x06"):
            yield int.from_bytes(record[32:40], "little"), int.from_bytes(record[40:48], "little")


def _safe_name(info: zipfile.ZipInfo) -> str:
    """Return an entry's path with forward slashes.

    Raises:
        SaccadeError: ARCHIVE_UNSAFE, for a path that leaves its folder or cannot be displayed.
    """
    name = info.orig_filename.replace("\\", "/")
    shown = repr(name[:80])
    if len(name) > NAME_CHARS or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise SaccadeError(ErrorCode.ARCHIVE_UNSAFE, f"The name {shown} is too long or contains control characters.")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise SaccadeError(ErrorCode.ARCHIVE_UNSAFE, f"The name {shown} is absolute.")
    if ".." in name.split("/"):
        raise SaccadeError(ErrorCode.ARCHIVE_UNSAFE, f"The name {shown} leaves the folder of the archive.")
    return name


def _check_entry(info: zipfile.ZipInfo, name: str) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a link" if kind == stat.S_IFLNK else "a device"
        raise SaccadeError(ErrorCode.ARCHIVE_UNSAFE, f"{name} is {what}, not a file.")
    if info.flag_bits & 0x1:
        raise SaccadeError(ErrorCode.ARCHIVE_ENCRYPTED, f"{name} is encrypted.")
    if info.compress_type not in _METHODS:
        message = f"{name} is compressed with method {info.compress_type}, which is not supported."
        raise SaccadeError(ErrorCode.ARCHIVE_UNREADABLE, message)
    if info.file_size > MEMBER_BYTES:
        message = f"{name} unpacks to {info.file_size // MIB} MiB; at most {MEMBER_BYTES // MIB} MiB are allowed."
        raise SaccadeError(ErrorCode.ARCHIVE_TOO_LARGE, message)
    if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * max(1, info.compress_size):
        ratio = info.file_size // max(1, info.compress_size)
        raise SaccadeError(ErrorCode.ARCHIVE_UNSAFE, f"{name} would unpack to {ratio} times its size: a ZIP bomb.")


def _check_whole(infos: list[zipfile.ZipInfo]) -> None:
    """Check the total size, and that no two entries share bytes (the ZIP bomb of D. Fifield, WOOT 2019).

    Raises:
        SaccadeError: ARCHIVE_UNSAFE, ARCHIVE_TOO_LARGE.
    """
    total = sum(info.file_size for info in infos)
    packed = sum(info.compress_size for info in infos)
    if total > TOTAL_BYTES:
        message = f"The ZIP unpacks to {total / GIB:.1f} GiB; at most {TOTAL_BYTES // GIB} GiB are allowed."
        raise SaccadeError(ErrorCode.ARCHIVE_TOO_LARGE, message)
    if total > 4 * BOMB_BYTES and total > BOMB_RATIO * max(1, packed):
        message = f"The ZIP would unpack to {total // max(1, packed)} times its size: a ZIP bomb."
        raise SaccadeError(ErrorCode.ARCHIVE_UNSAFE, message)
    ordered = sorted(infos, key=lambda info: info.header_offset)
    for info, following in pairwise(ordered):
        if info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size > following.header_offset:
            message = f"{info.filename} and {following.filename} share bytes: a ZIP bomb."
            raise SaccadeError(ErrorCode.ARCHIVE_UNSAFE, message)


def _is_system_file(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        any(part == "__MACOSX" or part.startswith(".") for part in parts)
        or (parts[-1].lower() if parts else "") in _SYSTEM_FILES
    )
