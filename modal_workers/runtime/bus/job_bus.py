"""A run's way to its own job's events, whichever way there is: what the runtime asks of it, and which one is opened."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.job import Job, fold_stored
from kit.bus.event_store import StoredEvent
from kit.settings import NatsSettings
from modal_workers.runtime.settings import IngestSettings

#: How long a worker waits for the bus before it has claimed anything.
_OPEN_S: Final = 45.0


class BusRefused(SaccadeError):  # noqa: N818 - an answer, and the last one
    """The bus is there and takes nothing from this run (any more): no use to try again."""


class JobBus(Protocol):
    """The events of one job, for one of its runs. Everything is called on one event loop."""

    #: At most so many progress events a second are worth sending this way.
    progress_hz: float
    #: How long a run that is about to be killed waits for one thing to be said.
    haste_s: float

    @property
    def is_connected(self) -> bool:
        """Tell whether there is any use in sending something that may be lost."""

    async def load(self) -> Job | None:
        """Read the job as its events tell it; None when there is none.

        Raises:
            BusRefused: for good.
            SaccadeError: BUS_UNAVAILABLE.
        """

    async def publish(self, message: Message, *, after: int | None = None, deadline_s: float = 10.0) -> int:
        """Store a state event and give its sequence; ``after`` is what the job's newest sequence must be.

        Raises:
            Conflict: it is another one; nothing was stored.
            BusRefused: for good.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s`` (the event may have been stored).
        """

    async def progress(self, message: Message, *, deadline_s: float = 1.0) -> None:
        """Store what only the newest matters of.

        Raises:
            BusRefused: for good.
            SaccadeError: BUS_UNAVAILABLE.
        """

    async def changed(self, timeout_s: float) -> None:
        """Wait until somebody else may have said something of the job, at most so long.

        Raises:
            BusRefused: for good.
        """

    async def close(self) -> None:
        """Let go of it."""


def folded(events: list[StoredEvent]) -> Job | None:
    """Fold a job's events."""
    job = None
    for stored in events:
        job = fold_stored(job, stored.subject, stored.body, stored.sequence)
    return job


async def open_bus(settings: NatsSettings | IngestSettings, assignment: Assignment) -> JobBus:
    """Open the way that the settings name.

    Raises:
        BusRefused: the credentials are not taken.
        SaccadeError: BUS_UNAVAILABLE, when nothing answers in time.
    """
    # One of them is needed, and each has a client that takes a while to import.
    try:
        async with asyncio.timeout(_OPEN_S):
            if isinstance(settings, IngestSettings):
                from modal_workers.runtime.bus.http_bus import IngestBus  # noqa: PLC0415

                return IngestBus(settings, assignment)
            from modal_workers.runtime.bus.nats_bus import open_nats_bus  # noqa: PLC0415

            return await open_nats_bus(settings, assignment)
    except TimeoutError as error:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
