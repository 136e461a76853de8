"""State of a job or session for a client that missed events: the fold of the events that are still stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from contracts import session as sessions
from contracts.events.base import Envelope, decode
from contracts.events.job import JobSubmitted
from contracts.events.session import SessionOpened
from contracts.job import Job, fold
from contracts.session import Session
from services.notifier.streams.sse import StreamEvent, control_frame

_JOB: Final = TypeAdapter(Job)
_SESSION: Final = TypeAdapter(Session)


def fold_partial_job(events: Iterable[StreamEvent]) -> Job | None:
    """Fold a job's events, in order. Without ``job.submitted`` the job's ``first_sequence`` is 0.

    A job whose first events are past retention still has a state; only what those events contained is unknown.
    Events of unknown types are ignored here: they are streamed all the same.
    """
    job: Job | None = None
    for event, envelope in _known(events):
        if job is None and event.type != JobSubmitted.type:
            unknown = JobSubmitted.model_construct(
                workload="", workload_version="", inputs={}, params={}, deadline=envelope.time
            )
            job = Job(id=envelope.subject, tenant=envelope.tenant, submitted=unknown, created_at=envelope.time)
        job = fold(job, envelope, event.sequence)
    return job


def fold_partial_session(events: Iterable[StreamEvent]) -> Session | None:
    """Fold a session's events, in order. Without ``session.opened`` the session's ``first_sequence`` is 0."""
    session: Session | None = None
    for event, envelope in _known(events):
        if session is None and event.type != SessionOpened.type:
            unknown = SessionOpened.model_construct(
                workload="", workload_version="", params={}, idle_timeout_s=0.0, max_length_s=0.0
            )
            at = envelope.time
            session = Session(
                envelope.subject, envelope.tenant, unknown, at, first_sequence=0, sequence=0, updated_at=at
            )
        session = sessions.fold(session, envelope, event.sequence)
    return session


def snapshot_frame(state: Job | Session) -> bytes:
    """Return the state of a job or session as a frame. Unknown fields are null."""
    first_event = "submitted" if isinstance(state, Job) else "opened"
    if state.first_sequence:
        adapter: TypeAdapter[Any] = _JOB if isinstance(state, Job) else _SESSION
        fields: dict[str, Any] = adapter.dump_python(state, mode="json")
    else:
        known = {name: value for name, value in vars(state).items() if name not in (first_event, "created_at")}
        fields = json.loads(json.dumps(known, default=_plain)) | {first_event: None, "created_at": None}
    return control_frame("snapshot", fields)


def _known(events: Iterable[StreamEvent]) -> Iterator[tuple[StreamEvent, Envelope]]:
    for event in events:
        try:
            envelope = decode(event.body)
            envelope.parsed()
        except (KeyError, ValidationError):
            continue
        yield event, envelope


def _plain(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")
