"""Executor protocol: launch, poll, cancel and find workers. Implementations decide nothing about jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from contracts.assignment import Assignment
from contracts.events.job import FailureClass
from contracts.workload import Compute


class CallState(StrEnum):
    """State of a call: one launched worker."""

    #: Launched and not known to have ended; it may still be waiting for its device.
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class CallStatus:
    """Status of one call as the executor knows it. The worker's own events have precedence."""

    state: CallState
    #: Exit code of the worker's process in the convention of shells (137 is SIGKILL); None if unknown.
    exit_code: int | None = None
    #: One sentence for the log and the job's error, without paths or secrets.
    detail: str = ""
    #: Failure class if the attempt's events contain none; None while it runs, and after an orderly end.
    failure: FailureClass | None = None


#: Exit codes of a worker that has published its own end (modal_workers.runtime.attempt).
_PUBLISHED: Final = (0, 10)


def status_of_exit(exit_code: int | None, *, out_of_memory: bool) -> CallStatus:
    """Return the status of an ended worker from its exit code (None if unknown) and the evidence on its memory."""
    if exit_code in _PUBLISHED:
        return CallStatus(CallState.ENDED, exit_code, "The worker ended in order.")
    if out_of_memory:
        return CallStatus(CallState.ENDED, exit_code, "The worker exceeded its memory limit.", "out_of_memory")
    if exit_code is None:
        return CallStatus(CallState.ENDED, None, "The worker is gone; its exit code is unknown.", "lost")
    how = f"signal {exit_code - 128}" if exit_code > 128 else f"exit code {exit_code}"
    return CallStatus(CallState.ENDED, exit_code, f"The worker ended with {how}.", "lost")


class LaunchFailed(Exception):  # noqa: N818 - it is an answer, not a fault
    """No worker was started, and none will be by this launch; the message is one sentence that says what to do."""


class Throttled(LaunchFailed):
    """The executor rejects launches for now; the launch is tried again later and does not count as an attempt."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Set the message and the delay before the next try."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class CallBacklog:
    """Queue of one kind of worker, as reported by the executor: waiting inputs and existing workers."""

    inputs: int
    workers: int


class Executor(Protocol):
    """Executor of workers. After a crash of the dispatcher every method may be called again."""

    @property
    def name(self) -> str:
        """Name of the executor in ``job.starting``: ``local`` or ``modal``."""

    @property
    def queues(self) -> bool:
        """Whether calls may wait for a device before their worker starts."""

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        """Return the devices of a workload's ladder in the order in which they are tried: ``cpu``, or GPUs.

        ``gpu`` is the user's choice for the job, which is then the only device.
        """

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        """Start a worker for one attempt and return its call id.

        If an attempt is launched twice, a second worker exists only briefly: only one of them can claim the attempt.

        Raises:
            LaunchFailed: no worker was started.
            Throttled: the executor rejects launches for now.
        """

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:
        """Return the status of a call; an unknown call has ended and is ``lost``.

        An executor with slow or limited requests may return a status that is some seconds old unless ``urgent``.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when the executor does not answer.
        """

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:
        """Return the number of waiting inputs and of workers of this kind; None if unknown."""

    async def rates(self) -> Mapping[str, float]:
        """Return the account's own price of one second on each device, in USD; empty if unknown."""

    async def cancel(self, call_id: str) -> None:
        """Stop a worker and all its children, after a grace period by force; return when they are gone (within 2 s).

        Do nothing for a call that has ended or is unknown.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when the executor does not answer.
        """

    async def find(self, run_id: str) -> str | None:
        """Return the call id of a run's worker that no event contains, because a dispatcher died; None if unknown."""

    async def clear_cache(self, job_id: str) -> None:
        """Remove a job's files from the workers' cache; do nothing if there are none.

        Raises:
            SaccadeError: SERVICE_UNAVAILABLE, when that is not possible for now.
        """

    async def close(self) -> None:
        """Release all resources except the workers: they continue, and the next executor finds them."""
