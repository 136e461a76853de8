"""Liveness of an attempt: from the job, the executor's status and the last heartbeat. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from contracts.job import Job
from contracts.workload import Compute
from services.dispatcher.costs.attempt_cost import CPU, will_exceed_cap
from services.dispatcher.executors.executor import CallState, CallStatus


class Liveness(StrEnum):
    """Liveness of an attempt, which decides what the dispatcher does about it."""

    #: Nothing to do.
    HEALTHY = "healthy"
    #: Stop the worker: the job's cancellation was requested.
    CANCEL_REQUESTED = "cancel_requested"
    #: The worker is gone: use its result if it left one, else the attempt is over.
    ENDED = "ended"
    #: Stop the attempt, for one of these reasons.
    PAST_DEADLINE = "past_deadline"
    TIMED_OUT = "timed_out"
    COST_CAP = "cost_cap"
    OVER_BUDGET = "over_budget"
    NOT_STARTED = "not_started"
    #: The device is not available: publish that, or try the next rung.
    WAITING_FOR_GPU = "waiting_for_gpu"
    NO_GPU = "no_gpu"
    SILENT = "silent"


@dataclass(frozen=True)
class Observation:
    """Facts about an attempt's worker that do not stand in the job's events."""

    #: None while no call is known: the launch was intended, and neither recorded nor found.
    status: CallStatus | None
    #: Seconds without a heartbeat while the dispatcher was able to receive one.
    silent_s: float
    #: Whether the executor queues calls for a device, and the device of the next rung.
    queues: bool = False
    next_device: str | None = None
    #: Whether the tenant's budget does not pay for more of this attempt.
    over_budget: bool = False


@dataclass(frozen=True)
class Timeouts:
    """Timeouts, in seconds."""

    #: To find a call whose launch was intended but not recorded.
    find_s: float
    #: Without a heartbeat.
    silent_s: float
    #: From the decision to stop a worker to its end; this time is billed too.
    reaction_s: float
    #: Without a worker until ``job.waiting_for_gpu`` is published, then again after twice as long and so on; and until
    #: the next rung is tried.
    gpu_notice_s: float = 15.0
    next_gpu_after_s: float = 120.0
    #: Wait of a call for a CPU, besides its start.
    queue_s: float = 60.0


def check_liveness(job: Job, compute: Compute, observation: Observation, now: datetime, timeouts: Timeouts) -> Liveness:
    """Return the liveness of an attempt that is starting or running.

    A worker that is gone has precedence over every limit: it may have left its result in time.
    """
    if job.cancel_requested:
        return Liveness.CANCEL_REQUESTED
    if observation.status and observation.status.state is CallState.ENDED:
        return Liveness.ENDED
    if job.deadline and now >= job.deadline:
        return Liveness.PAST_DEADLINE
    if job.state.launching:
        return _check_start(job, compute, observation, now, timeouts)
    if _passed(job.started_at, compute.timeout_s, now):
        return Liveness.TIMED_OUT
    if will_exceed_cap(job, now, timeouts.reaction_s):
        return Liveness.COST_CAP
    if observation.over_budget:
        return Liveness.OVER_BUDGET
    if observation.silent_s >= timeouts.silent_s:
        return Liveness.SILENT
    return Liveness.HEALTHY


def _check_start(job: Job, compute: Compute, observation: Observation, now: datetime, timeouts: Timeouts) -> Liveness:
    """Check an attempt without a worker, which has ``start_timeout_s`` to start; less if its call is unknown.

    On the last rung a GPU is waited for until the job's deadline.
    """
    limit_s = compute.start_timeout_s
    if observation.status is None:
        limit_s = min(limit_s, timeouts.find_s)
    elif observation.queues and job.device != CPU:
        return _check_gpu_queue(job, observation, now, timeouts)
    elif observation.queues:
        limit_s += timeouts.queue_s
    return Liveness.NOT_STARTED if _passed(job.starting_at, limit_s, now) else Liveness.HEALTHY


def _check_gpu_queue(job: Job, observation: Observation, now: datetime, timeouts: Timeouts) -> Liveness:
    if observation.next_device and _passed(job.starting_at, timeouts.next_gpu_after_s, now):
        return Liveness.NO_GPU
    notice_s = timeouts.gpu_notice_s
    if job.starting_at and job.waiting_reported_at:
        notice_s = 2 * (job.waiting_reported_at - job.starting_at).total_seconds()
    return Liveness.WAITING_FOR_GPU if _passed(job.starting_at, notice_s, now) else Liveness.HEALTHY


def _passed(since: datetime | None, limit_s: float, now: datetime) -> bool:
    return since is not None and now >= since + timedelta(seconds=limit_s)
