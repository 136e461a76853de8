"""Validation of requests for jobs and sessions against the workload's declaration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from contracts.cost_estimate import CostEstimate
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobInput, JobSubmitted
from contracts.gpu_ladder import gpu_name
from contracts.job_request import checked_params, stored_inputs
from contracts.retention import KEEP_HOURS
from contracts.workload import Workload
from modal_workers import catalog
from modal_workers.backends import Backends
from services.gateway.budgets.service import BudgetLeft
from services.gateway.metadata_check import check_metadata
from services.gateway.settings import GatewaySettings

#: What a client requests to get a workload of this kind: pipelines are requested as jobs, stages not at all.
_REQUESTED_AS: Final = {"job": "job", "pipeline": "job", "session": "session", "stage": None}


@dataclass(frozen=True)
class JobRequest:
    """A client's request for a job, not yet validated."""

    workload: str
    inputs: dict[str, Any]
    params: dict[str, Any]
    priority: int = 0
    max_cost_usd: float | None = None
    gpu: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    webhook_url: str | None = None
    retry_of: str | None = None
    #: Whether the larger GPUs of the ladder follow ``gpu``.
    gpu_fallback: bool = False


@dataclass(frozen=True)
class CheckedJob:
    """A valid request for a job: its parameters with defaults, its inputs as far as they are known, and its cost."""

    workload: Workload
    params: dict[str, Any]
    inputs: dict[str, list[JobInput]]
    estimate: CostEstimate
    #: What the job would leave of the tenant's budget; None without one.
    budget: BudgetLeft | None = None


def check_request(
    request: JobRequest, settings: GatewaySettings, backends: Backends
) -> tuple[Workload, dict[str, Any]]:
    """Validate a request for a job, except its GPU and inputs; return the workload and parameters with defaults.

    Raises:
        SaccadeError: as ``check_kind``, ``check_params`` and ``check_metadata``.
    """
    workload = check_kind(request.workload, "job")
    params = check_params(workload, _with_keep_hours(workload, request.params, settings), backends)
    check_metadata(request.metadata)
    return workload, params


def submitted_event(
    request: JobRequest,
    workload: Workload,
    params: dict[str, Any],
    inputs: dict[str, list[JobInput]],
    cost: CostEstimate,
) -> JobSubmitted:
    """Return the event that submits a validated request."""
    return JobSubmitted(
        workload=workload.name,
        workload_version=workload.version,
        **stored_inputs(inputs),
        params=params,
        priority=request.priority,
        max_cost_usd=request.max_cost_usd,
        gpu=None if request.gpu is None else gpu_name(request.gpu),
        gpu_fallback=request.gpu is not None and request.gpu_fallback,
        estimated_usd=cost.usd,
        estimated_from=cost.basis,
        metadata=request.metadata,
        webhook_url=request.webhook_url,
        retry_of=request.retry_of,
        deadline=datetime.now(UTC) + timedelta(seconds=workload.deadline_s),
    )


def _with_keep_hours(workload: Workload, params: dict[str, Any], settings: GatewaySettings) -> dict[str, Any]:
    """Add the operator's retention of scratch files if the workload has this parameter and the client left it out."""
    if KEEP_HOURS not in workload.params.model_fields or KEEP_HOURS in params:
        return params
    return {**params, KEEP_HOURS: max(1, round(settings.scratch_hours))}


def check_kind(name: str, kind: Literal["job", "session"]) -> Workload:
    """Return the workload with this name if it is requested as a job, or as a live session.

    Raises:
        SaccadeError: UNKNOWN_WORKLOAD, INVALID_PARAMETER.
    """
    workload = catalog.workload(name)
    if _REQUESTED_AS[workload.kind] != kind:
        noun, route = {"job": ("job", "/v1/jobs"), "session": ("live session", "/v1/sessions")}.get(
            workload.kind, ("job", "/v1/jobs")
        )
        message = f"{name} is a {noun}: send it to POST {route}."
        if workload.kind == "stage":
            message = f"{name} is a stage of a pipeline: send the pipeline to POST /v1/jobs."
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            message,
            hint="GET /v1/workloads shows the kind of each workload.",
            errors=[{"detail": message, "pointer": "#/workload"}],
        )
    return workload


def check_params(workload: Workload, params: Mapping[str, Any], backends: Backends) -> dict[str, Any]:
    """Return a workload's parameters with defaults, if the workers have what they need.

    Raises:
        SaccadeError: UNKNOWN_PARAMETER, INVALID_PARAMETER, BACKEND_NOT_INSTALLED, MALFORMED_REQUEST.
    """
    chosen = checked_params(workload, params)
    filled = chosen.model_dump(mode="json")
    backends.check_options(workload, filled)
    backends.check(workload, chosen)
    return filled


def check_webhook_url(url: str | None, *, https_only: bool) -> None:
    """Reject an unencrypted webhook URL; whether its address is allowed is checked when events are sent.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    if url is not None and https_only and not url.startswith("https://"):
        message = "webhook_url: http is not encrypted; send a URL that begins with https://."
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER, message, errors=[{"detail": message, "pointer": "#/webhook_url"}]
        )  # fmt: skip
