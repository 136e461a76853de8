"""Folder that a backup is written into until it is complete."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from cli.backups.backup_folder import MANIFEST, OBJECT_FILES, OBJECT_LIST, STREAM_FILES, SYSTEM_FILES
from cli.failure import Failure

#: Held by the backup that writes the folder; removed before the folder gets its name.
_LOCK: Final = "lock"
_OURS: Final = frozenset({MANIFEST, OBJECT_FILES, OBJECT_LIST, STREAM_FILES, SYSTEM_FILES, _LOCK})


@contextlib.contextmanager
def open_part(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder`` when the block has ended well, and is removed otherwise.

    What a backup that was killed has left there is removed.

    Raises:
        Failure: another backup writes there, or the folder has something that is no backup's.
    """
    part = folder.with_name(f"{folder.name}.part")
    found = part.exists()
    part.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not {path.name for path in part.iterdir()} <= _OURS:
        raise _taken(f"{part} exists and is no backup's.", "Move it away, or name another folder.")
    with (part / _LOCK).open("w") as lock:
        _acquire(lock, part, found=found)
        try:
            _clear(part)
            yield part
            (part / _LOCK).unlink()
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _acquire(lock: IO[str], part: Path, *, found: bool) -> None:
    """Take the lock; on a file system without locks, only of a folder that was not there."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if found or isinstance(error, BlockingIOError):
            hint = "Wait until it has ended, or name another folder."
            raise _taken(f"{part} is written by another backup.", hint) from error


def _clear(part: Path) -> None:
    for path in part.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


def _taken(message: str, hint: str) -> Failure:
    return Failure(message, code="file_exists", hint=hint)
