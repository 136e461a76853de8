"""Send backlog of a session's WebSocket.

Durable events are kept in order and never dropped; of advisory events and joints, only the newest of each kind.
Above its limit the socket is closed, and the client resumes by its cursor.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Final

from contracts.events.session import SessionTextDelta
from contracts.limits import MIB
from kit.bus.event_store import StoredEvent

_MAX_DURABLE_EVENTS: Final = 1000
_MAX_DURABLE_BYTES: Final = 4 * MIB
_MAX_REPLIES: Final = 1000
#: Robots of a session, named by who sends, whose joints wait; beyond, the oldest are left out.
_MAX_SOURCES: Final = 16
_MAX_JOINT_CHARS: Final = 1 * MIB
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
        self._joints: dict[str, str] = {}
        self._replies: deque[str] = deque()
        self.not_empty = asyncio.Event()
        self.position = position
        #: The session's last event was taken.
        self.ended = False
        #: The client reads too slowly: the backlog was discarded.
        self.too_slow = False
        #: The service stops.
        self.leaving = False

    def add_event(self, stored: StoredEvent) -> None:
        """Add a durable event, unless it was sent already."""
        if stored.sequence <= self.position or self.too_slow:
            return
        self._durable.append(stored)
        if stored.subject.endswith(".text"):
            self._advisory.pop(SessionTextDelta.type, None)  # of this text, which is complete now
        self._durable_bytes += len(stored.body)
        if len(self._durable) > _MAX_DURABLE_EVENTS or self._durable_bytes > _MAX_DURABLE_BYTES:
            self._discard()
        self.not_empty.set()

    def set_advisory(self, event_type: str, body: bytes) -> None:
        """Replace the advisory event of this type."""
        self._advisory[event_type] = body
        self.not_empty.set()

    def set_joints(self, source: str, text: str) -> None:
        """Replace the joints of this robot."""
        self._joints.pop(source, None)
        self._joints[source] = text  # the newest last
        while len(self._joints) > 1 and (
            len(self._joints) > _MAX_SOURCES or sum(map(len, self._joints.values())) > _MAX_JOINT_CHARS
        ):
            del self._joints[next(iter(self._joints))]
        self.not_empty.set()

    def add_reply(self, text: str) -> None:
        """Add an answer to a message of the client."""
        self._replies.append(text)
        if len(self._replies) > _MAX_REPLIES:
            self._discard()
        self.not_empty.set()

    def take_replies(self) -> list[str]:
        """Remove and return the answers to messages of the client."""
        texts = list(self._replies)
        self._replies.clear()
        return texts

    def take(self) -> list[str]:
        """Remove and return the messages to send now, in order; after events follows a cursor message."""
        texts = self.take_replies()
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
            texts += self._joints.values()
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
        return json.dumps({"type": "cursor", "cursor": self.cursor})

    @property
    def cursor(self) -> str:
        """Return the cursor after which a client resumes."""
        return f"{self._epoch}.{self.position}"

    def _discard(self) -> None:
        self.too_slow = True
        self._durable.clear()
        self._replies.clear()
