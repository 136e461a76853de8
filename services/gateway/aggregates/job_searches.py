"""Lists and counts of jobs for which many rows are looked at: in a thread, so that no other request waits for them.

A search by text reads up to 50,000 texts and a count up to 200,000 entries of an index: 10 to 300 ms. A list whose page
is a stretch of one index takes a tenth of a millisecond, less than the way into a thread and back beside a busy event
loop (``bench/list_clients.py``): it is read in the loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeVar

from contracts.errors import ErrorCode, SaccadeError
from contracts.job import Job
from kit.projection_file import ProjectionFile
from services.gateway.aggregates.job_counts import JobCounter, ListCounts
from services.gateway.aggregates.job_lists import JobFilter, JobLists
from services.gateway.aggregates.projection_reader import ProjectionReader
from services.gateway.fair_slots import FairSlots

T = TypeVar("T")

#: Searches and counts of one tenant that wait or run; tenants take turns.
_MOST_OF_TENANT: Final = 32
#: Jobs of a page that are read before other requests run.
_PIECE_JOBS: Final = 8


class _View(Protocol):
    """A view, as far as it is asked in the loop."""

    job_lists: JobLists
    job_counter: JobCounter
    dirty: bool

    def commit(self) -> None:
        """Commit what was folded since the last commit, unless it is held back."""

    def read_jobs(self, ids: Iterable[str]) -> list[Job]:
        """Return the jobs with these ids, without those that are gone."""


class JobSearches:
    """Reads lists and counts of a view, with everything that it has folded."""

    def __init__(self, view: _View, file: ProjectionFile) -> None:
        """Read the view's file."""
        self._view, self._file = view, file
        self._reader = ProjectionReader(file)
        self._lists = JobLists(self._reader)
        self._counter = JobCounter(self._reader, self._lists)
        # One thread: while none reads, the log can begin anew.
        self._turns, self._asked = FairSlots(1), Counter[str]()

    async def page(
        self, tenant: str, wanted: JobFilter, *, before: int | None = None, limit: int
    ) -> tuple[list[Job], int | None]:
        """Return a tenant's jobs, newest first, and the value of ``before`` for the next page.

        Raises:
            SaccadeError: RATE_LIMITED.
        """
        if wanted.is_a_stretch:
            ids, rest = self._view.job_lists.page(tenant, wanted, before, limit)
        else:
            ids, rest = await self._read(
                tenant,
                lambda: self._view.job_lists.page(tenant, wanted, before, limit),
                lambda: self._lists.page(tenant, wanted, before, limit),
            )
        found: list[Job] = []
        for first in range(0, len(ids), _PIECE_JOBS):
            if first:
                await asyncio.sleep(0)  # let other requests run: a job that is not in memory is decoded
            found += self._view.read_jobs(ids[first : first + _PIECE_JOBS])
        # A job may have changed its state since its row was read.
        return [job for job in found if not wanted.states or str(job.state) in wanted.states], rest

    async def counts(self, tenant: str, wanted: JobFilter) -> ListCounts:
        """Return the numbers of a tenant's jobs in a list, by workload and state.

        Raises:
            SaccadeError: RATE_LIMITED.
        """
        return await self._read(
            tenant,
            lambda: self._view.job_counter.count(tenant, wanted),
            lambda: self._counter.count(tenant, wanted),
        )

    async def _read(self, tenant: str, in_loop: Callable[[], T], in_thread: Callable[[], T]) -> T:
        if self._asked[tenant] >= _MOST_OF_TENANT:
            message = f"{_MOST_OF_TENANT} searches and counts of yours wait or run at the moment."
            raise SaccadeError(ErrorCode.RATE_LIMITED, message, retry_after_s=1.0)
        self._asked[tenant] += 1
        try:
            async with self._turns.slot(tenant):
                self._view.commit()
                if self._view.dirty or self._file.path is None:
                    return in_loop()  # what was folded cannot be read elsewhere: it is in memory, or held back
                return await self._reader.run(in_thread)
        finally:
            self._asked[tenant] -= 1
            if not self._asked[tenant]:
                del self._asked[tenant]

    def close(self) -> None:
        """End the thread, before the file is closed."""
        self._reader.close()
