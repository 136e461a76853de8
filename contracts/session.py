"""Live session, folded from its events; its worker is the job with the same UUID (docs/adr/0008)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.copies import copied
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EVENT_CLASSES, Envelope, EventData, decode_at
from contracts.events.session import (
    FrameTotals,
    SessionAlert,
    SessionCancelRequested,
    SessionChunkExported,
    SessionFailed,
    SessionOpened,
    SessionPromptRequested,
    SessionReady,
    SessionResetRequested,
    SessionStarted,
    SessionStopped,
    SessionStopRequested,
    SessionText,
    StopReason,
)
from contracts.ids import is_id, new_id
from contracts.limits import SESSION_PROMPTS
from contracts.workload import Result


class SessionState(StrEnum):
    """State of a session."""

    OPENING = "opening"
    READY = "ready"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether the session has ended."""
        return self in (SessionState.STOPPED, SessionState.FAILED)


@dataclass(frozen=True)
class Session:
    """One session, folded from its events."""

    id: str
    tenant: str
    opened: SessionOpened
    created_at: datetime
    first_sequence: int
    sequence: int
    updated_at: datetime
    state: SessionState = SessionState.OPENING
    ready_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stop_requested: bool = False
    #: Sequence of the newest reset request; earlier frames do not count any more.
    reset_sequence: int = 0
    chunk: SessionChunkExported | None = None
    #: The newest text and alert.
    text: SessionText | None = None
    alert: SessionAlert | None = None
    #: Questions without an answer, oldest first.
    prompts: tuple[SessionPromptRequested, ...] = ()
    #: Sequence of the newest request to end the text that is being generated.
    cancel_sequence: int = 0
    stopped: SessionStopped | None = None
    failed: SessionFailed | None = None
    #: Its model was discarded after its end, by a client of the replaced splat server.
    cleared: bool = False

    @property
    def totals(self) -> FrameTotals:
        """Frame totals of the newest durable event."""
        if self.stopped is not None:
            return self.stopped.totals
        return FrameTotals() if self.chunk is None else self.chunk.totals


class SessionLaunch(BaseModel):
    """Parameters of the job that is a session's worker."""

    model_config = ConfigDict(frozen=True)

    session_id: str
    idle_timeout_s: float
    max_length_s: float
    opened_at: datetime
    replay_of: str | None = None
    params: dict[str, Any]


class SessionResult(Result):
    """Result of a session's worker; a workload may add fields."""

    reason: StopReason
    chunks: int
    totals: FrameTotals
    figures: dict[str, Any]


def job_id_of_session(session_id: str) -> str:
    """Return the id of the job that is a session's worker."""
    return "job_" + session_id.removeprefix("ses_")


def session_id_of_job(job_id: str) -> str:
    """Return the id of the session whose worker a job would be."""
    return "ses_" + job_id.removeprefix("job_")


def session_launch_of(job_id: str, params: Mapping[str, Any]) -> SessionLaunch | None:
    """Parse the parameters of a session's worker; return None if the job is not a session's worker."""
    try:
        launch = SessionLaunch.model_validate(params)
    except ValidationError:
        return None
    return launch if launch.session_id == session_id_of_job(job_id) else None


def telemetry_subject(tenant: str, session_id: str, name: str) -> str:
    """Return the NATS subject of a session's ``joints``, ``frames`` or ``acks``.

    Raises:
        ValueError: the session's id is malformed.
    """
    if not is_id(session_id, "ses"):
        raise ValueError(f"not a session: {session_id!r}")
    return f"saccade.tele.{tenant}.session.{session_id}.{name}"


def clock_subject(tenant: str, session_id: str) -> str:
    """Return the NATS subject of requests for the time of a session's worker."""
    return f"saccade.clock.{tenant}.session.{session_id}"


def telemetry_request_subject(tenant: str, run_id: str, session_id: str) -> str:
    """Return the NATS subject on which a run requests a session's telemetry, recorded and new.

    Raises:
        ValueError: an id is malformed.
    """
    if not is_id(run_id, "run") or not is_id(session_id, "ses"):
        raise ValueError(f"not a run and a session: {run_id!r}, {session_id!r}")
    return f"saccade.feed.{tenant}.{run_id}.{session_id}"


def telemetry_delivery_subject(tenant: str, run_id: str, name: str) -> str:
    """Return the NATS subject on which a run receives telemetry; the run chooses a new ``name`` for each request."""
    return f"saccade.fed.{tenant}.{run_id}.{name}"


