"""Counts of a tenant's jobs by state and workload, for the filters of a list, from an index and up to a limit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from contracts.job import State
from services.gateway.aggregates.job_lists import JobFilter, JobLists, microseconds
from services.gateway.aggregates.job_texts import MATCHES
from services.gateway.aggregates.projection_reader import Rows

#: Rows of an index that one request counts; fewer where it has to look at what they say.
COUNTED: Final = 200_000
LOOKED_AT: Final = 50_000


@dataclass
class ListCounts:
    """Number of jobs by state, and by workload."""

    by_state: Counter[str] = field(default_factory=Counter)
    by_workload: Counter[str] = field(default_factory=Counter)
    #: Whether all jobs were looked at; otherwise there may be more.
    complete: bool = True

    def add(self, workload: str, state: str, count: int = 1) -> None:
        """Add jobs."""
        self.by_workload[workload] += count
        self.by_state[state] += count


class JobCounter:
    """Counts jobs of lists."""

    def __init__(self, file: Rows, lists: JobLists) -> None:
        """Read the view's file."""
        self._file, self._lists = file, lists

    def count(self, tenant: str, wanted: JobFilter) -> ListCounts:
        """Return the counts of a list."""
        if (
            wanted.text
            or wanted.rule
            or wanted.pipeline
            or wanted.among is not None
            or self._lists.is_short(tenant, wanted)
        ):
            return self._one_by_one(tenant, wanted)
        return self._all(tenant) if wanted == JobFilter() else self._by_workload(tenant, wanted)

    def _all(self, tenant: str) -> ListCounts:
        """Count all jobs of a tenant: stretches of two indexes, whose entries are not looked at."""
        counts = ListCounts()
        names = list(self._workloads(tenant))
        for column, values, counted in (
            ("workload", names, counts.by_workload),
            ("state", [str(state) for state in State], counts.by_state),
        ):
            stretch = (
                f"SELECT 1 FROM jobs INDEXED BY jobs_by_{column} WHERE tenant = ? AND pipeline = '' AND {column} = ?"  # noqa: S608
            )
            for value in values:
                left = COUNTED - counted.total()
                (count,) = self._file.rows(f"SELECT count(*) FROM ({stretch} LIMIT ?)", (tenant, value, left))[0]  # noqa: S608
                counted[value] += count
            counts.complete &= counted.total() < COUNTED
        for counted in (counts.by_state, counts.by_workload):
            for value in [value for value, count in counted.items() if not count]:
                del counted[value]
        return counts

    def _one_by_one(self, tenant: str, wanted: JobFilter) -> ListCounts:
        """Count all jobs of a short list; of a longer one, or of a text search, only the newest ``MATCHES``."""
        places, rest = self._lists.places(tenant, replace(wanted, text=""), None, MATCHES + 1), None
        if wanted.text:
            places, rest = self._lists.search(tenant, wanted, None, MATCHES + 1)
        counts = ListCounts(complete=len(places) <= MATCHES and rest is None)
        query = (
            "SELECT workload, state, count(*) FROM jobs WHERE id IN (SELECT value FROM json_each(?)) "
            "GROUP BY workload, state"
        )
        for row in self._file.rows(query, (json.dumps([job_id for _, job_id in places[:MATCHES]]),)):
            counts.add(*row)
        return counts

    def _by_workload(self, tenant: str, wanted: JobFilter) -> ListCounts:
        names = [wanted.workload] if wanted.workload is not None else list(self._workloads(tenant))
        counts, most = ListCounts(), LOOKED_AT // max(1, len(names))
        newest = (
            "SELECT state, created_us FROM jobs INDEXED BY jobs_by_workload "
            "WHERE tenant = ? AND pipeline = '' AND workload = ? ORDER BY first_sequence DESC LIMIT ?"
        )
        query = f"SELECT state, count(*), sum(created_us >= ? AND created_us < ?) FROM ({newest}) GROUP BY state"  # noqa: S608
        since_us = microseconds(wanted.since) if wanted.since else 0
        until_us = microseconds(wanted.until) if wanted.until else 1 << 62
        for name in names:
            rows: list[tuple[Any, ...]] = self._file.rows(query, (since_us, until_us, tenant, name, most))
            counts.complete &= sum(looked for _, looked, _ in rows) < most
            for state, _, count in rows:
                if count and (not wanted.states or state in wanted.states):
                    counts.add(name, state, count)
        return counts

    def _workloads(self, tenant: str) -> Iterator[str]:
        """Yield the names of the workloads that a tenant has jobs of, each by one step in the index."""
        query = (
            "SELECT workload FROM jobs INDEXED BY jobs_by_workload "
            "WHERE tenant = ? AND pipeline = '' AND workload > ? ORDER BY workload LIMIT 1"
        )
        name = ""
        while row := self._file.row(query, (tenant, name)):
            name = row[0]
            yield name
