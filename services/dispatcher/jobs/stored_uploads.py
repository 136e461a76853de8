"""Uploads, read from the event stream or its archive when a rule or a job needs them; none is kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from contracts.ids import time_of
from contracts.limits import UPLOAD_EXPIRES_S
from contracts.streams import aggregate
from contracts.upload import Upload, fold_stored
from kit.bus.event_store import EventStore
from kit.history.history import History, HistoryEvent
from kit.history.stream_reader import StreamReader
from kit.tasks import map_concurrently

_CONCURRENCY: Final = 16
#: Maximum difference of clocks.
_CLOCK_SKEW: Final = timedelta(minutes=10)
#: Maximum time from the time in an upload's id to its last event.
_LIFETIME: Final = timedelta(seconds=UPLOAD_EXPIRES_S) + 6 * _CLOCK_SKEW


class StoredUploads:
    """Uploads in the stream EVENTS."""

    def __init__(self, store: EventStore, history: History | None = None, *, partly: bool = False) -> None:
        """Read from ``store``, and what it has deleted from ``history``.

        ``partly``: the latter only of uploads of which the store still has an event, because the archive is slow.
        """
        self._store = store
        self._history, self._partly = history, partly

    async def load(self, tenant: str, upload_id: str) -> Upload | None:
        """Return an upload; None when its events are gone.

        Raises:
            SegmentDamaged: a segment of the archive is missing, or was cut off or changed.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        upload: Upload | None = None
        subjects = aggregate(tenant, "upload", upload_id)
        events = await self._store.load(subjects)
        for stored in events:
            upload = fold_stored(upload, stored.subject, stored.body, stored.sequence)
        if upload is not None or self._history is None or (self._partly and not events):
            return upload
        for event in await self._archived(self._history, subjects, upload_id):
            upload = fold_stored(upload, event.subject, event.body, event.sequence)
        for stored in events:  # it was deleted later
            upload = fold_stored(upload, stored.subject, stored.body, stored.sequence)
        return upload

    async def _archived(self, history: History, subjects: str, upload_id: str) -> list[HistoryEvent]:
        """Return the events of an upload that the stream has deleted, of the time in which uploads are completed.

        Raises:
            SegmentDamaged, SaccadeError: as ``load``.
        """
        made_at, bounds = time_of(upload_id), await history.bounds()
        if bounds.first >= bounds.first_in_stream:
            return []
        begin = max(bounds.first - 1, await history.sequence_before(made_at - _CLOCK_SKEW))
        until = min(bounds.first_in_stream - 1, await history.sequence_before(made_at + _LIFETIME))
        return [event async for event in history.read(begin, until, (subjects,))] if begin < until else []

    async def complete_since(self) -> datetime | None:
        """Return the time since which the stream has every event; None while it is empty.

        Older events were deleted by age or for want of space, or were in another stream.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return (await StreamReader(self._store).state()).first_time

    async def load_all(self, tenant: str, upload_ids: Sequence[str]) -> list[Upload]:
        """Return those uploads that there are, in this order.

        Raises:
            SegmentDamaged, SaccadeError: as ``load``.
        """
        loaded = await map_concurrently(partial(self.load, tenant), upload_ids, _CONCURRENCY)
        return [upload for upload in loaded if upload is not None]
