"""A job's state for a client that missed events: the fold of what is left of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from contracts.events.base import decode
from contracts.events.job import JobSubmitted
from contracts.job import Job, fold
from services.notifier.sse import StreamEvent, control_frame

_JOB: Final = TypeAdapter(Job)


def fold_left(events: Iterable[StreamEvent]) -> Job | None:
    """Fold a job's events, in order. Without ``job.submitted`` the job's ``first_sequence`` is 0.

    A job whose beginning is past retention still has a state worth telling; what only its beginning knew is unknown.
    Events of types that this version does not know change nothing: they are streamed all the same.
    """
    job: Job | None = None
    for event in events:
        try:
            envelope = decode(event.body)
            envelope.parsed()
        except (KeyError, ValidationError):
            continue
        if job is None and event.type != JobSubmitted.type:
            unknown = JobSubmitted.model_construct(
                workload="", workload_version="", inputs={}, params={}, deadline=envelope.time
            )
            job = Job(id=envelope.subject, tenant=envelope.tenant, submitted=unknown, created_at=envelope.time)
        job = fold(job, envelope, event.sequence)
    return job


def snapshot_frame(job: Job) -> bytes:
    """Write a job's state as a block. Unknown is null."""
    if job.first_sequence:
        fields: dict[str, Any] = _JOB.dump_python(job, mode="json")
    else:
        known = {name: value for name, value in vars(job).items() if name not in ("submitted", "created_at")}
        fields = json.loads(json.dumps(known, default=_plain)) | {"submitted": None, "created_at": None}
    return control_frame("snapshot", fields)


def _plain(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")
