"""Keeps the view up to date: folds the stream's events into it and commits periodically."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor, Envelope, decode_at
from contracts.streams import EVENTS, LIVE_EVENTS
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.lineage import open_epoch_if_behind, position_of_stream
from kit.bus.tail import EventTail
from kit.history.archive_reader import ArchiveReader
from kit.history.history import History
from kit.history.older_events import HistoryBeforeStream
from kit.tasks import first_of
from services.gateway.aggregates.view import GatewayView

_COMMIT_INTERVAL_S: Final = 0.25

#: Applies one event, given its sequence, to the view.
Projector = Callable[[Envelope, int], None]
P = TypeVar("P")


def handling(handlers: Mapping[str, Callable[[P, Envelope, int], object]], target: P) -> Projector:
    """Return the projector that calls the handler of each event's type with ``target``; unknown types are ignored."""

    def handle(envelope: Envelope, sequence: int) -> None:
        if handler := handlers.get(envelope.type):
            handler(target, envelope, sequence)

    return handle


class ViewFollower:
    """Follows the stream of events from the view's position on."""

    def __init__(
        self,
        store: EventStore,
        view: GatewayView,
        on_session_event: Callable[[StoredEvent], None],
        archive: ArchiveReader | None = None,
    ) -> None:
        """``on_session_event`` is called with each session event after it was folded.

        What the stream has deleted since the view's position is read from ``archive``.
        """
        self.view = view
        older = HistoryBeforeStream(History(store, archive), EVENTS.max_age_s) if archive else None
        self.tail = EventTail(store, self._on_event, live=LIVE_EVENTS, name="gateway", older=older)
        view.hold_while(lambda: self.tail.dead_letters.unsettled)
        self._on_session_event = on_session_event
        self._projectors: Mapping[str, Projector] = {}
        self._listeners: Mapping[str, Callable[[Envelope], None]] = {}

    def set_projectors(self, **projectors: Projector) -> None:
        """Set the projector of each noun, once before ``run``: projectors need the tail to be built."""
        self._projectors = projectors

    def set_listeners(self, **listeners: Callable[[Envelope], None]) -> None:
        """Set, before ``run``, what is called with each event of a noun after it was folded; one listener per noun."""
        self._listeners = {**self._listeners, **listeners}

    async def run(self) -> None:
        """Follow the stream until cancelled. A view is rebuilt if the stream does not have its position.

        Raises:
            EpochChanged: the stream was replaced while it was followed; restart the process.
            SaccadeError: INTERNAL, the view is damaged; restart the process.
        """
        # No TaskGroup: it cancels each of its tasks once, and the cancellation can be swallowed (kit/tasks.py).
        await first_of(self._fold(), self._commit_periodically())

    async def _fold(self) -> None:
        client, stream = self.tail.store.client, self.tail.store.stream
        reached = Cursor(self.view.epoch, self.view.sequence)
        await open_epoch_if_behind(client, stream, reached)
        lineage = (await position_of_stream(client, stream)).lineage
        if lineage.position_of(reached) is None:
            self.view.reset(lineage.current.id)
        else:
            self.view.continue_in(lineage.current.id)
        await self.tail.run(self.view.sequence, self.view.epoch)

    async def _commit_periodically(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_INTERVAL_S)
            if self.view.damage:
                raise SaccadeError(ErrorCode.INTERNAL, f"The view is damaged ({self.view.damage}): it is folded again.")
            self.view.commit()

    def _on_event(self, stored: StoredEvent) -> None:
        if self.view.damage:
            return  # the next process folds it: no event is at fault
        try:
            self._project(stored)
        except Exception:
            if not self.view.damage:
                raise

    def _project(self, stored: StoredEvent) -> None:
        self.view.set_position(stored.sequence, stored.stored_at)
        noun = stored.subject.split(".")[3]
        if projector := self._projectors.get(noun):
            envelope = decode_at(stored.subject, stored.body)
            projector(envelope, stored.sequence)
            if noun == "job":
                self.view.budgets.count_spending(envelope, stored.stored_at, self.view.job)
            if listener := self._listeners.get(noun):
                listener(envelope)
        if noun == "session":
            self._on_session_event(stored)
