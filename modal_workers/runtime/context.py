"""Interface of a running job: inputs, scratch folder, progress, artifacts, checkpoints, cancellation.

A job is ``run(params, context) -> Result`` and depends on nothing else of Saccade: no bus, no bucket, no Modal.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from contracts.manifest import Artifact


class Stopped(BaseException):
    """Stop of a run: not an ``Exception``, so that no worker's ``except Exception`` swallows it."""


class StageContext(Protocol):
    """Scratch folder, progress, checkpoints: the part of ``Context`` that the code inside a stage needs."""

    @property
    def scratch(self) -> Path:
        """Empty folder of this run on local disk; deleted afterwards."""

    def progress(
        self, fraction: float, message: str = "", *, frame: int | None = None, frame_count: int | None = None
    ) -> None:
        """Report the progress of the current stage (0..1). Never blocks; may be called for every frame.

        ``frame`` is the number of processed frames of a video, ``frame_count`` that of all frames.

        Raises:
            Stopped: the run was asked to stop.
        """

    def checkpoint(self, name: str) -> Path | None:
        """Download a checkpoint of this job, of this run or an earlier one; None if there is none."""

    def keep(self, path: Path, name: str) -> None:
        """Upload a file as a checkpoint, for the next run of this job and the next stages of its pipeline."""


class Context(StageContext, Protocol):
    """Everything a job may use while it runs."""

    @property
    def job_id(self) -> str:
        """Id of the job."""

    @property
    def device(self) -> str:
        """Device that the job runs on: ``cpu`` or the name of a GPU."""

    @property
    def shard(self) -> tuple[int, int]:
        """Index of this shard of a pipeline's stage, from 0, and the number of shards; (0, 1) for a plain job."""

    def input(self, name: str, index: int = 0) -> Path:
        """Return an input as a local file; its name has no extension, as the upload's may be misleading."""

    def input_count(self, name: str) -> int:
        """Return the number of uploads of an input; 0 if it was omitted."""

    def input_name(self, name: str, index: int = 0) -> str:
        """Return the file name that the user uploaded."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Enter a stage of the spec; leaving it without an error publishes ``job.stage_completed``."""

    def check(self) -> None:
        """Raise ``Stopped`` if the run was asked to stop; call it in every long loop."""

    def save(
        self, path: Path, name: str, media_type: str, *, title: str = "", units: Mapping[str, str] | None = None
    ) -> Artifact:
        """Upload a file as an artifact of the job, streamed, with its SHA-256; publishes ``job.artifact_ready``."""

    def artifact(self, name: str) -> Path | None:
        """Download an artifact saved before, in a pipeline by any of its stages; None if there is none."""
