"""The world of a running job, for real: what ``Context`` promises, on the bus, the bucket and local disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from contracts.assignment import Assignment
from contracts.events.job import JobArtifactReady, JobStageCompleted
from contracts.manifest import Artifact
from modal_workers.runtime.bus.event_writer import EventWriter
from modal_workers.runtime.files.artifacts import ArtifactStore
from modal_workers.runtime.files.workspace import Workspace
from modal_workers.runtime.jobs.progress import ProgressMeter
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.stop import Stop


class JobContext:
    """A ``Context`` for the job's own thread; everything that waits is done on the loop thread."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        thread: LoopThread,
        writer: EventWriter,
        meter: ProgressMeter,
        workspace: Workspace,
        artifacts: ArtifactStore,
        stop: Stop,
    ) -> None:
        """Put the parts together."""
        self._run = assignment
        self._thread = thread
        self._writer = writer
        self._meter = meter
        self._workspace = workspace
        self._artifacts = artifacts
        self._stop = stop
        self._said = 0

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self._run.job_id

    @property
    def scratch(self) -> Path:
        """Empty folder of this run on local disk; gone afterwards."""
        return self._workspace.scratch

    @property
    def device(self) -> str:
        """What the job runs on: ``cpu`` or a GPU's name."""
        return self._run.device

    @property
    def shard(self) -> tuple[int, int]:
        """Which part of a pipeline's stage this is, from 0, and of how many; 0 of 1 for a job of its own."""
        part = self._run.part_of
        return (part.shard, part.shards) if part else (0, 1)

    def input(self, name: str, index: int = 0) -> Path:
        """Give an input as a local file; its name keeps the upload's extension.

        Raises:
            ValueError: the job has no such input.
        """
        return self._workspace.input(name, index)[1]

    def input_count(self, name: str) -> int:
        """Count the uploads that an input was given; 0 where it was left out."""
        return len(self._run.inputs.get(name, ()))

    def input_name(self, name: str, index: int = 0) -> str:
        """Give the file name that the user uploaded.

        Raises:
            ValueError: the job has no such input.
        """
        return self._workspace.input(name, index)[0].filename

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Enter a stage of the spec; leaving it without an error says ``job.stage_completed``.

        Raises:
            ValueError: the spec has no such stage.
            Stopped: the job was asked to stop.
        """
        self._stop.check()
        began_s = time.monotonic()
        self._writer.show(self._meter.enter(name, began_s))
        yield
        now_s = time.monotonic()
        self._writer.show(self._meter.set(1.0, self._meter.newest.message, now_s))
        run = self._run
        completed = JobStageCompleted(
            attempt=run.attempt, run_id=run.run_id, stage=name, duration_s=round(now_s - began_s, 3)
        )
        self._writer.say(completed, self._event_id("stage"), self._stop)

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the current stage is (0..1). Never blocks, may be called for every frame.

        Raises:
            Stopped: the job was asked to stop.
        """
        self._stop.check()
        self._writer.show(self._meter.set(fraction, message, time.monotonic()))

    def check(self) -> None:
        """Raise ``Stopped`` if the job was asked to stop; call it in every long loop."""
        self._stop.check()

    def save(
        self, path: Path, name: str, media_type: str, *, title: str = "", units: Mapping[str, str] | None = None
    ) -> Artifact:
        """Upload a file as an artifact of the job, streamed, with its SHA-256; says ``job.artifact_ready``.

        Raises:
            ValueError: the name is not allowed.
            Stopped: the job was asked to stop, or this run no longer counts.
            SaccadeError: STORAGE_UNAVAILABLE, BUS_UNAVAILABLE, when they stay away for ten minutes.
        """
        announced = self._artifacts.announce(name, media_type, title, units)
        artifact = self._thread.wait(self._artifacts.save(path, announced), self._stop)
        ready = JobArtifactReady(attempt=self._run.attempt, run_id=self._run.run_id, artifact=artifact)
        self._writer.say(ready, self._event_id("artifact"), self._stop)
        return artifact

    def artifact(self, name: str) -> Path | None:
        """Fetch a file that was saved before, in a pipeline by any of its stages; None when there is none.

        Raises:
            Stopped: the job was asked to stop.
        """
        return self._thread.wait(self._artifacts.saved_before(name, self._workspace.checkpoints), self._stop)

    def checkpoint(self, name: str) -> Path | None:
        """Fetch a file that this job kept before, in this run or an earlier one; None when there is none.

        Raises:
            ValueError: the name is not allowed.
            Stopped: the job was asked to stop.
        """
        return self._thread.wait(self._artifacts.checkpoint(name, self._workspace.checkpoints), self._stop)

    def keep(self, path: Path, name: str) -> None:
        """Keep a file as a checkpoint, for this job's next run if this one is lost.

        Raises:
            ValueError: the name is not allowed.
            Stopped: the job was asked to stop, or this run no longer counts.
        """
        self._thread.wait(self._artifacts.keep(path, name), self._stop)

    def _event_id(self, kind: str) -> str:
        self._said += 1
        return f"{self._run.run_id}.{kind}.{self._said}"
