"""Reads the audit log for operators: pages from the newest record on, and the state of its chain of hashes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.audit import GENESIS, AuditRecord, ChainVerifier, audit_subject, decode_record
from kit.bus.connection import epoch_of
from kit.bus.event_store import EventStore
from kit.bus.jetstream_api import first_stored_since

#: Records in the first window that is searched for a page; each further window is twice as large.
_WINDOW: Final = 200
_LARGEST_WINDOW: Final = 20_000
#: Records that one request looks at. Beyond it the page ends early: its cursor leads on.
_LOOKED_AT: Final = 100_000
#: Records that one request verifies, in addition to those that earlier ones have.
_VERIFIED_AT_ONCE: Final = 5000
_FAULTS_SHOWN: Final = 20
_NO_HEAD: Final = f"0:{GENESIS}"
#: Difference of the clocks of a writer of the log and of the server at most.
_CLOCKS: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class AuditFilter:
    """Records that are asked for; None: any."""

    tenant: str | None = None
    noun: str | None = None
    id: str | None = None
    verb: str | None = None
    by: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def subjects(self) -> str:
        """Filter of subjects: what NATS can choose by itself."""
        return audit_subject(self.tenant or "*", self.noun or "*", self.id or "*", self.verb or "*")

    def matches(self, record: AuditRecord) -> bool:
        """Return whether a record is asked for; its subject matches already."""
        return (
            self.by in (None, record.data.by)
            and self.request_id in (None, record.data.request_id)
            and (self.since is None or record.time >= self.since)
            and (self.until is None or record.time < self.until)
        )


@dataclass(frozen=True)
class ChainState:
    """State of the chain: the records up to ``head`` follow each other, but for ``faults``."""

    records: int
    head: str
    #: Whether every record that was stored when this was asked is verified.
    complete: bool
    faults: list[tuple[int, str]]
    faults_total: int
    open_intents: int


class AuditReader:
    """Reader of the stream OPS."""

    def __init__(self, store: EventStore) -> None:
        """``store`` is that of the stream OPS."""
        self._store = store
        self._verifier = ChainVerifier()
        self._verifying = asyncio.Lock()

    async def page(
        self, wanted: AuditFilter, *, before: int | None, limit: int
    ) -> tuple[list[AuditRecord], int | None]:
        """Return records from the newest one on, and the sequence before which the next page begins (None: no more).

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        _, last = await epoch_of(self._store.client, self._store.stream)
        before = last + 1 if before is None else min(before, last + 1)
        floor = await self._first_at(wanted.since - _CLOCKS, last) if wanted.since else 1
        found: list[AuditRecord] = []
        window, looked_at = _WINDOW, 0
        while before > floor and looked_at < _LOOKED_AT:
            after = max(floor - 1, before - 1 - window)
            batch = await self._between(wanted, after, before)
            found += reversed(batch)
            if len(found) > limit:
                return found[:limit], found[limit - 1].sequence
            looked_at += before - 1 - after
            before, window = after + 1, min(window * 2, _LARGEST_WINDOW)
        return found, before if before > floor else None

    async def chain(self, tenant: str | None = None) -> ChainState:
        """Verify what was stored since the last call, and return the state of the chain, as far as a tenant may see it.

        Of other tenants' records it tells nothing, except that the chain is broken where nobody can say whose records
        are concerned. None: of every tenant.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async with self._verifying:
            _, last = await epoch_of(self._store.client, self._store.stream)
            if last < self._verifier.head_sequence:
                self._verifier = ChainVerifier()  # another log: the old one was deleted
            verifier, limit = self._verifier, self._verifier.records + _VERIFIED_AT_ONCE
            async for stored in self._store.history(verifier.head_sequence):
                verifier.add(stored.sequence, stored.subject, stored.body)
                if verifier.records >= limit:
                    break
            return _state_for(tenant, verifier, complete=verifier.head_sequence >= last)

    async def _first_at(self, moment: datetime, last: int) -> int:
        """Return the sequence of the first record that was stored at a time or later, or the one after the last.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        first = await first_stored_since(self._store.client, self._store.stream, moment)
        return last + 1 if first is None else first

    async def _between(self, wanted: AuditFilter, after: int, before: int) -> list[AuditRecord]:
        """Return the records after a sequence and before another that are asked for, in order."""
        records: list[AuditRecord] = []
        async for stored in self._store.history(after, wanted.subjects):
            if stored.sequence >= before:
                break
            try:
                record = decode_record(stored.sequence, stored.subject, stored.body)
            except ValueError:
                continue  # the state of the chain names it
            if wanted.matches(record):
                records.append(record)
        return records


def _state_for(tenant: str | None, verifier: ChainVerifier, *, complete: bool) -> ChainState:
    """Return the state of the chain as far as a tenant may see it; None: of every tenant."""
    every = tenant is None
    faults = [fault for fault in verifier.faults if every or fault.tenant in (None, tenant)]
    intents = verifier.open_intents.values()
    return ChainState(
        records=verifier.records if every else verifier.records_of[tenant or ""],
        head=f"{verifier.head_sequence}:{verifier.head_hash}"
        if every
        else verifier.head_of.get(tenant or "", _NO_HEAD),
        complete=complete,
        faults=[(fault.sequence, fault.problem) for fault in faults[:_FAULTS_SHOWN]],
        faults_total=len(faults),
        open_intents=sum(every or intent.tenant == tenant for intent in intents),
    )
