"""The run's folder on local disk: inputs as they were uploaded, scratch space, fetched checkpoints; gone afterwards."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobInput
from contracts.limits import MIB
from kit.bucket import Bucket, ObjectMissing
from modal_workers.runtime.retry import patiently

#: Left free on the disk beside the inputs.
_ROOM_BYTES: Final = 64 * MIB
_AT_ONCE: Final = 2
_TRIES: Final = 3


class Workspace:
    """Folders of one run."""

    def __init__(self, folder: Path, inputs: Mapping[str, Sequence[JobInput]]) -> None:
        """Make the folders empty."""
        self.scratch = folder / "scratch"
        self.checkpoints = folder / "checkpoints"
        self._inputs = inputs
        self._input_folder = folder / "inputs"
        self.clear()
        for path in (self.scratch, self.checkpoints, self._input_folder):
            path.mkdir(parents=True)

    def input(self, name: str, index: int = 0) -> tuple[JobInput, Path]:
        """Give an input and where it lies.

        Raises:
            ValueError: the job has no such input.
        """
        try:
            given = self._inputs[name][index]
        except (KeyError, IndexError):
            raise ValueError(f"the job has no input {name!r} number {index}") from None
        suffix = Path(given.filename).suffix.lower()
        safe = suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= 10 else ""
        return given, self._input_folder / f"{name}-{index}{safe}"

    async def fetch(self, bucket: Bucket, told: Callable[[float], None]) -> None:
        """Download every input, streamed, and check its SHA-256; ``told`` hears how far that is (0..1).

        Raises:
            SaccadeError: STORAGE_FULL, STORAGE_UNAVAILABLE, UPLOAD_BYTES_MISSING, UPLOAD_CHECKSUM_MISMATCH.
        """
        wanted = [self.input(name, index) for name, group in self._inputs.items() for index in range(len(group))]
        total_bytes = sum(given.size_bytes for given, _ in wanted)
        if shutil.disk_usage(self.scratch).free < total_bytes + _ROOM_BYTES:
            raise SaccadeError(ErrorCode.STORAGE_FULL, "The worker's disk has no room for the inputs.")
        gate = asyncio.Semaphore(_AT_ONCE)

        fetched_bytes = 0

        def on_chunk(chunk_bytes: int) -> None:
            nonlocal fetched_bytes
            fetched_bytes += chunk_bytes
            told(min(1.0, fetched_bytes / max(1, total_bytes)))

        async def one(given: JobInput, path: Path) -> None:
            async with gate:
                await _fetch(bucket, given, path, on_chunk)

        try:
            async with asyncio.TaskGroup() as tasks:
                for given, path in wanted:
                    tasks.create_task(one(given, path))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several

    def clear(self) -> None:
        """Remove everything that takes room; the log and what tells how the run ended stay."""
        for path in (self.scratch, self.checkpoints, self._input_folder):
            shutil.rmtree(path, ignore_errors=True)


async def _fetch(bucket: Bucket, given: JobInput, path: Path, on_chunk: Callable[[int], None]) -> None:
    for _ in range(_TRIES):
        try:
            fetched = await patiently(lambda: bucket.fetch_file(given.key, path, on_chunk), f"input {given.upload_id}")
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
