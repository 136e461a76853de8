"""Validation of requests for jobs and sessions against the workload's declaration. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from pydantic import ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobInput, JobSubmitted
from contracts.gpu_ladder import gpu_name
from contracts.ids import is_id
from contracts.limits import METADATA_BYTES
from contracts.retention import KEEP_HOURS
from contracts.workload import Input, Workload
from kit.http.problems import invalid_values, pointer
from modal_workers import catalog
from services.gateway.aggregates.upload_state import Upload, UploadState
from services.gateway.backends.backends import Backends
from services.gateway.jobs.cost_estimate import CostEstimate
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


@dataclass(frozen=True)
class CheckedJob:
    """A valid request for a job: its parameters with defaults, and its estimated cost."""

    workload: str
    params: dict[str, Any]
    estimate: CostEstimate


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
        inputs=inputs,
        params=params,
        priority=request.priority,
        max_cost_usd=request.max_cost_usd,
        gpu=None if request.gpu is None else gpu_name(request.gpu),
        estimated_usd=cost.usd,
        estimated_from=cost.basis,
        metadata=request.metadata,
        webhook_url=request.webhook_url,
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
    try:
        json.dumps(params, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "NaN and infinity are not valid JSON.") from error
    try:
        # Strictly: true is no number, and neither is "5".
        chosen = workload.params.model_validate_json(json.dumps(params), strict=True)
    except ValidationError as error:
        known = ", ".join(workload.params.model_fields)
        hint = f"{workload.name} takes: {known}. GET /v1/workloads has the schema."
        errors = error.errors(include_url=False)
        raise invalid_values(errors, at=("params",), given=params, hint=hint) from None
    filled = chosen.model_dump(mode="json")
    backends.check_options(workload, filled)
    backends.check(workload, chosen)
    return filled


def upload_ids(workload: Workload, inputs: Mapping[str, Any], *, complete: bool = True) -> dict[str, list[str]]:
    """Return the upload ids of each input; not ``complete``: some are uploaded later.

    Raises:
        SaccadeError: MISSING_INPUT, UNKNOWN_INPUT, INVALID_PARAMETER, UPLOAD_NOT_FOUND.
    """
    declared = {declaration.name: declaration for declaration in workload.inputs}
    for name in inputs:
        if name not in declared:
            known = ", ".join(declared)
            raise _at(ErrorCode.UNKNOWN_INPUT, f"{workload.name} has no input {name!r}; it takes: {known}.", name)
    named = {
        name: _ids(declaration, inputs.get(name, []), declaration.minimum if complete else 0)
        for name, declaration in declared.items()
    }
    for alternatives in workload.one_of:
        given = [name for name in alternatives if named[name]]
        if len(given) > 1 or (complete and not given):
            message = (
                f"{workload.name} takes exactly one of {', '.join(alternatives)}; given: {', '.join(given) or 'none'}."
            )
            raise _at(ErrorCode.INVALID_PARAMETER if given else ErrorCode.MISSING_INPUT, message, *given[1:2])
    return named


def _ids(declared: Input, given: Any, minimum: int) -> list[str]:
    ids = given if isinstance(given, list) else [given]
    if any(not isinstance(upload_id, str) for upload_id in ids):
        raise _at(ErrorCode.INVALID_PARAMETER, f"{declared.name} takes ids of uploads.", declared.name)
    if len(ids) < minimum:
        title = f"{declared.name} ({declared.title})"
        code = ErrorCode.MISSING_INPUT
        raise _at(code, f"{title} needs {declared.minimum} upload(s), {len(ids)} given.", declared.name)
    if len(ids) > declared.maximum:
        message = f"{declared.name} takes at most {declared.maximum} upload(s), {len(ids)} given."
        raise _at(ErrorCode.INVALID_PARAMETER, message, declared.name)
    for index, upload_id in enumerate(ids):
        if not is_id(upload_id, "upl"):
            raise _at(ErrorCode.UPLOAD_NOT_FOUND, f"There is no upload {upload_id!r}.", declared.name, index)
    return ids


def check_input(declared: Input, upload: Upload) -> JobInput:
    """Return an upload as an input of a job.

    Raises:
        SaccadeError: UPLOAD_NOT_COMPLETED, UPLOAD_ALREADY_ENDED, WRONG_INPUT_MEDIA.
    """
    if upload.state is UploadState.FAILED:
        message = f"{upload.id} was {upload.reason} and cannot be used."
        raise _at(ErrorCode.UPLOAD_ALREADY_ENDED, message, declared.name)
    if upload.completed is None:
        raise _at(ErrorCode.UPLOAD_NOT_COMPLETED, f"{upload.id} is not complete.", declared.name)
    if upload.completed.media.media != declared.media:
        media = upload.completed.media.media
        message = f"{declared.name} takes media of type {declared.media}; {upload.created.filename} is of type {media}."
        raise _at(ErrorCode.WRONG_INPUT_MEDIA, message, declared.name)
    return JobInput(
        upload_id=upload.id,
        key=upload.created.key,
        filename=upload.created.filename,
        content_type=upload.content_type,
        size_bytes=upload.completed.size_bytes,
        sha256=upload.completed.sha256,
    )


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Reject metadata that is too large for an event.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    size = len(json.dumps(metadata))
    if size > METADATA_BYTES:
        message = f"metadata has {size} bytes as JSON; at most {METADATA_BYTES} are allowed."
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER, message, errors=[{"detail": message, "pointer": "#/metadata"}]
        )  # fmt: skip


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


def _at(code: ErrorCode, message: str, *where: object) -> SaccadeError:
    error = SaccadeError(code, message)
    error.extra["errors"] = [{"detail": error.message, "pointer": pointer(("inputs", *where))}]
    return error
