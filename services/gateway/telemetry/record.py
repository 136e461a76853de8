"""What was streamed into a session and what was said of each frame, as the bus keeps it, written out as one body.

The body is a row of parts, each four bytes of length (big-endian), so much JSON, and ``bytes`` of payload where the
JSON says so: first what there is, then every message in the order in which it was stored, last the word that this was
all. A body without its last part was cut, and is gone on with after the last sequence that came.
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

#: What is held in memory for one reader: so much, and one message.
_BATCH_BYTES: Final = 2 * MIB
_BATCH: Final = 256
_STORED_AT: Final = "Nats-Time-Stamp"
#: Of a message's headers, those that its sender gave it a meaning by.
_TOLD: Final = (FRAME_SEQ, FRAME_CAPTURED, FRAME_CLOCK_OFFSET, FRAME_SOURCE, FRAME_REFUSED, "Content-Type")


@dataclass(frozen=True)
class SessionRecord:
    """What is kept of one session now; what comes later is not of it."""

    store: EventStore
    subjects: str
    #: Messages that are kept, by what they are: joints, frames, acks.
    counts: dict[str, int]
    #: Frames that the session's worker has counted; fewer are kept where the older ones have expired.
    frames_sent: int
    #: The newest sequence of it.
    last: int

    @property
    def whole(self) -> bool:
        """Tell whether every frame that its worker has counted is kept."""
        return self.counts.get("frames", 0) >= self.frames_sent

    async def body(self, after: int = 0) -> AsyncIterator[bytes]:
        """Write the record after a sequence; it ends without its last part where the bus does not answer."""
        told = {name: self.counts.get(name, 0) for name in ("joints", "frames", "acks")}
        yield _part({"type": "record", "frames_sent": self.frames_sent, "last": self.last, **told})
        left = 1
        try:
            while left and after < self.last:
                found, left = await self.store.batch(
                    after, self.subjects, _BATCH, size_bytes=_BATCH_BYTES, with_headers=True
                )
                if not found:
                    break
                after = found[-1].sequence
                for stored in found:
                    if stored.sequence <= self.last:
                        yield _part(_head_of(stored), stored.body)
        except SaccadeError as error:
            log.warning("the record of %s was cut after %d: %s", self.subjects, after, error)
            return
        yield _part({"type": "end"})


async def open_record(
    client: Client, session: Session, frames_sent: int, *, now: datetime | None = None
) -> SessionRecord:
    """Find what is kept of a session, into which ``frames_sent`` frames were sent as far as its worker knows.

    Raises:
        SaccadeError: SESSION_RECORD_EXPIRED, SESSION_NOT_STARTED where there is nothing; BUS_UNAVAILABLE.
    """
    subjects = telemetry_subject(session.tenant, session.id, "*")
    info = await request(client, f"STREAM.INFO.{TELEMETRY.name}", {"subjects_filter": subjects})
    if "error" in info:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {info['error'].get('description')}.")
    state: dict[str, Any] = info.get("state") or {}
    found: dict[str, int] = state.get("subjects") or {}
    counts = {subject.rpartition(".")[2]: count for subject, count in found.items()}
    if not counts:
        kept = timedelta(seconds=TELEMETRY.max_age_s)
        over = session.finished_at is not None and session.finished_at + kept < (now or datetime.now(UTC))
        if frames_sent or over:
            raise SaccadeError(ErrorCode.SESSION_RECORD_EXPIRED)
        raise SaccadeError(ErrorCode.SESSION_NOT_STARTED, "Nothing was sent into the session.")
    return SessionRecord(EventStore(client, TELEMETRY.name), subjects, counts, frames_sent, int(state["last_seq"]))


def _head_of(stored: StoredEvent) -> dict[str, Any]:
    return {
        "type": stored.subject.rpartition(".")[2],
        "sequence": stored.sequence,
        "stored_at": stored.headers.get(_STORED_AT),
        "headers": {name: stored.headers[name] for name in _TOLD if name in stored.headers},
        "bytes": len(stored.body),
    }


def _part(head: dict[str, Any], payload: bytes = b"") -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    return len(text).to_bytes(4) + text + payload
