"""What a worker's job may ask of the world: inputs, scratch space, progress, artifacts, checkpoints, a stop.

A job is ``run(params, context) -> Result`` and knows nothing else of Saccade: no bus, no bucket, no Modal.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from contracts.manifest import Artifact


class Stopped(BaseException):
    """The job was asked to stop. Not an ``Exception``, so that no worker's ``except Exception`` swallows it."""


class Context(Protocol):
    """The world of a running job."""

    @property
    def job_id(self) -> str:
        """Id of the job."""

    @property
    def scratch(self) -> Path:
        """Empty folder of this run on local disk; gone afterwards."""

    @property
    def device(self) -> str:
        """What the job runs on: ``cpu`` or a GPU's name."""

    @property
    def shard(self) -> tuple[int, int]:
        """Which part of a pipeline's stage this is, from 0, and of how many; 0 of 1 for a job of its own."""

    def input(self, name: str, index: int = 0) -> Path:
        """Give an input as a local file; its name keeps the upload's extension."""

    def input_count(self, name: str) -> int:
        """Count the uploads that an input was given; 0 where it was left out."""

    def input_name(self, name: str, index: int = 0) -> str:
        """Give the file name that the user uploaded."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Enter a stage of the spec; leaving it without an error says ``job.stage_completed``."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the current stage is (0..1). Never blocks, may be called for every frame.

        Raises:
            Stopped: the job was asked to stop.
        """

    def check(self) -> None:
        """Raise ``Stopped`` if the job was asked to stop; call it in every long loop."""

    def save(
        self, path: Path, name: str, media_type: str, *, title: str = "", units: Mapping[str, str] | None = None
    ) -> Artifact:
        """Upload a file as an artifact of the job, streamed, with its SHA-256; says ``job.artifact_ready``."""

    def artifact(self, name: str) -> Path | None:
        """Fetch a file that was saved before, in a pipeline by any of its stages; None when there is none."""

    def checkpoint(self, name: str) -> Path | None:
        """Fetch a file that this job kept before, in this run or an earlier one; None when there is none."""

    def keep(self, path: Path, name: str) -> None:
        """Keep a file as a checkpoint, for this job's next run if this one is lost."""
