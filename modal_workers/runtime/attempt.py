"""Execution of a claimed attempt: fetch inputs, run the job, write the manifest, publish the outcome."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Sequence
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
from kit.settings import S3Settings, model_paths
from modal_workers import catalog
from modal_workers.runtime.bus.claim import Claim
from modal_workers.runtime.child_processes import kill_descendants, lift_memory_limit
from modal_workers.runtime.context import Context
from modal_workers.runtime.files.artifacts import ArtifactStore
from modal_workers.runtime.files.file_cache import FileCache
from modal_workers.runtime.files.workspace import Workspace
from modal_workers.runtime.job_lockdown import run_locked
from modal_workers.runtime.jobs.event_writer import EventWriter
from modal_workers.runtime.jobs.failure import classify
from modal_workers.runtime.jobs.job_context import JobContext, RunParts
from modal_workers.runtime.jobs.progress import ProgressMeter
from modal_workers.runtime.jobs.run_termination import EXIT_DONE, EXIT_UNREPORTED, REPORT_TIMEOUT_S, RunTermination
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.settings import WorkerSettings, use_temporary_folder
from modal_workers.runtime.stop import StopCause, StopFlag

log = logging.getLogger(__name__)

#: Package of the workers whose jobs are locked down.
_OURS: Final = "modal_workers."
_MAX_RESULT_BYTES: Final = EVENT_BYTES - 16 * KIB


class AttemptRunner:
    """Runner of one attempt, in the thread that calls ``run``."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        thread: LoopThread,
        claim: Claim,
        writer: EventWriter,
        termination: RunTermination,
        stop: StopFlag,
    ) -> None:
        """Prepare a claimed attempt."""
        self._run = assignment
        self._thread = thread
        self._claim = claim
        self._writer = writer
        self._termination = termination
        self._stop = stop
        self._open = AsyncExitStack()
        self._is_locked = True
        self._requires: Sequence[str] = ()

    def run(self, s3: S3Settings, settings: WorkerSettings) -> int:
        """Run the job, publish the outcome and return the exit code."""
        workspace: Workspace | None = None
        self._is_locked = settings.lockdown
        try:
            workload = catalog.workload(self._run.workload)
            self._requires = workload.requires
            workspace = Workspace(settings.run_folder, self._run.inputs)
            bucket = self._thread.wait(self._open.enter_async_context(open_bucket(s3)), self._stop)
            cache = FileCache(settings.cache_folder, self._run.output_job_id) if settings.cache_folder else None
            artifacts = ArtifactStore(bucket, self._claim, self._run, self._stop, cache)
            self._thread.start(artifacts.remove_stale(settings.cache_hours))  # concurrent; its errors do not matter
            manifest = None
            if self._run.attempt > 1:
                manifest = self._thread.wait(artifacts.recovered_manifest(workload), self._stop)
            if manifest is None:
                meter = ProgressMeter(workload.stages, time.monotonic())
                self._fetch(workspace, bucket, meter)
                parts = RunParts(self._thread, self._writer, meter, workspace, artifacts, self._stop)
                run_work = self._run_session if workload.kind == "session" else self._run_job
                manifest = self._manifest(workload, run_work(workload, parts), artifacts)
                self._thread.wait(artifacts.write_manifest(manifest), self._stop)
            return self._succeed(manifest, artifacts.manifest_key)
        except Exception as error:  # noqa: BLE001 - every error of a job is classified and published
            return self._fail(error)
        except SystemExit as error:
            return self._fail(RuntimeError(f"the job called sys.exit({error.code})"))
        except BaseException as error:  # noqa: BLE001 - Stopped, a Ctrl-C, Modal's InputCancellation
            self._stop.request(StopCause.SIGNAL)
            log.info("stopped: %s", error or type(error).__name__)
            return self._thread.wait(self._termination.publish_stop())
        finally:
            kill_descendants()
            if workspace is not None:
                workspace.clear()
            self._thread.wait(self._open.aclose())

    def _fetch(self, workspace: Workspace, bucket: Bucket, meter: ProgressMeter) -> None:
        """Download the inputs, with progress."""

        def on_progress(fraction: float) -> None:
            self._writer.set_progress(meter.set(0.0, f"Fetching inputs: {fraction:.0%}", time.monotonic()))

        on_progress(0.0)
        self._thread.wait(workspace.fetch(bucket, on_progress), self._stop)

    def _run_job(self, workload: Workload, parts: RunParts) -> Result:
        """Run a job: ours in a thread that is locked down. Those of other packages may need what we do not know of."""

        def work() -> Result:
            return self._result(workload, self._run.params, JobContext(self._run, parts))

        if not self._is_locked or not workload.job.startswith(_OURS):
            return work()
        workspace = parts.workspace
        # Beside a GPU, drivers, compilers and their caches are anywhere.
        if files := self._run.device == "cpu":
            use_temporary_folder(workspace.temporary)
        readable = (workspace.input_folder, *model_paths())
        return run_locked(work, readable=readable, writable=workspace.writable, files=files)

    def _run_session(self, workload: Workload, parts: RunParts) -> Result:
        """Run a live session until it ends.

        Raises:
            SaccadeError: WORKER_BROKEN, if the worker cannot reach NATS.
        """
        # Imported only by a session's worker: the modules take a while to load.
        from modal_workers.runtime.sessions.running_session import RunningSession  # noqa: PLC0415
        from modal_workers.runtime.sessions.session_bus import SessionBus  # noqa: PLC0415

        launch = SessionLaunch.model_validate(self._run.params)
        bus = SessionBus(self._claim.bus, self._run, self._claim.source)
        context = RunningSession(self._run, launch, parts, bus, self._termination)
        context.start()
        return self._result(workload, launch.params, context)

    def _result(self, workload: Workload, raw_params: dict[str, Any], context: Context) -> Result:
        """Run the job.

        Raises:
            SaccadeError: INVALID_PARAMETER, if the spec has changed since the job was submitted.
        """
        try:
            params = workload.params.model_validate(raw_params)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"{field}: {first['msg']}.") from error
        module, _, function = workload.job.partition(":")
        job: Callable[[Params, Context], Result] = getattr(importlib.import_module(module), function)
        result = job(params, context)
        if not isinstance(result, workload.result):
            raise TypeError(f"the job returned {type(result).__name__} instead of {workload.result.__name__}")
        return result

    def _manifest(self, workload: Workload, result: Result, artifacts: ArtifactStore) -> Manifest:
        """Return the job's manifest, once all its events are stored."""
        if not self._thread.wait(self._writer.flush(REPORT_TIMEOUT_S), self._stop):
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE)
        manifest = Manifest(
            job_id=self._run.job_id,
            tenant=self._run.tenant,
            workload=workload.name,
            workload_version=workload.version,
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            created_at=datetime.now(UTC),
            duration_s=self._termination.duration_s(),
            device=self._run.device,
            result=result.model_dump(mode="json"),
            artifacts=list(artifacts.saved.values()),
        )
        if len(result.model_dump_json().encode()) > _MAX_RESULT_BYTES:
            raise ValueError("the result is larger than an event may be: save it as an artifact")
        return manifest

    def _succeed(self, manifest: Manifest, manifest_key: str) -> int:
        succeeded = JobSucceeded(
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            result=manifest.result,
            manifest_key=manifest_key,
            duration_s=manifest.duration_s,
            cost=self._termination.cost(),
        )
        if self._thread.wait(self._claim.succeed(succeeded, REPORT_TIMEOUT_S), self._stop):
            return EXIT_DONE
        return self._thread.wait(self._termination.publish_stop())

    def _fail(self, error: Exception) -> int:
        lift_memory_limit()
        if self._stop.requested:  # its child processes were stopped too, which is why the job failed
            log.info("stopped, and the job raised %s", type(error).__name__)
            return self._thread.wait(self._termination.publish_stop())
        failure, body = classify(error, self._requires)
        log.error("the attempt failed: %s", failure, exc_info=error)
        kill_descendants()
        try:
            return self._thread.wait(self._termination.publish_failure(failure, body), self._stop)
        except BaseException as stopped:  # noqa: BLE001 - asked to stop while the bus is away
            log.warning("the failure could not be stored in time: %s", stopped or type(stopped).__name__)
            return EXIT_UNREPORTED
