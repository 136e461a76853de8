"""One run of a worker: connect, claim the attempt, execute it. Imports only light modules."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Final

from contracts.assignment import Assignment
from kit.imports import without_garbage_collection
from kit.settings import NatsSettings, S3Settings
from modal_workers.runtime.bus.claim import Claim
from modal_workers.runtime.bus.open_bus import open_bus
from modal_workers.runtime.jobs.event_writer import EventWriter
from modal_workers.runtime.jobs.run_termination import EXIT_DONE, RunTermination
from modal_workers.runtime.jobs.watch import enforce, watch
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.settings import IngestSettings, WorkerSettings
from modal_workers.runtime.stop import StopCause, StopFlag

log = logging.getLogger(__name__)

#: Deadline of the claim.
_CLAIM_TIMEOUT_S: Final = 45.0


def run(
    assignment: Assignment,
    bus_settings: NatsSettings | IngestSettings,
    s3: S3Settings,
    settings: WorkerSettings,
    stop: StopFlag,
) -> int:
    """Run one attempt in the calling thread and return the exit code.

    A run that does not get the claim publishes nothing and returns ``EXIT_DONE``.

    Raises:
        Stopped: the run was asked to stop before it had claimed the job.
        BusRefused: the run's credentials are rejected.
        SaccadeError: BUS_UNAVAILABLE, before the job was claimed.
    """
    with LoopThread() as thread:
        bus = thread.wait(open_bus(bus_settings, assignment), stop)
        try:
            since_s = settings.billed_since_s
            billed_since = None if since_s is None else datetime.fromtimestamp(since_s, UTC)
            claim = Claim(bus, assignment, call_id=settings.call_id, billed_since=billed_since)
            if not thread.wait(claim.acquire(_CLAIM_TIMEOUT_S)):
                log.info("%s belongs to another run than %s, or has ended", assignment.job_id, assignment.run_id)
                return EXIT_DONE
            writer = EventWriter(bus, assignment, claim.source)
            termination = RunTermination(assignment, claim, writer, bus.urgent_deadline_s)
            background = [writer.run(), watch(bus, claim, stop), enforce(stop, termination.exit_process)]
            if assignment.left_usd is not None and assignment.usd_per_s > 0:
                background.append(termination.enforce_budget(assignment.left_usd))
            for task in background:
                thread.start(task).add_done_callback(lambda ended: _check(ended, stop))
            # Imported after the claim: the bucket's client takes as long to import as all the rest.
            with without_garbage_collection():
                from modal_workers.runtime.attempt import AttemptRunner  # noqa: PLC0415

            attempt = AttemptRunner(
                assignment, thread=thread, claim=claim, writer=writer, termination=termination, stop=stop
            )
            return attempt.run(s3, settings)
        finally:
            thread.wait(bus.close())


def _check(task: Future[None], stop: StopFlag) -> None:
    """Stop a run whose background task has failed: it could no longer report or be cancelled."""
    if not task.cancelled() and (error := task.exception()):
        log.error("a background task of the run failed", exc_info=error)
        stop.request(StopCause.SIGNAL)
