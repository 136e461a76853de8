"""How an attempt is doing: from the job, what its executor knows and when it was last heard. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from contracts.job import Job
from contracts.workload import Compute
from services.dispatcher.costs.cost import CPU, cap_is_near
from services.dispatcher.executors.executor import CallState, CallStatus


class Verdict(StrEnum):
    """What is to be done about an attempt."""

    #: Nothing.
    WELL = "well"
    #: Stop the worker: somebody asked for the job's end.
    CANCEL = "cancel"
    #: The worker is gone: take its result if it left one, else the attempt is over.
    ENDED = "ended"
    #: End the attempt, for one of these reasons.
    PAST_DEADLINE = "past_deadline"
    TIMED_OUT = "timed_out"
    COST_CAP = "cost_cap"
    NOT_STARTED = "not_started"
    #: The device is not to be had: say so, or try the next rung.
    WAITING_FOR_GPU = "waiting_for_gpu"
    NO_GPU = "no_gpu"
    SILENT = "silent"


@dataclass(frozen=True)
class Sighting:
    """What is known of an attempt's worker besides its events."""

    #: None while no call is known: the launch was intended, and neither noted nor found.
    status: CallStatus | None
    #: Seconds in which it could have been heard and was not.
    silent_s: float
    #: Whether a call may wait for a device at its executor, and which one would be tried next.
    queues: bool = False
    next_device: str | None = None


@dataclass(frozen=True)
class Patience:
    """How long what is waited for, in seconds."""

    find_s: float
    silent_s: float
    #: From the decision to stop a worker to its end: what is paid for after the decision.
    reaction_s: float
    #: A launch without a worker is told after this, again after twice as long and so on; the next rung is tried later.
    gpu_notice_s: float = 15.0
    gpu_climb_s: float = 120.0
    #: How long a call may wait for a CPU, beside its start.
    queue_s: float = 60.0


def judge(job: Job, compute: Compute, sighting: Sighting, now: datetime, patience: Patience) -> Verdict:
    """Judge an attempt of a job that is starting or running.

    A worker that is gone comes before every limit: it may have left its result in time.
    """
    if job.cancel_requested:
        return Verdict.CANCEL
    if sighting.status and sighting.status.state is CallState.ENDED:
        return Verdict.ENDED
    if job.deadline and now >= job.deadline:
        return Verdict.PAST_DEADLINE
    if job.state.launching:
        return _judge_start(job, compute, sighting, now, patience)
    if _passed(job.started_at, compute.timeout_s, now):
        return Verdict.TIMED_OUT
    if cap_is_near(job, now, patience.reaction_s):
        return Verdict.COST_CAP
    if sighting.silent_s >= patience.silent_s:
        return Verdict.SILENT
    return Verdict.WELL


def _judge_start(job: Job, compute: Compute, sighting: Sighting, now: datetime, patience: Patience) -> Verdict:
    """A worker has ``start_timeout_s`` to claim its attempt; a launch that nobody knows of has less.

    A GPU is waited for until the job's deadline, and so long as there is a rung above, only for a while.
    """
    limit_s = compute.start_timeout_s
    if sighting.status is None:
        limit_s = min(limit_s, patience.find_s)
    elif sighting.queues and job.device != CPU:
        return _judge_queue(job, sighting, now, patience)
    elif sighting.queues:
        limit_s += patience.queue_s
    return Verdict.NOT_STARTED if _passed(job.starting_at, limit_s, now) else Verdict.WELL


def _judge_queue(job: Job, sighting: Sighting, now: datetime, patience: Patience) -> Verdict:
    if sighting.next_device and _passed(job.starting_at, patience.gpu_climb_s, now):
        return Verdict.NO_GPU
    told_s = patience.gpu_notice_s
    if job.starting_at and job.waiting_reported_at:
        told_s = 2 * (job.waiting_reported_at - job.starting_at).total_seconds()
    return Verdict.WAITING_FOR_GPU if _passed(job.starting_at, told_s, now) else Verdict.WELL


def _passed(since: datetime | None, limit_s: float, now: datetime) -> bool:
    return since is not None and now >= since + timedelta(seconds=limit_s)
