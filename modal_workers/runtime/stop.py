"""Whether the run was asked to stop, and why: a flag that a signal handler may set and every thread may read."""

from __future__ import annotations

from enum import StrEnum

from modal_workers.runtime.context import Stopped


class StopReason(StrEnum):
    """Why a run stops before its end."""

    #: The process was told to end: a preemption, a shutdown, the dispatcher's cancel.
    SIGNAL = "signal"
    #: The job's events say that somebody asked for its end.
    CANCELLED = "cancelled"
    #: The job has moved on to another run, or has ended.
    LOST = "lost"


class Stop:
    """A flag that is set once. A plain attribute and no lock: a signal handler must never wait for one."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None

    def ask(self, reason: StopReason) -> None:
        """Ask the run to stop; the first reason stays."""
        if self.reason is None:
            self.reason = reason

    @property
    def asked(self) -> bool:
        """Tell whether the run was asked to stop."""
        return self.reason is not None

    def check(self) -> None:
        """Do nothing until the run was asked to stop.

        Raises:
            Stopped: it was.
        """
        if self.reason is not None:
            raise Stopped(self.reason)
