"""Audit log: appends records to the stream OPS, each on the condition that it follows the newest one; reads them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from contracts.audit import (
    EVERY_RECORD,
    GENESIS,
    Act,
    Attribution,
    AuditData,
    AuditRecord,
    Phase,
    decode_record,
    encode_record,
    new_record_id,
    record_hash,
)
from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import OPS
from kit.bus.connection import epoch_of
from kit.bus.event_store import Conflict, EventStore, StoredEvent

#: Writers that came first in a row, after which a record is given up.
_MAXIMUM_CONFLICTS: Final = 50
#: Records among which a process that starts looks for intents without an outcome.
_LOOKED_BACK: Final = 1000
_READS: Final = 10
_READ_RETRY_S: Final = 0.1


@dataclass(frozen=True)
class _Head:
    """Newest record: its sequence and its hash."""

    sequence: int = 0
    hash: str = GENESIS


class AuditLog:
    """The audit log, written by one service. What a service does for an operator stands between intent and outcome."""

    def __init__(self, store: EventStore, source: str) -> None:
        """``store`` is that of the stream OPS; ``source`` names the service: ``/dispatcher``."""
        self.store = store
        self._source = source
        self._head: _Head | None = None

    async def intent(self, act: Act, verb: str, attribution: Attribution) -> AuditRecord:
        """Record what is about to be done.

        Raises:
            SaccadeError: BUS_UNAVAILABLE: it may be stored, and nothing must be done.
        """
        record_id = new_record_id()
        for _ in range(_MAXIMUM_CONFLICTS):
            try:
                return await self._append(
                    await self._newest(),
                    act,
                    verb,
                    attribution=attribution,
                    record_id=record_id,
                    phase="intent",
                    intent=None,
                )
            except Conflict:
                await self._step_back()
        raise _contended()

    async def outcome(self, intent: AuditRecord, verb: str, details: dict[str, Any]) -> AuditRecord:
        """Record what came of an intent; return the outcome that is stored, which another process may have written.

        Raises:
            SaccadeError: BUS_UNAVAILABLE: it may be stored.
        """
        record_id = f"{intent.id}.outcome"
        act = Act(intent.tenant, intent.noun, intent.subject_id, details)
        for _ in range(_MAXIMUM_CONFLICTS):
            head = await self._newest()
            if head.sequence > intent.sequence:
                async for record in self.records(after=intent.sequence):
                    if record.data.intent == intent.id:
                        return record
            try:
                return await self._append(
                    head, act, verb, attribution=intent.data, record_id=record_id, phase="outcome", intent=intent.id
                )
            except Conflict:
                await self._step_back()
        raise _contended()

    async def records(self, after: int = 0, subjects: str = EVERY_RECORD) -> AsyncIterator[AuditRecord]:
        """Yield the records after a sequence in the order of the log, without those that cannot be read.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async for stored in self.store.history(after, subjects):
            if record := _decoded(stored):
                yield record

    async def newest_of_each(self, subjects: str) -> list[AuditRecord]:
        """Return the newest record of each subject, in the order of the log.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return [record for stored in await self.store.load(subjects) if (record := _decoded(stored))]

    async def open_intents(self, after: int | None = None) -> tuple[list[AuditRecord], int]:
        """Return the intents without an outcome after a sequence, and the sequence after which to look next time.

        Without ``after``, among the newest records: what was begun before them has been looked at before.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if after is None:
            _, end = await epoch_of(self.store.client, self.store.stream)
            after = max(0, end - _LOOKED_BACK)
        waiting: dict[str, AuditRecord] = {}
        async for record in self.records(after=after):
            after = record.sequence
            if record.data.phase == "intent":
                waiting[record.id] = record
            else:
                waiting.pop(record.data.intent or "", None)
        return list(waiting.values()), min([after, *(record.sequence - 1 for record in waiting.values())])

    async def _append(
        self,
        head: _Head,
        act: Act,
        verb: str,
        *,
        attribution: Attribution,
        record_id: str,
        phase: Phase,
        intent: str | None,
    ) -> AuditRecord:
        """Store a record after ``head``.

        Raises:
            Conflict: another record is the newest one.
            SaccadeError: BUS_UNAVAILABLE.
        """
        data = AuditData(
            by=attribution.by,
            by_verified=attribution.by_verified,
            why=attribution.why,
            request_id=attribution.request_id,
            phase=phase,
            intent=intent,
            details=act.details,
            previous=head.hash,
        )
        message = encode_record(act, verb, data, record_id=record_id, source=self._source, time=datetime.now(UTC))
        self._head = None
        sequence = await self.store.publish(message, after=head.sequence, among=EVERY_RECORD)
        record = decode_record(sequence, message.subject, message.body)
        self._head = _Head(sequence, record.hash)
        return record

    async def _newest(self) -> _Head:
        """Return the newest record: the one that was stored here last, until a conflict says otherwise.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if self._head:
            return self._head
        for _ in range(_READS):
            _, last = await epoch_of(self.store.client, self.store.stream)
            if not last:
                return _Head()
            found, _ = await self.store.batch(last - 1, size=1)
            if found and found[0].sequence == last:
                return _Head(last, record_hash(found[0].subject, found[0].body))
            await asyncio.sleep(_READ_RETRY_S)  # a replica that lags
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"The newest record of {OPS.name} cannot be read.")

    async def _step_back(self) -> None:
        await asyncio.sleep(random.uniform(0, 0.02))  # noqa: S311 - spreads writers, keeps no secret


def _decoded(stored: StoredEvent) -> AuditRecord | None:
    try:
        return decode_record(stored.sequence, stored.subject, stored.body)
    except ValueError:
        return None


def _contended() -> SaccadeError:
    return SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Too many others write to the audit log at this moment.")
