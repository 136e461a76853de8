"""Record of a session's telemetry (frames, joints, acknowledgements), written as one body.

The body is a sequence of parts. Each part is four bytes of length (big-endian), a JSON object of that length, and a
payload of the object's ``bytes``. The first part is a summary, then every message follows in stored order, and the
last part marks the end. A body without the last part was cut off and can be resumed after the last received sequence.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import MIB
from contracts.session import Session, telemetry_subject
from contracts.streams import TELEMETRY
from contracts.telemetry import FRAME_CAPTURED, FRAME_CLOCK_OFFSET, FRAME_REFUSED, FRAME_SEQ, FRAME_SOURCE
from kit.bus.connection import request
from kit.bus.event_store import EventStore, StoredEvent

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/vnd.saccade.telemetry"

#: Memory for one reader: this much, and one message.
_BATCH_BYTES: Final = 2 * MIB
_BATCH: Final = 256
_STORED_AT: Final = "Nats-Time-Stamp"
#: Message headers that are part of the record.
_RECORDED_HEADERS: Final = (FRAME_SEQ, FRAME_CAPTURED, FRAME_CLOCK_OFFSET, FRAME_SOURCE, FRAME_REFUSED, "Content-Type")


@dataclass(frozen=True)
class SessionRecord:
    """Stored telemetry of one session up to now; later messages are excluded."""

    store: EventStore
    subjects: str
    #: Stored messages by kind: joints, frames, acks.
    counts: dict[str, int]
    #: Frames that the session's worker has counted; fewer are stored if the older ones have expired.
    frames_sent: int
    #: Sequence of the last message.
    last: int

    @property
    def complete(self) -> bool:
        """Return whether every frame that the worker has counted is still stored."""
        return self.counts.get("frames", 0) >= self.frames_sent

    async def body(self, after: int = 0) -> AsyncIterator[bytes]:
        """Yield the record after a sequence; it ends without the last part if the bus fails."""
        counts = {name: self.counts.get(name, 0) for name in ("joints", "frames", "acks")}
        yield _part({"type": "record", "frames_sent": self.frames_sent, "last": self.last, **counts})
        pending = 1
        try:
            while pending and after < self.last:
                found, pending = await self.store.batch(
                    after, self.subjects, _BATCH, size_bytes=_BATCH_BYTES, with_headers=True
                )
                if not found:
                    break
                after = found[-1].sequence
                for stored in found:
                    if stored.sequence <= self.last:
                        yield _part(_message_header(stored), stored.body)
        except SaccadeError as error:
            log.warning("the record of %s was cut off after sequence %d: %s", self.subjects, after, error)
            return
        yield _part({"type": "end"})


async def open_record(
    client: Client, session: Session, frames_sent: int, *, now: datetime | None = None
) -> SessionRecord:
    """Return the record of a session; ``frames_sent`` is the number of frames that its worker has counted.

    Raises:
        SaccadeError: SESSION_RECORD_EXPIRED or SESSION_NOT_STARTED, if nothing is stored; BUS_UNAVAILABLE.
    """
    subjects = telemetry_subject(session.tenant, session.id, "*")
    info = await request(client, f"STREAM.INFO.{TELEMETRY.name}", {"subjects_filter": subjects})
    if "error" in info:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {info['error'].get('description')}.")
    state: dict[str, Any] = info.get("state") or {}
    count_by_subject: dict[str, int] = state.get("subjects") or {}
    counts = {subject.rpartition(".")[2]: count for subject, count in count_by_subject.items()}
    if not counts:
        max_age = timedelta(seconds=TELEMETRY.max_age_s)
        expired = session.finished_at is not None and session.finished_at + max_age < (now or datetime.now(UTC))
        if frames_sent or expired:
            raise SaccadeError(ErrorCode.SESSION_RECORD_EXPIRED)
        raise SaccadeError(ErrorCode.SESSION_NOT_STARTED, "Nothing was sent into the session.")
    return SessionRecord(EventStore(client, TELEMETRY.name), subjects, counts, frames_sent, int(state["last_seq"]))


def _message_header(stored: StoredEvent) -> dict[str, Any]:
    return {
        "type": stored.subject.rpartition(".")[2],
        "sequence": stored.sequence,
        "stored_at": stored.headers.get(_STORED_AT),
        "headers": {name: stored.headers[name] for name in _RECORDED_HEADERS if name in stored.headers},
        "bytes": len(stored.body),
    }


def _part(header: dict[str, Any], payload: bytes = b"") -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    return len(text).to_bytes(4) + text + payload
