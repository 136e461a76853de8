"""Events as server-sent events: frames made once, cursors and selections. Pure; knows no connection."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.events.job import JobCancelled, JobFailed, JobRetrying, JobSubmitted, JobSucceeded
from contracts.ids import STAGE_PREFIX
from kit.bus.event_store import StoredEvent
from services.notifier.envelope_check import check_at

#: A comment line. One newline, not two: some clients take an empty block for a message.
HEARTBEAT: Final = b":\n"
#: Types with which the history of one thing begins.
BEGINS: Final = frozenset({JobSubmitted.type, "session.opened"})
#: Types after which a stream of one thing ends, and those after which it goes on once more.
ENDS: Final = frozenset({JobSucceeded.type, JobFailed.type, JobCancelled.type, "session.stopped", "session.failed"})
REOPENS: Final = frozenset({JobRetrying.type})
_ENDINGS: Final = dict.fromkeys(ENDS, True) | dict.fromkeys(REOPENS, False)

_TYPE: Final = re.compile(r"[a-z]+\.([a-z_]+|\*)")
_NOUNS: Final = {"job": "job", "stg": "job", "ses": "session", "upl": "upload", "whk": "webhook"}
_LONGEST_CURSOR: Final = 64


@dataclass(slots=True, eq=False)
class StreamEvent:
    """One event on its way out; its frame is made when the first client wants it, and shared by all."""

    tenant: str
    noun: str
    subject_id: str
    type: str
    body: bytes
    epoch: str
    #: 0 for progress, which is not stored for ever and moves no cursor.
    sequence: int = 0
    #: Whether its thing ends with it (True) or goes on once more (False); None for all others.
    ends: bool | None = field(init=False)
    #: The event as one block; the data is its own bytes.
    frame: bytes = field(init=False, repr=False)
    #: The block as one chunk of an HTTP/1.1 body.
    chunk: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Look up what the type says."""
        self.ends = _ENDINGS.get(self.type)

    @classmethod
    def of(cls, subject: str, body: bytes, epoch: str, sequence: int = 0) -> StreamEvent:
        """Read where an event belongs from its NATS subject.

        Raises:
            ValueError: it is not a subject of ours, or the event does not belong on it.
        """
        tenant, noun, subject_id, verb = check_at(subject, body)
        return cls(tenant, noun, subject_id, f"{noun}.{verb}", body, epoch, sequence)

    @classmethod
    def stored(cls, stored: StoredEvent, epoch: str) -> StreamEvent:
        """Read an event of the stream."""
        return cls.of(stored.subject, stored.body, epoch, stored.sequence)

    def __getattr__(self, name: str) -> bytes:
        """Make what is asked for the first time; every client after that reads it as it is."""
        if name not in {"frame", "chunk"}:
            raise AttributeError(name)
        made = frame(self.type, self.body, f"{self.epoch}.{self.sequence}" if self.sequence else None)
        if name == "chunk":  # without keeping the frame too: few need both, and the ring holds thousands
            made = chunk(made)
        setattr(self, name, made)
        return made


def frame(event: str, data: bytes, cursor: str | None = None) -> bytes:
    """Write one block; ``id`` only stands on what a client can resume after.

    It comes last: some clients (@microsoft/fetch-event-source 2.0) note it as soon as its line has come, and would
    resume after an event of which the connection's end cut off the data.
    """
    if b"\n" in data or b"\r" in data:  # between JSON tokens, where a newline means as much as a space
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    end = f"\nid: {cursor}\n\n" if cursor else "\n\n"
    return b"".join((f"event: {event}\ndata: ".encode(), data, end.encode()))


def chunk(data: bytes) -> bytes:
    """Frame a part of a body of HTTP/1.1's chunked transfer coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def control_frame(event: str, fields: dict[str, Any]) -> bytes:
    """Write a block of the stream's own, which never carries an id."""
    return frame(event, json.dumps(fields, separators=(",", ":")).encode())


def retry_line() -> bytes:
    """Say how long a client waits before it comes back: spread, so that they do not come all at once."""
    return b"retry: %d\n" % random.randint(2000, 5000)  # noqa: S311 - spreads clients, keeps no secret


@dataclass(frozen=True, slots=True)
class Selection:
    """What one stream shows: one tenant's events, of one thing or of all, of some types or of all."""

    tenant: str
    subject_id: str | None = None
    types: frozenset[str] = field(default=frozenset())
    #: Of several things, where it is of neither one nor all.
    among: frozenset[str] = field(default=frozenset())
    #: The stream is of one thing, shows its whole history and ends with it.
    ends: bool = False

    @property
    def noun(self) -> str:
        """Name what kind of thing the subject is."""
        return _NOUNS.get((self.subject_id or "")[:3], "*")

    @property
    def subjects(self) -> str:
        """Name the NATS subjects that hold all of it."""
        return f"saccade.evt.{self.tenant}.{self.noun}.{self.subject_id or '*'}.*"

    def takes(self, event: StreamEvent) -> bool:
        """Tell whether an event belongs to the stream; the tenant is checked here on every path."""
        if event.tenant != self.tenant or (self.subject_id is not None and event.subject_id != self.subject_id):
            return False
        if self.among and event.subject_id not in self.among:
            return False
        if self.subject_id is None and not self.among and event.subject_id.startswith(STAGE_PREFIX):
            return False  # its pipeline says what matters of it
        return not self.types or event.type in self.types or f"{event.noun}.*" in self.types


def parse_types(given: list[str]) -> frozenset[str]:
    """Read ``types=job.succeeded,job.failed`` or ``types=job.*``.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    types = frozenset(name.strip() for text in given for name in text.split(",") if name.strip())
    for name in types:
        if not _TYPE.fullmatch(name) or len(types) > 50:
            message = f"types: {name[:80]!r} is not an event type."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Write types=job.succeeded,job.failed.")
    return types


def parse_since(text: str, now: datetime) -> Cursor | datetime:
    """Read a cursor, an RFC 3339 time, or seconds before now.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    text = text.strip()
    if re.fullmatch(r"\d{1,9}s?", text):
        return datetime.fromtimestamp(now.timestamp() - int(text.removesuffix("s")), UTC)
    try:
        return Cursor.parse(text)
    except ValueError:
        pass
    try:
        # A plus sign that was not escaped in the query arrives as a space.
        moment = datetime.fromisoformat(re.sub(r" (\d\d:\d\d)$", r"+\1", text))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"since: {text[:80]!r} is not a cursor, a time or a number of seconds."
        hint = "Write since=2026-01-31T12:00:00Z, since=3600 for the last hour, or a cursor."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint) from error


def parse_cursor(*given: str | None) -> Cursor | None:
    """Read the first cursor that was given.

    What is no cursor counts as one of an unknown epoch, which a client is told by a ``gap``: an error status would
    end a browser's EventSource for ever.
    """
    text = next((one.strip() for one in given if one and one.strip()), None)
    if text is None:
        return None
    try:
        return Cursor.parse(text)
    except ValueError:
        return Cursor(text[:_LONGEST_CURSOR], 0)
