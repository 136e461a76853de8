"""Whether a job or session may begin: its parameters and inputs against the worker's declaration. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from pydantic import ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobInput
from contracts.ids import is_id
from contracts.limits import METADATA_BYTES
from contracts.workload import Input, Params, Workload
from kit.http.problems import invalid_values, pointer
from modal_workers import catalog
from services.gateway.uploads.upload_checks import Upload, UploadState

#: A pipeline is a job to those who ask for it; its stages are asked for by nobody.
_ASKED_FOR_AS: Final = {"job": "job", "pipeline": "job", "session": "session", "stage": None}


def check_kind(name: str, kind: Literal["job", "session"]) -> Workload:
    """Find a workload that is asked for as what it is: a job that ends by itself, or a live session.

    Raises:
        SaccadeError: UNKNOWN_WORKLOAD, INVALID_PARAMETER.
    """
    workload = catalog.workload(name)
    if _ASKED_FOR_AS[workload.kind] != kind:
        noun, route = {"job": ("job", "/v1/jobs"), "session": ("live session", "/v1/sessions")}.get(
            workload.kind, ("job", "/v1/jobs")
        )
        message = f"{name} is a {noun}: send it to POST {route}."
        if workload.kind == "stage":
            message = f"{name} is a stage of a pipeline: send the pipeline to POST /v1/jobs."
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            message,
            hint="GET /v1/workloads says of each workload which kind it is.",
            errors=[{"detail": message, "pointer": "#/workload"}],
        )
    return workload


def check_params(workload: Workload, params: Mapping[str, Any], backends: frozenset[str]) -> dict[str, Any]:
    """Fill in the defaults of a workload's parameters; ``backends`` are the optional packages that workers have.

    Raises:
        SaccadeError: UNKNOWN_PARAMETER, INVALID_PARAMETER, BACKEND_NOT_INSTALLED, MALFORMED_REQUEST.
    """
    try:
        json.dumps(params, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "NaN and infinity are not JSON.") from error
    try:
        filled = workload.params.model_validate_json(json.dumps(params)).model_dump(mode="json")
    except ValidationError as error:
        known = ", ".join(workload.params.model_fields)
        hint = f"{workload.name} takes: {known}. GET /v1/workloads has the schema."
        errors = error.errors(include_url=False)
        raise invalid_values(errors, at=("params",), given=params, hint=hint) from None
    for backend in workload.backends:
        if filled.get(backend.parameter) == backend.value and backend.package not in backends:
            message = f"{backend.parameter}={backend.value} needs {backend.package}, which no worker here has."
            where = pointer(("params", backend.parameter))
            raise SaccadeError(
                ErrorCode.BACKEND_NOT_INSTALLED,
                message,
                hint=backend.hint,
                errors=[{"detail": message, "pointer": where}],
            )
    return filled


def stages_needed(workload: Workload, params: Params | None = None) -> list[tuple[Workload, int]]:
    """List the workloads of a pipeline's needed stages with their shards; without parameters, by their defaults."""
    chosen = workload.params() if params is None else params
    return [(catalog.workload(stage.work), stage.shards(chosen)) for stage in workload.stages if stage.needed(chosen)]


def upload_ids(workload: Workload, inputs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Read which uploads each input names.

    Raises:
        SaccadeError: MISSING_INPUT, UNKNOWN_INPUT, URL_INPUT_NOT_ALLOWED, INVALID_PARAMETER, UPLOAD_NOT_FOUND.
    """
    declared = {one.name: one for one in workload.inputs}
    for name in inputs:
        if name not in declared:
            known = ", ".join(declared)
            raise _at(ErrorCode.UNKNOWN_INPUT, f"{workload.name} has no input {name!r}; it takes: {known}.", name)
    named = {name: _ids(one, inputs.get(name, [])) for name, one in declared.items()}
    for alternatives in workload.one_of:
        given = [name for name in alternatives if named[name]]
        if len(given) != 1:
            message = (
                f"{workload.name} takes exactly one of {', '.join(alternatives)}; given: {', '.join(given) or 'none'}."
            )
            raise _at(ErrorCode.INVALID_PARAMETER if given else ErrorCode.MISSING_INPUT, message, *given[1:2])
    return named


def _ids(declared: Input, given: Any) -> list[str]:
    several = given if isinstance(given, list) else [given]
    if any(not isinstance(one, str) for one in several):
        raise _at(ErrorCode.URL_INPUT_NOT_ALLOWED, "", declared.name)
    if len(several) < declared.minimum:
        title = f"{declared.name} ({declared.title})"
        code = ErrorCode.MISSING_INPUT
        raise _at(code, f"{title} needs {declared.minimum} upload(s), {len(several)} given.", declared.name)
    if len(several) > declared.maximum:
        message = f"{declared.name} takes at most {declared.maximum} upload(s), {len(several)} given."
        raise _at(ErrorCode.INVALID_PARAMETER, message, declared.name)
    for number, one in enumerate(several):
        if not is_id(one, "upl"):
            raise _at(ErrorCode.UPLOAD_NOT_FOUND, f"There is no upload {one!r}.", declared.name, number)
    return several


def check_input(declared: Input, upload: Upload) -> JobInput:
    """Take an upload as an input.

    Raises:
        SaccadeError: UPLOAD_NOT_COMPLETED, UPLOAD_ALREADY_ENDED, WRONG_INPUT_MEDIA.
    """
    if upload.state is UploadState.FAILED:
        message = f"{upload.id} was {upload.reason} and cannot be used."
        raise _at(ErrorCode.UPLOAD_ALREADY_ENDED, message, declared.name)
    if upload.completed is None:
        raise _at(ErrorCode.UPLOAD_NOT_COMPLETED, f"{upload.id} is not complete.", declared.name)
    if upload.completed.media.media != declared.media:
        held = upload.completed.media.media
        message = f"{declared.name} takes media of type {declared.media}; {upload.created.filename} is of type {held}."
        raise _at(ErrorCode.WRONG_INPUT_MEDIA, message, declared.name)
    return JobInput(
        upload_id=upload.id,
        key=upload.created.key,
        filename=upload.created.filename,
        content_type=upload.created.content_type,
        size_bytes=upload.completed.size_bytes,
        sha256=upload.completed.sha256,
    )


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse metadata that is too large to carry in every event.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    size = len(json.dumps(metadata))
    if size > METADATA_BYTES:
        message = f"metadata has {size} bytes as JSON; at most {METADATA_BYTES} are kept."
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER, message, errors=[{"detail": message, "pointer": "#/metadata"}]
        )  # fmt: skip


def check_webhook_url(url: str | None, *, https_only: bool) -> None:
    """Refuse to send a job's events unencrypted; where they may go besides is judged when they are sent.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    if url is not None and https_only and not url.startswith("https://"):
        message = "webhook_url: http is not encrypted; send a URL that begins with https://."
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER, message, errors=[{"detail": message, "pointer": "#/webhook_url"}]
        )  # fmt: skip


def refused_options(workload: Workload, backends: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Tell which parameter values are refused here, and what they need."""
    for backend in workload.backends:
        yield {
            "parameter": backend.parameter,
            "value": backend.value,
            "package": backend.package,
            "installed": backend.package in backends,
        }


def _at(code: ErrorCode, message: str, *where: object) -> SaccadeError:
    error = SaccadeError(code, message)
    error.extra["errors"] = [{"detail": error.message, "pointer": pointer(("inputs", *where))}]
    return error
