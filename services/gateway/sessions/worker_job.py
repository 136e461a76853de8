"""Events that connect a session with the job that is its worker: the job's submission and the session's end."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final, get_args

from nats.aio.client import Client
from pydantic import ValidationError

from contracts.cost_estimate import CostEstimate
from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import JobSubmitted
from contracts.events.session import FrameTotals, SessionFailed, SessionStopped, StopReason
from contracts.job import Job, State
from contracts.session import Session, SessionLaunch
from contracts.workload import Workload
from services.gateway.telemetry.stored_frames import count_stored_frames

log = logging.getLogger(__name__)

_STOP_REASONS: Final[tuple[StopReason, ...]] = get_args(StopReason)


def worker_job_event(session: Session, workload: Workload, cost: CostEstimate) -> JobSubmitted:
    """Return the event that submits a session's job; the job's deadline allows the session's maximum length."""
    opened = session.opened
    launch = SessionLaunch(
        session_id=session.id,
        idle_timeout_s=opened.idle_timeout_s,
        max_length_s=opened.max_length_s,
        opened_at=session.created_at,
        replay_of=opened.replay_of,
        params=opened.params,
    )
    return JobSubmitted(
        workload=workload.name,
        workload_version=workload.version,
        inputs={},
        params=launch.model_dump(mode="json"),
        max_cost_usd=opened.max_cost_usd,
        account=opened.account,
        estimated_usd=0.0 if opened.account == "caller" else cost.usd,
        estimated_from=cost.basis,
        metadata=opened.metadata,
        deadline=session.created_at + timedelta(seconds=workload.deadline_s + opened.max_length_s),
    )


async def session_end_event(
    session: Session, job: Job, totals: FrameTotals, client: Client
) -> SessionStopped | SessionFailed:
    """Return the event that ends a session whose job has ended; ``totals`` are the worker's latest frame counts.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    if job.state is State.SUCCEEDED:
        return _stopped(session, job)
    if job.state is State.FAILED:
        error = job.error or ErrorBody.model_validate(SaccadeError(ErrorCode.WORKER_BROKEN).body())
        return SessionFailed(error=error, cost_usd=job.actual_usd)
    if not totals.sent and (uncounted := await count_stored_frames(client, session)):
        # Frames that no worker has counted, and none will: they count as dropped.
        totals = FrameTotals(sent=uncounted, dropped=uncounted)
    chunks = session.chunk.chunk if session.chunk else 0
    return SessionStopped(reason="asked", chunks=chunks, totals=totals, result={}, cost_usd=job.actual_usd)


def _stopped(session: Session, job: Job) -> SessionStopped:
    result: dict[str, Any] = job.result or {}
    reason = result.get("reason")
    chunks = result.get("chunks")
    try:
        totals = FrameTotals.model_validate(result.get("totals"))
    except ValidationError:
        log.warning("the result of %s has no valid frame counts", job.id)
        totals = session.totals
    return SessionStopped(
        reason=next((known for known in _STOP_REASONS if known == reason), "asked"),
        chunks=chunks if isinstance(chunks, int) else session.chunk.chunk if session.chunk else 0,
        totals=totals,
        result=result,
        cost_usd=job.actual_usd,
    )
