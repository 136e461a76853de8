"""Settlement of an attempt's cost: seconds times the price at dispatch, recorded once for each run.

The worker settles a run that ends in order (modal_workers/runtime/jobs/run_termination.py), the dispatcher a run whose
worker is gone (services/dispatcher/costs/attempt_cost.py), until it was last heard. The cost stands in
``job.succeeded`` or ``job.interrupted``, and the fold of the job adds it to ``Job.costs``.
"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.events.job import Cost


def settled_cost(device: str, usd_per_s: float, seconds: float, startup_s: float) -> Cost:
    """Return the cost of an attempt; ``seconds`` is the billed time, which includes ``startup_s``."""
    return Cost(
        device=device,
        seconds=round(seconds, 3),
        startup_s=round(startup_s, 3),
        usd=round(seconds * usd_per_s, 6),
    )


def record_settled(costs: Mapping[str, Cost], run_id: str, cost: Cost | None) -> dict[str, Cost]:
    """Return the costs by run with that of one run added: a run counts once, even if its end is reported twice."""
    return {**costs, run_id: cost} if cost else dict(costs)
