"""Recount of a tenant's budget from the stored events alone, without the code that enforces it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from contracts.events.base import decode
from contracts.events.job import PIPELINE, JobStarted
from contracts.job import Job, fold
from kit.bus.event_store import StoredEvent


def committed_after_each(events: list[StoredEvent], tenant: str) -> list[tuple[str, str, float]]:
    """Return, after each event of the tenant's jobs, its verb, its job, and what is spent and reserved in all.

    Running jobs count with their reservation, or with what they have cost by the time of the event, if that is more.
    """
    jobs: dict[str, Job] = {}
    reserved: dict[str, float] = {}
    counted = []
    for stored in events:
        envelope = decode(stored.body)
        if envelope.tenant != tenant or not envelope.type.startswith("job."):
            continue
        job = fold(jobs.get(envelope.subject), envelope, stored.sequence)
        assert job
        jobs[job.id] = job
        if envelope.type == "job.starting":
            reserved[envelope.data["run_id"]] = envelope.data["reserved_usd"]
        total = sum(_usd(job, reserved, envelope.time) for job in jobs.values() if job.executor != PIPELINE)
        counted.append((envelope.type.partition(".")[2], job.id, round(total, 6)))
    return counted


def unforeseen_startups(events: list[StoredEvent], tenant: str) -> dict[str, float]:
    """Return what each job's start-ups have cost beyond what was reserved for the attempt, by job, in USD.

    Nobody knows that a container is starting, rather than waiting for its device, until its worker claims the attempt:
    what the start-up has cost is then counted at once, by ``job.started``.
    """
    found: dict[str, float] = {}
    starting: dict[str, dict[str, Any]] = {}
    for stored in events:
        envelope = decode(stored.body)
        if envelope.tenant != tenant:
            continue
        if envelope.type == "job.starting":
            starting[envelope.data["run_id"]] = envelope.data
        elif envelope.type == "job.started" and (billed_since := JobStarted.model_validate(envelope.data).billed_since):
            attempt = starting[envelope.data["run_id"]]
            startup_usd = (envelope.time - billed_since).total_seconds() * (attempt["usd_per_s"] or 0.0)
            beyond_usd = max(0.0, startup_usd - attempt["reserved_usd"])
            found[envelope.subject] = found.get(envelope.subject, 0.0) + beyond_usd
    return found


def _usd(job: Job, reserved: dict[str, float], now: datetime) -> float:
    if job.run_id is None or job.run_id in job.costs or not (job.state.launching or job.state == "running"):
        return job.actual_usd
    since = job.billed_since or job.started_at
    metered = (now - since).total_seconds() * (job.usd_per_s or 0.0) if since else 0.0
    return job.actual_usd + max(reserved[job.run_id], metered)


def notices(events: list[StoredEvent]) -> Counter[tuple[Any, ...]]:
    """Return how often each warning and exhaustion was published: by type, tenant, period, its day and the limit."""
    told: Counter[tuple[Any, ...]] = Counter()
    for stored in events:
        envelope = decode(stored.body)
        if envelope.type in ("budget.warned", "budget.exhausted"):
            data = envelope.data
            told[envelope.type, envelope.tenant, data["period"], data["began"], data["limit_usd"]] += 1
    return told
