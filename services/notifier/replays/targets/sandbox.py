"""Replays into sandboxes: copies in a stream of their own, stored over a connection that may store nothing else.

Each copy is stored on the condition that the one before it is the newest of its replay, so the copies are the position:
whatever process goes on, and whenever one died, each event is there once and in order.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

import nats.errors
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor, Message
from contracts.replay import Replay, ReplayCounts, ReplayState
from contracts.sandbox import REPLAY_HEADER, REPLAY_OF_HEADER, copies_of, copy_subject, reader_consumer
from contracts.streams import REPLAYS
from kit.bus.connection import connect, request
from kit.bus.event_store import Conflict, EventStore
from kit.bus.newest_message import newest_message
from kit.history.history import HistoryEvent
from kit.settings import NatsSettings
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.target import Checkpoint, SendOutcome, TargetCheck, WantedReplay, require_unsent

log = logging.getLogger(__name__)

_CONNECT_S: Final = 5.0
#: Room for headers: the marks, the conditions of the publish and the content type.
_HEADER_BYTES: Final = 1024


class SandboxWriter:
    """Connection of the user that stores copies; opened when the first replay needs it."""

    def __init__(self, settings: NatsSettings) -> None:
        """Connect by ``settings``."""
        self._settings = settings
        self._client: Client | None = None
        self._opening = asyncio.Lock()
        self._refused = ""

    async def store(self) -> EventStore:
        """Return the store of copies.

        Raises:
            SaccadeError: SANDBOX_NOT_CONFIGURED: NATS does not know this user; BUS_UNAVAILABLE.
        """
        async with self._opening:
            if self._client is None or self._client.is_closed:
                self._client = await self._connect()
            return EventStore(self._client, REPLAYS.name)

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.close()

    async def _connect(self) -> Client:
        try:
            async with asyncio.timeout(_CONNECT_S):
                client = await connect(self._settings, "replayer", self._on_refused)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            if self._refused:
                message = f"NATS does not accept the user who stores copies in sandboxes: {self._refused}."
                raise SaccadeError(ErrorCode.SANDBOX_NOT_CONFIGURED, message) from None
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
        self._refused = ""
        return client

    def _on_refused(self, message: str) -> None:
        if message != self._refused:
            log.error("sandboxes: NATS refuses: %s", message)
        self._refused = message


class SandboxTargetKind:
    """Sandboxes as targets."""

    def __init__(self, writer: SandboxWriter, services: Client, traffic: LiveTraffic) -> None:
        """Store copies by ``writer``; the services' own connection only looks up who reads."""
        self._writer = writer
        self._traffic = traffic
        self._services = services

    async def check(self, wanted: WantedReplay) -> TargetCheck:
        """Answer a plan.

        Raises:
            SaccadeError: SANDBOX_NOT_CONFIGURED, REPLAY_TARGET_REFUSED, BUS_UNAVAILABLE.
        """
        await self._writer.store()
        name = wanted.into.name
        hours = REPLAYS.max_age_s // 3600
        warnings = [f"Copies are deleted after {hours} hours."]
        info = await request(self._services, f"CONSUMER.INFO.{REPLAYS.name}.{reader_consumer(name)}", {})
        if "error" in info:
            warnings.append(f"Nobody can read this sandbox yet: `saccade key sandbox {name}` makes credentials.")
        return TargetCheck(wanted.selection, tuple(warnings))

    async def open(self, replay: Replay) -> SandboxTarget:
        """Return the target of a replay.

        Raises:
            SaccadeError: SANDBOX_NOT_CONFIGURED, BUS_UNAVAILABLE.
        """
        return SandboxTarget(replay, await self._writer.store(), self._traffic)


class SandboxTarget:
    """A sandbox as the target of one replay."""

    def __init__(self, replay: Replay, store: EventStore, traffic: LiveTraffic) -> None:
        """Store copies by ``store``."""
        self._replay = replay
        self._traffic = traffic
        #: How long the newest copy took.
        self._worked_s = 0.0
        self._store = store
        self._copies = copies_of(replay.plan.into.name, replay.id)
        #: Sequence of the newest copy: the condition of the next one.
        self._last = 0

    async def resume_after(self) -> Checkpoint | None:
        """Return the position of the newest copy.

        Raises:
            SaccadeError: REPLAY_TARGET_REFUSED: the copies have expired or are lost; BUS_UNAVAILABLE.
        """
        newest = await newest_message(self._store.client, self._store.stream, self._copies)
        if newest is None:
            require_unsent(self._replay, REPLAYS.max_age_s, datetime.now(UTC), "copies")
            return None
        self._last = newest.sequence
        return Checkpoint(Cursor.parse(newest.headers[REPLAY_OF_HEADER]).sequence)

    async def send(self, event: HistoryEvent) -> SendOutcome:
        """Store the copy of an event.

        Raises:
            SaccadeError: REPLAY_TARGET_REFUSED: it is too large with its marks; BUS_UNAVAILABLE: NATS stores none now,
                or another notifier goes on with this replay.
        """
        await self._traffic.rest(self._worked_s)
        loop = asyncio.get_running_loop()
        started = loop.time()
        into, epoch = self._replay.plan.into, self._replay.plan.window.epoch
        cursor = f"{epoch}.{event.sequence}"
        message = Message(
            copy_subject(into.name, self._replay.id, event.subject), f"{self._replay.id}.{event.sequence}", event.body
        )
        # No header of the event itself: a library may take one for an order, such as where to send an answer.
        marks = {REPLAY_HEADER: self._replay.id, REPLAY_OF_HEADER: cursor}
        if len(event.body) + _HEADER_BYTES > REPLAYS.max_message_bytes:
            refusal = f"The event {cursor} is too large for a copy with marks."
            hint = "Leave its type out of the selection, or replay into sse or a file."
            raise SaccadeError(ErrorCode.REPLAY_TARGET_REFUSED, refusal, hint=hint)
        try:
            self._last = await self._store.publish(message, after=self._last, among=self._copies, headers=marks)
        except Conflict:
            refusal = "Another notifier has gone on with this replay."
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, refusal) from None
        self._worked_s = loop.time() - started
        return SendOutcome.SENT

    async def close(self, outcome: ReplayState, counts: ReplayCounts) -> None:
        """Do nothing: the copies stay until they expire."""
