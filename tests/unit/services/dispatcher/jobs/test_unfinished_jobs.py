"""Number of a tenant's unfinished jobs: as many as are listed, whatever happens to them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from contracts.ids import new_id
from contracts.job import Job, State
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from tests.unit.services.dispatcher.scheduling.test_reconciler import job

TENANTS = ("acme", "other")


def random_job(rng: random.Random, ids: list[str]) -> Job:
    job_id, sequence = rng.choice(ids), rng.randrange(1, 1000)
    state = rng.choice((State.QUEUED, State.RUNNING, State.SUCCEEDED))
    tenant = TENANTS[ids.index(job_id) % 2]
    return replace(job(sequence, state), id=job_id, tenant=tenant, sequence=sequence)


def test_the_numbers_are_those_of_the_jobs_without_stages() -> None:
    seed = random.randrange(2**32)
    rng, jobs = random.Random(seed), UnfinishedJobs()
    pipelines = [new_id("job") for _ in range(4)]
    stages = [f"stg_{pipeline.removeprefix('job_')}-poses-001" for pipeline in pipelines]
    ids = pipelines + stages
    for _ in range(500):
        match rng.randrange(6):
            case 0:
                jobs.forget(rng.choice(ids))
            case 1:
                jobs.replace(random_job(rng, ids))
            case 2:
                restored = UnfinishedJobs()
                restored.restore(jobs, jobs.ended_stage_jobs, jobs.unloaded)
                jobs = restored
            case _:
                jobs.put(random_job(rng, ids))
        listed = Counter(one.tenant for one in jobs if one.id not in stages)
        assert {tenant: jobs.count(tenant) for tenant in TENANTS} == {tenant: listed[tenant] for tenant in TENANTS}, (
            seed
        )
