"""Cost of a pipeline and of its stages: sums over the jobs of the stages. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from contracts.events.job import PIPELINE, Cost
from contracts.job import Job


def total_cost(jobs: Iterable[Job], device: str = PIPELINE) -> Cost:
    """Return the sum of all attempts of some jobs."""
    costs = [cost for job in jobs for cost in job.costs.values()]
    return Cost(
        device=device,
        seconds=round(sum(cost.seconds for cost in costs), 3),
        startup_s=round(sum(cost.startup_s for cost in costs), 3),
        usd=round(sum(cost.usd for cost in costs), 6),
    )


def stage_cost(jobs: Sequence[Job]) -> Cost:
    """Return the cost of a stage from its jobs; ``device`` lists the devices that they used."""
    devices = {cost.device for job in jobs for cost in job.costs.values()}
    return total_cost(jobs, ", ".join(sorted(devices)) or PIPELINE)


def pipeline_attempt_cost(pipeline: Job, jobs: Iterable[Job]) -> Cost:
    """Return the cost of a pipeline's current attempt: that of all its jobs, minus that of its earlier attempts."""
    total = total_cost(jobs)
    earlier = [cost for run_id, cost in pipeline.costs.items() if run_id != pipeline.run_id]
    return Cost(
        device=PIPELINE,
        seconds=max(0.0, round(total.seconds - sum(cost.seconds for cost in earlier), 3)),
        startup_s=max(0.0, round(total.startup_s - sum(cost.startup_s for cost in earlier), 3)),
        usd=max(0.0, round(total.usd - sum(cost.usd for cost in earlier), 6)),
    )
