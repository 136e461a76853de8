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
    JobError,
    JobView,
    Ticket,
    UploadView,
    WebhookTest,
    WebhookView,
)

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
    "Gap",
    "Job",
    "JobError",
    "JobFailedError",
    "JobView",
    "NotFoundError",
    "RefusedError",
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
