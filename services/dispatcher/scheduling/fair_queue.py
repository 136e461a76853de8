"""Fair queue for slots: fair between tenants, limited per tenant and workload, by priority within a tenant. No I/O.

The tenant with the fewest workers is first, then the one served longest ago; within a tenant the highest priority,
then the oldest job. ``take`` costs O(workloads · log n) for any number of waiting jobs: heaps with lazy removal.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

#: Number of tenants whose last turn is remembered; beyond it, tenants without jobs are removed.
_TENANTS_KEPT: Final = 10_000
#: A heap is rebuilt when it holds this many times more entries than valid ones.
_SLACK: Final = 4
_SLACK_MIN: Final = 64


@dataclass(frozen=True)
class Limits:
    """Maximum number of concurrent workers: in total, per tenant, per workload."""

    slots: int
    tenant: int
    workload: int
    #: Slots of live sessions, which are not those of jobs (slot_pools.py); None for as many.
    session_slots: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that wants a slot. ``age`` orders by submission: the sequence of the event that submitted the job."""

    job_id: str
    tenant: str
    workload: str
    priority: int
    age: int


_Key = TypeVar("_Key")
_Rank = tuple[int, int, str]
_Turn = tuple[int, int, int, str]


class FairQueue:
    """Jobs that wait for a slot, and jobs that hold one."""

    def __init__(self, limits: Limits, is_held: Callable[[str], bool] = lambda _: False) -> None:
        """Create an empty queue. Jobs of a workload for which ``is_held`` is true get no slot."""
        self.limits = limits
        self._is_held = is_held
        self._waiting: dict[str, Candidate] = {}
        self._holding: dict[str, Candidate] = {}
        self._lines: dict[tuple[str, str], list[_Rank]] = {}
        self._line_lengths: Counter[tuple[str, str]] = Counter()
        self._workloads_of: dict[str, set[str]] = {}
        self._turns: dict[str, list[_Turn]] = {}
        self._of_tenant: Counter[str] = Counter()
        self._of_workload: Counter[str] = Counter()
        self._served: dict[str, tuple[int, int]] = {}
        self._clock = count(1)

    @property
    def holding(self) -> int:
        """Number of jobs that hold a slot."""
        return len(self._holding)

    def waiting_of(self, tenant: str) -> int:
        """Return the number of a tenant's waiting jobs."""
        return sum(self._line_lengths[tenant, workload] for workload in self._workloads_of.get(tenant, ()))

    def wait(self, candidate: Candidate) -> None:
        """Add a job to the waiting jobs; nothing changes if it waits already."""
        if self._waiting.get(candidate.job_id) == candidate:
            return
        self.drop(candidate.job_id)
        line = (candidate.tenant, candidate.workload)
        self._waiting[candidate.job_id] = candidate
        heapq.heappush(self._lines.setdefault(line, []), _rank(candidate))
        self._line_lengths[line] += 1
        self._workloads_of.setdefault(candidate.tenant, set()).add(candidate.workload)
        if candidate.tenant not in self._served:
            self._forget_tenants()
            # Tenants never served come before those served; among them, the first to ask.
            self._served[candidate.tenant] = (0, next(self._clock))
        if self._line_lengths[line] == 1:
            self._offer(candidate.tenant, candidate.workload)

    def hold(self, candidate: Candidate) -> None:
        """Register a job as holding a slot, regardless of the limits: its worker exists."""
        if candidate.job_id in self._holding:
            return
        self.drop(candidate.job_id)
        self._holding[candidate.job_id] = candidate
        self._of_tenant[candidate.tenant] += 1
        self._of_workload[candidate.workload] += 1
        self._served[candidate.tenant] = (1, next(self._clock))
        self._offer_all(candidate.tenant)

    def drop(self, job_id: str) -> None:
        """Remove a job, waiting or holding; do nothing if it is neither."""
        if waiting := self._waiting.pop(job_id, None):
            self._shorten((waiting.tenant, waiting.workload))
        if holding := self._holding.pop(job_id, None):
            _decrement(self._of_tenant, holding.tenant)
            _decrement(self._of_workload, holding.workload)
            self._offer_all(holding.tenant)

    def take(self) -> Candidate | None:
        """Assign a slot to the next job and return it; None when no job may start now."""
        if len(self._holding) >= self.limits.slots:
            return None
        best: tuple[tuple[_Turn, _Rank], Candidate] | None = None
        for workload in list(self._turns):
            if self._of_workload[workload] >= self.limits.workload or self._is_held(workload):
                continue
            if (turn := self._first_turn(workload)) is None:
                continue
            rank = self._head(turn[3], workload)
            if rank and (best is None or (turn, rank) < best[0]):
                best = ((turn, rank), self._waiting[rank[2]])
        if best is None:
            return None
        self.hold(best[1])
        return best[1]

    def _turn(self, tenant: str) -> _Turn:
        return (self._of_tenant[tenant], *self._served[tenant], tenant)

    def _first_turn(self, workload: str) -> _Turn | None:
        """Return a workload's first valid turn; remove outdated ones before it."""
        turns = self._turns[workload]
        while turns:
            turn = turns[0]
            tenant = turn[3]
            waits = self._line_lengths[tenant, workload] > 0
            if waits and turn == self._turn(tenant) and turn[0] < self.limits.tenant:
                return turn
            heapq.heappop(turns)
        del self._turns[workload]
        return None

    def _head(self, tenant: str, workload: str) -> _Rank | None:
        line = self._lines.get((tenant, workload), [])
        while line and not self._in_line(line[0], workload):
            heapq.heappop(line)
        return line[0] if line else None

    def _in_line(self, rank: _Rank, workload: str) -> bool:
        candidate = self._waiting.get(rank[2])
        return candidate is not None and candidate.workload == workload and _rank(candidate) == rank

    def _offer(self, tenant: str, workload: str) -> None:
        """Add a tenant to a workload's turns, with its current rank."""
        turns = self._turns.setdefault(workload, [])
        heapq.heappush(turns, self._turn(tenant))
        if len(turns) > _SLACK * len(self._workloads_of) + _SLACK_MIN:
            tenants = {turn[3] for turn in turns if self._line_lengths[turn[3], workload] > 0}
            turns[:] = sorted(self._turn(waiting) for waiting in tenants)

    def _offer_all(self, tenant: str) -> None:
        for workload in self._workloads_of.get(tenant, ()):
            self._offer(tenant, workload)

    def _shorten(self, line: tuple[str, str]) -> None:
        """Subtract one job from a line; remove an empty line, rebuild a heap with too many outdated entries."""
        tenant, workload = line
        _decrement(self._line_lengths, line)
        length = self._line_lengths[line]
        if not length:
            self._lines.pop(line, None)
            self._workloads_of[tenant].discard(workload)
            if not self._workloads_of[tenant]:
                del self._workloads_of[tenant]
        elif len(self._lines[line]) > _SLACK * length + _SLACK_MIN:
            ranks = {rank for rank in self._lines[line] if self._in_line(rank, workload)}
            self._lines[line] = sorted(ranks)

    def _forget_tenants(self) -> None:
        """Remove tenants without jobs once there are too many."""
        if len(self._served) < _TENANTS_KEPT:
            return
        busy = self._workloads_of.keys() | self._of_tenant.keys()
        self._served = {tenant: served for tenant, served in self._served.items() if tenant in busy}


def _rank(candidate: Candidate) -> _Rank:
    return (-candidate.priority, candidate.age, candidate.job_id)


def _decrement(counter: Counter[_Key], key: _Key) -> None:
    """Subtract one from a count; remove it at zero."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
