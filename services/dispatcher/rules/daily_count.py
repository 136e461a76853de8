"""Number of jobs that a rule has submitted on a day; exact with several dispatchers, any of which may die.

One record per rule and day holds the number, and the jobs that were counted but may not be stored yet. It is replaced
on condition that nobody else has replaced it. A job is counted before it is published; one that is to submit it again
finds it among the counted ones, or finds that it exists, and does not count it twice: a job leaves the record
only after it was stored, and its existence is looked up after the record was read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict

from contracts.events.base import Message
from contracts.ids import new_id
from contracts.rule import Rule
from kit.bus.event_store import Conflict, EventStore

#: Records that are kept in memory; one is read again when it is not.
_RECORDS_KEPT: Final = 1_000
#: Jobs of dispatchers that died, in one record, beyond which they are looked up.
_MOST_PENDING: Final = 32


class Counted(StrEnum):
    """Answer to the question whether a rule may submit one more job."""

    GRANTED = "granted"
    EXISTS = "exists"
    FULL = "full"


class CountRecord(BaseModel):
    """Stored record of a rule and a day; ``id`` distinguishes a retried write from another one."""

    model_config = ConfigDict(frozen=True)

    id: str = ""
    count: int = 0
    #: Jobs that are counted, and that may not be stored yet.
    pending: tuple[str, ...] = ()


@dataclass
class _Known:
    record: CountRecord
    #: Sequence of the record in its stream; 0: there is none.
    sequence: int
    #: Jobs of ``pending`` that are certainly stored.
    stored: set[str]


class DailyCount:
    """Counts of all rules."""

    def __init__(self, store: EventStore, exists: Callable[[str, str], Awaitable[bool]]) -> None:
        """Write to ``store``, the stream RULECOUNTS; ``exists`` tells whether a tenant's job is stored."""
        self._store = store
        self._exists = exists
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def count(self, rule: Rule, day: date, job_id: str) -> Counted:
        """Count a job of a rule; nothing changes if it is counted already, if it exists, or if the day is full.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        subject = f"saccade.cnt.{rule.tenant}.{rule.id}.{day.isoformat()}"
        turn = self._turns.setdefault(subject, asyncio.Lock())
        async with turn:
            while True:
                known = self._known.get(subject) or await self._read(subject)
                # In this order: see the module's docstring.
                if await self._exists(rule.tenant, job_id):
                    self._note_stored(subject, job_id)
                    return Counted.EXISTS
                if job_id in known.record.pending:
                    return Counted.GRANTED
                if known.record.count >= rule.definition.jobs_per_day:
                    return Counted.FULL
                if await self._replace(subject, known, rule.tenant, job_id):
                    return Counted.GRANTED
                self._known.pop(subject, None)

    def stored(self, rule: Rule, day: date, job_id: str) -> None:
        """Note that a counted job is stored, so that the next record leaves it out."""
        self._note_stored(f"saccade.cnt.{rule.tenant}.{rule.id}.{day.isoformat()}", job_id)

    def _note_stored(self, subject: str, job_id: str) -> None:
        if (known := self._known.get(subject)) and job_id in known.record.pending:
            known.stored.add(job_id)

    async def _read(self, subject: str) -> _Known:
        """Read a record.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found = await self._store.load(subject)
        known = _Known(
            CountRecord.model_validate_json(found[-1].body) if found else CountRecord(),
            found[-1].sequence if found else 0,
            set(),
        )
        self._keep(subject, known)
        return known

    async def _replace(self, subject: str, known: _Known, tenant: str, job_id: str) -> bool:
        """Store the record with one more job; return whether nobody else has replaced it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        pending = [other for other in known.record.pending if other not in known.stored]
        if len(pending) > _MOST_PENDING:
            pending = [other for other in pending if not await self._exists(tenant, other)]
        record = CountRecord(id=new_id("evt"), count=known.record.count + 1, pending=(*pending, job_id))
        message = Message(subject=subject, id=record.id, body=record.model_dump_json().encode())
        try:
            sequence = await self._store.publish(message, after=known.sequence)
        except Conflict:
            return False
        self._keep(subject, _Known(record, sequence, set()))
        return True

    def _keep(self, subject: str, known: _Known) -> None:
        self._known[subject] = known
        self._known.move_to_end(subject)
        if len(self._known) > _RECORDS_KEPT:
            self._known.popitem(last=False)
