"""Routes for workers that cannot reach NATS: a run reads its own job and publishes its events."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode
from kit.auth.principal import ACCEPTS_RUN_TOKEN
from kit.http.app_state import from_app_state
from kit.http.path_ids import RunId
from kit.http.problems import problem_responses
from services.gateway.worker_ingest.event_check import is_valid_event
from services.gateway.worker_ingest.service import WorkerIngest
from services.gateway.worker_ingest.worker_token import WorkerClaims

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["internal"], dependencies=[ACCEPTS_RUN_TOKEN])

_E = ErrorCode


WorkerIngestDep = Annotated[WorkerIngest, from_app_state("worker_ingest")]


async def _claims(request: Request, run_id: RunId, ingest: WorkerIngestDep) -> WorkerClaims:
    return ingest.authenticate(request.headers.get("authorization", ""), run_id)


#: Raises NOT_FOUND, UNAUTHENTICATED or FORBIDDEN, before anything else of the request is read.
Run = Annotated[WorkerClaims, Depends(_claims)]


class RunEvent(BaseModel):
    """One stored event."""

    sequence: int
    event: dict[str, Any]


class RunReading(BaseModel):
    """A run's own job: the newest event of each type, in order. Folded, they are the job's state (contracts/job.py)."""

    job_id: str
    run_id: str
    sequence: int = Field(description="Sequence of the job's newest event, valid or not; 0 if there is none.")
    events: list[RunEvent]


class Ingested(BaseModel):
    """Sequence of a stored event; the same for each repeat of it."""

    sequence: int


@router.get("", summary="Read the job that a run works on", responses=problem_responses(_E.NOT_FOUND))
async def read_run(run_id: RunId, claims: Run, ingest: WorkerIngestDep) -> RunReading:
    """For the run itself, with its own token; API keys are not accepted."""
    stored = await ingest.read(claims)
    return RunReading(
        job_id=claims.job_id,
        run_id=run_id,
        sequence=stored[-1].sequence if stored else 0,
        events=[
            RunEvent(sequence=event.sequence, event=json.loads(event.body)) for event in stored if is_valid_event(event)
        ],
    )


@router.post(
    "/events",
    summary="Publish an event of a job",
    responses=problem_responses(_E.NOT_FOUND, _E.SEQUENCE_CONFLICT),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/cloudevents+json": {"schema": {"type": "object"}}},
        }
    },
)
async def publish_event(
    request: Request,
    claims: Run,
    ingest: WorkerIngestDep,
    saccade_after: Annotated[
        int | None, Header(ge=0, lt=1 << 63, description="Sequence that the job's newest event must have.")
    ] = None,
) -> Ingested:
    """Store one CloudEvent as the worker has encoded it; a repeat of it is not stored again."""
    return Ingested(sequence=await ingest.publish(claims, await request.body(), saccade_after))
