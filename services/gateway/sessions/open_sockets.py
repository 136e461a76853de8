"""Open sockets of this process, and other readers of the events of sessions."""

from __future__ import annotations

from typing import Protocol

from kit.bus.event_store import StoredEvent


class SessionEventReader(Protocol):
    """Reader of the events of a session: the backlog of a socket, or another reader in this process."""

    def add_event(self, stored: StoredEvent, /) -> None:
        """Add a durable event."""

    def set_advisory(self, event_type: str, body: bytes, /) -> None:
        """Replace the advisory event of this type."""


class OpenSockets:
    """Open sockets and other readers of session events of this process, by session."""

    def __init__(self) -> None:
        """Start without readers."""
        self._backlogs: dict[str, set[SessionEventReader]] = {}

    def add(self, session_id: str, backlog: SessionEventReader) -> None:
        """Register a reader: it receives events from now on."""
        self._backlogs.setdefault(session_id, set()).add(backlog)

    def remove(self, session_id: str, backlog: SessionEventReader) -> None:
        """Remove a reader."""
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
        """Return the number of readers: sockets of sessions, and streams of the replaced vision system."""
        return sum(map(len, self._backlogs.values()))
