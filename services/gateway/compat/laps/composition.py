"""Objects behind the routes of the replaced lap comparison, built from those of the gateway."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from contracts.errors import SaccadeError
from kit.bucket import Bucket
from services.gateway.compat.laps.application import LapRoutes
from services.gateway.compat.laps.lap_jobs import LapJobs
from services.gateway.compat.replaced_paths import SYSTEMS


def mount_laps(app: FastAPI, bucket: Bucket, cause_of: Callable[[SaccadeError], SaccadeError]) -> None:
    """Mount the routes, which use the objects in the application's state."""
    state = app.state
    jobs = LapJobs(
        uploads=state.uploads,
        jobs=state.jobs,
        presenter=state.job_presenter,
        artifacts=state.artifacts,
        bucket=bucket,
    )
    prefix = SYSTEMS["laps"].at
    app.mount(prefix, LapRoutes(state.authenticator, jobs, cause_of).application(prefix))
