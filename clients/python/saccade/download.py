"""Brings a job's files home: resumed where a connection broke, each checked by SHA-256 before it appears."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final
from urllib.parse import quote

import httpx

from saccade.api import Api, path_segment
from saccade.errors import ClientError, TransferError, refusal
from saccade.retries import Retries
from saccade.transport import StreamedResponse
from saccade.upload import OnProgress
from saccade.views import Artifact

_MANIFEST: Final = "manifest.json"
_CHUNK_BYTES: Final = 1024 * 1024
#: A bucket that sends nothing for this long has forgotten us.
_SILENCE_S: Final = 30.0
#: Tries in a row that bring no byte.
_TRIES: Final = 4
_RANGE: Final = re.compile(r"bytes (\d+)-")


class _DamagedError(Exception):
    """What arrived is not what the manifest promised."""


class ArtifactDownload:
    """Some of a job's files on their way home."""

    def __init__(
        self, api: Api, job_id: str, folder: Path, on_progress: OnProgress | None, names: Sequence[str] | None
    ) -> None:
        """Prepare; without ``names`` all files come, and the manifest, which says what each is."""
        self._api = api
        self._job_id = job_id
        self._folder = folder
        self._on_progress = on_progress
        self._names = names
        self._done = 0
        self._total = 0

    async def run(self) -> list[Path]:
        """Download and give the paths.

        Raises:
            ClientError: there is no such file, or it did not come as it is in the manifest.
            OSError: it could not be written.
        """
        manifest = await self._api.artifacts(self._job_id)
        wanted = [one for one in manifest.artifacts if self._names is None or one.name in self._names]
        if missing := set(self._names or ()) - {one.name for one in wanted}:
            raise ClientError("artifact_not_found", f"The job has no artifact {', '.join(sorted(missing))}.")
        self._total = sum(artifact.bytes for artifact in wanted)
        paths = []
        for artifact in wanted:
            paths.append(await self._one(artifact))
            self._done += artifact.bytes
        if self._names is None and manifest.complete:
            paths.append(await self._manifest())
        return paths

    async def _one(self, artifact: Artifact) -> Path:
        """Follow the presigned address of one artifact, which is signed anew for each try."""
        path = self._path_of(artifact.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _Partial(path, artifact)
        retries = Retries()
        tried = damaged = 0
        try:
            while True:
                had = partial.count
                try:
                    await self._some(artifact, partial)
                    partial.finish()
                    return path
                except (httpx.TransportError, httpx.HTTPStatusError, httpx.DecodingError, _DamagedError) as error:
                    damaged += isinstance(error, _DamagedError)
                    tried = 1 if partial.count > had else tried + 1
                    # Bytes that arrive wrong twice lie wrong in the bucket.
                    if tried >= _TRIES or damaged > 1:
                        raise _failed(artifact.name, error) from error
                    if partial.count > had:
                        retries.succeeded()
                await self._api.connection.sleep(retries.pause_s() or 2.0)
        finally:
            partial.leave()

    async def _some(self, artifact: Artifact, partial: _Partial) -> None:
        """Read from where the partial file ends to the end, or as far as the connection lasts."""
        if not partial.resumed:
            await self._api.connection.work(partial.resume)
        if partial.count < artifact.bytes or not artifact.bytes:
            incoming = await self._open(artifact.name, partial.count)
            try:
                if not _starts_at(incoming.response):
                    partial.begin_again()
                await self._receive(incoming, partial)
            finally:
                await incoming.close()
        if not partial.right:
            count = partial.count
            partial.begin_again()
            raise _DamagedError(f"it arrived damaged ({count} of {artifact.bytes} bytes)")

    async def _receive(self, incoming: StreamedResponse, partial: _Partial) -> None:
        """Write what comes, some of it at a time, and what came before a connection broke."""
        held: list[bytes] = []
        size = 0
        try:
            while (chunk := await incoming.read()) is not None:
                held.append(chunk)
                size += len(chunk)
                if size >= _CHUNK_BYTES:
                    await self._write(held, partial)
                    size = 0
        finally:
            await self._write(held, partial)

    async def _write(self, held: list[bytes], partial: _Partial) -> None:
        chunks, held[:] = b"".join(held), []
        if chunks:
            await self._api.connection.work(partial.write, chunks)
            self._tell(partial.count)

    async def _open(self, name: str, start: int) -> StreamedResponse:
        """Open a file in the bucket at ``start``, or at its beginning where the bucket cannot."""
        answer = await self._api.send("GET", f"/v1/jobs/{path_segment(self._job_id)}/artifacts/{quote(name)}")
        if not answer.has_redirect_location:
            raise refusal(answer)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        url = str(httpx.URL(self._api.connection.url).join(answer.headers["Location"]))
        incoming = await self._api.connection.open(url, headers=headers, silence_s=_SILENCE_S)
        response = incoming.response
        if response.is_success and _starts_at(response) in (0, start):
            return incoming
        await incoming.close()
        if start and (response.is_success or response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
            return await self._open(name, 0)
        message = f"the bucket answered {response.status_code}"
        raise httpx.HTTPStatusError(message, request=response.request, response=response)

    async def _manifest(self) -> Path:
        """Fetch the manifest, which no other file vouches for."""
        path = self._path_of(_MANIFEST)
        retries = Retries()
        while (content := await self._small(_MANIFEST, retries)) is None:
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    async def _small(self, name: str, retries: Retries) -> bytes | None:
        """Read a small file of JSON; None after a pause when that has to be tried again."""
        try:
            incoming = await self._open(name, 0)
            try:
                await incoming.read_all()
            finally:
                await incoming.close()
            json.loads(incoming.response.content)
        except (httpx.TransportError, httpx.HTTPStatusError, ValueError) as error:
            if (pause_s := retries.pause_s()) is None:
                raise _failed(name, error) from error
            await self._api.connection.sleep(pause_s)
            return None
        return incoming.response.content

    def _path_of(self, name: str) -> Path:
        """Say where a file goes: into the folder, whatever a server says."""
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()) or path == self._folder:
            raise ClientError(
                "artifact_name_refused", f"{name!r} leads out of the folder.", "Do not trust this server."
            )
        return path

    def _tell(self, count: int) -> None:
        if self._on_progress:
            self._on_progress(self._done + count, self._total)


class _Partial:
    """A file as far as it has come. It has its own name while it is written, so that two downloads do not mix."""

    def __init__(self, path: Path, artifact: Artifact) -> None:
        self._path = path
        self._artifact = artifact
        self._left = path.with_name(f".{path.name}.{artifact.sha256[:16]}.part")
        self._own = path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}.part")
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self.count = 0

    @property
    def resumed(self) -> bool:
        return self._file is not None

    @property
    def right(self) -> bool:
        return self.count == self._artifact.bytes and self._digest.hexdigest() == self._artifact.sha256

    def resume(self) -> None:
        """Go on with what an earlier download left; who renames it first has it."""
        with contextlib.suppress(FileNotFoundError):
            self._left.rename(self._own)
        self._file = self._own.open("a+b")
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            self._digest.update(chunk)
            self.count += len(chunk)
        if self.count > self._artifact.bytes or (self.count == self._artifact.bytes and not self.right):
            self.begin_again()

    def begin_again(self) -> None:
        if self._file:
            self._file.truncate(0)
        self._digest = hashlib.sha256()
        self.count = 0

    def write(self, chunk: bytes) -> None:
        if self._file is None:
            raise ValueError("not open")
        self._file.write(chunk)
        self._digest.update(chunk)
        self.count += len(chunk)

    def finish(self) -> None:
        """Give the file its name: it is whole and right."""
        if self._file:
            self._file.close()
        self._file = None
        self._own.replace(self._path)

    def leave(self) -> None:
        """Leave what has come for the next download, if there is any of it."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self.count:
            self._own.replace(self._left)
        else:
            self._own.unlink(missing_ok=True)


def _starts_at(response: httpx.Response) -> int:
    """Say where in the file an answer starts; not by its status, which rclone's server leaves at 200."""
    part = _RANGE.match(response.headers.get("Content-Range", ""))
    return int(part[1]) if part else 0


def _failed(name: str, error: Exception) -> TransferError:
    return TransferError("download_failed", f"{name}: {error or type(error).__name__}", "Try again.", retryable=True)
