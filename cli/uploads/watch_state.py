"""Journal of a watched folder: which files were uploaded, and which results downloaded. It survives ``kill -9``.

Each line is one JSON object, written and synchronized before the next step. A line that was cut off is ignored: its
step is repeated, with the same Idempotency-Key.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.failure import Failure
from cli.uploads.folder_scan import FoundFile


@dataclass(frozen=True)
class KnownFile:
    """Outcome of one version of a file: an upload, or the code of the reason why it cannot be one."""

    file: FoundFile
    sha256: str
    upload_id: str | None = None
    refused: str | None = None
    created_at: str | None = None


class WatchState:
    """The journal of one folder and one server."""

    def __init__(self, path: Path, server: str) -> None:
        """Read the journal at ``path``, or begin it; entries of other servers are left alone.

        Raises:
            Failure: another process watches the folder.
            OSError: the file cannot be written.
        """
        self._server, self._lock = server, threading.Lock()
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            hint = "Stop it, or choose another file with --state."
            raise Failure(f"Another `saccade watch` uses {path}.", code="already_watched", hint=hint) from None
        self._files: dict[str, KnownFile] = {}
        self._by_content: dict[str, KnownFile] = {}
        self._uploads: set[str] = set()
        self._jobs: dict[str, dict[str, Any]] = {}
        #: Job by the SHA-256 of each of its results.
        self._results: dict[str, str] = {}
        #: Contents that are being uploaded.
        self._begun: set[str] = set()
        self._id = ""
        self._cursor: str | None = None
        self._first_at: str | None = None
        self._file.seek(0)
        for line in self._file.read().split(b"\n"):
            self._read(line)
        self._end_line()
        if not self._id:
            self._write({"watch": uuid.uuid4().hex})

    def close(self) -> None:
        """Close the file, so that another process can watch the folder."""
        self._file.close()

    @property
    def id(self) -> str:
        """Id of this journal for this server: part of the Idempotency-Keys of its uploads."""
        return self._id

    def known(self, file: FoundFile) -> KnownFile | None:
        """Return what became of a file in this version."""
        found = self._files.get(file.path)
        return found if found is not None and found.file == file else None

    def earlier(self, path: str, sha256: str) -> KnownFile | None:
        """Return what became of the same content under this path or under any other."""
        found = self._files.get(path)
        if found is not None and found.sha256 == sha256:
            return found
        return self._by_content.get(sha256)

    def begin(self, sha256: str) -> None:
        """Note that a content is being uploaded, until ``keep_file``."""
        with self._lock:
            self._begun.add(sha256)

    def end(self, sha256: str) -> None:
        """Note that a content is not being uploaded any more."""
        with self._lock:
            self._begun.discard(sha256)

    def keep_file(self, known: KnownFile) -> None:
        """Store what became of a file."""
        entry = {
            "path": known.file.path,
            "size": known.file.size,
            "mtime_ns": known.file.mtime_ns,
            "sha256": known.sha256,
            "upload_id": known.upload_id,
            "refused": known.refused,
            "created_at": known.created_at,
        }
        self._write(entry)

    def is_own(self, upload_id: str) -> bool:
        """Return whether an upload is one of this folder's files."""
        return upload_id in self._uploads

    def is_begun(self, sha256: str) -> bool:
        """Return whether a file with this content is being uploaded now."""
        with self._lock:
            return sha256 in self._begun

    def job_of_result(self, sha256: str) -> str | None:
        """Return the job whose downloaded result a content is."""
        return self._results.get(sha256)

    def knows_job(self, job_id: str) -> bool:
        """Return whether a job's end was handled."""
        return job_id in self._jobs

    def keep_job(self, job_id: str, state: str, results: list[str]) -> None:
        """Store how a job ended, and the SHA-256 of the results that were downloaded."""
        self._write({"job": job_id, "state": state, "results": results})

    def keep_cursor(self, cursor: str) -> None:
        """Store that all events up to this one were handled."""
        if cursor != self._cursor:
            self._write({"cursor": cursor})

    @property
    def cursor(self) -> str | None:
        """Cursor of the last event that was handled."""
        return self._cursor

    @property
    def first_upload_at(self) -> str | None:
        """Time of the first upload by the server's clock: no result is older."""
        return self._first_at

    def _write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry | {"server": self._server}).encode()
        with self._lock:
            self._file.write(line + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._apply(entry)

    def _read(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if entry.get("server") == self._server:
                self._apply(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            return

    def _apply(self, entry: dict[str, Any]) -> None:
        if "watch" in entry:
            self._id = str(entry["watch"])
        elif "cursor" in entry:
            self._cursor = str(entry["cursor"])
        elif "job" in entry:
            self._jobs[str(entry["job"])] = entry
            self._results |= dict.fromkeys(map(str, entry["results"]), str(entry["job"]))
        else:
            file = FoundFile(str(entry["path"]), int(entry["size"]), int(entry["mtime_ns"]))
            known = KnownFile(
                file, str(entry["sha256"]), entry.get("upload_id"), entry.get("refused"), entry.get("created_at")
            )
            self._files[file.path] = self._by_content[known.sha256] = known
            if known.upload_id is not None:
                self._uploads.add(known.upload_id)
                self._first_at = self._first_at or known.created_at

    def _end_line(self) -> None:
        """End a line that was cut off, so that the next one can be read."""
        self._file.seek(0, os.SEEK_END)
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
