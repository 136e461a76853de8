"""Cache of bucket files in a folder that several containers share.

The bucket is the only truth. An entry is one file, a JSON line that describes it and then the bytes, written under a
temporary name and renamed, so that both appear together. An entry that is missing, truncated, of another version or
unreadable is a miss; the cache never fails a job. On Modal the folder is a Volume: a container sees what was committed
before it started, commits run in the background and at its end, and of two writers of one file the last wins.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import stat
import time
from pathlib import Path
from typing import IO, Final

from pydantic import BaseModel, ConfigDict

from contracts.ids import is_id
from contracts.limits import KIB, MIB

log = logging.getLogger(__name__)

_CHUNK_BYTES: Final = 1 * MIB
_MAX_HEADER_BYTES: Final = 8 * KIB


class CacheEntry(BaseModel):
    """Description of an entry: one version of one object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    etag: str
    bytes: int
    sha256: str


class FileCache:
    """Cached files of one job, shared by its stages; removes those of other jobs when they are stale."""

    def __init__(self, folder: Path, home_id: str) -> None:
        """Use an existing folder; one that is not mounted is not created.

        Raises:
            ValueError: ``home_id`` is not the id of a job.
        """
        if not is_id(home_id, "job"):
            raise ValueError(f"{home_id!r} is not the id of a job")
        self._folder = folder
        self._home = folder / home_id

    def find(self, key: str) -> CacheEntry | None:
        """Return the cached version of an object; None if there is none."""
        try:
            with self._opened(key) as source:
                return _read_header(source, key)
        except (OSError, ValueError):
            return None

    def take(self, entry: CacheEntry, path: Path) -> bool:
        """Copy an entry into a file; return False, and leave no file, if it is not complete and of this version."""
        try:
            with self._opened(entry.key) as source, path.open("wb") as target:
                if _read_header(source, entry.key) == entry:
                    if _copy(source, target) == (entry.bytes, entry.sha256):
                        os.utime(source.fileno())  # marks the folder as used
                        return True
                    log.warning("the cached bytes of %s do not match their description", entry.key)
                    self.drop(entry.key)
        except (OSError, ValueError) as error:
            log.info("%s cannot be read from the cache: %s", entry.key, error)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return False

    def put(self, entry: CacheEntry, path: Path) -> bool:
        """Store a copy of a file in place of another version; return whether it was stored."""
        part = self._home / f".{secrets.token_hex(16)}"
        try:
            with contextlib.suppress(FileExistsError):
                self._home.mkdir()
            self._check_home()
            with path.open("rb") as source, part.open("xb") as target:
                target.write(entry.model_dump_json().encode() + b"\n")
                if _copy(source, target) != (entry.bytes, entry.sha256):
                    raise OSError("the file has changed since it was uploaded")
            part.replace(self._path(entry.key))
        except OSError as error:
            log.info("%s cannot be written to the cache: %s", entry.key, error)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return False
        return True

    def drop(self, key: str) -> None:
        """Delete an object's entry."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def remove_stale(self, older_than_s: float) -> int:
        """Delete the folders of other jobs that were unused for ``older_than_s``; return how many.

        A fallback: the dispatcher deletes a job's entries when the job ends. Other files in the folder stay.
        """
        removed = 0
        with contextlib.suppress(OSError):
            for home in list(self._folder.iterdir()):
                if home == self._home or not is_id(home.name, "job"):
                    continue
                with contextlib.suppress(OSError):
                    if not home.is_symlink() and time.time() - _last_used_s(home) > older_than_s:
                        shutil.rmtree(home)
                        removed += 1
        return removed

    def _path(self, key: str) -> Path:
        """Return the path of an object's entry: its key hashed, because keys contain slashes and dots."""
        return self._home / hashlib.sha256(key.encode()).hexdigest()

    def _opened(self, key: str) -> IO[bytes]:
        """Open an object's entry.

        Raises:
            OSError: there is no entry, or it is not a plain file.
        """
        self._check_home()
        file = os.fdopen(os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError("the entry is not a plain file")
        return file

    def _check_home(self) -> None:
        """Check that the job's folder is a real folder.

        Raises:
            OSError: it is a link, not a folder, or missing.
        """
        if not stat.S_ISDIR(self._home.lstat().st_mode):
            raise OSError("the job's folder in the cache is not a plain folder")


def _read_header(source: IO[bytes], key: str) -> CacheEntry:
    """Return the description at the start of an entry.

    Raises:
        ValueError: it is unreadable, or describes another object.
    """
    line = source.readline(_MAX_HEADER_BYTES)
    entry = CacheEntry.model_validate_json(line)
    if not line.endswith(b"\n") or entry.key != key:
        raise ValueError("the entry describes another object")
    return entry


def _copy(source: IO[bytes], target: IO[bytes]) -> tuple[int, str]:
    """Copy the rest of a file; return its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _last_used_s(home: Path) -> float:
    """Return when a file in a job's folder was last written or read, unix seconds."""
    return max([home.stat().st_mtime, *(entry.lstat().st_mtime for entry in home.iterdir())])
