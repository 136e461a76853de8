"""What the dispatcher may ask of whatever runs workers: launch, poll, cancel, find. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from contracts.assignment import Assignment
from contracts.events.job import FailureClass
from contracts.workload import Compute


class CallState(StrEnum):
    """Whether a worker is still there."""

    #: Launched and not known to be over; it may still be waiting for its device.
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class CallStatus:
    """What the executor knows of one call. What the worker itself said stands in the job's events and goes first."""

    state: CallState
    #: How the worker's process ended, as a shell counts (137 is a SIGKILL); None while it runs or when nobody knows.
    exit_code: int | None = None
    #: One sentence for the log and the job's error, without paths and secrets.
    detail: str = ""
    #: How the attempt failed if its events do not say; None while it runs and when the worker ended in order.
    failure: FailureClass | None = None


#: Exit codes with which a worker has said by events how it went (modal_workers.runtime.attempt).
_SAID: Final = (0, 10)


def status_of_exit(exit_code: int | None, *, out_of_memory: bool) -> CallStatus:
    """Tell how a worker's process ended: by its exit code, None where nobody saw it, and what was seen of memory."""
    if exit_code in _SAID:
        return CallStatus(CallState.ENDED, exit_code, "The worker ended in order.")
    if out_of_memory:
        return CallStatus(CallState.ENDED, exit_code, "The worker took more memory than it may.", "out_of_memory")
    if exit_code is None:
        return CallStatus(CallState.ENDED, None, "The worker is gone and nobody saw how it ended.", "lost")
    how = f"signal {exit_code - 128}" if exit_code > 128 else f"exit code {exit_code}"
    return CallStatus(CallState.ENDED, exit_code, f"The worker ended by {how}.", "lost")


class LaunchFailed(Exception):  # noqa: N818 - it is an answer, not a fault
    """No worker was started, and none will come of this call; the text is one sentence that says what to do."""


class Throttled(LaunchFailed):
    """The executor takes no more launches for now; this one is to be tried again later and is nobody's fault."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Word it, with the seconds after which it is worth trying again."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class CallBacklog:
    """What waits for one kind of worker, as the executor reports it."""

    inputs: int
    workers: int


class Executor(Protocol):
    """Runs workers somewhere. Every method may be called again after a crash of the dispatcher."""

    @property
    def name(self) -> str:
        """Name it has in ``job.starting``: ``local`` or ``modal``."""

    @property
    def queues(self) -> bool:
        """Tell whether a call may wait there for its device before a worker begins."""

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        """Name the rungs of the ladder for a worker with these needs, first the one to begin on: ``cpu`` or GPUs.

        ``gpu`` is the user's choice for the job; then there is only that rung.
        """

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        """Start a worker for one attempt and give its call id.

        Launching the same attempt twice starts a second worker at most for a moment: the claim lets one of them work.

        Raises:
            LaunchFailed: no worker was started.
            Throttled: and none will be for a while.
        """

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:
        """Tell how a call is; one that nobody knows (any more) has ended and is ``lost``.

        Where asking is slow or counted, the answer may be some seconds old unless it is ``urgent``.
        """

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:
        """Tell how many inputs and workers there are of this kind; None where nobody counts."""

    async def rates(self) -> Mapping[str, float]:
        """Tell what the account is billed for a second on each device, in USD; empty where that cannot be known."""

    async def cancel(self, call_id: str) -> None:
        """End a worker and all its children, first asking, then by force; returns when they are gone (within 2 s).

        Cancelling a call that has ended or that nobody knows does nothing.
        """

    async def find(self, run_id: str) -> str | None:
        """Give the call id of the worker that was launched for a run, for a dispatcher that died before noting it."""

    async def clear_cache(self, job_id: str) -> None:
        """Remove what workers keep of a job in their own places, beside the bucket; nothing there is as good.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, where that cannot be done for now.
        """

    async def close(self) -> None:
        """Let go of everything but the workers: they go on, and the next executor finds them."""
