"""Stop flag of a run: set by a signal handler or the watch, read by every thread."""

from __future__ import annotations

from enum import StrEnum

from modal_workers.runtime.context import Stopped


class StopCause(StrEnum):
    """Cause of a stop."""

    #: A signal to the process: preemption, shutdown, the dispatcher's cancel.
    SIGNAL = "signal"
    #: Cancellation was requested.
    CANCELLED = "cancelled"
    #: The claim was lost: the job belongs to another run, or has ended.
    LOST = "lost"


class StopFlag:
    """Flag that is set once: a plain attribute without a lock, because a signal handler must never wait for one."""

    def __init__(self) -> None:
        self.cause: StopCause | None = None

    def request(self, cause: StopCause) -> None:
        """Request a stop; the first cause is kept."""
        if self.cause is None:
            self.cause = cause

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self.cause is not None

    def check(self) -> None:
        """Raise ``Stopped`` if a stop was requested."""
        if self.cause is not None:
            raise Stopped(self.cause)
