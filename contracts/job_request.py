"""Validation of a job's parameters and inputs against the workload's declaration. Pure.

The gateway validates clients' requests by it, and the dispatcher what a rule submits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobInput
from contracts.ids import is_id
from contracts.invalid_values import invalid_values, pointer
from contracts.limits import INLINE_INPUTS_BYTES
from contracts.upload import Upload, UploadState
from contracts.workload import Input, Params, Workload


def checked_params(workload: Workload, params: Mapping[str, Any]) -> Params:
    """Return a workload's parameters, with defaults for those left out.

    Raises:
        SaccadeError: UNKNOWN_PARAMETER, INVALID_PARAMETER, MALFORMED_REQUEST.
    """
    try:
        json.dumps(params, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "NaN and infinity are not valid JSON.") from error
    try:
        # Strictly: true is no number, and neither is "5".
        return workload.params.model_validate_json(json.dumps(params), strict=True)
    except ValidationError as error:
        known = ", ".join(workload.params.model_fields)
        hint = f"{workload.name} takes: {known}. GET /v1/workloads has the schema."
        errors = error.errors(include_url=False)
        raise invalid_values(errors, at=("params",), given=params, hint=hint) from None


def check_durations(workload: Workload, params: Params, durations_s: Mapping[str, float]) -> None:
    """Check parameters against the durations of a job's inputs, by their names.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    _refuse(workload.check_durations(params, durations_s))


def check_names(workload: Workload, params: Params, inputs: Mapping[str, Sequence[JobInput]]) -> None:
    """Check parameters against the names of the files of a job's inputs.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    names = {name: [file.filename for file in files] for name, files in inputs.items()}
    _refuse(workload.check_names(params, names))


def _refuse(fault: tuple[tuple[str, ...], str] | None) -> None:
    if fault:
        path, text = fault
        error = SaccadeError(ErrorCode.INVALID_PARAMETER, f"{'.'.join(path)}: {text}.")
        error.extra["errors"] = [{"detail": text, "pointer": pointer(("params", *path))}]
        raise error


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
    _check_unique(declared.name, ids)
    return ids


def _check_unique(name: str, ids: list[str]) -> None:
    """Reject an upload that is named more than once in one input.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    seen: set[str] = set()
    for index, upload_id in enumerate(ids):
        if upload_id in seen:
            raise _at(ErrorCode.INVALID_PARAMETER, f"{name} names {upload_id} more than once.", name, index)
        seen.add(upload_id)


def stored_inputs(inputs: dict[str, list[JobInput]]) -> dict[str, Any]:
    """Return the fields ``inputs`` and ``input_ids`` of ``job.submitted``: many files are named by their ids only.

    A job is stored with each of its pipeline's stages, for 90 days: five hundred photos in full have 150 KB.
    """
    size_bytes = sum(len(file.model_dump_json()) for files in inputs.values() for file in files)
    if size_bytes <= INLINE_INPUTS_BYTES:
        return {"inputs": inputs}
    return {"inputs": {}, "input_ids": {name: [file.upload_id for file in files] for name, files in inputs.items()}}


def job_input(upload: Upload) -> JobInput:
    """Return a completed upload as an input of a job."""
    assert upload.completed is not None
    return JobInput(
        upload_id=upload.id,
        key=upload.created.key,
        filename=upload.created.filename,
        content_type=upload.content_type,
        size_bytes=upload.completed.size_bytes,
        sha256=upload.completed.sha256,
    )


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
    return job_input(upload)


def _at(code: ErrorCode, message: str, *where: object) -> SaccadeError:
    error = SaccadeError(code, message)
    error.extra["errors"] = [{"detail": error.message, "pointer": pointer(("inputs", *where))}]
    return error
