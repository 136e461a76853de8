"""Progress of a pipeline, from the progress of its stages' jobs, and the file that contains it. No I/O, no clock."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from contracts.job import Job, State
from services.dispatcher.costs.pipeline_cost import stage_cost
from services.dispatcher.jobs.unfinished_jobs import Heartbeat
from services.dispatcher.pipelines.stage_plan import StageSnapshot, duration_s

PROGRESS_NAME: Final = "progress.json"
#: Window of the speed that the remaining time is estimated from: stages differ, and shards may wait.
_WINDOW_S: Final = 60.0
#: Fraction and time below which no remaining time is estimated.
_MINIMUM_FRACTION: Final = 0.02
_MINIMUM_SPAN_S: Final = 2.0


@dataclass(frozen=True)
class PipelineProgress:
    """Progress of a pipeline: its current stage, and fractions from 0 to 1."""

    stage: str
    fraction: float
    stage_fraction: float
    message: str


def roll_up(stages: Sequence[StageSnapshot], last_heartbeat: Callable[[Job], Heartbeat | None]) -> PipelineProgress:
    """Return the progress: the stages' fractions weighted by their shares, each the mean of its shards.

    The current stage is the first that is not done.
    """
    fractions = [_stage_fraction(snapshot, last_heartbeat) for snapshot in stages]
    shares = [snapshot.stage.share for snapshot in stages]
    weighted = sum(share * fraction for share, fraction in zip(shares, fractions, strict=True)) / sum(shares)
    current = next((number for number, snapshot in enumerate(stages) if not snapshot.done), len(stages) - 1)
    return PipelineProgress(
        stage=stages[current].stage.name,
        fraction=round(min(1.0, weighted), 4),
        stage_fraction=round(fractions[current], 4),
        message=_message(stages[current], last_heartbeat),
    )


def _stage_fraction(snapshot: StageSnapshot, last_heartbeat: Callable[[Job], Heartbeat | None]) -> float:
    return sum(_job_fraction(job, last_heartbeat) for job in snapshot.submitted) / len(snapshot.jobs)


def _job_fraction(job: Job, last_heartbeat: Callable[[Job], Heartbeat | None]) -> float:
    if job.state is State.SUCCEEDED:
        return 1.0
    heartbeat = last_heartbeat(job)
    return heartbeat.fraction if heartbeat is not None and job.state is State.RUNNING else 0.0


def _message(snapshot: StageSnapshot, last_heartbeat: Callable[[Job], Heartbeat | None]) -> str:
    """Return the number of finished shards, if there are several, and the newest message of a running shard."""
    done = sum(job.state is State.SUCCEEDED for job in snapshot.submitted)
    heartbeats = [
        heartbeat for job in snapshot.submitted if job.state is State.RUNNING and (heartbeat := last_heartbeat(job))
    ]
    newest = max(heartbeats, key=lambda heartbeat: heartbeat.at_s).message if heartbeats else ""
    if snapshot.done:
        return f"{snapshot.stage.title}: done."
    waiting = any(job.state is State.WAITING_FOR_GPU for job in snapshot.submitted)
    text = newest or ("Waiting for a GPU." if waiting else snapshot.stage.title)
    return text if len(snapshot.jobs) == 1 else f"{done} of {len(snapshot.jobs)} parts are done. {text}"


@dataclass
class ProgressHistory:
    """Progress of one attempt of a pipeline over time: it never decreases, and has a speed."""

    run_id: str | None
    fraction: float = 0.0
    _samples: deque[tuple[float, float]] = field(default_factory=deque)

    def add(self, fraction: float, now_s: float) -> float:
        """Add a sample (seconds of any steady clock) and return the largest fraction so far."""
        self.fraction = max(self.fraction, fraction)
        self._samples.append((now_s, self.fraction))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        return self.fraction

    def eta_s(self) -> float | None:
        """Return the estimated remaining seconds from the speed of the last minute; None if it is unknown."""
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        if last_s - first_s < _MINIMUM_SPAN_S or last <= first or last < _MINIMUM_FRACTION:
            return None
        return round((1.0 - last) * (last_s - first_s) / (last - first), 1)


def progress_document(
    job: Job,
    stages: Sequence[StageSnapshot],
    progress: PipelineProgress,
    at: datetime,
    *,
    eta_s: float | None = None,
) -> bytes:
    """Return the content of ``progress.json``: the pipeline, each needed stage, and the cost so far in USD."""
    spent_usd = round(sum(stage_job.actual_usd for snapshot in stages for stage_job in snapshot.submitted), 6)
    content: dict[str, Any] = {
        "job_id": job.id,
        "workload": job.submitted.workload,
        "state": job.state.value,
        "attempt": job.attempt,
        "stage": progress.stage,
        "fraction": 1.0 if job.state is State.SUCCEEDED else progress.fraction,
        "stage_fraction": progress.stage_fraction,
        "message": progress.message,
        "eta_s": None if job.state.ended else eta_s,
        "cost_usd": max(spent_usd, job.actual_usd),
        "estimated_usd": job.submitted.estimated_usd,
        "max_cost_usd": job.submitted.max_cost_usd,
        "error": job.error.model_dump(mode="json") if job.error and job.state is State.FAILED else None,
        "stages": [_stage_entry(snapshot) for snapshot in stages],
        "updated_at": at.isoformat(),
    }
    return json.dumps(content, indent=1).encode()


def _stage_entry(snapshot: StageSnapshot) -> dict[str, Any]:
    cost = stage_cost(snapshot.submitted)
    return {
        "name": snapshot.stage.name,
        "title": snapshot.stage.title,
        "share": snapshot.stage.share,
        "shards": len(snapshot.jobs),
        "shards_done": sum(job.state is State.SUCCEEDED for job in snapshot.submitted),
        "done": snapshot.done,
        "duration_s": duration_s(snapshot) if snapshot.submitted else None,
        "device": cost.device if cost.seconds else None,
        "billed_s": cost.seconds,
        "cost_usd": cost.usd,
    }
