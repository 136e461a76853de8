"""Interface of a run to the events of its own job."""

from __future__ import annotations

from typing import Protocol

from contracts.errors import SaccadeError
from contracts.events.base import Message
from contracts.job import Job


class BusRefused(SaccadeError):  # noqa: N818 - an answer, and the last one
    """Final refusal: the bus answers and accepts nothing (more) from this run; a retry is useless."""


class JobBus(Protocol):
    """Events of one job, for one of its runs. Every method is called on one event loop."""

    #: Upper limit of progress events per second over this connection.
    progress_hz: float
    #: Deadline of one publish of a run that is about to be killed, seconds.
    urgent_deadline_s: float

    @property
    def is_connected(self) -> bool:
        """Whether sending an event that may be lost makes sense now."""

    async def load(self) -> Job | None:
        """Return the job, folded from its events; None if there are none.

        Raises:
            BusRefused: the refusal is final.
            SaccadeError: BUS_UNAVAILABLE.
        """

    async def publish(self, message: Message, *, after: int | None = None, deadline_s: float = 10.0) -> int:
        """Store a state event and return its sequence; ``after`` is the expected sequence of the job's newest event.

        Raises:
            Conflict: the newest event has another sequence; nothing was stored.
            BusRefused: the refusal is final.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s`` (the event may have been stored).
        """

    async def publish_progress(self, message: Message, *, deadline_s: float = 1.0) -> None:
        """Store an event of which only the newest matters.

        Raises:
            BusRefused: the refusal is final.
            SaccadeError: BUS_UNAVAILABLE.
        """

    async def wait_for_change(self, timeout_s: float) -> None:
        """Wait until another writer may have published an event of the job, at most ``timeout_s``.

        Raises:
            BusRefused: the refusal is final.
        """

    async def close(self) -> None:
        """Close the connection."""
