"""Room in EVENTS: the stream refuses events when it is full, and its oldest ones are deleted before that.

What is not in the archive is never deleted for room: then the stream refuses, and says so, until the archive goes on.
Where there is no archive, the oldest events are deleted as they are by age: a laptop goes on working.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import EVENTS
from kit.bus.jetstream_api import request
from kit.history.stream_reader import StreamReader, StreamState

log = logging.getLogger(__name__)

#: Share of the stream's size from which on its oldest events are deleted, and what is left then.
_TRIM_AT: Final = 0.8
_TRIM_TO: Final = 0.7
_EVERY_S: Final = 10.0


def first_to_keep(state: StreamState, most_bytes: int, archived_until: int | None) -> int | None:
    """Return the sequence before which events are deleted; None while there is room, or nothing may be deleted.

    ``archived_until`` is the last sequence in the archive; None without an archive. Events count as equally large.
    """
    held = state.last - state.first + 1
    if held <= 0 or state.size_bytes < _TRIM_AT * most_bytes:
        return None
    kept = int(held * _TRIM_TO * most_bytes / state.size_bytes)
    wanted = state.last - kept + 1
    if archived_until is not None:
        wanted = min(wanted, archived_until + 1)
    return wanted if wanted > state.first else None


class StreamTrimmer:
    """Deletes the oldest events while its dispatcher leads."""

    def __init__(
        self, stream: StreamReader, archived_until: Callable[[], int | None], most_bytes: int = EVENTS.max_bytes
    ) -> None:
        """``archived_until`` returns the last sequence in the archive; None where there is no archive."""
        self._stream = stream
        self._archived_until = archived_until
        self._most_bytes = most_bytes

    async def run(self) -> None:
        """Look and delete until cancelled."""
        while True:
            try:
                await self.trim()
            except SaccadeError as error:
                log.warning("the stream of events was not looked at: %s", error)
            await asyncio.sleep(_EVERY_S)

    async def trim(self) -> None:
        """Delete the oldest events if the stream is nearly full.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        state = await self._stream.state()
        first = first_to_keep(state, self._most_bytes, self._archived_until())
        if first is None:
            return
        answer = await request(self._stream.store.client, f"STREAM.PURGE.{self._stream.store.stream}", {"seq": first})
        if "error" in answer:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {answer['error'].get('description')}.")
        log.warning("the stream of events is nearly full: its events before %d were deleted (docs/archive.md)", first)
