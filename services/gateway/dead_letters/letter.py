"""A dead letter of any kind, and how letters are grouped by their error. Pure.

Its id says its kind: the number of an event's letter, ``whk_…:17`` (endpoint and sequence of the event) of a delivery,
and the job's own id of a failed job.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, Literal

from contracts.audit import SYSTEM, Act
from contracts.commands import DISPATCHER
from contracts.events.base import decode_at
from contracts.events.delivery import WebhookFailed
from contracts.events.job import JobFailed
from contracts.ids import JOB_ID_PATTERN, STAGE_PREFIX, id_pattern, is_job_id
from kit.bus.dead_letters import DeadLetter
from kit.bus.event_store import StoredEvent

#: Noun of the records of acts on dead letters.
NOUN: Final = "dead_letter"
_NUMBER: Final = "[1-9][0-9]{0,17}"
LETTER_ID_PATTERN: Final = (
    f"^{_NUMBER}$|{JOB_ID_PATTERN}|{id_pattern('whk')[:-1]}:{_NUMBER}$|{id_pattern('job')[:-1]}:{_NUMBER}$"
)
#: Services that give up what is not an event's letter.
NOTIFIER: Final = "notifier"

_ID: Final = re.compile(r"\b[a-z]{2,5}_[0-9a-f]{8}-[0-9a-f-]{27}[\w-]*|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_HASH: Final = re.compile(r"\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b")
_FIGURE: Final = re.compile(r"\d+(?:\.\d+)?")
_ERROR_CHARS: Final = 500


class Kind(StrEnum):
    """Kind of a dead letter."""

    EVENT = "event"
    DELIVERY = "delivery"
    JOB = "job"


class LetterState(StrEnum):
    """State of a letter."""

    OPEN = "open"
    #: Its delivery or its job was ordered again. If that fails too, the letter is open again, with a further attempt.
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


#: What a re-drive does.
Action = Literal["handle", "refold", "redeliver", "retry"]


@dataclass(frozen=True)
class Letter:
    """A dead letter."""

    id: str
    kind: Kind
    tenant: str
    #: Consumer of an event, or the service that gave up.
    service: str
    #: Type of the event, as far as its subject tells.
    type: str
    #: Id of the job, upload, … that it is about.
    subject: str
    time: datetime
    error: str
    #: Errors of the same cause have the same group.
    group: str
    #: How often it was tried, in all.
    attempt: int
    #: Sequence of the record of this fault in its stream: another fault of the same thing has another one.
    fault: int
    #: What a re-drive does; None: no command can do it.
    action: Action | None
    #: What is known besides.
    details: dict[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def place(self) -> tuple[int, str]:
        """Place in a list: by time, in microseconds, then by id."""
        return round(self.time.timestamp() * 1_000_000), self.id

    @cached_property
    def group_id(self) -> str:
        """Id of its group of errors: of the same service and with the same words."""
        return hashlib.sha256(f"{self.service}\n{self.group}".encode()).hexdigest()[:12]

    def act(self, plan: str | None = None) -> Act:
        """Return an act on it; ``plan`` is the plan of many acts that it belongs to."""
        about: dict[str, Any] = {"kind": self.kind.value, "service": self.service, "type": self.type}
        about |= {"subject": self.subject, "attempt": self.attempt, "fault": self.fault, "error": self.error}
        return Act(self.tenant or SYSTEM, NOUN, self.id, about | ({"plan": plan} if plan else {}))


def normalised(text: str) -> str:
    """Return an error without what differs from one letter to the next: ids and numbers."""
    return _FIGURE.sub("N", _HASH.sub("ID", _ID.sub("ID", text)))


def of_dead_letter(found: DeadLetter, at: datetime) -> Letter:
    """Return the letter of an event that a handler could not process."""
    action: Action | None = None
    if found.consumer.startswith(f"{DISPATCHER}-"):
        action = "handle"
    elif found.consumer == DISPATCHER and is_job_id(found.subject_id):
        action = "refold"
    verb = found.subject.rpartition(".")[2]
    return Letter(
        id=str(found.number),
        kind=Kind.EVENT,
        tenant=found.tenant,
        service=found.consumer,
        type=f"{found.noun}.{verb}" if found.noun else "",
        subject=found.subject_id,
        time=at,
        error=found.error[:_ERROR_CHARS],
        group=normalised(found.error),
        attempt=found.deliveries,
        fault=found.number,
        action=action,
        details={"stream": found.stream, "sequence": found.sequence, "event_subject": found.subject},
    )


def delivery_id(endpoint_id: str, sequence: int) -> str:
    """Return the id of the letter of an event's delivery to an endpoint."""
    return f"{endpoint_id}:{sequence}"


def of_delivery(stored: StoredEvent) -> Letter | None:
    """Return the letter of a failed attempt to deliver; None while further attempts follow.

    Raises:
        ValueError: it is no such record.
    """
    envelope = decode_at(stored.subject, stored.body)
    data = envelope.parsed()
    if not isinstance(data, WebhookFailed):
        raise ValueError(f"{envelope.type} is no failed attempt")  # noqa: TRY004 - the value is wrong, not its type
    if data.next_attempt_at is not None or envelope.data.get("replay"):
        return None
    error = f"{data.error} {data.status}" if data.status is not None else data.error
    return Letter(
        id=delivery_id(data.endpoint_id, data.sequence),
        kind=Kind.DELIVERY,
        tenant=envelope.tenant,
        service=NOTIFIER,
        type=data.event_type,
        subject=data.event_subject,
        time=envelope.time,
        error=error,
        group=error,
        attempt=data.attempt,
        fault=stored.sequence,
        action="redeliver" if data.endpoint_id.startswith("whk_") else None,
        details={"endpoint_id": data.endpoint_id, "sequence": data.sequence, "event_id": data.event_id}
        | {"url_origin": data.url_origin, "response_excerpt": data.response_excerpt},
    )


def of_job(stored: StoredEvent) -> Letter | None:
    """Return the letter of a failed job; None for the job of a pipeline's stage, whose pipeline fails too.

    Raises:
        ValueError: it is no such event.
    """
    envelope = decode_at(stored.subject, stored.body)
    data = envelope.parsed()
    if not isinstance(data, JobFailed):
        raise ValueError(f"{envelope.type} is no failure of a job")  # noqa: TRY004 - the value is wrong, not its type
    if envelope.subject.startswith(STAGE_PREFIX):
        return None
    error = f"{data.error.code.value}: {data.error.message}"[:_ERROR_CHARS]
    # Of 100,000s of failed jobs most fail with the same words: kept once, a letter takes a third less memory.
    return Letter(
        id=envelope.subject,
        kind=Kind.JOB,
        tenant=sys.intern(envelope.tenant),
        service=DISPATCHER,
        type=sys.intern(envelope.type),
        subject=envelope.subject,
        time=envelope.time,
        error=sys.intern(error),
        group=sys.intern(f"{data.error.code.value}: {normalised(data.error.message)}"[:_ERROR_CHARS]),
        attempt=data.attempt,
        fault=stored.sequence,
        action="retry",
        details={
            "failure": sys.intern(data.failure),
            "code": data.error.code.value,
            "hint": sys.intern(data.error.hint),
        },
    )
