"""One run of one worker, wherever it runs: connect, claim the attempt, do it. What is imported here is light."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Final

from contracts.assignment import Assignment
from kit.settings import NatsSettings, S3Settings
from modal_workers.runtime.bus.event_writer import EventWriter
from modal_workers.runtime.bus.job_bus import open_bus
from modal_workers.runtime.jobs.claim import Claim
from modal_workers.runtime.jobs.run_termination import EXIT_DONE, LastWords
from modal_workers.runtime.jobs.watch import enforce, watch
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.settings import IngestSettings, WorkerSettings
from modal_workers.runtime.stop import Stop, StopReason

log = logging.getLogger(__name__)

#: How long a worker waits for the bus before it has claimed anything.
_CLAIM_S: Final = 45.0


def run(
    assignment: Assignment,
    bus_settings: NatsSettings | IngestSettings,
    s3: S3Settings,
    settings: WorkerSettings,
    stop: Stop,
) -> int:
    """Do one attempt in the calling thread and give the exit code.

    A run that does not get the claim says nothing and ends in order.

    Raises:
        Stopped: before the job was claimed.
        BusRefused: the run's credentials are not taken.
        SaccadeError: BUS_UNAVAILABLE, when the bus was not there to claim the job.
    """
    with LoopThread() as thread:
        bus = thread.wait(open_bus(bus_settings, assignment), stop)
        try:
            since_s = settings.billed_since_s
            billed_since = None if since_s is None else datetime.fromtimestamp(since_s, UTC)
            claim = Claim(bus, assignment, call_id=settings.call_id, billed_since=billed_since)
            if not thread.wait(claim.take(_CLAIM_S)):
                log.info("%s has moved on without %s", assignment.job_id, assignment.run_id)
                return EXIT_DONE
            writer = EventWriter(bus, assignment, claim.source)
            last_words = LastWords(assignment, claim, writer, bus.haste_s)
            watched = [writer.run(), watch(bus, claim, stop), enforce(stop, last_words.leave)]
            if assignment.left_usd is not None and assignment.usd_per_s > 0:
                watched.append(last_words.keep_within(assignment.left_usd))
            for background in watched:
                thread.start(background).add_done_callback(lambda ended: _check(ended, stop))
            # Only now: the bucket's client takes as long to import as all the rest, and who lost needs none.
            from modal_workers.runtime.jobs.attempt import Attempt  # noqa: PLC0415

            attempt = Attempt(assignment, thread=thread, claim=claim, writer=writer, last_words=last_words, stop=stop)
            return attempt.run(s3, settings)
        finally:
            thread.wait(bus.close())


def _check(background: Future[None], stop: Stop) -> None:
    """End a run that has lost one of its organs: nobody would notice that it is deaf or dumb."""
    if not background.cancelled() and (error := background.exception()):
        log.error("the runtime broke", exc_info=error)
        stop.ask(StopReason.SIGNAL)
