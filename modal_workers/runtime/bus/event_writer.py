"""Everything a run says while it works: one writer, in order, that never holds up the work.

State events are kept until they are stored. Progress is only ever the newest, at most ``PROGRESS_HZ`` times a second,
and is said again every ``WORKER_HEARTBEAT_S`` while the job computes in silence: that is the run's sign of life.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import Final

from contracts.assignment import Assignment
from contracts.errors import SaccadeError
from contracts.events.base import EventData, Message, encode
from contracts.events.job import JobProgressed
from contracts.limits import PROGRESS_HZ, WORKER_HEARTBEAT_S
from modal_workers.runtime.bus.job_bus import BusRefused, JobBus
from modal_workers.runtime.jobs.progress import Progress
from modal_workers.runtime.stop import Stop

log = logging.getLogger(__name__)

#: State events that may wait for the bus; beyond it the job waits too, so that memory stays bounded.
_WAITING: Final = 1000
_STATE_DEADLINE_S: Final = 2.0
_PROGRESS_DEADLINE_S: Final = 1.0


class EventWriter:
    """Writes a run's events from its own loop; ``say`` and ``show`` are called from the job's thread."""

    def __init__(self, bus: JobBus, assignment: Assignment, source: str) -> None:
        """Write to the run's bus."""
        self._bus = bus
        self._run = assignment
        self._source = source
        self._queue: deque[Message] = deque()
        self._newest: Progress | None = None
        self._shown: Progress | None = None
        self._shown_at_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._stored = asyncio.Event()

    def say(self, data: EventData, event_id: str, stop: Stop, *, subject_id: str | None = None) -> None:
        """Queue a state event of the run's job, or of the session ``subject_id`` whose worker it is.

        Raises:
            Stopped: the run was asked to stop while it waited for room in a full queue.
        """
        message = encode(
            data,
            tenant=self._run.tenant,
            subject_id=subject_id or self._run.job_id,
            source=self._source,
            event_id=event_id,
        )
        while len(self._queue) >= _WAITING:
            stop.check()
            time.sleep(0.05)
        self._queue.append(message)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._news.set)

    def show(self, progress: Progress) -> None:
        """Say how far the work is; costs one assignment, whatever the bus does."""
        self._newest = progress

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            BusRefused: nobody hears this run any more.
        """
        self._loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            try:
                await self._write_queue()
                await self._write_progress()
            except BusRefused:
                raise
            except Exception:  # the job may have taken all memory: what it ends with must still be said
                log.exception("events could not be written; trying again")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0 / PROGRESS_HZ):
                    await self._news.wait()

    async def flush(self, deadline_s: float) -> bool:
        """Wait until every state event is stored; tell whether they are."""
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
            except BusRefused:
                raise
            except SaccadeError as error:
                log.warning("%d events wait for the bus: %s", len(self._queue), error)
                return
            self._queue.popleft()
            self._stored.set()

    async def _write_progress(self) -> None:
        newest, now_s = self._newest, time.monotonic()
        if newest is None or not self._bus.is_connected:
            return
        pause_s = WORKER_HEARTBEAT_S if newest is self._shown else 1.0 / min(PROGRESS_HZ, self._bus.progress_hz)
        if now_s - self._shown_at_s < pause_s:
            return
        data = JobProgressed(
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            stage=newest.stage,
            fraction=newest.fraction,
            stage_fraction=newest.stage_fraction,
            message=newest.message,
            eta_s=newest.eta_at(now_s),
        )
        message = encode(data, tenant=self._run.tenant, subject_id=self._run.job_id, source=self._source)
        try:
            await self._bus.progress(message, deadline_s=_PROGRESS_DEADLINE_S)
        except BusRefused:
            raise
        except SaccadeError as error:
            log.warning("progress was not stored: %s", error)
        else:
            self._shown = newest
        self._shown_at_s = now_s
