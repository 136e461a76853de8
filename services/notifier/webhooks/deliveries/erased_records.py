"""Erased events, as planning and records must know them: an attempt that was under way brings none back.

Its record may be stored after all others of the erased were deleted. A reader of such a record leaves it out, and
deletes it. A notifier commits nothing while it has some to delete: one that starts again finds them again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from contracts.audit import SYSTEM
from contracts.erasure import NOUN, sha256_of
from contracts.errors import SaccadeError
from contracts.events.base import DURABLE, Envelope, EventData, decode_at, subject_of
from contracts.events.delivery import (
    ReplayDeliveryAttempted,
    WebhookDelivered,
    WebhookFailed,
    WebhookRedeliveryRequested,
)
from contracts.events.erasure import ErasureCompleted
from contracts.session import job_id_of_session
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import delete_message, first_stored_since
from kit.tasks import end

log = logging.getLogger(__name__)

_EVERY_ERASURE: Final = subject_of(DURABLE, SYSTEM, NOUN, "*", "completed")
_SESSION: Final = "ses_"
_ABOUT_EVENTS: Final = (WebhookDelivered, WebhookFailed, ReplayDeliveryAttempted)
#: The clock of the process that erases may differ by so much from that of the bus.
_CLOCK_SLACK: Final = timedelta(minutes=1)
_RETRY_S: Final = 1.0


def parse_erasure(stored: StoredEvent) -> ErasureCompleted:
    """Return the data of the event ``erasure.completed``.

    Raises:
        ValueError: it cannot be read.
    """
    return ErasureCompleted.model_validate(decode_at(stored.subject, stored.body).data)


class ErasedRecords:
    """The erasures that are known, and the records of attempts that they missed."""

    def __init__(self, records: EventStore) -> None:
        """Delete from the stream of ``records``."""
        self._records = records
        #: The newest erasure of each tenant, by the hash of its name: what follows is of a new tenant of that name.
        self._tenants: dict[str, ErasureCompleted] = {}
        #: Hashes of the ids of erased jobs and uploads.
        self._subjects: set[str] = set()
        self._deletions: deque[Callable[[], Awaitable[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def unsettled(self) -> bool:
        """Whether some records are not deleted yet: no position may be committed."""
        return bool(self._deletions)

    async def load(self, events: EventStore) -> None:
        """Take note of the erasures whose events the stream has: a lost projection has not read them.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        for stored in await events.load(_EVERY_ERASURE):
            try:
                self._note(parse_erasure(stored))
            except ValueError as error:
                log.warning("erasure %d is skipped: %s", stored.sequence, error)
        self._continue()

    def apply(self, erasure: ErasureCompleted, at: datetime) -> None:
        """Take note of an erasure, completed at a time, and delete the records that were stored after its last look."""
        self._note(erasure)
        self._delete_later(partial(self._delete_missed, erasure.until_time - _CLOCK_SLACK, at + _CLOCK_SLACK))

    def covers(self, tenant: str, subject_id: str, sequence: int) -> bool:
        """Return whether an event of a tenant about an id was erased."""
        if (erasure := self._of_tenant(tenant)) is not None and sequence <= erasure.until_sequence:
            return True
        return bool(self._subjects) and is_among(self._subjects, subject_id)

    def covers_all_of(self, tenant: str, made_at: datetime) -> bool:
        """Return whether a tenant was erased, with what was made at a time."""
        erasure = self._of_tenant(tenant)
        return erasure is not None and made_at <= erasure.until_time

    def covers_record(self, envelope: Envelope, data: EventData) -> bool:
        """Return whether a record is of an attempt to deliver an erased event, or a request of an erased tenant."""
        if isinstance(data, WebhookRedeliveryRequested):
            return self.covers_all_of(envelope.tenant, envelope.time)
        return isinstance(data, _ABOUT_EVENTS) and self.covers(envelope.tenant, data.event_subject, data.sequence)

    def delete(self, record: int) -> None:
        """Delete a record from the stream, in the background."""
        self._delete_later(partial(self._delete, record))

    async def stop(self) -> None:
        """Delete nothing more: what is left is deleted after the next start."""
        if self._task is not None:
            await end(self._task)

    def _of_tenant(self, tenant: str) -> ErasureCompleted | None:
        return self._tenants.get(sha256_of(tenant)) if self._tenants else None

    def _note(self, erasure: ErasureCompleted) -> None:
        if erasure.scope == "tenant":
            known = self._tenants.get(erasure.tenant_sha256)
            if known is None or known.until_sequence < erasure.until_sequence:
                self._tenants[erasure.tenant_sha256] = erasure
        self._subjects.update(subjects_of(erasure))

    def _delete_later(self, deletion: Callable[[], Awaitable[None]]) -> None:
        self._deletions.append(deletion)
        self._continue()

    def _continue(self) -> None:
        if self._deletions and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._delete_all())

    async def _delete_all(self) -> None:
        while self._deletions:
            try:
                await self._deletions[0]()
            except SaccadeError as error:
                log.warning("webhooks: records of what was erased are not deleted yet: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._deletions.popleft()

    async def _delete(self, record: int) -> None:
        await delete_message(self._records.client, self._records.stream, record)

    async def _delete_missed(self, since: datetime, until: datetime) -> None:
        """Delete the records of what was erased that were stored between two times.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        client, stream = self._records.client, self._records.stream
        if (first := await first_stored_since(client, stream, since)) is None:
            return
        end_at = await first_stored_since(client, stream, until)
        async for stored in self._records.history(first - 1):
            if end_at is not None and stored.sequence >= end_at:
                return
            if self._is_missed(stored):
                await self._delete(stored.sequence)

    def _is_missed(self, stored: StoredEvent) -> bool:
        try:
            envelope = decode_at(stored.subject, stored.body)
            return self.covers_record(envelope, envelope.parsed())
        except (KeyError, ValueError):  # of another version
            return False


def subjects_of(erasure: ErasureCompleted) -> set[str]:
    """Return the hashes of the jobs and the upload that were erased; none for a tenant."""
    return {*erasure.jobs_sha256, *([erasure.upload_sha256] if erasure.upload_sha256 else [])}


def is_among(hashes: set[str], subject_id: str) -> bool:
    """Return whether an event is about an erased job or upload, or the session whose worker such a job was."""
    if sha256_of(subject_id) in hashes:
        return True
    return subject_id.startswith(_SESSION) and sha256_of(job_id_of_session(subject_id)) in hashes
