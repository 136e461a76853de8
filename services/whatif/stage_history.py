"""Jobs of a pipeline as its dispatcher may have seen them a moment before one of its decisions was stored.

A decision is stored on condition that its own job has no newer event. What the dispatcher knew of the pipeline's other
jobs may have been older: their events were stored while the decision was on its way, or were not folded yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, product
from typing import Final

from contracts.ids import pipeline_id_of
from contracts.job import Job
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.whatif.window import RecordedEvent

#: Time within which an event was perhaps not known yet.
RACE_S: Final = 1.0
#: Most combinations of states that are tried.
_MOST: Final = 256


class StageHistory:
    """Pipelines and the jobs of their stages in the last second."""

    def __init__(self, jobs: UnfinishedJobs) -> None:
        """Look at the jobs as they are folded."""
        self._jobs = jobs
        self._last: dict[str, deque[tuple[datetime, Job]]] = {}

    def before(self, event: RecordedEvent) -> None:
        """Keep the job of an event, which is about to change."""
        job_id = event.envelope.subject
        job = self._jobs.stage_job(job_id)
        if job is None:
            return
        kept = self._last.setdefault(pipeline_id_of(job_id) or job_id, deque())
        while kept and event.at - kept[0][0] > timedelta(seconds=RACE_S):
            kept.popleft()
        kept.append((event.at, job))

    def variants(self, event: RecordedEvent) -> Iterator[None]:
        """Show one combination of older states after the other, and in the end the true ones again."""
        subject = event.envelope.subject
        states: dict[str, list[Job]] = {}
        for at, older in reversed(self._last.get(pipeline_id_of(subject) or subject, ())):
            now = self._jobs.stage_job(older.id)
            if older.id != subject and now is not None and event.at - at <= timedelta(seconds=RACE_S):
                states.setdefault(older.id, [now]).append(older)
        if not states:
            return
        true = [known[0] for known in states.values()]
        try:
            for jobs in islice(product(*states.values()), 1, _MOST):
                self._show(jobs)
                yield
        finally:
            self._show(true)

    def _show(self, jobs: list[Job] | tuple[Job, ...]) -> None:
        for job in jobs:
            self._jobs.replace(job)
