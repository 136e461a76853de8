"""The newest progress of each job, in memory: advisory, heard live, asked for once after a restart."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.errors import SaccadeError
from contracts.events.base import ADVISORY, decode_at, subject_of
from contracts.events.job import JobProgressed
from contracts.job import Job, State
from kit.bus.event_store import EventStore

log = logging.getLogger(__name__)

#: Jobs remembered; far more than can run at once.
_REMEMBERED: Final = 10_000
_LIVE: Final = "live.saccade.prog.*.job.*.progressed"


class LatestJobProgress:
    """How far each running job is."""

    def __init__(self, client: Client) -> None:
        """Use a connection; nothing is heard before ``start``."""
        self._client = client
        self._store = EventStore(client, "PROGRESS")
        self._newest: OrderedDict[str, JobProgressed | None] = OrderedDict()

    async def start(self) -> None:
        """Listen from now on, over every reconnect."""
        await self._client.subscribe(_LIVE, cb=self._on_live)

    def known(self, job: Job) -> JobProgressed | None:
        """Give the newest progress of the job's attempt that counts, as far as it was heard."""
        newest = self._newest.get(job.id)
        if newest is None or job.state is not State.RUNNING or not job.is_current_run(newest.attempt, newest.run_id):
            return None
        return newest

    async def of(self, job: Job) -> JobProgressed | None:
        """Give the newest progress of a job; what was said before this process began is read once."""
        if job.state is State.RUNNING and job.id not in self._newest:
            self._keep(job.id, None)
            try:
                stored = await self._store.load(
                    subject_of(ADVISORY, job.tenant, "job", job.id, "progressed"), deadline_s=1.0
                )
                if stored and self._newest.get(job.id) is None:
                    self._take(stored[-1].subject, stored[-1].body)
            except SaccadeError:
                self._newest.pop(job.id, None)
        return self.known(job)

    def forget(self, job_id: str) -> None:
        """Drop a job that has ended."""
        self._newest.pop(job_id, None)

    async def _on_live(self, msg: Msg) -> None:
        self._take(msg.subject, msg.data)

    def _take(self, subject: str, body: bytes) -> None:
        try:
            envelope = decode_at(subject, body)
            self._keep(envelope.subject, JobProgressed.model_validate(envelope.data))
        except ValueError:
            log.warning("a progress event could not be read")

    def _keep(self, job_id: str, progress: JobProgressed | None) -> None:
        self._newest[job_id] = progress
        self._newest.move_to_end(job_id)
        if len(self._newest) > _REMEMBERED:
            self._newest.popitem(last=False)
