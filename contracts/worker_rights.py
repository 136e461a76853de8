"""Grants for a job's run, a session's run and a session's sender; docs/adr/0005 explains why there are no others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from contracts.bus_grant import BusGrant
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import ADVISORY, DURABLE, subject_of
from contracts.events.job import WORKER_PROGRESS_VERBS, WORKER_VERBS
from contracts.events.session import SESSION_WORKER_PROGRESS_VERBS, SESSION_WORKER_VERBS
from contracts.ids import JOB_ID_PATTERN, TENANT_PATTERN, id_pattern
from contracts.session import (
    clock_subject,
    job_id_of_session,
    telemetry_delivery_subject,
    telemetry_request_subject,
    telemetry_subject,
)
from contracts.streams import EVENTS, aggregate


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Run that a worker's token was issued to, from the token's tags."""

    tenant: str
    job_id: str
    run_id: str

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the run's token."""
        return (f"tenant:{self.tenant}", f"job:{self.job_id}", f"run:{self.run_id}")


def run_grant(tenant: str, job_id: str, run_id: str) -> BusGrant:
    """Return the grant of one run of a job's worker: publish the worker's events of this job, read the job."""
    return BusGrant(
        name=run_id,
        tags=RunIdentity(tenant, job_id, run_id).tags,
        publish=(
            *_event_subjects(tenant, "job", job_id, WORKER_VERBS, WORKER_PROGRESS_VERBS),
            _read_subject(tenant, "job", job_id),
        ),
    )


def session_run_grant(tenant: str, session_id: str, run_id: str, replay_of: str | None = None) -> BusGrant:
    """Return the grant of one run of a session's worker: its job's grant, plus the session's events and telemetry.

    The run may request the telemetry and the events of its own session, and of the session that it replays; the gateway
    has them delivered to a subject of the run. It may also reply with its clock.

    Raises:
        ValueError: an id is malformed.
    """
    job_id = job_id_of_session(session_id)
    recorded = (session_id, replay_of) if replay_of else (session_id,)
    return BusGrant(
        name=run_id,
        tags=RunIdentity(tenant, job_id, run_id).tags,
        publish=(
            *run_grant(tenant, job_id, run_id).publish,
            *_event_subjects(tenant, "session", session_id, SESSION_WORKER_VERBS, SESSION_WORKER_PROGRESS_VERBS),
            telemetry_subject(tenant, session_id, "acks"),
            *(telemetry_request_subject(tenant, run_id, recorded_id) for recorded_id in recorded),
        ),
        subscribe=(
            clock_subject(tenant, session_id),
            telemetry_delivery_subject(tenant, run_id, "*"),
        ),
        allow_responses=True,
        max_subscriptions=6,
    )


def session_sender_grant(tenant: str, session_id: str) -> BusGrant:
    """Return the grant of a robot or camera: send joints and frames into one session, request its worker's clock.

    Its tags name no run, so the gateway does not accept it as a worker's token.
    """
    return BusGrant(
        name=session_id,
        tags=(f"tenant:{tenant}", f"session:{session_id}"),
        publish=(
            *(telemetry_subject(tenant, session_id, name) for name in ("joints", "frames")),
            clock_subject(tenant, session_id),
        ),
    )


def run_identity(tags: Iterable[str]) -> RunIdentity:
    """Return the run that a verified token was issued to.

    Raises:
        SaccadeError: UNAUTHENTICATED, when the tags name no run.
    """
    try:
        found = _RunTags.model_validate(dict(tag.split(":", 1) for tag in tags if ":" in tag))
    except ValidationError:
        raise SaccadeError(
            ErrorCode.UNAUTHENTICATED,
            "The token is valid, but it is not a worker's token.",
            hint="Send the token that the dispatcher issued for this run.",
        ) from None
    return RunIdentity(found.tenant, found.job, found.run)


class _RunTags(BaseModel):
    """Tags of a worker's token."""

    tenant: str = Field(pattern=TENANT_PATTERN)
    job: str = Field(pattern=JOB_ID_PATTERN)
    run: str = Field(pattern=id_pattern("run"))


def _event_subjects(
    tenant: str, noun: str, subject_id: str, durable_verbs: tuple[str, ...], progress_verbs: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the subjects of all events that a worker publishes about its job or session."""
    durable = (subject_of(DURABLE, tenant, noun, subject_id, verb) for verb in durable_verbs)
    return (*durable, *(subject_of(ADVISORY, tenant, noun, subject_id, verb) for verb in progress_verbs))


def _read_subject(tenant: str, noun: str, subject_id: str) -> str:
    """Return the direct-get subject for the newest event of each type of a job or session.

    One wildcard instead of a list of verbs: a token must fit into one line of NATS's protocol.
    """
    return f"$JS.API.DIRECT.GET.{EVENTS.name}.{aggregate(tenant, noun, subject_id)}"
