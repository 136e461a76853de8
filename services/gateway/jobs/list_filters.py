"""Query parameters that choose jobs: of the list, of its counts, and of acts on many jobs."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Query

from contracts.ids import id_pattern
from contracts.job import State
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.job_texts import searchable
from services.gateway.jobs.schemas import Moment

_TEXT_CHARS: Final = 200


def _job_filter(
    *,
    workload: Annotated[str | None, Query(max_length=64)] = None,
    state: Annotated[list[State] | None, Query(description="May be repeated.")] = None,
    since: Annotated[Moment | None, Query(description="Created at this time or later.")] = None,
    until: Annotated[Moment | None, Query(description="Created before this time.")] = None,
    pipeline: Annotated[
        str | None,
        Query(pattern=id_pattern("job"), description="List only the jobs of this pipeline's stages."),
    ] = None,
    rule: Annotated[
        str | None, Query(pattern=id_pattern("rul"), description="List only the jobs that this rule submitted.")
    ] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=_TEXT_CHARS,
            description="Part of the id, the workload, a file name, or a key or value of `metadata` (`lap=7`), without "
            "regard to case. A page looks at 50,000 jobs at most, so it may hold fewer than `limit`, or none, "
            "and have a `next_cursor`.",
        ),
    ] = None,
) -> JobFilter:
    """Return the filter that a request asks for."""
    states = tuple(map(str, state or ()))
    return JobFilter(workload, states, since, until, pipeline or "", rule, searchable(q or ""))


JobFilterQuery = Annotated[JobFilter, Depends(_job_filter)]
