"""Runs of local workers on another host: a dispatcher that leads would take them for lost and start them twice."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from contracts.events.job import PIPELINE
from contracts.job import Job, State
from contracts.limits import WORKER_HEARTBEAT_S
from kit.bus.lease import Lease
from services.dispatcher.costs.attempt_cost import LOCAL
from services.dispatcher.executors.executor import Executor
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs

log = logging.getLogger(__name__)

#: A worker that lives is heard within this time.
LISTEN_S: Final = 2.5 * WORKER_HEARTBEAT_S


class ForeignRuns:
    """Workers that live and that the local executor of this dispatcher does not have."""

    def __init__(self, executor: Executor, jobs: UnfinishedJobs, *, listen_s: float = LISTEN_S) -> None:
        """``jobs`` gets the heartbeats of all workers; a pipeline has none."""
        self._executor, self._jobs, self._listen_s = executor, jobs, listen_s
        self._gives_way = False

    async def forbid_leading(self) -> bool:
        """Return whether this dispatcher must not lead now; the log says why."""
        if heard := await self._heard():
            names = ", ".join(sorted(job.id for job in heard)[:5])
            log.error(
                "not leading: workers of %d jobs (%s) run on another host. Local workers belong to the dispatcher that "
                "has their DISPATCHER_DATA_DIR: start that one, or wait for their end",
                len(heard),
                names,
            )
        self._gives_way = bool(heard)
        return self._gives_way

    async def give_way(self, lease: Lease) -> None:
        """Leave the lease to others for a while if this dispatcher must not lead."""
        if self._gives_way:
            await lease.release()
            await asyncio.sleep(self._listen_s)

    async def _heard(self) -> list[Job]:
        """Return the jobs whose workers are heard now but run elsewhere; at once if there can be none."""
        if self._executor.name != LOCAL:
            return []
        unknown = [job for job in self._jobs if self._has_worker(job) and not await self._is_own(job)]
        if not unknown:
            return []
        begun_s = asyncio.get_running_loop().time()
        await asyncio.sleep(self._listen_s)
        return [job for job in unknown if (last := self._jobs.last_heartbeat(job)) and last.at_s >= begun_s]

    def _has_worker(self, job: Job) -> bool:
        if job.executor == PIPELINE or job.submitted.account == "caller":
            return False
        return job.state in (State.STARTING, State.RUNNING) and job.run_id is not None

    async def _is_own(self, job: Job) -> bool:
        return job.run_id is not None and await self._executor.find(job.run_id) is not None
