"""Readers of the events of sessions in this process."""

from __future__ import annotations

from typing import Protocol

from kit.bus.event_store import StoredEvent


class SessionEventReader(Protocol):
    """Reader of the events of a session: the backlog of a socket, or another reader in this process."""

    def add_event(self, stored: StoredEvent, /) -> None:
        """Add a durable event."""

    def set_advisory(self, event_type: str, body: bytes, /) -> None:
        """Replace the advisory event of this type."""


class SessionReaders:
    """Readers by session: open sockets, and streams of the replaced vision system."""

    def __init__(self) -> None:
        """Start without readers."""
        self._readers: dict[str, set[SessionEventReader]] = {}

    def add(self, session_id: str, reader: SessionEventReader) -> None:
        """Register a reader: it receives events from now on."""
        self._readers.setdefault(session_id, set()).add(reader)

    def remove(self, session_id: str, reader: SessionEventReader) -> None:
        """Remove a reader."""
        readers = self._readers.get(session_id, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(session_id, None)

    def on_event(self, stored: StoredEvent) -> None:
        """Pass a stored event to the readers of its session."""
        for reader in self._readers.get(stored.subject.split(".")[4], ()):
            reader.add_event(stored)

    def on_advisory(self, session_id: str, event_type: str, body: bytes) -> None:
        """Pass an advisory event to the readers of its session."""
        for reader in self._readers.get(session_id, ()):
            reader.set_advisory(event_type, body)

    def __len__(self) -> int:
        """Return the number of readers of all sessions."""
        return sum(map(len, self._readers.values()))
