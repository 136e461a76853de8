"""Saccade's client for Python: uploads, jobs, artifacts and events, over connections that may break."""

from __future__ import annotations

from saccade.client import Client
from saccade.errors import ClientError
from saccade.event_stream import Event
from saccade.objects import Artifact, ArtifactsView, CostView, JobError, JobView, UploadView

__all__ = [
    "Artifact",
    "ArtifactsView",
    "Client",
    "ClientError",
    "CostView",
    "Event",
    "JobError",
    "JobView",
    "UploadView",
]
