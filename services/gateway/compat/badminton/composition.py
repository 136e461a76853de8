"""Objects behind the routes of the badminton tracker, built from those of the gateway."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from contracts.errors import SaccadeError
from kit.bucket import Bucket
from services.gateway.aggregates.view_follower import ViewFollower
from services.gateway.compat.badminton.addresses import PREFIX
from services.gateway.compat.badminton.application import BadmintonRoutes
from services.gateway.compat.badminton.badminton_health import BadmintonHealth
from services.gateway.compat.badminton.results import Results
from services.gateway.compat.badminton.sync.functions import Functions
from services.gateway.compat.badminton.uploads.upload_body import UploadBodies
from services.gateway.compat.badminton.videos.file_urls import FileUrls
from services.gateway.compat.badminton.videos.video_changes import VideoChanges
from services.gateway.compat.badminton.videos.video_records import VideoRecords
from services.gateway.compat.badminton.videos.video_service import Videos
from services.gateway.jobs.latest_progress import LatestJobProgress


def mount_badminton(
    app: FastAPI,
    follower: ViewFollower,
    progress: LatestJobProgress,
    bucket: Bucket,
    cause_of: Callable[[SaccadeError], SaccadeError],
) -> None:
    """Mount the routes, which use the objects in the application's state; ``follower`` tells them of events."""
    state, view = app.state, follower.view
    videos = Videos(
        uploads=state.uploads,
        jobs=state.jobs,
        presenter=state.job_presenter,
        progress=progress,
        view=view,
        store=follower.tail.store,
        records=VideoRecords(bucket),
    )
    changes, urls = VideoChanges(view.job), FileUrls(bucket, view)
    follower.set_listeners(job=changes.on_job_event, upload=changes.on_upload_event)
    progress.on_progress = changes.on_progress
    routes = BadmintonRoutes(
        authenticator=state.authenticator,
        videos=videos,
        functions=Functions(videos, urls),
        changes=changes,
        uploads=UploadBodies(state.uploads, bucket),
        results=Results(state.artifacts, state.object_reads),
        urls=urls,
        health=BadmintonHealth(state.health, state.backends, videos, app.version),
        places=state.session_streams.places,
        cause_of=cause_of,
    )
    app.mount(PREFIX, routes.application(PREFIX))
