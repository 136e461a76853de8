"""NATS access of a live session's worker: events, telemetry, acknowledgements, figures and clock requests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, Message, encode
from contracts.events.session import FrameTotals, SessionFrameAcked, SessionProgressed, SessionTextDelta
from contracts.session import clock_subject, session_id_of_job, telemetry_subject
from contracts.streams import EVENTS, aggregate
from contracts.telemetry import FrameAck
from kit.bus.event_store import EventStore
from modal_workers.runtime.bus.job_bus import JobBus
from modal_workers.runtime.bus.nats_bus import CredentialNatsBus, TrustedNatsBus
from modal_workers.runtime.sessions.telemetry_source import (
    DirectTelemetrySource,
    GatewayTelemetrySource,
    TelemetrySource,
)
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage, TelemetryTail, read_all

#: Acknowledgements in one event; a hundred are 20 kB.
_ACKS_PER_EVENT: Final = 100


class SessionBus:
    """NATS access of one session, on the connection of its job."""

    def __init__(self, bus: JobBus, assignment: Assignment, source: str) -> None:
        """Use the job's connection.

        Raises:
            SaccadeError: WORKER_BROKEN, if the job's bus is not NATS.
        """
        if not isinstance(bus, TrustedNatsBus):
            raise SaccadeError(
                ErrorCode.WORKER_BROKEN,
                "A live session's worker must reach NATS; this one has only the gateway's ingest routes.",
                hint="Make NATS reachable for workers (docs/worker_access.md), or use the local executor.",
            )
        self._is_trusted = not isinstance(bus, CredentialNatsBus)
        self._client: Client = bus.client
        self._run = assignment
        self._source = source
        self.session_id = session_id_of_job(assignment.job_id)
        #: Subjects of the session's events.
        self.subjects = aggregate(assignment.tenant, "session", self.session_id)
        self._progress = EventStore(self._client, "PROGRESS")
        self._telemetry = EventStore(self._client, "TELEMETRY")

    async def read_events(self, handler: Callable[[TelemetryMessage], None], after: int = 0) -> None:
        """Call ``handler`` with all stored events of the session after a sequence.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await read_all(self._source_of_events(once=True), handler, after)

    async def follow_events(self, handler: Callable[[TelemetryMessage], None], after: int = 0) -> None:
        """Call ``handler`` once with each event of the session after a sequence, in order, until cancelled."""
        await TelemetryTail(self._source_of_events(), handler).run(after)

    async def serve_clock(self) -> None:
        """Reply to requests for this worker's clock."""

        async def on_request(msg: Msg) -> None:
            await msg.respond(json.dumps({"time_s": time.time()}).encode())

        await self._client.subscribe(clock_subject(self._run.tenant, self.session_id), cb=on_request)

    async def follow(self, handler: Callable[[TelemetryMessage], None], after: int) -> None:
        """Call ``handler`` with the session's telemetry after a sequence, until cancelled."""
        await TelemetryTail(self._source_of(self.session_id), handler).run(after)

    async def read_recorded(self, session_id: str, handler: Callable[[TelemetryMessage], None], after: int = 0) -> None:
        """Call ``handler`` with all stored telemetry of a session after a sequence.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await read_all(self._source_of(session_id), handler, after)

    def encode_acks(
        self, acks: list[FrameAck], totals: FrameTotals, *, reset: bool = False, last_idle_steps: int | None = None
    ) -> list[tuple[Message, Message]]:
        """Return acknowledgements as pairs of messages: for the TELEMETRY stream, and for PROGRESS."""
        messages = []
        for first in range(0, max(1, len(acks)), _ACKS_PER_EVENT):
            data = SessionFrameAcked(
                run_id=self._run.run_id,
                acks=acks[first : first + _ACKS_PER_EVENT],
                totals=totals,
                reset=reset,
                last_idle_steps=last_idle_steps,
            )
            progress = self._encode(data)
            subject = telemetry_subject(self._run.tenant, self.session_id, "acks")
            messages.append((Message(subject, progress.id, data.model_dump_json().encode()), progress))
        return messages

    async def publish_acks(self, telemetry: Message, progress: Message) -> None:
        """Store acknowledgements with the telemetry, then publish them; may be repeated.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._telemetry.publish(telemetry)
        await self._progress.publish(progress, deadline_s=2.0)

    async def publish_figures(self, progressed: SessionProgressed) -> None:
        """Publish the session's figures, of which only the newest matter.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        message = self._encode(progressed)
        await self._progress.publish(message, deadline_s=2.0)

    async def publish_delta(self, delta: SessionTextDelta) -> None:
        """Publish the newest part of a text, of which only the newest matters.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        message = self._encode(delta)
        await self._progress.publish(message, deadline_s=1.0)

    def _encode(self, data: EventData) -> Message:
        run = self._run
        return encode(
            data, tenant=run.tenant, subject_id=self.session_id, source=self._source, traceparent=run.traceparent
        )

    def _source_of_events(self, *, once: bool = False) -> TelemetrySource:
        if self._is_trusted:
            return DirectTelemetrySource(self._client, self.subjects, EVENTS)
        run = self._run
        return GatewayTelemetrySource(self._client, run.tenant, run.run_id, self.session_id, EVENTS, once=once)

    def _source_of(self, session_id: str) -> TelemetrySource:
        if self._is_trusted:
            return DirectTelemetrySource(self._client, telemetry_subject(self._run.tenant, session_id, "*"))
        return GatewayTelemetrySource(self._client, self._run.tenant, self._run.run_id, session_id)
