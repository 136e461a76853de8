"""How a step of a job ends."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.job import Job


@dataclass(frozen=True)
class Look:
    """Look at the job again after this many seconds, if nothing happens to it before."""

    after_s: float


#: A step ends with the job one event further, a time to look again, or None: nothing more to be done.
Outcome = Job | Look | None
