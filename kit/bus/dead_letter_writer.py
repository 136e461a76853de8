"""Stores the events that a fold could not handle in DEADLETTERS, each until it is stored, while the fold goes on.

A fold that keeps its position in a file commits nothing while one waits: after a crash it reads the event again, cannot
handle it again, and stores it then. So no dead letter is lost, and a stream DEADLETTERS that cannot be written stops no
other event.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from nats.js.errors import APIError

from contracts.consumers import dead_letter_subject
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import DEADLETTERS
from kit.bus.event_store import EventStore, StoredEvent
from kit.tasks import end

log = logging.getLogger(__name__)

#: The stream's own limit, which another version may have declared.
_MESSAGE_TOO_LARGE: Final = 10054
#: Size of a dead letter's headers at most.
_HEADER_BYTES: Final = 4096
#: Waiting dead letters whose body is kept; the sequence of the others tells where it is.
_MAX_BODIES: Final = 1000
_DEADLINE_S: Final = 2.0
_RETRY_S: Final = 1.0
#: Time that the end of a fold waits for them.
_GRACE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Letter:
    message: Message
    headers: dict[str, str]


class DeadLetterWriter:
    """The dead letters of one fold of a stream."""

    def __init__(self, store: EventStore, name: str) -> None:
        """``store`` is that of the events; ``name`` is the fold's, and the last part of the dead letters' subject."""
        self._events = store
        # Its own: that a dead letter cannot be stored does not say that events cannot.
        self._store = EventStore(store.client, DEADLETTERS.name)
        self._name = name
        self._waiting: deque[_Letter] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def unsettled(self) -> bool:
        """Whether some are not stored yet: no position may be committed."""
        return bool(self._waiting)

    def add(self, stored: StoredEvent, error: Exception, epoch: str) -> None:
        """Store an event that cannot be handled, in the background: the fold does not come back to it."""
        message = Message(
            subject=dead_letter_subject(self._events.stream, self._name),
            id=f"{epoch}:{stored.sequence}:{self._name}" if epoch else new_id("evt"),
            body=stored.body if len(self._waiting) < _MAX_BODIES else b"",
        )
        headers = {
            "Saccade-Sequence": str(stored.sequence),
            "Saccade-Subject": stored.subject,
            "Saccade-Error": f"{type(error).__name__}: {error}".replace("\n", " ")[:500],
        }
        self._waiting.append(_Letter(message, headers))
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._store_all())

    async def stop(self) -> None:
        """Wait a moment for those that are not stored, then give up: who starts again finds them again."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_GRACE_S)
            await end(self._task)

    async def _store_all(self) -> None:
        while self._waiting:
            letter = self._waiting[0]
            # The server closes a connection on which a larger message than its maximum is published, and a worker can
            # store an event that has just that size. The sequence tells where it is.
            if len(letter.message.body) + _HEADER_BYTES > self._events.client.max_payload:
                letter = self._waiting[0] = _without_body(letter)
            try:
                await self._store.publish(letter.message, headers=letter.headers, deadline_s=_DEADLINE_S)
            except SaccadeError as error:
                log.error("dead letter of event %s is not stored yet: %s", letter.headers["Saccade-Sequence"], error)  # noqa: TRY400 - the server's words
                if _is_too_large(error):
                    self._waiting[0] = _without_body(letter)
                await asyncio.sleep(_RETRY_S)
            else:
                self._waiting.popleft()


def _is_too_large(error: SaccadeError) -> bool:
    """Return whether the size of a letter was refused; a server that is silent or full for a while takes it later."""
    cause = error.__cause__
    refused = isinstance(cause, APIError) and cause.err_code == _MESSAGE_TOO_LARGE
    return refused or error.code is ErrorCode.BODY_TOO_LARGE


def _without_body(letter: _Letter) -> _Letter:
    return replace(letter, message=Message(letter.message.subject, letter.message.id, b""))
