"""How far a pipeline is, from how far its stages' jobs are, and the file that says so. No I/O, no clock."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from contracts.job import Job, State
from services.dispatcher.jobs.unfinished_jobs import Heard
from services.dispatcher.pipelines.stage_plan import StageNow, cost_of_stage, duration_s

PROGRESS_NAME: Final = "progress.json"
#: The time left follows the speed of so many seconds: stages differ, and shards may wait.
_WINDOW_S: Final = 60.0
#: Before so much is done, and in less time than this, the speed says nothing.
_SETTLED: Final = 0.02
_SPAN_S: Final = 2.0


@dataclass(frozen=True)
class Progress:
    """How far the whole is."""

    stage: str
    fraction: float
    stage_fraction: float
    message: str


def roll_up(stages: Sequence[StageNow], heard: Callable[[Job], Heard | None]) -> Progress:
    """Add up the needed stages by their shares, each the mean of its shards; it is in the first that is not done."""
    fractions = [_fraction(stage, heard) for stage in stages]
    shares = [stage.stage.share for stage in stages]
    whole = sum(share * one for share, one in zip(shares, fractions, strict=True)) / sum(shares)
    at = next((number for number, stage in enumerate(stages) if not stage.done), len(stages) - 1)
    return Progress(
        stage=stages[at].stage.name,
        fraction=round(min(1.0, whole), 4),
        stage_fraction=round(fractions[at], 4),
        message=_message(stages[at], heard),
    )


def _fraction(stage: StageNow, heard: Callable[[Job], Heard | None]) -> float:
    return sum(_of_job(job, heard) for job in stage.known) / len(stage.jobs)


def _of_job(job: Job, heard: Callable[[Job], Heard | None]) -> float:
    if job.state is State.SUCCEEDED:
        return 1.0
    newest = heard(job)
    return newest.fraction if newest is not None and job.state is State.RUNNING else 0.0


def _message(stage: StageNow, heard: Callable[[Job], Heard | None]) -> str:
    """Say what is done of a stage that is fanned out, and what the shard says that spoke last."""
    done = sum(job.state is State.SUCCEEDED for job in stage.known)
    running = [newest for job in stage.known if job.state is State.RUNNING and (newest := heard(job))]
    said = max(running, key=lambda one: one.at_s).message if running else ""
    if stage.done:
        return f"{stage.stage.title}: done."
    waiting = any(job.state is State.WAITING_FOR_GPU for job in stage.known)
    words = said or ("Waiting for a GPU." if waiting else stage.stage.title)
    return words if len(stage.jobs) == 1 else f"{done} of {len(stage.jobs)} parts are done. {words}"


@dataclass
class Pace:
    """What was told of one attempt of a pipeline: the whole never goes back, and has a speed."""

    run_id: str | None
    fraction: float = 0.0
    _samples: deque[tuple[float, float]] = field(default_factory=deque)

    def take(self, fraction: float, now_s: float) -> float:
        """Note how far it is at a moment (any steady clock, seconds) and give what is told."""
        self.fraction = max(self.fraction, fraction)
        self._samples.append((now_s, self.fraction))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()
        return self.fraction

    def eta_s(self) -> float | None:
        """Guess the seconds that are left, from the speed of the last minute; None where that says nothing."""
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        if last_s - first_s < _SPAN_S or last <= first or last < _SETTLED:
            return None
        return round((1.0 - last) * (last_s - first_s) / (last - first), 1)


def document(job: Job, stages: Sequence[StageNow], now: Progress, at: datetime, *, eta_s: float | None = None) -> bytes:
    """Write ``progress.json``: the whole, each needed stage, and what has been paid for so far, in USD."""
    paid_usd = round(sum(one.actual_usd for stage in stages for one in stage.known), 6)
    written: dict[str, Any] = {
        "job_id": job.id,
        "workload": job.submitted.workload,
        "state": job.state.value,
        "attempt": job.attempt,
        "stage": now.stage,
        "fraction": 1.0 if job.state is State.SUCCEEDED else now.fraction,
        "stage_fraction": now.stage_fraction,
        "message": now.message,
        "eta_s": None if job.state.ended else eta_s,
        "cost_usd": max(paid_usd, job.actual_usd),
        "estimated_usd": job.submitted.estimated_usd,
        "max_cost_usd": job.submitted.max_cost_usd,
        "error": job.error.model_dump(mode="json") if job.error and job.state is State.FAILED else None,
        "stages": [_entry(stage) for stage in stages],
        "updated_at": at.isoformat(),
    }
    return json.dumps(written, indent=1).encode()


def _entry(stage: StageNow) -> dict[str, Any]:
    cost = cost_of_stage(stage)
    return {
        "name": stage.stage.name,
        "title": stage.stage.title,
        "share": stage.stage.share,
        "shards": len(stage.jobs),
        "shards_done": sum(job.state is State.SUCCEEDED for job in stage.known),
        "done": stage.done,
        "duration_s": duration_s(stage) if stage.known else None,
        "device": cost.device if cost.seconds else None,
        "billed_s": cost.seconds,
        "cost_usd": cost.usd,
    }