def fold(session: Session | None, envelope: Envelope, sequence: int) -> Session | None:
    """Apply one event and return the session; ``session`` is None before ``session.opened``."""
    data = envelope.parsed() if envelope.type in EVENT_CLASSES else None
    at = envelope.time
    if isinstance(data, SessionOpened):
        if session is not None:
            return session
        return Session(envelope.subject, envelope.tenant, data, at, sequence, sequence, at)
    if session is None or sequence <= session.sequence:
        return session
    session = copied(session, sequence=sequence, updated_at=at)
    if session.state.ended:
        return copied(session, cleared=True) if isinstance(data, SessionResetRequested) else session
    match data:
        case SessionReady():
            opening = session.state is SessionState.OPENING
            state = SessionState.READY if opening else session.state
            return copied(session, state=state, ready_at=session.ready_at or at)
        case SessionStarted():
            state = session.state if session.stop_requested else SessionState.RUNNING
            return copied(session, state=state, started_at=session.started_at or at)
        case SessionStopRequested():
            return copied(session, state=SessionState.STOPPING, stop_requested=True)
        case SessionResetRequested():
            return copied(session, reset_sequence=sequence)
        case SessionChunkExported():
            return copied(session, chunk=data)
        case SessionStopped():
            return copied(session, state=SessionState.STOPPED, finished_at=at, stopped=data)
        case SessionFailed():
            return copied(session, state=SessionState.FAILED, finished_at=at, failed=data)
    return _fold_words(session, data, sequence)


def _fold_words(session: Session, data: EventData | None, sequence: int) -> Session:
    """Apply the texts and alerts of a worker that describes the video, and the requests to it."""
    match data:
        case SessionText():
            unanswered = tuple(prompt for prompt in session.prompts if prompt.prompt_id != data.prompt_id)
            return copied(session, text=data, prompts=unanswered)
        case SessionAlert():
            return copied(session, alert=data)
        case SessionPromptRequested():
            return copied(session, prompts=(*session.prompts, data))
        case SessionCancelRequested():
            return copied(session, cancel_sequence=sequence)
    return session


def fold_stored(session: Session | None, subject: str, body: bytes, sequence: int) -> Session | None:
    """Apply one stored event. An undecodable event, or one of another subject, changes only the sequence."""
    try:
        return fold(session, decode_at(subject, body), sequence)
    except ValueError:
        return copied(session, sequence=sequence) if session is not None and sequence > session.sequence else session


def request_stop(session: Session, by: str) -> SessionStopRequested | None:
    """Return the request to stop a session; None if it was requested before or the session has ended."""
    return None if session.stop_requested or session.state.ended else SessionStopRequested(by=by)


def request_clear(session: Session, by: str) -> SessionResetRequested | None:
    """Return the request to discard the model of a session that has ended; None if it was requested before.

    Raises:
        SaccadeError: SESSION_ENDED, while its worker still finishes its work.
    """
    if not session.state.ended:
        raise SaccadeError(
            ErrorCode.SESSION_ENDED, f"The session is {session.state}: reset it again when it has ended."
        )
    return None if session.cleared else SessionResetRequested(by=by)


def request_reset(session: Session, by: str) -> SessionResetRequested:
    """Return the request to reset a session.

    Raises:
        SaccadeError: SESSION_ENDED.
    """
    _check_accepts(session)
    return SessionResetRequested(by=by)


def request_prompt(
    session: Session, text: str, by: str, answer_schema: dict[str, Any] | None = None
) -> SessionPromptRequested:
    """Return a question about the live video, with a new id.

    Raises:
        SaccadeError: SESSION_ENDED; TOO_MANY_PROMPTS.
    """
    _check_accepts(session)
    if len(session.prompts) >= SESSION_PROMPTS:
        raise SaccadeError(ErrorCode.TOO_MANY_PROMPTS, f"{len(session.prompts)} questions of this session are waiting.")
    return SessionPromptRequested(prompt_id=new_id("prm"), text=text, answer_schema=answer_schema, by=by)


def request_text_cancel(session: Session, by: str) -> SessionCancelRequested:
    """Return the request to end the text that is being generated.

    Raises:
        SaccadeError: SESSION_ENDED.
    """
    _check_accepts(session)
    return SessionCancelRequested(by=by)


def _check_accepts(session: Session) -> None:
    if session.state.ended or session.stop_requested:
        raise SaccadeError(ErrorCode.SESSION_ENDED, f"The session is {session.state}.")
