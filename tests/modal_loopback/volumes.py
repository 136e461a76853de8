"""Volumes, a folder each. A container has a copy as of its start and commits its changes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

#: When a file was written, its size, and which file it is: what changes with it.
Stamp = tuple[int, int, int]


@dataclass
class Mounted:
    """Container's copy of one volume, with the state of each file at the last commit."""

    path: str
    volume: Path
    copy: Path
    read_only: bool
    seen: dict[str, Stamp]

    def commit(self) -> None:
        """Write the copy's changes and removals into the volume: the last commit wins."""
        if self.read_only:
            return
        now = _stamps(self.copy)
        for name in now.keys() - {name for name, stamp in self.seen.items() if now.get(name) == stamp}:
            (self.volume / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.copy / name, self.volume / name)
        for name in self.seen.keys() - now.keys():
            (self.volume / name).unlink(missing_ok=True)
            for folder in list(PurePosixPath(name).parents)[:-1]:
                if not (self.copy / folder).exists():
                    with contextlib.suppress(OSError):
                        (self.volume / folder).rmdir()
        self.seen = now


class Volumes:
    """Procedures that create volumes and remove their files, and the containers' copies."""

    def __init__(self, folder: Path) -> None:
        """Create no volume yet; all are stored in one folder."""
        self._folder = folder
        self._made: dict[str, api_pb2.VolumeMetadata] = {}

    def metadata(self, volume_id: str) -> api_pb2.VolumeMetadata | None:
        """Describe a volume; None where the id is of something else."""
        return self._made.get(volume_id)

    def folder(self, name: str) -> Path:
        """Return the folder of a volume's committed files; KeyError if there is none of this name."""
        by_name = {made.name: volume for volume, made in self._made.items()}
        return self._folder / by_name[name]

    def mounted(self, definition: api_pb2.Function, below: Path) -> dict[str, Mounted]:
        """Copy a function's volumes for one container, each as it is now."""
        mounted = {}
        for mount in definition.volume_mounts:
            copy = below / mount.volume_id
            shutil.copytree(self._folder / mount.volume_id, copy)
            place = (mount.mount_path, self._folder / mount.volume_id, copy)
            mounted[mount.volume_id] = Mounted(*place, read_only=mount.read_only, seen=_stamps(copy))
        return mounted

    async def volume_get_or_create(
        self, request: api_pb2.VolumeGetOrCreateRequest
    ) -> api_pb2.VolumeGetOrCreateResponse:
        """Find a volume by name, or create it on request."""
        found = next((volume for volume, made in self._made.items() if made.name == request.deployment_name), None)
        if found is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise GRPCError(Status.NOT_FOUND, f"Volume '{request.deployment_name}' not found")
            found = f"vo-{len(self._made) + 1:06d}"
            (self._folder / found).mkdir(parents=True)
            self._made[found] = api_pb2.VolumeMetadata(version=request.version or 1, name=request.deployment_name)
        made = self._made[found]
        return api_pb2.VolumeGetOrCreateResponse(volume_id=found, version=made.version, metadata=made)

    async def volume_remove_file(self, request: api_pb2.VolumeRemoveFileRequest) -> Empty:
        """Remove a file or a folder of a volume of version 1."""
        return self._remove(request.volume_id, request.path, recursive=request.recursive)

    async def volume_remove_file2(self, request: api_pb2.VolumeRemoveFile2Request) -> Empty:
        """Remove a file or a folder of a volume of version 2."""
        return self._remove(request.volume_id, request.path, recursive=request.recursive)

    def _remove(self, volume_id: str, name: str, *, recursive: bool) -> Empty:
        relative = PurePosixPath(name.lstrip("/"))
        if ".." in relative.parts or not relative.parts:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{name} names no file of a volume")
        path = self._folder / volume_id / relative
        if volume_id not in self._made or not path.exists():
            raise GRPCError(Status.NOT_FOUND, f"no such file: {name}")
        if path.is_dir() and not recursive:
            raise GRPCError(Status.INVALID_ARGUMENT, f"{name} is a folder")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return Empty()


def replaced(variables: Mapping[str, str], mounted: Iterable[Mounted]) -> dict[str, str]:
    """Point variables that name a path on a volume to the container's copy, because a root folder needs privileges."""
    there = {one.path: one.copy for one in mounted}
    return {
        name: next(
            (f"{copy}{value[len(path) :]}" for path, copy in there.items() if f"{value}/".startswith(f"{path}/")), value
        )
        for name, value in variables.items()
    }


def _stamps(folder: Path) -> dict[str, Stamp]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            found[path.relative_to(folder).as_posix()] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found
