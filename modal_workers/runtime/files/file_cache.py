"""Files of the bucket once more, in a folder that several containers share: what is there need not be fetched.

The bucket alone is the truth. An entry is one file, a line that says what it is and then the bytes, so that both appear
together: under another name first, then renamed. Whatever is not there, torn, of another version or in trouble is a
miss, and nothing here ever fails a job. On Modal the folder is a Volume: a container sees what was committed before it
began, commits happen beside it and at its end, and of two who write the same file the last one wins.
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
_NOTE_BYTES: Final = 8 * KIB


class Note(BaseModel):
    """Which bytes an entry holds: those of one version of one object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    etag: str
    bytes: int
    sha256: str


class FileCache:
    """The entries of one job, which its stages share; those of other jobs it only removes when nobody wants them."""

    def __init__(self, folder: Path, home_id: str) -> None:
        """Use a folder that is there already: one that is not mounted is not made.

        Raises:
            ValueError: the home is not the id of a job.
        """
        if not is_id(home_id, "job"):
            raise ValueError(f"{home_id!r} is not the id of a job")
        self._folder = folder
        self._home = folder / home_id

    def noted(self, key: str) -> Note | None:
        """Tell which version of an object is here; None where there is none."""
        try:
            with self._opened(key) as entry:
                return _read_note(entry, key)
        except (OSError, ValueError):
            return None

    def take(self, note: Note, path: Path) -> bool:
        """Copy what was noted into a file of one's own; False where that cannot be had whole, and no file is left."""
        try:
            with self._opened(note.key) as entry, path.open("wb") as target:
                if _read_note(entry, note.key) == note:
                    if _copy(entry, target) == (note.bytes, note.sha256):
                        os.utime(entry.fileno())  # somebody wants it
                        return True
                    log.warning("the cache holds other bytes than it says of %s", note.key)
                    self.drop(note.key)
        except (OSError, ValueError) as error:
            log.info("%s cannot be had from the cache: %s", note.key, error)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return False

    def put(self, note: Note, path: Path) -> bool:
        """Keep a copy of a file, in place of another version; tells whether that worked."""
        part = self._home / f".{secrets.token_hex(16)}"
        try:
            with contextlib.suppress(FileExistsError):
                self._home.mkdir()
            self._check_home()
            with path.open("rb") as source, part.open("xb") as target:
                target.write(note.model_dump_json().encode() + b"\n")
                if _copy(source, target) != (note.bytes, note.sha256):
                    raise OSError("the file is no longer what was sent")
            part.replace(self._entry(note.key))
        except OSError as error:
            log.info("%s cannot be put into the cache: %s", note.key, error)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            return False
        return True

    def drop(self, key: str) -> None:
        """Remove an object's entry."""
        with contextlib.suppress(OSError):
            self._entry(key).unlink()

    def remove_stale(self, older_than_s: float) -> int:
        """Remove what other jobs have left and nobody has touched for so long; gives of how many jobs.

        A net below the dispatcher, which removes a job's entries when it is over. What is not ours is left alone.
        """
        removed = 0
        with contextlib.suppress(OSError):
            for home in list(self._folder.iterdir()):
                if home == self._home or not is_id(home.name, "job"):
                    continue
                with contextlib.suppress(OSError):
                    if not home.is_symlink() and time.time() - _touched_s(home) > older_than_s:
                        shutil.rmtree(home)
                        removed += 1
        return removed

    def _entry(self, key: str) -> Path:
        """Name an object's entry: a key has slashes, and perhaps dots."""
        return self._home / hashlib.sha256(key.encode()).hexdigest()

    def _opened(self, key: str) -> IO[bytes]:
        """Open an object's entry.

        Raises:
            OSError: there is none, or something else in its place.
        """
        self._check_home()
        file = os.fdopen(os.open(self._entry(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError("an entry is a plain file")
        return file

    def _check_home(self) -> None:
        """Make sure that the job's folder is in this folder.

        Raises:
            OSError: it is a link, no folder, or not there.
        """
        if not stat.S_ISDIR(self._home.lstat().st_mode):
            raise OSError("a job's entries are in a plain folder")


def _read_note(entry: IO[bytes], key: str) -> Note:
    """Read what an entry says it holds.

    Raises:
        ValueError: nothing that makes sense, or another object.
    """
    line = entry.readline(_NOTE_BYTES)
    note = Note.model_validate_json(line)
    if not line.endswith(b"\n") or note.key != key:
        raise ValueError("it is not this object's entry")
    return note


def _copy(source: IO[bytes], target: IO[bytes]) -> tuple[int, str]:
    """Copy what is left of a file; gives its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK_BYTES):
        target.write(chunk)
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _touched_s(home: Path) -> float:
    """Give when something in a job's folder was last written or wanted, unix seconds."""
    return max([home.stat().st_mtime, *(entry.lstat().st_mtime for entry in home.iterdir())])
