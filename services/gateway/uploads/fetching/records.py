"""Private records of what is being fetched, in the stream FETCHES: the only place where whole URLs are stored.

A record is written before anything is done, and deleted when it is done: what a process that died has left is found in
the stream. Subjects: ``saccade.fetch.<tenant>.<noun>.<id>``.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.events.base import Message
from contracts.ids import new_id
from kit.bus.connection import request
from kit.bus.event_store import Conflict, EventStore, StoredEvent

log = logging.getLogger(__name__)

_DELETE_S: Final = 5.0


class Record(BaseModel):
    """Base class of the records."""

    model_config = ConfigDict(frozen=True)

    tenant: str
    #: Of the upload or job that the record is about.
    id: str


R = TypeVar("R", bound=Record)


class Records(Generic[R]):
    """All records of one kind."""

    def __init__(self, store: EventStore, noun: str, model: type[R]) -> None:
        """Use the store of FETCHES."""
        self._store, self._noun, self._model = store, noun, model

    async def add(self, record: R) -> bool:
        """Store a record unless there is one with its id; return whether it was stored.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self.replace(record, after=0) is not None

    async def replace(self, record: R, *, after: int) -> int | None:
        """Replace the record with sequence ``after`` and return the new sequence; None if another one is newer.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        subject = self._subject(record.tenant, record.id)
        message = Message(subject, new_id("evt"), record.model_dump_json().encode())
        try:
            return await self._store.publish(message, after=after, among=subject)
        except Conflict:
            return None

    async def load(self, tenant: str, record_id: str) -> tuple[R, int] | None:
        """Return a record and its sequence; None if there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        stored = await self._store.load(self._subject(tenant, record_id))
        record = self._parsed(stored[-1]) if stored else None
        return (record, stored[-1].sequence) if record else None

    async def of_tenant(self, tenant: str, up_to: int) -> list[R | None]:
        """Return a tenant's records, at most ``up_to``; None for one that this version cannot read.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found, _ = await self._store.batch(0, self._subject(tenant, "*"), up_to)
        return [self._parsed(stored) for stored in found]

    async def all(self) -> AsyncIterator[tuple[R, int]]:
        """Yield the records of all tenants, oldest first, with their sequences.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async for stored in self._store.history(0, self._subject("*", "*")):
            if record := self._parsed(stored):
                yield record, stored.sequence

    async def delete(self, sequence: int) -> None:
        """Delete a record and overwrite its bytes; do nothing if there is none with this sequence.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await request(self._store.client, f"STREAM.MSG.DELETE.{self._store.stream}", {"seq": sequence}, _DELETE_S)

    def _parsed(self, stored: StoredEvent) -> R | None:
        """Return a record; None if another version of the program wrote one that this one cannot read."""
        try:
            return self._model.model_validate_json(stored.body)
        except ValidationError:
            log.warning("a record that cannot be read is left to expire: %s", stored.subject)
            return None

    def _subject(self, tenant: str, record_id: str) -> str:
        return f"saccade.fetch.{tenant}.{self._noun}.{record_id}"


class UploadFetch(Record):
    """A file to fetch."""

    #: As the client wrote it; in no log and no event.
    url: str = Field(repr=False)
    filename: str
    content_type: str
    #: Without query.
    shown_url: str
    sha256: str | None = None
    #: Media that the input takes which the file is for.
    media: Literal["video", "image", "archive"] | None = None
    #: The job that waits for the file.
    job_id: str | None = None
    #: What the client says about the file.
    metadata: dict[str, str] = Field(default_factory=dict)
    from_job: str | None = None
    #: Times that a process has begun to fetch it.
    starts: int = 0
    #: Multipart upload of the latest of them.
    multipart_id: str | None = None
