"""Server-sent events: shared frames, cursors and selections. Pure; no connection."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.events.job import JobCancelled, JobFailed, JobRetrying, JobSubmitted, JobSucceeded
from contracts.ids import NOUNS_BY_PREFIX, STAGE_PREFIX
from kit.bus.event_store import StoredEvent
from kit.http.point_in_time import parse_point
from services.notifier.envelope_check import check_envelope

#: A comment line. One newline, not two: some clients treat an empty block as a message.
HEARTBEAT: Final = b":\n"
#: The heartbeat of a stream whose history is still being read: a long one can have no event of the wanted types.
READING: Final = b": reading\n"
#: The comment line behind the history: a client that wants the past only has all of it, however long that took.
LIVE: Final = b": live\n"
#: First event types of a job or session.
BEGINS: Final = frozenset({JobSubmitted.type, "session.opened"})
#: Event types that end the stream of a job or session, and those that reopen it.
ENDS: Final = frozenset({JobSucceeded.type, JobFailed.type, JobCancelled.type, "session.stopped", "session.failed"})
REOPENS: Final = frozenset({JobRetrying.type})
_ENDS_BY_TYPE: Final = dict.fromkeys(ENDS, True) | dict.fromkeys(REOPENS, False)

_TYPE: Final = r"[a-z]+\.([a-z_]+|\*)"
MAX_TYPES: Final = 50
#: Value of the query parameter ``types``, for OpenAPI: names with commas between them, and spaces around each.
TYPES_PATTERN: Final = rf"^( *({_TYPE})? *,)* *({_TYPE})? *$"


@dataclass(slots=True, eq=False)
class StreamEvent:
    """One event to send; its frame is made for the first client and shared by all."""

    tenant: str
    noun: str
    subject_id: str
    type: str
    body: bytes
    epoch: str
    #: 0 for progress, which is not durable and has no cursor.
    sequence: int = 0
    #: True: ends its job or session; False: reopens it; None: neither.
    ends: bool | None = field(init=False)
    #: The event as one SSE block; the data is its own bytes.
    frame: bytes = field(init=False, repr=False)
    #: The block as one chunk of an HTTP/1.1 body.
    chunk: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Set ``ends`` by the type."""
        self.ends = _ENDS_BY_TYPE.get(self.type)

    @classmethod
    def of(cls, subject: str, body: bytes, epoch: str, sequence: int = 0) -> StreamEvent:
        """Return the event with this NATS subject and body.

        Raises:
            ValueError: the subject is not an event's, or the envelope does not match it.
        """
        tenant, noun, subject_id, verb = check_envelope(subject, body)
        return cls(tenant, noun, subject_id, f"{noun}.{verb}", body, epoch, sequence)

    @classmethod
    def stored(cls, stored: StoredEvent, epoch: str) -> StreamEvent:
        """Return an event of the stream."""
        return cls.of(stored.subject, stored.body, epoch, stored.sequence)

    def __getattr__(self, name: str) -> bytes:
        """Make a frame or chunk at its first use; later uses read the attribute."""
        if name not in {"frame", "chunk"}:
            raise AttributeError(name)
        value = frame(self.type, self.body, f"{self.epoch}.{self.sequence}" if self.sequence else None)
        if name == "chunk":  # without storing the frame too: few events need both, and the ring holds thousands
            value = chunk(value)
        setattr(self, name, value)
        return value


def frame(event: str, data: bytes, cursor: str | None = None) -> bytes:
    """Return one SSE block; ``id`` is present only if a client can resume after it.

    It comes last: some clients (@microsoft/fetch-event-source 2.0) store it as soon as they read its line, and would
    resume after an event whose data was cut off.
    """
    if b"\n" in data or b"\r" in data:  # between JSON tokens, where a newline equals a space
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    end = f"\nid: {cursor}\n\n" if cursor else "\n\n"
    return b"".join((f"event: {event}\ndata: ".encode(), data, end.encode()))


def chunk(data: bytes) -> bytes:
    """Return a chunk of HTTP/1.1's chunked transfer coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def control_frame(event: str, fields: dict[str, Any]) -> bytes:
    """Return a block about the stream itself, which has no id."""
    return frame(event, json.dumps(fields, separators=(",", ":")).encode())


def stream_head() -> bytes:
    """Return the first bytes of a stream: a comment, and the client's reconnection time.

    The time is random, so that clients do not reconnect together. It counts from its line on; an empty line after it
    would be an empty message to some clients (@microsoft/fetch-event-source 2.0, httpx-sse).
    """
    return HEARTBEAT + b"retry: %d\n" % random.randint(2000, 5000)  # noqa: S311 - spreads reconnects, not a secret


@dataclass(frozen=True, slots=True)
class Selection:
    """Filter of a stream: one tenant's events, by subject and type."""

    tenant: str
    subject_id: str | None = None
    types: frozenset[str] = field(default=frozenset())
    #: Several subjects, if it is neither one nor all.
    subject_ids: frozenset[str] = field(default=frozenset())
    #: The stream is of one job or session, starts with its whole history and ends with it.
    ends: bool = False

    @property
    def noun(self) -> str:
        """Noun of the subject: job, session, upload, rule, group, webhook; ``*`` for all, and for a budget."""
        return NOUNS_BY_PREFIX.get((self.subject_id or "")[:3], "*")

    @property
    def subjects(self) -> str:
        """NATS subjects of the selected events; they may include others."""
        return f"saccade.evt.{self.tenant}.{self.noun}.{self.subject_id or '*'}.*"

    def matches(self, event: StreamEvent) -> bool:
        """Return whether an event belongs to the stream; the tenant is always checked here."""
        if event.tenant != self.tenant or (self.subject_id is not None and event.subject_id != self.subject_id):
            return False
        if self.subject_ids and event.subject_id not in self.subject_ids:
            return False
        if self.subject_id is None and not self.subject_ids and event.subject_id.startswith(STAGE_PREFIX):
            return False  # its pipeline's events report what matters of it
        return not self.types or event.type in self.types or f"{event.noun}.*" in self.types


def parse_types(values: list[str]) -> frozenset[str]:
    """Parse ``types=job.succeeded,job.failed`` or ``types=job.*``.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    types = frozenset(name.strip() for value in values for name in value.split(",") if name.strip())
    if len(types) > MAX_TYPES:
        message = f"types: {len(types)} are given, at most {MAX_TYPES} are allowed."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Write job.* for all events of jobs.")
    for name in types:
        if not re.fullmatch(_TYPE, name):
            message = f"types: {name[:80]!r} is not an event type."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Write types=job.succeeded,job.failed.")
    return types


def parse_since(text: str, now: datetime) -> Cursor | datetime:
    """Parse a cursor, an RFC 3339 time, or seconds before now.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    return parse_point("since", text, now)


def parse_cursor(*values: str | None) -> Cursor | None:
    """Return the first cursor that is present.

    An invalid cursor counts as one of an unknown epoch and causes a ``gap``: an error status would close a browser's
    EventSource permanently.
    """
    text = next((value for value in values if value and value.strip()), None)
    if text is None:
        return None
    try:
        return Cursor.parse(text)
    except ValueError:
        return Cursor("", 0, text)
