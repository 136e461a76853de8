"""Slots of jobs and slots of live sessions: two pools, so that neither takes the other's place. No I/O.

A session holds its slot for hours, and waits for one while a robot stands still; a job ends by itself. In one pool,
sessions that stay open would keep all jobs from starting, and a queue of jobs every session.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from typing import Literal

from contracts.workload import Workload
from services.dispatcher.scheduling.fair_queue import Candidate, FairQueue, Limits
from services.dispatcher.settings import DispatcherSettings

PoolName = Literal["job", "session"]


def session_workloads(workloads: Mapping[str, Workload]) -> frozenset[str]:
    """Return the names of the workloads whose jobs are the workers of live sessions."""
    return frozenset(name for name, workload in workloads.items() if workload.kind == "session")


def slot_limits(settings: DispatcherSettings) -> Limits:
    """Return the limits that the settings of a dispatcher give."""
    return Limits(
        settings.slots, settings.tenant_concurrency, settings.workload_concurrency, settings.queue.session_slots
    )


class SlotPools:
    """Two fair queues behind the interface of one. What they limit by tenant and workload, they limit apart, too."""

    def __init__(
        self, limits: Limits, sessions: Container[str], is_held: Callable[[str], bool] = lambda _: False
    ) -> None:
        """Create empty pools; jobs of the workloads ``sessions`` are in the pool of sessions."""
        self.limits = limits
        self._sessions = sessions
        of_sessions = replace(limits, slots=limits.slots if limits.session_slots is None else limits.session_slots)
        self._pools: dict[PoolName, FairQueue] = {
            "job": FairQueue(limits, is_held),
            "session": FairQueue(of_sessions, is_held),
        }

    @property
    def slots(self) -> int:
        """Number of slots of both pools."""
        return sum(pool.limits.slots for pool in self._pools.values())

    def pools(self) -> Iterator[tuple[PoolName, FairQueue]]:
        """Yield each pool with its name."""
        yield from self._pools.items()

    def pool_of(self, workload: str) -> PoolName:
        """Return the name of the pool of a workload's jobs."""
        return "session" if workload in self._sessions else "job"

    def waiting_of(self, tenant: str) -> int:
        """Return the number of a tenant's waiting jobs."""
        return sum(pool.waiting_of(tenant) for pool in self._pools.values())

    def wait(self, candidate: Candidate) -> None:
        """Add a job to the waiting jobs of its pool; nothing changes if it waits already."""
        self._pools[self.pool_of(candidate.workload)].wait(candidate)

    def hold(self, candidate: Candidate) -> None:
        """Register a job as holding a slot of its pool, regardless of the limits: its worker exists."""
        self._pools[self.pool_of(candidate.workload)].hold(candidate)

    def drop(self, job_id: str) -> None:
        """Remove a job, waiting or holding; do nothing if it is neither."""
        for pool in self._pools.values():
            pool.drop(job_id)

    def take(self) -> Candidate | None:
        """Assign a slot to the next job of a pool and return it; None when no job of either may start now."""
        return self._pools["session"].take() or self._pools["job"].take()
