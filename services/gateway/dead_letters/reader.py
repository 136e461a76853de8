"""Keeps the index of dead letters up to date: reads what is new in each stream when somebody asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client

from contracts.audit import audit_subject, decode_record
from contracts.events.base import DURABLE, RECORD, subject_of
from contracts.streams import DEADLETTERS, DELIVERIES, EVENTS, OPS
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import stream_info
from services.gateway.dead_letters.index import DeadLetterIndex
from services.gateway.dead_letters.letter import NOUN, Kind
from services.gateway.dead_letters.plan import JOB_PLAN, Plans
from services.gateway.dead_letters.plan import NOUN as PLAN_NOUN

log = logging.getLogger(__name__)

_BATCH: Final = 500
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: Stream of the letters of each kind.
_STREAMS: Final = {Kind.EVENT: DEADLETTERS.name, Kind.DELIVERY: DELIVERIES.name, Kind.JOB: EVENTS.name}


def _subjects(kind: str, noun: str, verb: str) -> str:
    return subject_of(kind, "*", noun, "*", verb)


@dataclass
class _Source:
    """Messages of one stream, and how far they were read."""

    stream: str
    subjects: str
    handle: Callable[[StoredEvent], None]
    with_headers: bool = False
    position: int = 0


class DeadLetterReader:
    """Index of dead letters, and of plans for many of them."""

    def __init__(self, client: Client) -> None:
        """Read by a connection; nothing is read yet."""
        self._client = client
        self._stores = {name: EventStore(client, name) for name in (*_STREAMS.values(), OPS.name)}
        self._reading = asyncio.Lock()
        #: Last sequences of the streams, at the last call of ``prune`` and at the one before.
        self._ends: tuple[dict[str, int], dict[str, int]] = {}, {}
        self._begin()

    def _begin(self) -> None:
        self.index, self.plans, self.job_plans = DeadLetterIndex(), Plans(), Plans()
        index = self.index
        self._sources = (
            _Source(DEADLETTERS.name, ">", index.on_dead_letter, with_headers=True),
            _Source(DELIVERIES.name, _subjects(RECORD, "webhook", "failed"), index.on_failed_delivery),
            _Source(DELIVERIES.name, _subjects(RECORD, "webhook", "redelivery_requested"), index.on_redelivery),
            _Source(EVENTS.name, _subjects(DURABLE, "job", "failed"), index.on_failed_job),
            _Source(EVENTS.name, _subjects(DURABLE, "job", "retrying"), index.on_retried_job),
            _Source(OPS.name, audit_subject("*", NOUN, "*", "*"), self._on_act),
            _Source(OPS.name, audit_subject("*", PLAN_NOUN, "*", "*"), self._on_plan),
            _Source(OPS.name, audit_subject("*", JOB_PLAN, "*", "*"), self._on_job_plan),
            _Source(OPS.name, audit_subject("*", "erasure", "*", "*"), self._on_erasure),
        )
        self._erased = False

    async def catch_up(self) -> DeadLetterIndex:
        """Read what is new, and return the index.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async with self._reading:
            await self._read()
            if self._erased:
                # Something of what was read may be gone since: all is read again.
                positions = [source.position for source in self._sources if source.stream == OPS.name]
                log.info("the dead letters are read again after the erasure of record %d", max(positions))
                self._begin()
                await self._read()
                self._erased = False
        return self.index

    async def prune(self) -> None:
        """Forget letters that their streams have deleted by age, and everything of a stream that was made anew.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        states = {stream: (await stream_info(self._client, stream))["state"] for stream in self._stores}
        async with self._reading:
            if any(source.position > states[source.stream]["last_seq"] for source in self._sources):
                self._ends = {}, {}
                self._begin()
                return
            for kind, stream in _STREAMS.items():
                self.index.prune(kind, states[stream]["first_seq"])
            ends = {stream: int(state["last_seq"]) for stream, state in states.items()}
            self._ends = ends, self._ends[0]

    async def _read(self) -> None:
        await asyncio.gather(*(self._read_source(source) for source in self._sources))

    async def _read_source(self, source: _Source) -> None:
        store, remaining = self._stores[source.stream], 1
        while remaining:
            found, remaining = await store.batch(
                source.position, source.subjects, _BATCH, size_bytes=_BATCH_BYTES, with_headers=source.with_headers
            )
            for stored in found:
                try:
                    source.handle(stored)
                except (ValueError, KeyError, IndexError) as error:
                    log.warning("message %d of %s is skipped: %s", stored.sequence, source.stream, error)
                source.position = stored.sequence
            if not found:
                break
            await asyncio.sleep(0)
        # The server need not look through all of that again. Not up to the newest end: a replica may lag behind it.
        source.position = max(source.position, self._ends[1].get(source.stream, 0))

    def _on_act(self, stored: StoredEvent) -> None:
        self.index.on_record(decode_record(stored.sequence, stored.subject, stored.body))

    def _on_plan(self, stored: StoredEvent) -> None:
        self.plans.on_record(decode_record(stored.sequence, stored.subject, stored.body))

    def _on_job_plan(self, stored: StoredEvent) -> None:
        self.job_plans.on_record(decode_record(stored.sequence, stored.subject, stored.body))

    def _on_erasure(self, stored: StoredEvent) -> None:
        self._erased |= decode_record(stored.sequence, stored.subject, stored.body).data.phase == "outcome"
