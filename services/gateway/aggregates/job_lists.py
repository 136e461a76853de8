"""Lists of a tenant's jobs: which rows of the view they have, found in an index alone, however many jobs there are."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, Final

from contracts.job import Job
from services.gateway.aggregates.job_texts import MATCHES, JobTexts, text_of
from services.gateway.aggregates.projection_reader import Rows

#: Every column that a list may be filtered by is in the index that it is read from: rows are read for one page only.
INDEXES: Final = """
CREATE INDEX jobs_by_age ON jobs (tenant, pipeline, first_sequence, created_us);
CREATE INDEX jobs_by_state ON jobs (tenant, pipeline, state, first_sequence, created_us);
CREATE INDEX jobs_by_workload ON jobs (tenant, pipeline, workload, first_sequence, state, created_us);
CREATE INDEX jobs_by_time ON jobs (tenant, pipeline, created_us);
CREATE INDEX jobs_by_pipeline ON jobs (pipeline) WHERE pipeline != '';
CREATE INDEX jobs_by_rule ON jobs (rule, first_sequence) WHERE rule != '';
CREATE INDEX jobs_unfinished ON jobs (tenant, state) WHERE ended = 0;
CREATE INDEX jobs_by_end ON jobs (updated_us) WHERE ended = 1
"""
#: Jobs of a period of time up to which they are all looked at, instead of the newest ones until a page is full.
_FEW: Final = 2000
#: Jobs of a given set that are looked up together.
_LOOKED_UP: Final = 500
#: Sequence and id, which sort as the list does.
Place = tuple[int, str]


@dataclass(frozen=True)
class JobFilter:
    """Filter of a list of jobs; ``since`` (inclusive) and ``until`` (exclusive) are times of creation."""

    workload: str | None = None
    states: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    #: Id of a pipeline whose stage jobs are listed; empty for jobs that belong to no pipeline.
    pipeline: str = ""
    #: Id of the rule that submitted the jobs.
    rule: str | None = None
    #: Part of a job's text, as ``searchable`` returns it; empty for any.
    text: str = ""
    #: First sequences and ids of jobs, newest first: only these. None for any.
    among: tuple[tuple[int, str], ...] | None = None

    @cached_property
    def ids_among(self) -> frozenset[str]:
        """Ids of ``among``."""
        return frozenset(job_id for _, job_id in self.among or ())

    def unchanging(self) -> JobFilter:
        """Return the filter by what an index knows and never changes: neither state nor text."""
        return replace(self, states=(), text="")

    @property
    def is_a_stretch(self) -> bool:
        """Whether a page is a stretch of an index, or of one for each state: no entry between its jobs is looked at."""
        others = replace(self, states=(), workload=None, pipeline="")
        return others == JobFilter() and not (self.states and self.workload is not None)

    def matches(self, job: Job, filename_of: Callable[[str], str] = lambda _: "") -> bool:
        """Return whether a job is in the list; ``filename_of`` is as for ``text_of``."""
        submitted = job.submitted
        return (
            (self.workload is None or submitted.workload == self.workload)
            and (not self.states or str(job.state) in self.states)
            and (self.since is None or job.created_at >= self.since)
            and (self.until is None or job.created_at < self.until)
            and (submitted.part_of.job_id if submitted.part_of else "") == self.pipeline
            and (self.rule is None or (submitted.rule is not None and submitted.rule.rule_id == self.rule))
            and (self.among is None or job.id in self.ids_among)
            and (not self.text or self.text in text_of(job, filename_of))
        )


def microseconds(moment: datetime) -> int:
    """Return a time as it stands in the rows."""
    return int(moment.timestamp() * 1_000_000)


class JobLists:
    """Finds the jobs of lists."""

    def __init__(self, file: Rows) -> None:
        """Read the view's file."""
        self._file, self.texts = file, JobTexts(file)

    def page(self, tenant: str, wanted: JobFilter, before: int | None, limit: int) -> tuple[list[str], int | None]:
        """Return the ids of a tenant's jobs, newest first, at most ``limit``, and where the next page begins.

        A search by text may return fewer, also none, and have a next page: a request looks at so many jobs only.
        """
        if wanted.text:
            places, rest = self.search(tenant, wanted, before, limit + 1)
        else:
            places, rest = self.places(tenant, wanted, before, limit + 1), None
        if len(places) > limit:
            places, rest = places[:limit], places[limit - 1][0]
        return [job_id for _, job_id in places], rest

    def search(self, tenant: str, wanted: JobFilter, before: int | None, limit: int) -> tuple[list[Place], int | None]:
        """Return the places of jobs with a text, at most ``limit``, and down to where was looked; None: to the end."""
        others = replace(wanted, text="")
        places = self.places(tenant, others, before, MATCHES + 1)
        if len(places) <= MATCHES or wanted.pipeline or wanted.rule or wanted.among is not None:
            rest = places[MATCHES - 1][0] if len(places) > MATCHES else None
            is_part = bool(wanted.pipeline)
            sequences = [sequence for sequence, _ in places[:MATCHES]]
            found = self.texts.containing(tenant, sequences, is_part=is_part, text=wanted.text)
            return [place for place in places if place[0] in found][:limit], rest
        # Where nothing else is asked for, no match is left out.
        most = limit if others == JobFilter(workload=others.workload) else MATCHES
        hits = self.texts.search(tenant, wanted.text, wanted.workload, before, most)
        return self._chosen(tenant, others, hits.ids)[:limit], hits.looked_to

    def _places_among(self, tenant: str, wanted: JobFilter, before: int | None) -> Iterator[Place]:
        ids = (job_id for sequence, job_id in wanted.among or () if before is None or sequence < before)
        while some := list(islice(ids, _LOOKED_UP)):
            yield from self._chosen(tenant, wanted, some)

    def _chosen(self, tenant: str, wanted: JobFilter, ids: Sequence[str]) -> list[Place]:
        """Return the places of those of these jobs that are in a list, newest first; a text is not looked at."""
        clauses, values = _conditions(tenant, wanted, None)
        chosen = "id IN (SELECT value FROM json_each(?))"
        query = f"SELECT first_sequence, id FROM jobs WHERE {chosen} AND {' AND '.join(clauses)}"  # noqa: S608
        return sorted(self._places(query, (json.dumps(ids), *values)), reverse=True)

    def _places(self, query: str, values: Sequence[Any]) -> list[Place]:
        """Return the rows of a query, as one row: in a thread each one waits for the interpreter."""
        ((found,),) = self._file.rows(f"SELECT json_group_array(json_array(first_sequence, id)) FROM ({query})", values)  # noqa: S608
        return [(sequence, job_id) for sequence, job_id in json.loads(found)]

    def created_us(self, tenant: str, sequence: int) -> int | None:
        """Return when the job with this first sequence was created, in microseconds; None if there is none."""
        query = "SELECT created_us FROM jobs INDEXED BY jobs_by_age WHERE tenant = ? AND pipeline = '' AND "
        row = self._file.row(f"{query} first_sequence = ?", (tenant, sequence))
        return row[0] if row else None

    def places(self, tenant: str, wanted: JobFilter, before: int | None, limit: int) -> list[Place]:
        """Return sequence and id of a tenant's jobs, newest first, at most ``limit``; a text is not looked at."""
        if wanted.among is not None:
            return list(islice(self._places_among(tenant, wanted, before), limit))
        is_short = wanted.rule is None and self.is_short(tenant, wanted)
        # Each state by itself: over several, SQLite would sort all of their jobs.
        alone = wanted.workload is None and wanted.rule is None and not is_short
        parts = [replace(wanted, states=(state,)) for state in wanted.states] if alone and wanted.states else [wanted]
        queries = [self.query(tenant, part, before, limit, is_short=is_short) for part in parts]
        places = [sorted(self._places(query, values), reverse=True) for query, values in queries]
        return list(islice(heapq.merge(*places, reverse=True), limit))

    @staticmethod
    def query(
        tenant: str, wanted: JobFilter, before: int | None, limit: int, *, is_short: bool
    ) -> tuple[str, Sequence[Any]]:
        """Return the query for the places of a list's jobs, and its values."""
        clauses, values = _conditions(tenant, wanted, before)
        table = f"jobs INDEXED BY {_index(wanted, is_short=is_short)}"
        order = "ORDER BY first_sequence DESC LIMIT ?"
        query = f"SELECT first_sequence, id FROM {table} WHERE {' AND '.join(clauses)} {order}"  # noqa: S608
        return query, (*values, limit)

    def is_short(self, tenant: str, wanted: JobFilter) -> bool:
        """Return whether few jobs were created in the period of a list; without one, False."""
        if wanted.since is None and wanted.until is None:
            return False
        query = (
            "SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_by_time "
            "WHERE tenant = ? AND pipeline = ? AND created_us >= ? AND created_us < ? LIMIT ?)"
        )
        since_us = microseconds(wanted.since) if wanted.since else 0
        until_us = microseconds(wanted.until) if wanted.until else 1 << 62
        ((count,),) = self._file.rows(query, (tenant, wanted.pipeline, since_us, until_us, _FEW + 1))
        return int(count) <= _FEW


