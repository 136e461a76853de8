"""Texts and alerts of one session as they arrive, for a reader in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from contracts.events.base import decode, decode_at
from contracts.events.session import SessionAlert, SessionFailed, SessionStopped, SessionText, SessionTextDelta
from kit.bus.event_store import StoredEvent

#: Words that wait for a reader; above it the oldest are forgotten.
_MAX_WAITING: Final = 256
_READ: Final = frozenset({"text", "alert", "stopped", "failed"})


class WordSubscription:
    """Words since the subscription, in order. All methods are called in the event loop."""

    def __init__(self) -> None:
        """Start without words."""
        self._waiting: deque[SessionText | SessionAlert] = deque(maxlen=_MAX_WAITING)
        self._changed = asyncio.Event()
        #: The text that is being generated, as far as it is known.
        self.delta: SessionTextDelta | None = None
        #: The session's last event.
        self.end: SessionStopped | SessionFailed | None = None

    def add_event(self, stored: StoredEvent) -> None:
        """Add a durable event of the session."""
        if stored.subject.rpartition(".")[2] not in _READ:
            return
        data = decode_at(stored.subject, stored.body).parsed()
        match data:
            case SessionText() | SessionAlert():
                self._waiting.append(data)
            case SessionStopped() | SessionFailed():
                self.end = data
        self._changed.set()

    def set_advisory(self, event_type: str, body: bytes) -> None:
        """Set the newest advisory event of its type, which was checked already."""
        if event_type == SessionTextDelta.type:
            data = decode(body).parsed()
            assert isinstance(data, SessionTextDelta)
            self.delta = data
            self._changed.set()

    def take(self) -> list[SessionText | SessionAlert]:
        """Remove and return the texts and alerts that wait, oldest first."""
        words = list(self._waiting)
        self._waiting.clear()
        self._changed.clear()
        return words

    async def wait(self, timeout_s: float) -> bool:
        """Wait for words, a delta or the end of the session since the last ``take``; return whether there are any."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
