"""A claimed attempt from its inputs to its end: fetch, run the job, write the manifest, say how it went."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobSucceeded
from contracts.limits import EVENT_BYTES, KIB
from contracts.manifest import Manifest
from contracts.session import SessionLaunch
from contracts.workload import Params, Result, Workload
from kit.bucket import Bucket, open_bucket
from kit.settings import S3Settings
from modal_workers import catalog
from modal_workers.runtime.bus.event_writer import EventWriter
from modal_workers.runtime.child_processes import kill_descendants, lift_memory_limit
from modal_workers.runtime.context import Context
from modal_workers.runtime.files.artifacts import ArtifactStore
from modal_workers.runtime.files.file_cache import FileCache
from modal_workers.runtime.files.workspace import Workspace
from modal_workers.runtime.jobs.claim import Claim
from modal_workers.runtime.jobs.failure import classify
from modal_workers.runtime.jobs.job_context import JobContext
from modal_workers.runtime.jobs.progress import ProgressMeter
from modal_workers.runtime.jobs.run_termination import EXIT_DONE, EXIT_UNSAID, PATIENCE_S, LastWords
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.settings import WorkerSettings
from modal_workers.runtime.stop import Stop, StopReason

log = logging.getLogger(__name__)

_RESULT_BYTES: Final = EVENT_BYTES - 64 * KIB


class Attempt:
    """One attempt of one job, in the thread that calls ``run``."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        thread: LoopThread,
        claim: Claim,
        writer: EventWriter,
        last_words: LastWords,
        stop: Stop,
    ) -> None:
        """Take over after the claim."""
        self._run = assignment
        self._thread = thread
        self._claim = claim
        self._writer = writer
        self._last_words = last_words
        self._stop = stop
        self._open = AsyncExitStack()

    def run(self, s3: S3Settings, settings: WorkerSettings) -> int:
        """Do the work, say how it went and give the exit code."""
        workspace: Workspace | None = None
        try:
            workload = catalog.workload(self._run.workload)
            workspace = Workspace(settings.run_folder, self._run.inputs)
            bucket = self._thread.wait(self._open.enter_async_context(open_bucket(s3)), self._stop)
            cache = FileCache(settings.cache_folder, self._run.output_job_id) if settings.cache_folder else None
            artifacts = ArtifactStore(bucket, self._claim, self._run, self._stop, cache)
            self._thread.start(artifacts.remove_stale(settings.cache_hours))  # beside the work; it fails nobody
            manifest = None
            if self._run.attempt > 1:
                manifest = self._thread.wait(artifacts.finished_before(workload), self._stop)
            if manifest is None:
                meter = ProgressMeter(workload.stages, time.monotonic())
                self._fetch(workspace, bucket, meter)
                result = self._session if workload.kind == "session" else self._job
                manifest = self._manifest(workload, result(workload, meter, workspace, artifacts), artifacts)
                self._thread.wait(artifacts.write_manifest(manifest), self._stop)
            return self._succeed(manifest, artifacts.manifest_key)
        except Exception as error:  # noqa: BLE001 - whatever a job raises is classified and said
            return self._fail(error)
        except SystemExit as error:
            return self._fail(RuntimeError(f"the job called sys.exit({error.code})"))
        except BaseException as error:  # noqa: BLE001 - Stopped, a Ctrl-C, Modal's InputCancellation
            self._stop.ask(StopReason.SIGNAL)
            log.info("stopped: %s", error or type(error).__name__)
            return self._thread.wait(self._last_words.say_stopped())
        finally:
            kill_descendants()
            if workspace is not None:
                workspace.clear()
            self._thread.wait(self._open.aclose())

    def _fetch(self, workspace: Workspace, bucket: Bucket, meter: ProgressMeter) -> None:
        """Bring the inputs here and tell how far that is."""

        def told(fraction: float) -> None:
            self._writer.show(meter.set(0.0, f"Fetching inputs: {fraction:.0%}", time.monotonic()))

        told(0.0)
        self._thread.wait(workspace.fetch(bucket, told), self._stop)

    def _job(self, workload: Workload, meter: ProgressMeter, workspace: Workspace, artifacts: ArtifactStore) -> Result:
        context = JobContext(
            self._run,
            thread=self._thread,
            writer=self._writer,
            meter=meter,
            workspace=workspace,
            artifacts=artifacts,
            stop=self._stop,
        )
        return self._result(workload, self._run.params, context)

    def _session(
        self, workload: Workload, meter: ProgressMeter, workspace: Workspace, artifacts: ArtifactStore
    ) -> Result:
        """Run a live session until it ends.

        Raises:
            SaccadeError: WORKER_BROKEN, where its worker cannot reach NATS.
        """
        # Only a session's worker pays for importing what sessions need.
        from modal_workers.runtime.sessions.running_session import RunningSession  # noqa: PLC0415
        from modal_workers.runtime.sessions.session_bus import SessionBus  # noqa: PLC0415

        launch = SessionLaunch.model_validate(self._run.params)
        context = RunningSession(
            self._run,
            launch,
            bus=SessionBus(self._claim.bus, self._run, self._claim.source),
            last_words=self._last_words,
            thread=self._thread,
            writer=self._writer,
            meter=meter,
            workspace=workspace,
            artifacts=artifacts,
            stop=self._stop,
        )
        context.begin()
        return self._result(workload, launch.params, context)

    def _result(self, workload: Workload, given: dict[str, Any], context: Context) -> Result:
        """Run the job.

        Raises:
            SaccadeError: INVALID_PARAMETER, when the spec has changed since the job was submitted.
        """
        try:
            params = workload.params.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"{where}: {first['msg']}.") from error
        module, _, function = workload.job.partition(":")
        job: Callable[[Params, Context], Result] = getattr(importlib.import_module(module), function)
        result = job(params, context)
        if not isinstance(result, workload.result):
            raise TypeError(f"the job gave {type(result).__name__} instead of its {workload.result.__name__}")
        return result

    def _manifest(self, workload: Workload, result: Result, artifacts: ArtifactStore) -> Manifest:
        """List what the job leaves behind, once every event about it is stored."""
        if not self._thread.wait(self._writer.flush(PATIENCE_S), self._stop):
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE)
        manifest = Manifest(
            job_id=self._run.job_id,
            tenant=self._run.tenant,
            workload=workload.name,
            workload_version=workload.version,
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            created_at=datetime.now(UTC),
            duration_s=self._last_words.duration_s(),
            device=self._run.device,
            result=result.model_dump(mode="json"),
            artifacts=list(artifacts.saved.values()),
        )
        if len(result.model_dump_json()) > _RESULT_BYTES:
            raise ValueError("the result is larger than an event may be: leave it as an artifact")
        return manifest

    def _succeed(self, manifest: Manifest, manifest_key: str) -> int:
        succeeded = JobSucceeded(
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            result=manifest.result,
            manifest_key=manifest_key,
            duration_s=manifest.duration_s,
            cost=self._last_words.cost(),
        )
        if self._thread.wait(self._claim.succeed(succeeded, PATIENCE_S), self._stop):
            return EXIT_DONE
        return self._thread.wait(self._last_words.say_stopped())

    def _fail(self, error: Exception) -> int:
        lift_memory_limit()
        if self._stop.asked:  # its children were told to end as well, and what fails now fails for that
            log.info("stopped, and the job raised %s", type(error).__name__)
            return self._thread.wait(self._last_words.say_stopped())
        failure, body = classify(error)
        log.error("the attempt failed: %s", failure, exc_info=error)
        kill_descendants()
        try:
            return self._thread.wait(self._last_words.say_failed(failure, body), self._stop)
        except BaseException as stopped:  # noqa: BLE001 - asked to stop while the bus is away
            log.warning("the failure could not be said in time: %s", stopped or type(stopped).__name__)
            return EXIT_UNSAID
