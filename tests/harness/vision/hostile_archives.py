"""Malicious and damaged ZIP files, each with its error code; some are patched byte by byte."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable

import cv2
import numpy as np

JPEG = cv2.imencode(".jpg", np.full((96, 128, 3), 90, np.uint8))[1].tobytes()


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def _entry(info: zipfile.ZipInfo, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("photo.jpg", JPEG)
        archive.writestr(info, data)
    return file.getvalue()


def _named(name: str) -> bytes:
    """Name an entry as ``zipfile`` itself would not."""
    data = zipped({"photo.jpg": JPEG, "x" * len(name): JPEG})
    return data.replace(b"x" * len(name), name.encode())


def _link() -> bytes:
    info = zipfile.ZipInfo("photo_2.jpg")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return _entry(info, b"/etc/passwd")


def _device() -> bytes:
    info = zipfile.ZipInfo("photo_2.jpg")
    info.create_system, info.external_attr = 3, (stat.S_IFCHR | 0o666) << 16
    return _entry(info, b"")


def _patched(offset: int, value: bytes) -> bytes:
    """Change the directory's entry of the only file."""
    data = bytearray(zipped({"photo.jpg": JPEG}))
    at = data.rindex(b"PK\x01\x02") + offset
    data[at : at + len(value)] = value
    return bytes(data)


def _bomb() -> bytes:
    return zipped({"photo.jpg": bytes(32 << 20)}, zipfile.ZIP_DEFLATED)


def _many_bombs() -> bytes:
    """Each below what is looked at alone, together 800 times their size."""
    return zipped({f"photo_{number}.jpg": bytes(12 << 20) for number in range(8)}, zipfile.ZIP_DEFLATED)


def _overlapping() -> bytes:
    """Return two directory entries the bytes of one file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = zipped({"photo_1.jpg": JPEG, "photo_2.jpg": JPEG})
    second = data.rindex(b"PK\x01\x02")
    return data[: second + 42] + struct.pack("<I", 0) + data[second + 46 :]


def _too_many() -> bytes:
    return zipped({f"{number}.txt": b"" for number in range(5001)})


def _endless_directory() -> bytes:
    data = bytearray(zipped({"photo.jpg": JPEG}))
    end = data.rindex(b"PK\x05\x06")
    data[end + 10 : end + 12] = struct.pack("<H", 0xFFFE)
    data[end + 12 : end + 16] = struct.pack("<I", 0xFFFFFFF0)
    return bytes(data)


def wide(entries: int = 1, directory_bytes: int | None = None, *, pointed_elsewhere: bool = False) -> bytes:
    """Return a ZIP with a ZIP64 record, which says what it is told; the locator may point to another, harmless one."""
    data = zipped({"photo.jpg": JPEG})
    end = data.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<II", data[end + 12 : end + 20])

    def record(entries: int, size: int) -> bytes:
        return struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries, size, start)

    written = record(entries, size if directory_bytes is None else directory_bytes)
    harmless = record(1, size) if pointed_elsewhere else b""
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return data[:end] + harmless + written + locator + data[end:]


def _method_99() -> bytes:
    return _patched(10, struct.pack("<H", 99))


#: By name: what makes it, and the code of its refusal.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb": (_bomb, "archive_unsafe"),
    "a bomb in parts": (_many_bombs, "archive_unsafe"),
    "overlapping files": (_overlapping, "archive_unsafe"),
    "a name that climbs": (lambda: _named("../../etc/cron.d/x.jpg"), "archive_unsafe"),
    "a name that climbs backwards": (lambda: _named("..\\..\\windows.jpg"), "archive_unsafe"),
    "an absolute name": (lambda: _named("/etc/passwd.jpg"), "archive_unsafe"),
    "a drive": (lambda: _named("C:/photo.jpg"), "archive_unsafe"),
    "a name with a line end": (lambda: _named("photo\n2.jpg"), "archive_unsafe"),
    "a link": (_link, "archive_unsafe"),
    "a device": (_device, "archive_unsafe"),
    "encrypted": (lambda: _patched(8, struct.pack("<H", 1)), "archive_encrypted"),
    "a ZIP in the ZIP": (lambda: zipped({"a/photos.zip": zipped({"photo.jpg": JPEG})}), "archive_nested"),
    "empty": (lambda: zipped({}), "archive_empty"),
    "no photo": (lambda: zipped({"notes.txt": b"hello", "__MACOSX/._photo.jpg": JPEG}), "archive_empty"),
    "too many entries": (_too_many, "archive_too_large"),
    "an endless directory": (_endless_directory, "archive_too_large"),
    "an endless ZIP64 directory": (lambda: wide(0xFFFFFFFF, 1 << 40), "archive_too_large"),
    # CPython read the record before the locator, whatever the locator says.
    "two ZIP64 records": (lambda: wide(0xFFFFFFFF, 1 << 40, pointed_elsewhere=True), "archive_too_large"),
    "a file of gigabytes": (lambda: _patched(24, struct.pack("<I", 0x7FFFFFFF)), "archive_too_large"),
    "an unknown method": (_method_99, "archive_unreadable"),
    "cut off": (lambda: zipped({f"{number}.jpg": JPEG for number in range(9)})[:-200], "archive_unreadable"),
}


def lying_about_its_size() -> bytes:
    """Return a deflated photo whose entry promises a hundred bytes of it."""
    data = bytearray(zipped({"photo.jpg": JPEG * 50}, zipfile.ZIP_DEFLATED))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    return bytes(data)
