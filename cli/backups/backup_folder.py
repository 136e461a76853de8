"""Folder of a backup: its manifest, and the files that the manifest names with their hashes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from cli.failure import Failure
from contracts.limits import MIB

MANIFEST: Final = "backup.json"
_VERSION: Final = 1
#: Files of streams, of the list of objects, and of an embedded system's credentials.
STREAM_FILES: Final = "streams"
OBJECT_LIST: Final = "objects.ndjson"
OBJECT_FILES: Final = "bucket"
SYSTEM_FILES: Final = "system"


class BackupFile(BaseModel):
    """A file of the backup."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    path: str
    bytes: int
    sha256: str


class StreamBackup(BaseModel):
    """Backup of one stream: nats-server's own format, with the configuration that it is restored with."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    file: BackupFile
    config: dict[str, Any]
    state: dict[str, Any]


class ObjectEntry(BaseModel):
    """One object of the bucket; its key is without the prefix of the settings."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    bytes: int
    etag: str
    #: None: the object was not read, only listed.
    sha256: str | None = None


class BackupManifest(BaseModel):
    """Contents of a backup; written last."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = _VERSION
    id: str
    saccade: str
    made_at: AwareDatetime
    #: In the order in which they were read.
    streams: tuple[StreamBackup, ...]
    #: ``copied``: the objects are in the folder; ``listed``: their keys and sizes are, and somebody else keeps them.
    objects: Literal["copied", "listed"]
    object_count: int
    object_bytes: int
    object_list: BackupFile
    #: Credentials of an embedded system, without which webhooks' secrets cannot be read.
    system: tuple[BackupFile, ...] = ()

    @property
    def last_sequence(self) -> int:
        """Sequence of the last event."""
        return int(self.stream("EVENTS").state["last_seq"])

    def stream(self, name: str) -> StreamBackup:
        """Return the backup of a stream."""
        return next(stream for stream in self.streams if stream.name == name)


class BackupFolder:
    """A folder of a backup."""

    def __init__(self, path: Path) -> None:
        """Use a folder."""
        self.path = path

    def save(self, manifest: BackupManifest) -> None:
        """Write the manifest, after everything else is on disk."""
        os.sync()
        (self.path / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")

    def manifest(self) -> BackupManifest:
        """Return the manifest.

        Raises:
            Failure: the folder is no backup, or one that this version cannot read.
        """
        file = self.path / MANIFEST
        if not file.is_file():
            raise Failure(
                f"{self.path} is not a backup: it has no {MANIFEST}.",
                code="backup_unknown",
                hint="Name the folder that `saccade backup` wrote; without this file it was interrupted.",
            )
        try:
            manifest = BackupManifest.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise _damaged(f"{file} cannot be read") from error
        if manifest.version > _VERSION:
            raise Failure(f"{self.path} was written by a newer Saccade.", code="backup_newer", hint="Upgrade saccade.")
        return manifest

    def describe(self, path: Path) -> BackupFile:
        """Return the entry of a file that was written."""
        digest, size = hashlib.sha256(), 0
        for chunk in chunks_of(path):
            digest.update(chunk)
            size += len(chunk)
        return BackupFile(path=path.relative_to(self.path).as_posix(), bytes=size, sha256=digest.hexdigest())

    def verify(self) -> BackupManifest:
        """Check that every file is as it was written, and return the manifest.

        Raises:
            Failure: the first that is not.
        """
        manifest = self.manifest()
        for file in (*(stream.file for stream in manifest.streams), manifest.object_list, *manifest.system):
            self._check(file.path, file.bytes, file.sha256)
        entries = list(self.objects(manifest))
        if (len(entries), sum(entry.bytes for entry in entries)) != (manifest.object_count, manifest.object_bytes):
            raise _damaged("the list of objects does not have what the manifest says")
        if manifest.objects == "copied":
            for entry in entries:
                self._check(f"{OBJECT_FILES}/{entry.key}", entry.bytes, str(entry.sha256))
        return manifest

    def objects(self, manifest: BackupManifest) -> Iterator[ObjectEntry]:
        """Yield the objects of the bucket."""
        with self.file(manifest.object_list.path).open() as lines:
            for line in lines:
                yield ObjectEntry.model_validate_json(line)

    def file(self, path: str) -> Path:
        """Return a file of the folder by its path in the manifest.

        Raises:
            Failure: the path leads out of the folder.
        """
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or any(part in ("..", ".", "") for part in path.split("/")):
            raise _damaged(f"it names a file outside of its folder: {path!r}")
        return self.path.joinpath(*parts)

    def _check(self, path: str, size: int, sha256: str) -> None:
        file = self.file(path)
        if not file.is_file():
            raise _damaged(f"{path} is missing")
        if file.stat().st_size != size:
            raise _damaged(f"{path} has {file.stat().st_size} bytes, not {size}")
        if self.describe(file).sha256 != sha256:
            raise _damaged(f"{path} was changed: it does not have the hash of the manifest")


def chunks_of(file: Path) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    with file.open("rb") as source:
        while chunk := source.read(MIB):
            yield chunk


def _damaged(what: str) -> Failure:
    return Failure(
        f"The backup is damaged: {what}.", code="backup_damaged", hint="Nothing was restored. Use another copy of it."
    )
