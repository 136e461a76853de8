"""Download of a job's artifacts: resumed after a disconnect, each checked by SHA-256 before it gets its name."""

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

from saccade_client.api import Api
from saccade_client.errors import ClientError, TransferError, refusal
from saccade_client.request_parts import located_url, path_segment
from saccade_client.retries import Retries
from saccade_client.transport import StreamedResponse
from saccade_client.upload import OnProgress
from saccade_client.views import Artifact

_MANIFEST: Final = "manifest.json"
_CHUNK_BYTES: Final = 1024 * 1024
#: Reading fails when the bucket sends nothing for this long.
_SILENCE_S: Final = 30.0
#: Consecutive attempts without a new byte.
_MAX_ATTEMPTS: Final = 4
_RANGE: Final = re.compile(r"bytes (\d+)-")


class _DamagedError(Exception):
    """The bytes do not match the manifest."""


class ArtifactDownload:
    """Download of some of a job's artifacts."""

    def __init__(
        self, api: Api, job_id: str, folder: Path, on_progress: OnProgress | None, names: Sequence[str] | None
    ) -> None:
        """Prepare; without ``names`` all artifacts and the manifest are downloaded."""
        self._api = api
        self._job_id = job_id
        self._folder = folder
        self._on_progress = on_progress
        self._names = names
        self._done = 0
        self._total = 0

    async def run(self) -> list[Path]:
        """Download the files and return their paths.

        Raises:
            ClientError: there is no such artifact, or its bytes do not match the manifest.
            OSError: a file could not be written.
        """
        manifest = await self._api.artifacts(self._job_id)
        wanted = [artifact for artifact in manifest.artifacts if self._names is None or artifact.name in self._names]
        if missing := set(self._names or ()) - {artifact.name for artifact in wanted}:
            raise ClientError("artifact_not_found", f"The job has no artifact {', '.join(sorted(missing))}.")
        self._total = sum(artifact.bytes for artifact in wanted)
        paths = []
        for artifact in wanted:
            paths.append(await self._download(artifact))
            self._done += artifact.bytes
        if self._names is None and manifest.complete:
            paths.append(await self._download_manifest())
        return paths

    async def _download(self, artifact: Artifact) -> Path:
        """Download one artifact; each attempt gets a new presigned URL."""
        path = self._path_of(artifact.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = _Partial(path, artifact)
        retries = Retries()
        attempts = damaged = 0
        try:
            while True:
                had = partial.count
                try:
                    await self._continue(artifact, partial)
                    partial.finish()
                    return path
                except (httpx.TransportError, httpx.HTTPStatusError, httpx.DecodingError, _DamagedError) as error:
                    damaged += isinstance(error, _DamagedError)
                    attempts = 1 if partial.count > had else attempts + 1
                    # Bytes that are wrong twice are wrong in the bucket.
                    if attempts >= _MAX_ATTEMPTS or damaged > 1:
                        raise _failed(artifact.name, error) from error
                    if partial.count > had:
                        retries.succeeded()
                await self._api.transport.sleep(retries.pause_s() or 2.0)
        finally:
            partial.keep()

    async def _continue(self, artifact: Artifact, partial: _Partial) -> None:
        """Read from the end of the partial file as far as the connection lasts."""
        if not partial.is_open:
            await self._api.transport.work(partial.resume)
        if partial.count < artifact.bytes or not artifact.bytes:
            stream = await self._open(artifact.name, partial.count)
            try:
                if not _starts_at(stream.response):
                    partial.restart()
                await self._receive(stream, partial)
            finally:
                await stream.close()
        if not partial.is_verified:
            count = partial.count
            partial.restart()
            raise _DamagedError(f"the bytes do not match the manifest ({count} of {artifact.bytes} bytes)")

    async def _receive(self, stream: StreamedResponse, partial: _Partial) -> None:
        """Write the body in chunks, also what came before a disconnect."""
        held: list[bytes] = []
        size = 0
        try:
            while (chunk := await stream.read()) is not None:
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
            await self._api.transport.work(partial.write, chunks)
            self._report_progress(partial.count)

    async def _open(self, name: str, start: int) -> StreamedResponse:
        """Open an artifact at ``start``, or at its beginning if the bucket does not support ranges."""
        answer = await self._api.send("GET", f"/v1/jobs/{path_segment(self._job_id)}/artifacts/{quote(name)}")
        if not answer.has_redirect_location:
            raise refusal(answer)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        url = located_url(self._api.transport.url, answer.headers["Location"])
        stream = await self._api.transport.open(url, headers=headers, silence_s=_SILENCE_S)
        response = stream.response
        if response.is_success and _starts_at(response) in (0, start):
            return stream
        await stream.close()
        if start and (response.is_success or response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
            return await self._open(name, 0)
        message = f"the bucket answered {response.status_code}"
        raise httpx.HTTPStatusError(message, request=response.request, response=response)

    async def _download_manifest(self) -> Path:
        """Download the manifest, which has no checksum."""
        path = self._path_of(_MANIFEST)
        retries = Retries()
        while (content := await self._read_small(_MANIFEST, retries)) is None:
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    async def _read_small(self, name: str, retries: Retries) -> bytes | None:
        """Read a small JSON file; return None, after a pause, if it has to be read again."""
        try:
            stream = await self._open(name, 0)
            try:
                await stream.read_all()
            finally:
                await stream.close()
            json.loads(stream.response.content)
        except (httpx.TransportError, httpx.HTTPStatusError, ValueError) as error:
            if (pause_s := retries.pause_s()) is None:
                raise _failed(name, error) from error
            await self._api.transport.sleep(pause_s)
            return None
        return stream.response.content

    def _path_of(self, name: str) -> Path:
        """Return an artifact's path; raise ``ClientError`` if it is outside the folder."""
        path = self._folder / name
        if not path.resolve().is_relative_to(self._folder.resolve()) or path == self._folder:
            raise ClientError(
                "artifact_name_refused",
                f"{name!r} points outside the folder.",
                "Do not use this server.",
            )
        return path

    def _report_progress(self, count: int) -> None:
        if self._on_progress:
            self._on_progress(self._done + count, self._total)


class _Partial:
    """A partly downloaded file. It has a unique name while it is written, so that two downloads do not mix."""

    def __init__(self, path: Path, artifact: Artifact) -> None:
        self._path = path
        self._artifact = artifact
        self._shared_path = path.with_name(f".{path.name}.{artifact.sha256[:16]}.part")
        self._own_path = path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}.part")
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self.count = 0

    @property
    def is_open(self) -> bool:
        return self._file is not None

    @property
    def is_verified(self) -> bool:
        return self.count == self._artifact.bytes and self._digest.hexdigest() == self._artifact.sha256

    def resume(self) -> None:
        """Take over the partial file of an earlier download; renaming it makes it ours."""
        with contextlib.suppress(FileNotFoundError):
            self._shared_path.rename(self._own_path)
        self._file = self._own_path.open("a+b")
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            self._digest.update(chunk)
            self.count += len(chunk)
        if self.count > self._artifact.bytes or (self.count == self._artifact.bytes and not self.is_verified):
            self.restart()

    def restart(self) -> None:
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
        """Rename the complete and verified file to its final name."""
        if self._file:
            self._file.close()
        self._file = None
        self._own_path.replace(self._path)

    def keep(self) -> None:
        """Keep what has arrived for the next download."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if self.count:
            self._own_path.replace(self._shared_path)
        else:
            self._own_path.unlink(missing_ok=True)


def _starts_at(response: httpx.Response) -> int:
    """Return the offset of an answer's first byte, by its header: rclone's server answers ranges with 200."""
    part = _RANGE.match(response.headers.get("Content-Range", ""))
    return int(part[1]) if part else 0


def _failed(name: str, error: Exception) -> TransferError:
    """Return the error of a transfer; bytes that are wrong in the bucket stay so."""
    damaged = isinstance(error, _DamagedError)
    hint = "The file is not the one that the job made; run the job again." if damaged else "Try it again."
    message = f"{name}: {error or type(error).__name__}"
    return TransferError("download_failed", message, hint, retryable=not damaged)
