"""Objects behind the routes of the replaced product-photo service."""

from __future__ import annotations

from fastapi import FastAPI

from kit.bucket import Bucket
from services.gateway.compat.nerf.jobs import NerfJobs
from services.gateway.compat.nerf.photo_forms import PhotoForms
from services.gateway.compat.nerf.photo_groups import PhotoGroups
from services.gateway.jobs.url_jobs import UrlJobs
from services.gateway.settings import CompatNerfSettings, GatewaySettings
from services.gateway.uploads.disk import Disk


def add_nerf(app: FastAPI, url_jobs: UrlJobs, settings: GatewaySettings, bucket: Bucket, disk: Disk) -> None:
    """Build the objects from those in the application's state, and add them to it."""
    state = app.state
    state.compat_photo_groups = groups = PhotoGroups(state.uploads)
    state.compat_nerf_jobs = jobs = NerfJobs(
        state.jobs,
        url_jobs,
        state.job_presenter,
        uploads=state.uploads,
        photo_groups=groups,
        bucket=bucket,
        settings=settings,
        compat_settings=CompatNerfSettings(),
    )
    state.compat_photo_forms = PhotoForms(state.uploads, jobs, bucket, disk)
