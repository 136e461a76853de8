"""Events of a running job: one writer, in order, that never blocks the work.

State events are queued until they are stored; one that is too large for the bus is left out. Of progress only the
newest is sent, at most ``PROGRESS_HZ`` times a second, and it is repeated every ``WORKER_HEARTBEAT_S`` while the job
reports nothing: that is the run's heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import Final

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, Message, encode
from contracts.events.job import JobProgressed
from contracts.limits import PROGRESS_HZ, WORKER_HEARTBEAT_S
from modal_workers.runtime.bus.job_bus import BusRefused, JobBus
from modal_workers.runtime.jobs.progress import ProgressSnapshot
from modal_workers.runtime.stop import StopFlag

log = logging.getLogger(__name__)

#: Capacity of the queue of state events; the job blocks when it is full, so that memory stays bounded.
_QUEUE_LIMIT: Final = 1000
_STATE_DEADLINE_S: Final = 2.0
_PROGRESS_DEADLINE_S: Final = 1.0


class EventWriter:
    """Writer of a run's events on its own loop; the job's thread calls ``enqueue`` and ``set_progress``."""

    def __init__(self, bus: JobBus, assignment: Assignment, source: str) -> None:
        """Write to the run's bus; ``source`` is the events' source."""
        self._bus = bus
        self._run = assignment
        self._source = source
        self._queue: deque[Message] = deque()
        self._newest: ProgressSnapshot | None = None
        self._sent: ProgressSnapshot | None = None
        self._sent_at_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stored = asyncio.Event()

    def enqueue(self, data: EventData, event_id: str, stop: StopFlag, *, subject_id: str | None = None) -> None:
        """Queue a state event of the run's job, or of the session ``subject_id`` that it serves.

        Raises:
            Stopped: the run was asked to stop while the queue was full.
        """
        message = encode(
            data,
            tenant=self._run.tenant,
            subject_id=subject_id or self._run.job_id,
            source=self._source,
            event_id=event_id,
            traceparent=self._run.traceparent,
        )
        while len(self._queue) >= _QUEUE_LIMIT:
            stop.check()
            time.sleep(0.05)
        self._queue.append(message)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    def set_progress(self, progress: ProgressSnapshot) -> None:
        """Set the progress to send next; never blocks."""
        self._newest = progress

    async def run(self) -> None:
        """Write events until cancelled.

        Raises:
            BusRefused: the bus accepts nothing more from this run.
        """
        self._loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            try:
                await self._write_queue()
                await self._write_progress()
            except BusRefused:
                raise
            except Exception:  # the job may have used all memory: its last events must still be stored
                log.exception("events could not be written; trying again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0 / PROGRESS_HZ):
                    await self._wake.wait()

    async def flush(self, deadline_s: float) -> bool:
        """Wait until every state event is stored; return whether they are."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._queue:
                    self._stored.clear()
                    await self._stored.wait()
        return not self._queue

    async def _write_queue(self) -> None:
        while self._queue:
            try:
                await self._bus.publish(self._queue[0], deadline_s=_STATE_DEADLINE_S)
            except SaccadeError as error:
                if error.code is ErrorCode.BODY_TOO_LARGE:  # it never fits, and every later event would wait for it
                    log.error("an event is left out: %s", error)  # noqa: TRY400 - the job goes on
                    self._remove_first()
                    continue
                if isinstance(error, BusRefused):
                    raise
                log.warning("%d events are waiting for the bus: %s", len(self._queue), error)
                return
            self._remove_first()

    def _remove_first(self) -> None:
        self._queue.popleft()
        self._stored.set()

    async def _write_progress(self) -> None:
        newest, now_s = self._newest, time.monotonic()
        if newest is None or not self._bus.is_connected:
            return
        interval_s = WORKER_HEARTBEAT_S if newest is self._sent else 1.0 / min(PROGRESS_HZ, self._bus.progress_hz)
        if now_s - self._sent_at_s < interval_s:
            return
        data = JobProgressed(
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            stage=newest.stage,
            fraction=newest.fraction,
            stage_fraction=newest.stage_fraction,
            message=newest.message,
            eta_s=newest.eta_at(now_s),
            frame=newest.frame,
            frame_count=newest.frame_count,
        )
        run = self._run
        message = encode(
            data, tenant=run.tenant, subject_id=run.job_id, source=self._source, traceparent=run.traceparent
        )
        try:
            await self._bus.publish_progress(message, deadline_s=_PROGRESS_DEADLINE_S)
        except BusRefused:
            raise
        except SaccadeError as error:
            log.warning("progress was not stored: %s", error)
        else:
            self._sent = newest
        self._sent_at_s = now_s
