"""Uploads of the files of a watched folder, each once, also over restarts."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from saccade_client import Client, ClientError, UnauthorizedError, UploadView
from saccade_client.upload import sha256_of

from cli.settings import CommandSettings
from cli.uploads.folder_scan import FolderScan, FoundFile
from cli.uploads.path_metadata import PathMetadata
from cli.uploads.watch_state import KnownFile, WatchState

#: Codes of refusals that are about the file's content: it is not tried again.
_UNUSABLE: Final = ("unsupported_media_type", "upload_empty", "upload_too_large", "media_", "archive_")
#: An earlier upload with the same key was deleted, or has failed or expired: another key begins a new one.
_GONE: Final = frozenset({"upload_not_found", "upload_already_ended"})

#: Called with what happened to a file (uploaded, moved, refused, ignored), the file, and more facts.
Report = Callable[[str, FoundFile, Mapping[str, Any]], None]


class FolderUploads:
    """Uploads what a scan finds ready."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        scan: FolderScan,
        state: WatchState,
        *,
        metadata: PathMetadata,
        own: Mapping[str, str],
        report: Report,
    ) -> None:
        """Upload with the metadata of each file's path, and with that of this folder, ``own``."""
        self._client, self._folder, self._scan, self._state = client, folder, scan, state
        self._metadata, self._own, self._report = metadata, dict(own), report
        self._ignored: set[FoundFile] = set()
        #: Time that the last look at the folder took.
        self.scan_s = 0.0

    def step(self, now_s: float) -> bool:
        """Upload the files that are ready at ``now_s`` (monotonic); return whether every file is dealt with.

        Raises:
            ClientError: the server cannot be reached or takes no files now (retryable), or refuses all of them.
            OSError: the folder cannot be read, or the state not be written.
        """
        ready = self._scan.ready(now_s)
        self.scan_s = time.monotonic() - now_s
        for file in ready:
            if file not in self._ignored and self._state.known(file) is None:
                self._take(file)
        return len(ready) == self._scan.file_count and all(
            file in self._ignored or self._state.known(file) is not None for file in ready
        )

    def _take(self, file: FoundFile) -> None:
        try:
            file.path.encode()
        except UnicodeEncodeError:
            self._ignored.add(file)
            shown = file.path.encode(errors="backslashreplace").decode()
            self._report("ignored", replace(file, path=shown), {"message": "its name is not UTF-8: rename it"})
            return
        path = self._folder / file.path
        try:
            sha256 = sha256_of(path)
        except OSError as error:
            if self._scan.version(file.path) == file:
                self._ignore(file, str(error))
            return
        if self._scan.version(file.path) != file:
            return  # it is being written again
        earlier = self._state.earlier(file.path, sha256)
        if earlier and (earlier.file.path == file.path or not (self._folder / earlier.file.path).exists()):
            # Touched, or moved from another place.
            self._state.keep_file(KnownFile(file, sha256, earlier.upload_id, earlier.refused, earlier.created_at))
            self._report("moved", file, {"upload_id": earlier.upload_id, "from": earlier.file.path})
            return
        if (metadata := self._metadata.of(file.path)) is None:
            self._ignore(file, "its path does not fit --path")
            return
        self._state.begin(sha256)
        try:
            self._upload(file, sha256, metadata | self._own)
        finally:
            self._state.end(sha256)

    def _upload(self, file: FoundFile, sha256: str, metadata: dict[str, str]) -> None:
        from_job = self._state.job_of_result(sha256)
        try:
            upload = self._send(file, sha256, metadata, from_job)
        except ClientError as error:
            if error.retryable or error.status >= 500 or isinstance(error, UnauthorizedError):
                raise
            if self._scan.version(file.path) != file:
                return  # it was changed during the upload
            if not error.code.startswith(_UNUSABLE):
                raise
            self._state.keep_file(KnownFile(file, sha256, refused=error.code))
            self._report("refused", file, {"code": error.code, "message": error.message})
            return
        created_at = str((upload.model_extra or {}).get("created_at") or "") or None
        self._state.keep_file(KnownFile(file, sha256, upload.id, created_at=created_at))
        self._report("uploaded", file, {"upload_id": upload.id, "metadata": metadata, "from_job": from_job})

    def _send(self, file: FoundFile, sha256: str, metadata: dict[str, str], from_job: str | None) -> UploadView:
        """Send a file; the key makes one upload of all repetitions.

        Raises:
            ClientError: the server or the bucket refused it, or does not answer.
        """
        identity = json.dumps([self._state.id, file.path, file.mtime_ns, sha256, metadata, from_job], sort_keys=True)
        key = hashlib.sha256(identity.encode()).hexdigest()[:40]
        for attempt in ("", "-2"):
            try:
                return self._client.upload(
                    self._folder / file.path,
                    state_dir=CommandSettings().uploads_dir,
                    metadata=metadata,
                    from_job=from_job,
                    idempotency_key=f"{key}{attempt}",
                )
            except ClientError as error:
                if error.code not in _GONE or attempt:
                    raise
            except OSError as error:
                raise ClientError("file_unreadable", f"{file.path}: {error}", retryable=True) from error
        raise AssertionError

    def _ignore(self, file: FoundFile, reason: str) -> None:
        self._ignored.add(file)
        self._report("ignored", file, {"message": reason})
