"""Callbacks of all videos: one notifier at a time, the holder of the lease, makes their requests.

What was delivered is in the record of each callback; a process that dies repeats the request that it had not recorded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from contracts.callback import Callback
from contracts.errors import SaccadeError
from contracts.streams import CALLBACKS
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.lease import Lease
from kit.tasks import end, first_of
from services.notifier.callbacks.artifacts import Artifacts
from services.notifier.callbacks.callback_store import CallbackStore
from services.notifier.callbacks.follower import CallbackFollower, FollowerParts
from services.notifier.callbacks.origin_slots import OriginSlots
from services.notifier.callbacks.site import Site
from services.notifier.metrics import NotifierMetrics
from services.notifier.webhooks.sending.sender import Sender

log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
#: Pause of a callback after an unexpected error.
_PAUSE_S: Final = 60.0
_JOB, _UPLOAD = "job", "upload"


def _now() -> datetime:
    return datetime.now(UTC)


class CallbackEngine:
    """The callbacks of one notifier; pass every event to ``on_event`` and all progress to ``on_progress``."""

    def __init__(
        self,
        events: EventStore,
        sender: Sender,
        artifacts: Artifacts,
        metrics: NotifierMetrics,
        now: Callable[[], datetime] = _now,
    ) -> None:
        """Read events from ``events`` and results from ``artifacts``."""
        self.store = CallbackStore(EventStore(events.client, CALLBACKS.name), self._on_change)
        self._lease = Lease(events.client, "callbacks")
        site = Site(sender, OriginSlots(), lambda outcome: metrics.callback_attempts.labels(outcome).inc())
        self._parts = FollowerParts(self.store, events, site, artifacts, now)
        self._metrics = metrics
        self._followers: dict[str, CallbackFollower] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._active = False
        self._stopping = False

    @property
    def active(self) -> bool:
        """Whether this engine is the one that makes the requests."""
        return self._active

    def on_event(self, stored: StoredEvent) -> None:
        """Wake the callback that waits for an event's job or upload."""
        parts = stored.subject.split(".")
        if len(parts) == 6 and parts[3] in (_JOB, _UPLOAD):
            self._wake(self.store.subject_of(parts[4]))

    def on_progress(self, subject: str, body: bytes) -> None:
        """Pass a job's progress to its callback.

        Raises:
            ValueError: it is not an event.
        """
        parts = subject.split(".")
        found = self.store.subject_of(parts[4]) if len(parts) == 6 and parts[3] == _JOB else None
        if found is not None and (follower := self._followers.get(found)):
            follower.on_progress(body)

    def recheck(self) -> None:
        """For tests that move the clock: look at every callback now."""
        for subject in list(self._followers):
            self._wake(subject)

    async def run(self) -> None:
        """Follow all callbacks, and make their requests whenever the lease is held.

        Raises:
            EpochChanged: the stream was recreated.
        """
        await first_of(self.store.run(), self._run())

    async def stop(self, grace_s: float) -> None:
        """Make no further request and wait up to ``grace_s`` for those in flight."""
        self._stopping = True
        for follower in self._followers.values():
            follower.stop()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=grace_s)

    async def _run(self) -> None:
        while True:
            await self._lease.acquire()
            try:
                await first_of(self._lease.keep(), self._follow())
            except SaccadeError as error:
                log.warning("callbacks: %s", error)
                await asyncio.sleep(_RETRY_S)
            except Exception:  # event streams must continue, whatever happens to callbacks
                log.exception("callbacks: they are started again")
                await asyncio.sleep(_RETRY_S)
            finally:
                self._active = False
                await end(*self._tasks.values())
                self._tasks.clear()
                self._followers.clear()
                await self._lease.release()

    async def _follow(self) -> None:
        await self.store.wait_until_current()
        self._active = True
        for callback in self.store.active():
            self._start(callback.subject)
        log.info("this notifier makes the callbacks now", extra={"waiting": len(self._tasks)})
        await asyncio.Event().wait()

    def _on_change(self, callback: Callback) -> None:
        if callback.outcome is None and self._active:
            self._start(callback.subject)
        self._wake(callback.subject)

    def _wake(self, subject: str | None) -> None:
        if subject is not None and (follower := self._followers.get(subject)):
            follower.wake()

    def _start(self, subject: str) -> None:
        if self._stopping or subject in self._tasks:
            return
        follower = self._followers[subject] = CallbackFollower(subject, self._parts)
        self._tasks[subject] = asyncio.ensure_future(self._run_follower(subject, follower))
        self._metrics.callbacks_waiting.set(len(self._tasks))

    async def _run_follower(self, subject: str, follower: CallbackFollower) -> None:
        """Run a follower; one that cannot go on must not stop the others."""
        try:
            await follower.run()
        except Exception:
            log.exception("callbacks: %s pauses", subject)
            await asyncio.sleep(_PAUSE_S)
        finally:
            if self._followers.get(subject) is follower:
                del self._followers[subject], self._tasks[subject]
                self._metrics.callbacks_waiting.set(len(self._tasks))
        if self._active and self.store.find(subject) is not None:  # it failed, or was opened again meanwhile
            self._start(subject)
