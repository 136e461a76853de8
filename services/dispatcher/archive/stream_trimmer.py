"""Room in EVENTS: its oldest events are deleted before it is full, and before its index takes too much memory.

nats-server keeps every subject in memory, and each event has one of its own, so a stream of few bytes and many events
is a large one. What is not in the archive is never deleted for room: then the stream refuses, and says so, until the
archive goes on. Where there is no archive, the oldest events are deleted as they are by age, for bytes alone: a laptop
goes on working.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import EVENTS
from kit.bus.jetstream_api import request
from kit.bus.lineage import Lineage
from kit.history.stream_reader import StreamReader, StreamState
from services.dispatcher.settings import StreamSettings

log = logging.getLogger(__name__)

#: Share of the stream's size from which on its oldest events are deleted, and what is left then.
_TRIM_AT: Final = 0.8
_TRIM_TO: Final = 0.7
#: Share of the most events that is left once there are more: one deletion for many events.
_KEEP_OF_MOST: Final = 0.95
#: Events that are deleted with one request, or this part of a long stream: the server looks through the subjects of all
#: events and stores nothing meanwhile, 0.2 s with 1.5 million of them and 2 s with 8 million, however few go.
_AT_ONCE: Final = 50_000
_PART_AT_ONCE: Final = 8
#: Part of the stream for which it is not worth it while something still needs more.
_LEAST_PART: Final = 50
_EVERY_S: Final = 10.0
#: Age up to which a reader that has stopped keeps what it has not read.
_READER_WAITS: Final = timedelta(days=14)
_LOUD_EVERY_S: Final = 600.0

#: First sequence that something still needs; None: nothing in the stream.
Needs = Mapping[str, int | None]


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


def first_of_most(state: StreamState, most_events: int, needs: Needs) -> tuple[int | None, str]:
    """Return the sequence before which events are deleted because they are too many, and what keeps more of them.

    None while they are not too many, or nothing may be deleted. An empty text: nothing keeps more.
    """
    if state.last - state.first + 1 <= most_events:
        return None, ""
    wanted = state.last - int(_KEEP_OF_MOST * most_events) + 1
    first, held_by = min([(wanted, ""), *((need, name) for name, need in needs.items() if need is not None)])
    return (first if first > state.first else None), held_by


class StreamTrimmer:
    """Deletes the oldest events while its dispatcher leads."""

    def __init__(
        self,
        stream: StreamReader,
        archived_until: Callable[[], int | None],
        most_bytes: int = EVENTS.max_bytes,
        *,
        settings: StreamSettings | None = None,
        needs: Callable[[], Needs] = dict,
        read_by_all: Callable[[Lineage], Awaitable[int | None]] | None = None,
        is_leader: Callable[[], bool] = lambda: True,
    ) -> None:
        """``archived_until`` returns the last sequence in the archive; None where there is no archive.

        ``needs`` returns what this dispatcher still needs, and ``read_by_all`` how far the stream's other readers are.
        """
        self._stream = stream
        self._archived_until = archived_until
        self._most_bytes = most_bytes
        self._settings = settings or StreamSettings()
        self._needs, self._read_by_all, self._is_leader = needs, read_by_all, is_leader
        self._loud_at = 0.0
        #: Events beyond the most of the settings, as last seen, and what keeps them: a name, or an empty text.
        self.surplus, self.held_by = 0, ""
        #: Events that this process has deleted because they were too many.
        self.trimmed = 0

    async def run(self) -> None:
        """Look and delete until cancelled."""
        try:
            while True:
                again = False
                try:
                    await self.trim()
                    again = await self.trim_by_number()
                except SaccadeError as error:
                    log.warning("the stream of events was not looked at: %s", error)
                await asyncio.sleep(_EVERY_S / 10 if again else _EVERY_S)
        finally:
            self.surplus, self.held_by = 0, ""

    async def trim(self) -> None:
        """Delete the oldest events if the stream is nearly full.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        state = await self._stream.state()
        first = first_to_keep(state, self._most_bytes, self._archived_until())
        if first is None:
            return
        await self._delete_before(first)
        log.warning("the stream of events is nearly full: its events before %d were deleted (docs/archive.md)", first)

    async def trim_by_number(self) -> bool:
        """Delete the oldest archived events if they are too many; return whether there is more to delete.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        archived_until, most = self._archived_until(), self._settings.keep_events
        state = await self._stream.state()
        self.surplus, self.held_by = max(0, state.last - state.first + 1 - most), ""
        if not most or archived_until is None or not self.surplus:
            return False
        first, self.held_by = first_of_most(state, most, await self._all_needs(state, archived_until))
        self._report()
        if first is None or not self._is_leader():
            return False
        held = state.last - state.first + 1
        if self.held_by and first - state.first < held // _LEAST_PART:
            return False
        until = min(first, state.first + max(_AT_ONCE, held // _PART_AT_ONCE))
        await self._delete_before(until)
        self.trimmed += until - state.first
        log.info("events %d to %d were deleted from the stream; they are in the archive", state.first, until - 1)
        return until < first

    async def _all_needs(self, state: StreamState, archived_until: int) -> Needs:
        """Return the first sequence that each reader needs.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        kept = timedelta(hours=self._settings.keep_hours)
        needs = {"archive": archived_until + 1, "age": await self._stored_since(state, kept), **self._needs()}
        if self._read_by_all and (position := await self._read_by_all(state.lineage)) is not None:
            needs["readers"] = max(position + 1, await self._stored_since(state, _READER_WAITS))
        return needs

    async def _stored_since(self, state: StreamState, age: timedelta) -> int:
        """Return the first sequence that is not older than an age, by the server's clock.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self._stream.sequence_before(state.now - age, state) + 1

    async def _delete_before(self, first: int) -> None:
        """Delete the events before a sequence; again does no harm.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        answer = await request(self._stream.store.client, f"STREAM.PURGE.{self._stream.store.stream}", {"seq": first})
        if "error" in answer:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {answer['error'].get('description')}.")

    def _report(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.held_by and self.surplus > self._settings.keep_events // 10 and now >= self._loud_at:
            self._loud_at = now + _LOUD_EVERY_S
            log.warning(
                "the stream has %d events more than EVENTS_KEEP_MESSAGES, which are kept for: %s (docs/archive.md)",
                self.surplus,
                self.held_by,
            )
