"""Query parameters that choose jobs: of the list, of its counts, and of acts on many jobs."""

from __future__ import annotations

from typing import Annotated, Final, Protocol

from fastapi import Depends, Query

from contracts.ids import id_pattern
from contracts.job import State
from kit.auth.principal import Reader
from kit.http.app_state import from_app_state
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.job_texts import searchable
from services.gateway.jobs.schemas import Moment

_TEXT_CHARS: Final = 200


class PlannedPlaces(Protocol):
    """Acts on many jobs, as far as a list asks for their jobs."""

    async def places_of(self, tenant: str, plan_id: str) -> tuple[tuple[int, str], ...]:
        """Return first sequences and ids of a plan's jobs, newest first."""


async def _job_filter(
    caller: Reader,
    plans: Annotated[PlannedPlaces, from_app_state("job_plans")],
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
    plan: Annotated[
        str | None, Query(pattern=id_pattern("jbp"), description="List only the jobs of this act on many jobs.")
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
    """Return the filter that a request asks for.

    Raises:
        SaccadeError: JOB_PLAN_NOT_FOUND; BUS_UNAVAILABLE, with ``plan``.
    """
    states = tuple(map(str, state or ()))
    among = await plans.places_of(caller.tenant, plan) if plan else None
    return JobFilter(workload, states, since, until, pipeline or "", rule, searchable(q or ""), among)


JobFilterQuery = Annotated[JobFilter, Depends(_job_filter)]
