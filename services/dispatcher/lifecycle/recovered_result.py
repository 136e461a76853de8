"""The result that a worker left in the bucket without saying so: its manifest, which is written last."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from contracts.events.job import JobSucceeded
from contracts.job import Job
from contracts.manifest import MANIFEST_NAME, Manifest
from kit.bucket import Bucket, ObjectMissing
from services.dispatcher.costs.cost import cost_of, startup_of

log = logging.getLogger(__name__)


async def left_result(bucket: Bucket, job: Job) -> JobSucceeded | None:
    """Give the success of the job's current run from its manifest; None when this run has left none.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE.
    """
    key = bucket.key("results", job.id, MANIFEST_NAME)
    try:
        manifest = Manifest.model_validate_json(await bucket.get(key))
    except ObjectMissing:
        return None
    except ValidationError:
        log.warning("the manifest of %s cannot be read and counts as none", job.id)
        return None
    if job.run_id is None or manifest.run_id != job.run_id or manifest.job_id != job.id:
        return None
    return JobSucceeded(
        attempt=job.attempt,
        run_id=job.run_id,
        result=manifest.result,
        manifest_key=key,
        duration_s=manifest.duration_s,
        # The manifest's seconds begin with the claim; what came before them is paid for too.
        cost=cost_of(job, startup_of(job) + manifest.duration_s),
    )