def _conditions(tenant: str, wanted: JobFilter, before: int | None) -> tuple[list[str], list[Any]]:
    """Return the conditions of a list's jobs, but for a text, and their values."""
    clauses, values = ["tenant = ?", "pipeline = ?"], [tenant, wanted.pipeline]
    conditions: list[tuple[str, Any]] = [
        ("workload = ?", wanted.workload),
        ("rule != '' AND rule = ?", wanted.rule),
        ("created_us >= ?", microseconds(wanted.since) if wanted.since else None),
        ("created_us < ?", microseconds(wanted.until) if wanted.until else None),
        ("first_sequence < ?", before),
    ]
    for clause, value in conditions:
        if value is not None:
            clauses.append(clause)
            values.append(value)
    if wanted.states:
        clauses.append(f"state IN ({', '.join('?' * len(wanted.states))})")
        values += wanted.states
    return clauses, values


def _index(wanted: JobFilter, *, is_short: bool) -> str:
    """Return the index in which the jobs of a list are next to each other, as far as any has them so."""
    if wanted.rule is not None:
        return "jobs_by_rule"
    if is_short:
        return "jobs_by_time"
    if wanted.workload is not None:
        return "jobs_by_workload"
    return "jobs_by_state" if len(wanted.states) == 1 else "jobs_by_age"
