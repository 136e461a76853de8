"""The ladder of devices: on which rung a job's next attempt begins, and when the next one is worth trying. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.job import Job
from services.dispatcher import cost


@dataclass(frozen=True)
class Rung:
    """One device of a ladder and what a second on it costs."""

    number: int
    device: str
    usd_per_s: float


def rung_of(executor: str, devices: Sequence[str], number: int) -> Rung:
    """Give a rung; the last one for a number beyond it, should the ladder have become shorter.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    number = min(number, len(devices) - 1)
    return Rung(number, devices[number], cost.usd_per_s(executor, devices[number]))


def above(job: Job, executor: str, devices: Sequence[str]) -> Rung | None:
    """Give the next rung of a job; None on the last, and where the job may not cost as much.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    if job.rung + 1 >= len(devices):
        return None
    rung = rung_of(executor, devices, job.rung + 1)
    return rung if cost.is_affordable(job, rung.usd_per_s) else None
