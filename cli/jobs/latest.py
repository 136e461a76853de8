"""Job that a command names by its id, or by ``latest``."""

from __future__ import annotations

from typing import Final

from saccade_client import Client, Job

from cli.failure import Failure

#: Stands for the id of the tenant's newest job.
LATEST: Final = "latest"


def find_job(client: Client, job_id: str) -> Job:
    """Return a job by its id; ``latest`` is the newest.

    Raises:
        Failure: there is none yet.
        ClientError: there is no such job.
    """
    if job_id != LATEST:
        return client.job(job_id)
    newest = next(iter(client.jobs(page_size=1)), None)
    if newest is None:
        raise Failure("You have no jobs yet.", code="job_not_found", hint="`saccade submit` starts one.")
    return client.job(newest.id)
