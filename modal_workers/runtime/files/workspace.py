"""Folders of a run on local disk: inputs, scratch files, downloaded checkpoints; deleted afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobInput
from contracts.limits import MIB
from kit.bucket import Bucket, ObjectMissing
from kit.tasks import map_concurrently
from modal_workers.runtime.retry import while_unavailable

#: Free disk space required in addition to the inputs.
_RESERVE_BYTES: Final = 64 * MIB
_PARALLEL_DOWNLOADS: Final = 2
_ATTEMPTS: Final = 3


class Workspace:
    """Local folders of one run."""

    def __init__(self, folder: Path, inputs: Mapping[str, Sequence[JobInput]]) -> None:
        """Create the folders, empty."""
        self.scratch = folder / "scratch"
        self.checkpoints = folder / "checkpoints"
        #: Temporary files of the job, of its libraries and of the processes that it starts.
        self.temporary = folder / "tmp"
        #: Folder of the inputs, which the job reads.
        self.input_folder = folder / "inputs"
        self._inputs = inputs
        self.clear()
        for path in (*self.writable, self.input_folder):
            path.mkdir(parents=True)

    @property
    def writable(self) -> tuple[Path, ...]:
        """Folders in which the job writes."""
        return self.scratch, self.checkpoints, self.temporary

    def input(self, name: str, index: int = 0) -> tuple[JobInput, Path]:
        """Return an input and its local path.

        Raises:
            ValueError: the job has no such input.
        """
        try:
            given = self._inputs[name][index]
        except (KeyError, IndexError):
            raise ValueError(f"the job has no input {name!r} number {index}") from None
        # Without the user's suffix: libraries choose a format by it, a playlist for example (docs/adr/0038).
        return given, self.input_folder / f"{name}-{index}"

    async def fetch(self, bucket: Bucket, on_progress: Callable[[float], None]) -> None:
        """Download every input, streamed, and check its SHA-256; ``on_progress`` gets the fraction done (0..1).

        Raises:
            SaccadeError: STORAGE_FULL, STORAGE_UNAVAILABLE, UPLOAD_BYTES_MISSING, UPLOAD_CHECKSUM_MISMATCH.
        """
        wanted = [self.input(name, index) for name, group in self._inputs.items() for index in range(len(group))]
        total_bytes = sum(given.size_bytes for given, _ in wanted)
        if shutil.disk_usage(self.scratch).free < total_bytes + _RESERVE_BYTES:
            raise SaccadeError(ErrorCode.STORAGE_FULL, "The inputs do not fit on the worker's disk.")
        fetched_bytes = 0

        def on_chunk(chunk_bytes: int) -> None:
            nonlocal fetched_bytes
            fetched_bytes += chunk_bytes
            on_progress(min(1.0, fetched_bytes / max(1, total_bytes)))

        async def fetch_input(wanted_input: tuple[JobInput, Path]) -> None:
            given, path = wanted_input
            await _fetch(bucket, given, path, on_chunk)

        await map_concurrently(fetch_input, wanted, _PARALLEL_DOWNLOADS)

    def clear(self) -> None:
        """Delete inputs, scratch files and checkpoints; keep the log and the exit code."""
        for path in (*self.writable, self.input_folder):
            shutil.rmtree(path, ignore_errors=True)


async def _fetch(bucket: Bucket, given: JobInput, path: Path, on_chunk: Callable[[int], None]) -> None:
    for _ in range(_ATTEMPTS):
        try:
            fetched = await while_unavailable(
                lambda: bucket.fetch_file(given.key, path, on_chunk), f"input {given.upload_id}"
            )
        except ObjectMissing:
            raise SaccadeError(
                ErrorCode.UPLOAD_BYTES_MISSING,
                f"The upload {given.upload_id} is no longer in the bucket.",
                hint="Upload the file again and submit a new job.",
            ) from None
        if fetched.sha256 == given.sha256:
            return
    raise SaccadeError(
        ErrorCode.UPLOAD_CHECKSUM_MISMATCH, f"The upload {given.upload_id} has changed since it was checked."
    )
