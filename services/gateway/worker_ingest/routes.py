"""Routes for workers that cannot reach NATS: a run reads its own job and says what happens to it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode
from kit.http.problems import problem_responses
from services.gateway.dependencies import gateway_of
from services.gateway.worker_ingest.service import readable

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["internal"])

_E = ErrorCode


class RunEvent(BaseModel):
    """One stored event."""

    sequence: int
    event: dict[str, Any]


class RunReading(BaseModel):
    """A run's own job: the newest event of each type, in order; their fold is the job's state (contracts/job.py)."""

    job_id: str
    run_id: str
    sequence: int = Field(description="That of the job's newest event, readable or not; 0 where there is none.")
    events: list[RunEvent]


class Ingested(BaseModel):
    """Where an event was stored; the same for each repeat of it."""

    sequence: int


@router.get("", summary="Read the job that a run works on", responses=problem_responses(_E.NOT_FOUND))
async def read_run(request: Request, run_id: str) -> RunReading:
    """For the run itself, with its own token; API keys are not taken."""
    runs = gateway_of(request).runs
    claims = runs.admit(request.headers.get("authorization", ""), run_id)
    stored = await runs.read(claims)
    return RunReading(
        job_id=claims.job_id,
        run_id=run_id,
        sequence=stored[-1].sequence if stored else 0,
        events=[RunEvent(sequence=one.sequence, event=json.loads(one.body)) for one in stored if readable(one)],
    )


@router.post(
    "/events",
    summary="Say what happens to a job",
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
    run_id: str,
    saccade_after: Annotated[
        int | None, Header(ge=0, description="Sequence that the job's newest event must have.")
    ] = None,
) -> Ingested:
    """Take one CloudEvent, as the worker has encoded it; a repeat of it stores nothing."""
    runs = gateway_of(request).runs
    # Who asks comes first: a stranger's body is not even read.
    claims = runs.admit(request.headers.get("authorization", ""), run_id)
    return Ingested(sequence=await runs.publish(claims, await request.body(), saccade_after))
