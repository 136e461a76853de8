"""``Context`` of a running job, on the bus, the bucket and local disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contracts.assignment import Assignment
from contracts.events.job import JobArtifactReady, JobStageCompleted
from contracts.manifest import Artifact
from modal_workers.runtime.files.artifacts import ArtifactStore
from modal_workers.runtime.files.workspace import Workspace
from modal_workers.runtime.jobs.event_writer import EventWriter
from modal_workers.runtime.jobs.progress import ProgressMeter
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.stop import StopFlag


@dataclass(frozen=True)
class RunParts:
    """Parts of one run that its context works with."""

    thread: LoopThread
    writer: EventWriter
    meter: ProgressMeter
    workspace: Workspace
    artifacts: ArtifactStore
    stop: StopFlag


class JobContext:
    """``Context`` for the job's own thread; all I/O runs on the loop thread."""

    def __init__(self, assignment: Assignment, parts: RunParts) -> None:
        """Serve one run."""
        self._run = assignment
        self._thread = parts.thread
        self._writer = parts.writer
        self._meter = parts.meter
        self._workspace = parts.workspace
        self._artifacts = parts.artifacts
        self._stop = parts.stop
        self._event_count = 0

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self._run.job_id

    @property
    def scratch(self) -> Path:
        """Empty folder of this run on local disk; deleted afterwards."""
        return self._workspace.scratch

    @property
    def device(self) -> str:
        """Device that the job runs on: ``cpu`` or the name of a GPU."""
        return self._run.device

    @property
    def shard(self) -> tuple[int, int]:
        """Index of this shard of a pipeline's stage, from 0, and the number of shards; (0, 1) for a plain job."""
        part = self._run.part_of
        return (part.shard, part.shards) if part else (0, 1)

    def input(self, name: str, index: int = 0) -> Path:
        """Return an input as a local file; its name has no extension, as the upload's may be misleading.

        Raises:
            ValueError: the job has no such input.
        """
        return self._workspace.input(name, index)[1]

    def input_count(self, name: str) -> int:
        """Return the number of uploads of an input; 0 if it was omitted."""
        return len(self._run.inputs.get(name, ()))

    def input_name(self, name: str, index: int = 0) -> str:
        """Return the file name that the user uploaded.

        Raises:
            ValueError: the job has no such input.
        """
        return self._workspace.input(name, index)[0].filename

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Enter a stage of the spec; leaving it without an error publishes ``job.stage_completed``.

        Raises:
            ValueError: the spec has no such stage.
            Stopped: the run was asked to stop.
        """
        self._stop.check()
        started_s = time.monotonic()
        self._writer.set_progress(self._meter.enter(name, started_s))
        yield
        now_s = time.monotonic()
        self._writer.set_progress(self._meter.leave(now_s))
        run = self._run
        completed = JobStageCompleted(
            attempt=run.attempt, run_id=run.run_id, stage=name, duration_s=round(now_s - started_s, 3)
        )
        self._writer.enqueue(completed, self._event_id("stage"), self._stop)

    def progress(
        self, fraction: float, message: str = "", *, frame: int | None = None, frame_count: int | None = None
    ) -> None:
        """Report the progress of the current stage (0..1). Never blocks; may be called for every frame.

        ``frame`` is the number of processed frames of a video, ``frame_count`` that of all frames.

        Raises:
            Stopped: the run was asked to stop.
        """
        self._stop.check()
        now_s = time.monotonic()
        self._writer.set_progress(self._meter.set(fraction, message, now_s, frame=frame, frame_count=frame_count))

    def check(self) -> None:
        """Raise ``Stopped`` if the run was asked to stop; call it in every long loop."""
        self._stop.check()

    def save(
        self, path: Path, name: str, media_type: str, *, title: str = "", units: Mapping[str, str] | None = None
    ) -> Artifact:
        """Upload a file as an artifact of the job, streamed, with its SHA-256; publishes ``job.artifact_ready``.

        Raises:
            ValueError: the name is not allowed.
            Stopped: the run was asked to stop, or has lost its claim.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE, after ten minutes of retries.
        """
        draft = self._artifacts.draft(name, media_type, title, units)
        artifact = self._thread.wait(self._artifacts.save(path, draft), self._stop)
        ready = JobArtifactReady(attempt=self._run.attempt, run_id=self._run.run_id, artifact=artifact)
        self._writer.enqueue(ready, self._event_id("artifact"), self._stop)
        return artifact

    def artifact(self, name: str) -> Path | None:
        """Download an artifact saved before, in a pipeline by any of its stages; None if there is none.

        Raises:
            Stopped: the run was asked to stop.
        """
        return self._thread.wait(self._artifacts.saved_before(name, self._workspace.checkpoints), self._stop)

    def checkpoint(self, name: str) -> Path | None:
        """Download a checkpoint of this job, of this run or an earlier one; None if there is none.

        Raises:
            ValueError: the name is not allowed.
            Stopped: the run was asked to stop.
        """
        return self._thread.wait(self._artifacts.checkpoint(name, self._workspace.checkpoints), self._stop)

    def keep(self, path: Path, name: str) -> None:
        """Upload a file as a checkpoint, for the next run of this job and the next stages of its pipeline.

        Raises:
            ValueError: the name is not allowed.
            Stopped: the run was asked to stop, or has lost its claim.
        """
        self._thread.wait(self._artifacts.keep(path, name), self._stop)

    def _event_id(self, kind: str) -> str:
        self._event_count += 1
        return f"{self._run.run_id}.{kind}.{self._event_count}"
