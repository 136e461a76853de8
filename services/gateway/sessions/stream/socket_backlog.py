"""Send backlog of a session's WebSocket, and the open sockets of this process.

Durable events are kept in order and never dropped; of advisory events and joints, only the newest of each kind.
Above its limit the socket is closed, and the client resumes by its cursor.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Final

from contracts.limits import MIB
from contracts.telemetry import JointBatch
from kit.bus.event_store import StoredEvent

_MAX_DURABLE_EVENTS: Final = 1000
_MAX_DURABLE_BYTES: Final = 4 * MIB
_MAX_REPLIES: Final = 1000
#: Verbs of a session's last event.
_LAST_EVENTS: Final = frozenset({"stopped", "failed"})


class SocketBacklog:
    """Backlog of one socket. All methods are called in the event loop."""

    def __init__(self, epoch: str, position: int) -> None:
        """Start after sequence ``position`` of the stream with this epoch."""
        self._epoch = epoch
        self._durable: deque[StoredEvent] = deque()
        self._durable_bytes = 0
        self._advisory: dict[str, bytes] = {}
        self._joints: dict[str, JointBatch] = {}
        self._replies: deque[str] = deque()
        self.not_empty = asyncio.Event()
        self.position = position
        #: The session's last event was taken.
        self.ended = False
        #: The client reads too slowly: the backlog was discarded.
        self.too_slow = False

    def add_event(self, stored: StoredEvent) -> None:
        """Add a durable event, unless it was sent already."""
        if stored.sequence <= self.position or self.too_slow:
            return
        self._durable.append(stored)
        self._durable_bytes += len(stored.body)
        if len(self._durable) > _MAX_DURABLE_EVENTS or self._durable_bytes > _MAX_DURABLE_BYTES:
            self._discard()
        self.not_empty.set()

    def set_advisory(self, event_type: str, body: bytes) -> None:
        """Replace the advisory event of this type."""
        self._advisory[event_type] = body
        self.not_empty.set()

    def set_joints(self, batch: JointBatch) -> None:
        """Replace the joints of this robot."""
        self._joints[batch.source] = batch
        self.not_empty.set()

    def add_reply(self, text: str) -> None:
        """Add an answer to a message of the client."""
        self._replies.append(text)
        if len(self._replies) > _MAX_REPLIES:
            self._discard()
        self.not_empty.set()

    def take(self) -> list[str]:
        """Remove and return the messages to send now, in order; after events follows a cursor message."""
        texts = list(self._replies)
        self._replies.clear()
        reached = self.position
        while self._durable and not self.ended:
            stored = self._durable.popleft()
            if stored.sequence > self.position:
                texts.append(self.event_text(stored))
        if self.position > reached:
            texts.append(self.cursor_text())
        self._durable_bytes = 0
        if not self.ended:
            texts += [body.decode() for body in self._advisory.values()]
            texts += [_joints_text(batch) for batch in self._joints.values()]
        self._advisory.clear()
        self._joints.clear()
        self.not_empty.clear()
        return texts

    def event_text(self, stored: StoredEvent) -> str:
        """Advance the position to an event and return the event's text."""
        self.position = stored.sequence
        self.ended = self.ended or stored.subject.rpartition(".")[2] in _LAST_EVENTS
        return stored.body.decode()

    def cursor_text(self) -> str:
        """Return the message with the cursor after which a client resumes."""
        return json.dumps({"type": "cursor", "cursor": f"{self._epoch}.{self.position}"})

    def _discard(self) -> None:
        self.too_slow = True
        self._durable.clear()
        self._replies.clear()


class OpenSockets:
    """Open sockets of this process, by session."""

    def __init__(self) -> None:
        """Start without sockets."""
        self._backlogs: dict[str, set[SocketBacklog]] = {}

    def add(self, session_id: str, backlog: SocketBacklog) -> None:
        """Register a socket: it receives events from now on."""
        self._backlogs.setdefault(session_id, set()).add(backlog)

    def remove(self, session_id: str, backlog: SocketBacklog) -> None:
        """Remove a socket."""
        backlogs = self._backlogs.get(session_id, set())
        backlogs.discard(backlog)
        if not backlogs:
            self._backlogs.pop(session_id, None)

    def on_event(self, stored: StoredEvent) -> None:
        """Add a stored session event to the backlogs of its session."""
        for backlog in self._backlogs.get(stored.subject.split(".")[4], ()):
            backlog.add_event(stored)

    def on_advisory(self, session_id: str, event_type: str, body: bytes) -> None:
        """Set an advisory event in the backlogs of its session."""
        for backlog in self._backlogs.get(session_id, ()):
            backlog.set_advisory(event_type, body)

    def __len__(self) -> int:
        """Return the number of open sockets."""
        return sum(map(len, self._backlogs.values()))


def _joints_text(batch: JointBatch) -> str:
    return '{"type":"joints",' + batch.model_dump_json(exclude_none=True)[1:]
