"""A session's way to the bus: its events, its telemetry in, its verdicts out, and the time to whoever asks."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message, encode
from contracts.events.session import SESSION_VERBS, FrameTotals, SessionFrameAcked, SessionProgressed
from contracts.session import Session, clock_subject, fold_stored, session_id_of_job, telemetry_subject
from contracts.streams import LIVE_EVENTS, aggregate
from contracts.telemetry import FrameAck
from kit.bus.event_store import EventStore
from modal_workers.runtime.bus.job_bus import JobBus
from modal_workers.runtime.bus.nats_bus import CredentialBus, OwnEvents, TrustedBus
from modal_workers.runtime.sessions.telemetry_source import AskedConsumers, OwnConsumers, TelemetrySource
from modal_workers.runtime.sessions.telemetry_tail import Recorded, TelemetryTail, read_all

log = logging.getLogger(__name__)

_LOOK_S: Final = 2.0
#: Verdicts in one event; a hundred are 20 kB.
_ACKS: Final = 100


class SessionBus:
    """What a session's worker needs of NATS, on the connection that its job has."""

    def __init__(self, bus: JobBus, assignment: Assignment, source: str) -> None:
        """Use the job's bus.

        Raises:
            SaccadeError: WORKER_BROKEN, when the job's way to the bus is not NATS.
        """
        if not isinstance(bus, TrustedBus):
            raise SaccadeError(
                ErrorCode.WORKER_BROKEN,
                "A live session's worker must reach NATS; this one has the gateway's ingest routes only.",
                hint="Make NATS reachable for workers (docs/worker_access.md), or use the local executor.",
            )
        self._is_trusted = not isinstance(bus, CredentialBus)
        self._client: Client = bus.client
        self._run = assignment
        self._source = source
        self.session_id = session_id_of_job(assignment.job_id)
        self._among = aggregate(assignment.tenant, "session", self.session_id)
        self._events = EventStore(self._client) if self._is_trusted else OwnEvents(self._client, SESSION_VERBS)
        self._progress = EventStore(self._client, "PROGRESS")
        self._telemetry = EventStore(self._client, "TELEMETRY")

    async def load(self) -> Session | None:
        """Read the session as its events tell it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        session = None
        for stored in await self._events.load(self._among):
            session = fold_stored(session, stored.subject, stored.body, stored.sequence)
        return session

    async def watch(self, told: Callable[[Session], None]) -> None:
        """Tell of the session as it is, at once and whenever something was said of it, for ever."""
        news = asyncio.Event()

        async def on_event(_: Msg) -> None:
            news.set()

        await self._client.subscribe(LIVE_EVENTS.removesuffix("saccade.evt.>") + self._among, cb=on_event)
        while True:
            news.clear()
            try:
                session = await self.load()
                if session is not None:
                    told(session)
            except SaccadeError as error:
                log.warning("cannot look at the session: %s", error)
            try:
                async with asyncio.timeout(_LOOK_S):
                    await news.wait()
            except TimeoutError:
                continue

    async def tell_time(self) -> None:
        """Answer whoever asks for our clock."""

        async def on_ask(msg: Msg) -> None:
            await msg.respond(json.dumps({"time_s": time.time()}).encode())

        await self._client.subscribe(clock_subject(self._run.tenant, self.session_id), cb=on_ask)

    async def follow(self, handler: Callable[[Recorded], None], after: int) -> None:
        """Hand over the session's telemetry after a sequence, for ever."""
        await TelemetryTail(self._source_of(self.session_id), handler).run(after)

    async def recorded(self, session_id: str, handler: Callable[[Recorded], None], after: int = 0) -> None:
        """Hand over all that is kept of a session's telemetry after a sequence.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await read_all(self._source_of(session_id), handler, after)

    def acked(
        self, acks: list[FrameAck], totals: FrameTotals, *, reset: bool = False, last_idle_steps: int | None = None
    ) -> list[tuple[Message, Message]]:
        """Write verdicts down: as they are kept with the telemetry, and as they are shown."""
        messages = []
        for first in range(0, max(1, len(acks)), _ACKS):
            data = SessionFrameAcked(
                run_id=self._run.run_id,
                acks=acks[first : first + _ACKS],
                totals=totals,
                reset=reset,
                last_idle_steps=last_idle_steps,
            )
            shown = encode(data, tenant=self._run.tenant, subject_id=self.session_id, source=self._source)
            subject = telemetry_subject(self._run.tenant, self.session_id, "acks")
            messages.append((Message(subject, shown.id, data.model_dump_json().encode()), shown))
        return messages

    async def store_acked(self, kept: Message, shown: Message) -> None:
        """Store verdicts, then show them; may be repeated.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._telemetry.publish(kept)
        await self._progress.publish(shown, deadline_s=2.0)

    async def show(self, progressed: SessionProgressed) -> None:
        """Store how the session is doing, of which only the newest matters.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        message = encode(progressed, tenant=self._run.tenant, subject_id=self.session_id, source=self._source)
        await self._progress.publish(message, deadline_s=2.0)

    def _source_of(self, session_id: str) -> TelemetrySource:
        if self._is_trusted:
            return OwnConsumers(self._client, telemetry_subject(self._run.tenant, session_id, "*"))
        return AskedConsumers(self._client, self._run.tenant, self._run.run_id, session_id)
