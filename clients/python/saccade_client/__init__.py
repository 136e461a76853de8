"""Python client of Saccade: uploads, jobs, artifacts, events, sessions and webhooks."""

from __future__ import annotations

from saccade_client.async_client import AsyncClient, AsyncEvents, AsyncJob
from saccade_client.client import Client, Events, Job
from saccade_client.errors import (
    ClientError,
    JobFailedError,
    NotFoundError,
    RefusedError,
    TransferError,
    UnauthorizedError,
    UnreachableError,
    WaitTimeoutError,
)
from saccade_client.events import Event, Gap, Snapshot
from saccade_client.session_inputs import FrameAnswer, JointsAnswer, Ply
from saccade_client.session_record import Recorded, RecordedMessage, RecordSize
from saccade_client.session_stream import SessionStream
from saccade_client.views import (
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
    "FrameAnswer",
    "FrameCounts",
    "Gap",
    "Job",
    "JobError",
    "JobFailedError",
    "JobView",
    "JointsAnswer",
    "NotFoundError",
    "Ply",
    "RecordSize",
    "Recorded",
    "RecordedMessage",
    "RefusedError",
    "SessionCost",
    "SessionStream",
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
