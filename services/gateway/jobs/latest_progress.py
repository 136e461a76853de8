"""Latest progress of each job, in memory: advisory, received live, loaded once after a restart."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.errors import SaccadeError
from contracts.events.base import ADVISORY, decode_at, subject_of
from contracts.events.job import JobProgressed
from contracts.job import Job, State
from kit.bus.event_store import EventStore

log = logging.getLogger(__name__)

#: Jobs kept; far more than can run at the same time.
_CACHE_SIZE: Final = 10_000
_LIVE_SUBJECTS: Final = "live.saccade.prog.*.job.*.progressed"


class LatestJobProgress:
    """Latest progress event of each running job."""

    def __init__(self, client: Client) -> None:
        """Use a connection; nothing is received before ``start``."""
        self._client = client
        self._store = EventStore(client, "PROGRESS", for_display=True)
        self._latest: OrderedDict[str, JobProgressed | None] = OrderedDict()
        #: Called with a job's id when its progress was received.
        self.on_progress: Callable[[str], None] | None = None

    async def start(self) -> None:
        """Subscribe to progress events; the subscription survives reconnects."""
        await self._client.subscribe(_LIVE_SUBJECTS, cb=self._on_live)

    def known(self, job: Job) -> JobProgressed | None:
        """Return the latest received progress of a running job's current run."""
        latest = self._latest.get(job.id)
        if latest is None or job.state is not State.RUNNING or not job.is_current_run(latest.attempt, latest.run_id):
            return None
        return latest

    async def load(self, job: Job) -> JobProgressed | None:
        """Return the latest progress of a job; if none was received yet, load the stored one, once."""
        if job.state is State.RUNNING and job.id not in self._latest:
            self._set(job.id, None)
            try:
                stored = await self._store.load(
                    subject_of(ADVISORY, job.tenant, "job", job.id, "progressed"), deadline_s=1.0
                )
                if stored and self._latest.get(job.id) is None:
                    self._apply(stored[-1].subject, stored[-1].body)
            except SaccadeError:
                self._latest.pop(job.id, None)
        return self.known(job)

    def forget(self, job_id: str) -> None:
        """Drop the progress of an ended job."""
        self._latest.pop(job_id, None)

    async def _on_live(self, msg: Msg) -> None:
        self._apply(msg.subject, msg.data)

    def _apply(self, subject: str, body: bytes) -> None:
        try:
            envelope = decode_at(subject, body)
            self._set(envelope.subject, JobProgressed.model_validate(envelope.data))
            if self.on_progress:
                self.on_progress(envelope.subject)
        except ValueError:
            log.warning("invalid progress event on %s", subject)

    def _set(self, job_id: str, progress: JobProgressed | None) -> None:
        self._latest[job_id] = progress
        self._latest.move_to_end(job_id)
        if len(self._latest) > _CACHE_SIZE:
            self._latest.popitem(last=False)
