"""Saccade's client for Python: uploads, jobs, artifacts, events and webhooks, over connections that may break."""

from __future__ import annotations

from saccade.async_client import AsyncClient, AsyncEvents, AsyncJob
from saccade.client import Client, Events, Job
from saccade.errors import (
    ClientError,
    JobFailedError,
    NotFoundError,
    RefusedError,
    TransferError,
    UnauthorizedError,
    UnreachableError,
    WaitTimeoutError,
)
from saccade.events import Event, Gap, Snapshot
from saccade.objects import (
    Artifact,
    ArtifactsView,
    AttemptView,
    CostView,
    DeliveryView,
    FrameCounts,
    JobError,
    JobView,
    SessionCost,
    SessionView,
    Ticket,
    UploadView,
    WebhookTest,
    WebhookView,
)
from saccade.session_record import Recorded, RecordSize

__all__ = [
    "Artifact",
    "ArtifactsView",
    "AsyncClient",
    "AsyncEvents",
    "AsyncJob",
    "AttemptView",
    "Client",
    "ClientError",
    "CostView",
    "DeliveryView",
    "Event",
    "Events",
    "FrameCounts",
    "Gap",
    "Job",
    "JobError",
    "JobFailedError",
    "JobView",
    "NotFoundError",
    "RecordSize",
    "Recorded",
    "RefusedError",
    "SessionCost",
    "SessionView",
    "Snapshot",
    "Ticket",
    "TransferError",
    "UnauthorizedError",
    "UnreachableError",
    "UploadView",
    "WaitTimeoutError",
    "WebhookTest",
    "WebhookView",
]
