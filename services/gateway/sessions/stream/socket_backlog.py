"""What waits for one WebSocket of a session, and the sessions' sockets of this process.

Durable events wait in order and none is dropped; of advisory events and joints only the newest of each kind waits.
Past the bound the socket is closed, and its client resumes by its cursor.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Final

from contracts.limits import MIB
from contracts.telemetry import JointBatch
from kit.bus.event_store import StoredEvent

_DURABLE_EVENTS: Final = 1000
_DURABLE_BYTES: Final = 4 * MIB
_REPLIES: Final = 1000
#: Events of a session after which nothing comes.
ENDS: Final = frozenset({"stopped", "failed"})


class SocketBacklog:
    """One socket's backlog. All methods are called in the event loop."""

    def __init__(self, epoch: str, position: int) -> None:
        """Begin after ``position`` in this incarnation of the stream."""
        self._epoch = epoch
        self._durable: deque[StoredEvent] = deque()
        self._durable_bytes = 0
        self._advisory: dict[str, bytes] = {}
        self._joints: dict[str, JointBatch] = {}
        self._replies: deque[str] = deque()
        self.news = asyncio.Event()
        self.position = position
        #: The session's last event was written.
        self.ended = False
        #: Its client takes too little: what was to be kept for it was thrown away.
        self.too_slow = False

    def offer(self, stored: StoredEvent) -> None:
        """Keep a durable event, unless it was written already."""
        if stored.sequence <= self.position or self.too_slow:
            return
        self._durable.append(stored)
        self._durable_bytes += len(stored.body)
        if len(self._durable) > _DURABLE_EVENTS or self._durable_bytes > _DURABLE_BYTES:
            self._give_up()
        self.news.set()

    def offer_advisory(self, event_type: str, body: bytes) -> None:
        """Keep the newest advisory event of its type."""
        self._advisory[event_type] = body
        self.news.set()

    def offer_joints(self, batch: JointBatch) -> None:
        """Keep the newest joints of their robot."""
        self._joints[batch.source] = batch
        self.news.set()

    def reply(self, text: str) -> None:
        """Keep an answer of our own."""
        self._replies.append(text)
        if len(self._replies) > _REPLIES:
            self._give_up()
        self.news.set()

    def take(self) -> list[str]:
        """Give what is to be written now, in order, and keep it no longer; after events, how far they go."""
        texts = list(self._replies)
        self._replies.clear()
        reached = self.position
        while self._durable and not self.ended:
            stored = self._durable.popleft()
            if stored.sequence > self.position:
                texts.append(self.written(stored))
        if self.position > reached:
            texts.append(self.cursor())
        self._durable_bytes = 0
        if not self.ended:
            texts += [body.decode() for body in self._advisory.values()]
            texts += [_joints(batch) for batch in self._joints.values()]
        self._advisory.clear()
        self._joints.clear()
        self.news.clear()
        return texts

    def written(self, stored: StoredEvent) -> str:
        """Note that an event is written, and give its text."""
        self.position = stored.sequence
        self.ended = self.ended or stored.subject.rpartition(".")[2] in ENDS
        return stored.body.decode()

    def cursor(self) -> str:
        """Write how far the events go: what a client resumes after."""
        return json.dumps({"type": "cursor", "cursor": f"{self._epoch}.{self.position}"})

    def _give_up(self) -> None:
        self.too_slow = True
        self._durable.clear()
        self._replies.clear()


class OpenSockets:
    """The open sockets of every session in this process."""

    def __init__(self) -> None:
        """There are none."""
        self._viewers: dict[str, set[SocketBacklog]] = {}

    def add(self, session_id: str, viewer: SocketBacklog) -> None:
        """Give a socket what happens from now on."""
        self._viewers.setdefault(session_id, set()).add(viewer)

    def remove(self, session_id: str, viewer: SocketBacklog) -> None:
        """Forget a socket."""
        viewers = self._viewers.get(session_id, set())
        viewers.discard(viewer)
        if not viewers:
            self._viewers.pop(session_id, None)

    def on_event(self, stored: StoredEvent) -> None:
        """Give a stored event of a session to its sockets."""
        for viewer in self._viewers.get(stored.subject.split(".")[4], ()):
            viewer.offer(stored)

    def on_advisory(self, session_id: str, event_type: str, body: bytes) -> None:
        """Give an advisory event of a session to its sockets."""
        for viewer in self._viewers.get(session_id, ()):
            viewer.offer_advisory(event_type, body)

    def __len__(self) -> int:
        """Count the sockets."""
        return sum(map(len, self._viewers.values()))


def _joints(batch: JointBatch) -> str:
    return '{"type":"joints",' + batch.model_dump_json(exclude_none=True)[1:]
