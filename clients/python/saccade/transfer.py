"""Moves files to and from the bucket through presigned URLs: streamed, resumable, checked by SHA-256."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from saccade.errors import ClientError
from saccade.objects import Artifact

_MIB: Final = 1024 * 1024
#: Above this the server takes no single PUT.
_SINGLE_PUT_BYTES: Final = 1024 * _MIB
_CHUNK_BYTES: Final = 1 * _MIB
#: Above this an upload goes in parts, so that a broken connection costs one part, not the file.
_MULTIPART_FROM_BYTES: Final = 64 * _MIB
#: Part URLs asked for at once.
_SIGNED_AT_ONCE: Final = 50


class Damaged(Exception):  # noqa: N818 - it says what the file is
    """What arrived is not what the manifest promised."""


class Call(Protocol):
    """Calls the API and gives its JSON object."""

    def __call__(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Call it."""


Put = Callable[[str, Callable[[], Iterator[bytes]], int, Mapping[str, str]], str]
OnProgress = Callable[[int, int], None]


def sha256_of(path: Path) -> str:
    """Hash a file without reading it whole."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def media_type_of(path: Path) -> str:
    """Guess the media type from the file's name."""
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


class Upload:
    """One file on its way up."""

    def __init__(self, call: Call, put: Put, path: Path, *, content_type: str | None, state_dir: Path | None) -> None:
        """Prepare; nothing is sent yet. ``call`` reaches the API, ``put`` the bucket."""
        self._call = call
        self._put = put
        self._path = path
        self._size = path.stat().st_size
        self._content_type = content_type or media_type_of(path)
        self._state_dir = state_dir

    def run(self, on_progress: OnProgress, *, multipart: bool | None, url: str) -> dict[str, Any]:
        """Send the bytes, complete the upload and give it as the API shows it; ``url`` names the server."""
        in_parts = self._size > _MULTIPART_FROM_BYTES if multipart is None else multipart
        if in_parts or self._size > _SINGLE_PUT_BYTES:
            upload_id = self._send_parts(on_progress, self._state_file(url))
        else:
            upload_id = self._send_whole(on_progress)
        done = self._call("POST", f"/v1/uploads/{upload_id}/complete", timeout=300.0)
        if state_file := self._state_file(url):
            state_file.unlink(missing_ok=True)
        return done

    def _announce(self, sha256: str, *, multipart: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "filename": self._path.name,
            "content_type": self._content_type,
            "size_bytes": self._size,
            "sha256": sha256,
        }
        if multipart:
            body["multipart"] = True
        return self._call("POST", "/v1/uploads", json=body)

    def _send_whole(self, on_progress: OnProgress) -> str:
        upload = self._announce(sha256_of(self._path), multipart=False)
        headers = upload.get("headers") or {}
        self._put(upload["url"], lambda: self._read(0, self._size, on_progress, 0), self._size, headers)
        return str(upload["id"])

    def _send_parts(self, on_progress: OnProgress, state_file: Path | None) -> str:
        """Send every part that has not arrived; the state file says which upload it was."""
        upload = self._resumed(state_file)
        if upload is None:
            upload = self._announce(sha256_of(self._path), multipart=True)
            if state_file:
                state_file.parent.mkdir(parents=True, exist_ok=True)
                kept = {"id": upload["id"], "part_size_bytes": upload["part_size_bytes"]}
                state_file.write_text(json.dumps(kept))
        part_bytes = int(upload["part_size_bytes"])
        arrived = {int(part["part_number"]) for part in upload.get("parts") or []}
        count = max(1, -(-self._size // part_bytes))
        missing = [number for number in range(1, count + 1) if number not in arrived]
        done = sum(self._part_size(number, part_bytes) for number in arrived)
        on_progress(done, self._size)
        path = f"/v1/uploads/{upload['id']}/parts"
        for first in range(0, len(missing), _SIGNED_AT_ONCE):
            numbers = missing[first : first + _SIGNED_AT_ONCE]
            for part in self._call("POST", path, json={"part_numbers": numbers})["parts"]:
                done += self._send_part(int(part["part_number"]), part["url"], part_bytes, on_progress, done)
        return str(upload["id"])

    def _send_part(self, number: int, url: str, part_bytes: int, on_progress: OnProgress, done: int) -> int:
        start, size = (number - 1) * part_bytes, self._part_size(number, part_bytes)
        self._put(url, lambda: self._read(start, size, on_progress, done), size, {})
        return size

    def _part_size(self, number: int, part_bytes: int) -> int:
        return min(part_bytes, self._size - (number - 1) * part_bytes)

    def _resumed(self, state_file: Path | None) -> dict[str, Any] | None:
        """Find the upload that this file began earlier, if it can still go on, with the parts that have arrived."""
        if state_file is None or not state_file.exists():
            return None
        try:
            kept = json.loads(state_file.read_text())
            upload = self._call("GET", f"/v1/uploads/{kept['id']}")
        except (ValueError, KeyError):
            return None
        except ClientError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return None
        return kept | upload if upload.get("state") == "created" else None

    def _state_file(self, url: str) -> Path | None:
        if self._state_dir is None:
            return None
        facts = self._path.stat()
        told = f"{url}\n{self._path.resolve()}\n{facts.st_size}\n{facts.st_mtime_ns}"
        return self._state_dir / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.json"

    def _read(self, start: int, size: int, on_progress: OnProgress, done: int) -> Iterator[bytes]:
        """Give a range of the file in chunks; a second try counts from ``done`` again."""
        sent = 0
        with self._path.open("rb") as file:
            file.seek(start)
            while sent < size and (chunk := file.read(min(_CHUNK_BYTES, size - sent))):
                yield chunk
                sent += len(chunk)
                on_progress(done + sent, self._size)


def download(http: httpx.Client, url: str, path: Path, artifact: Artifact, on_bytes: Callable[[int], None]) -> Path:
    """Stream an artifact into a file that appears only when it is whole and its SHA-256 is right.

    Raises:
        Damaged: size or SHA-256 differ from the manifest's.
        httpx.HTTPError: the bucket refused or the connection broke.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    count = 0
    try:
        with http.stream("GET", url) as response, partial.open("wb") as file:
            response.raise_for_status()
            for chunk in response.iter_bytes(_CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                count += len(chunk)
                on_bytes(count)
        if count != artifact.bytes or digest.hexdigest() != artifact.sha256:
            raise Damaged(f"{artifact.name} arrived damaged ({count} of {artifact.bytes} bytes)")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
