"""Recovery of a result that a worker left in the bucket without publishing it: its manifest, which is written last."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from contracts.events.job import JobSucceeded
from contracts.job import Job
from contracts.manifest import MANIFEST_NAME, Manifest
from kit.bucket import Bucket, ObjectMissing
from services.dispatcher.costs.attempt_cost import recovered_cost

log = logging.getLogger(__name__)


async def recovered_result(bucket: Bucket, job: Job) -> JobSucceeded | None:
    """Return the success of the job's current run from its manifest; None when this run left none.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE.
    """
    key = bucket.key("results", job.id, MANIFEST_NAME)
    try:
        manifest = Manifest.model_validate_json(await bucket.get(key))
    except ObjectMissing:
        return None
    except ValidationError:
        log.warning("ignored the manifest of %s: it cannot be parsed", job.id)
        return None
    if job.run_id is None or manifest.run_id != job.run_id or manifest.job_id != job.id:
        return None
    return JobSucceeded(
        attempt=job.attempt,
        run_id=job.run_id,
        result=manifest.result,
        manifest_key=key,
        duration_s=manifest.duration_s,
        cost=recovered_cost(job, manifest.duration_s),
    )
