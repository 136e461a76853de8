"""Uploads, read from the event stream when a rule needs them; none is kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final

from contracts.streams import aggregate
from contracts.upload import Upload, fold_stored
from kit.bus.event_store import EventStore
from kit.history.stream_reader import StreamReader
from kit.tasks import map_concurrently

_CONCURRENCY: Final = 16


class StoredUploads:
    """Uploads in the stream EVENTS."""

    def __init__(self, store: EventStore) -> None:
        """Read from ``store``."""
        self._store = store

    async def load(self, tenant: str, upload_id: str) -> Upload | None:
        """Return an upload; None when its events are gone.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        upload: Upload | None = None
        for stored in await self._store.load(aggregate(tenant, "upload", upload_id)):
            upload = fold_stored(upload, stored.subject, stored.body, stored.sequence)
        return upload

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
            SaccadeError: BUS_UNAVAILABLE.
        """
        loaded = await map_concurrently(partial(self.load, tenant), upload_ids, _CONCURRENCY)
        return [upload for upload in loaded if upload is not None]
