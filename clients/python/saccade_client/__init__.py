"""Python client of Saccade: uploads, rules, budgets, jobs, artifacts, events, sessions and webhooks."""

from __future__ import annotations

from saccade_client.async_client import AsyncClient, AsyncEvents, AsyncJob
from saccade_client.budget_views import BudgetPeriod, BudgetView, SpendingReport, SpendingView
from saccade_client.client import Client, Events, Job
from saccade_client.erasure_view import ErasureView
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
from saccade_client.history_views import ChangesView, EventView, FieldChange, PointView
from saccade_client.replay_stream import ReplayedEvent
from saccade_client.replay_view import ReplayView
from saccade_client.session_inputs import FrameAnswer, JointsAnswer, Ply
from saccade_client.session_record import Recorded, RecordedMessage, RecordSize
from saccade_client.session_stream import SessionStream
from saccade_client.views import (
    AlertView,
    Artifact,
    ArtifactsView,
    AttemptView,
    CostView,
    DeliveryView,
    FrameCounts,
    JobError,
    JobView,
    PromptView,
    RuleTrialView,
    RuleView,
    SessionCost,
    SessionView,
    SessionWord,
    TextView,
    Ticket,
    TriedJob,
    UploadView,
    WebhookTest,
    WebhookView,
)

__all__ = [
    "AlertView",
    "Artifact",
    "ArtifactsView",
    "AsyncClient",
    "AsyncEvents",
    "AsyncJob",
    "AttemptView",
    "BudgetPeriod",
    "BudgetView",
    "ChangesView",
    "Client",
    "ClientError",
    "CostView",
    "DeliveryView",
    "ErasureView",
    "Event",
    "EventView",
    "Events",
    "FieldChange",
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
    "PointView",
    "PromptView",
    "RecordSize",
    "Recorded",
    "RecordedMessage",
    "RefusedError",
    "ReplayView",
    "ReplayedEvent",
    "RuleTrialView",
    "RuleView",
    "SessionCost",
    "SessionStream",
    "SessionView",
    "SessionWord",
    "Snapshot",
    "SpendingReport",
    "SpendingView",
    "TextView",
    "Ticket",
    "TransferError",
    "TriedJob",
    "UnauthorizedError",
    "UnreachableError",
    "UploadView",
    "WaitTimeoutError",
    "WebhookTest",
    "WebhookView",
]
