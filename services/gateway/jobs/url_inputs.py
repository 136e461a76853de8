"""Inputs of a job by URL: the request's, and the files that are fetched for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.invalid_values import pointer
from contracts.limits import INPUT_URL_CHARS
from contracts.workload import Workload
from kit.http.request_body import RequestBody
from services.gateway.uploads.fetching.records import UploadFetch
from services.gateway.uploads.fetching.url_policy import UrlPolicy, new_fetch


class UrlInput(RequestBody):
    """A file on another server, which this server fetches if its operator allows it."""

    url: str = Field(
        min_length=1,
        max_length=INPUT_URL_CHARS,
        description="Answers a plain GET with the file: http or https, on a public address, without user name and "
        "password. Its query is in no event and no answer.",
    )


def has_urls(inputs: Mapping[str, Any]) -> bool:
    """Return whether any input is given by URL."""
    return any(not isinstance(given, str) for listed in inputs.values() for given in _listed(listed))


def reserve_uploads(
    tenant: str, workload: Workload, inputs: Mapping[str, Any], policy: UrlPolicy, job_id: str | None
) -> tuple[dict[str, list[str]], list[UploadFetch]]:
    """Return the inputs with ids of new uploads in place of URLs, and what is to be fetched.

    Raises:
        SaccadeError: URL_INPUT_NOT_ALLOWED, URL_INVALID, URL_ADDRESS_REFUSED, INVALID_PARAMETER.
    """
    media = {declared.name: declared.media for declared in workload.inputs}
    ids: dict[str, list[str]] = {}
    fetches: list[UploadFetch] = []
    for name, listed in inputs.items():
        ids[name] = []
        for index, given in enumerate(_listed(listed)):
            if isinstance(given, str):
                ids[name].append(given)
                continue
            where = (name, index) if isinstance(listed, list) else (name,)
            upload_id = new_id("upl")
            try:
                found = new_fetch(policy, tenant, upload_id, _url(given), media=media.get(name), job_id=job_id)
            except SaccadeError as error:
                error.extra["errors"] = [{"detail": error.message, "pointer": pointer(("inputs", *where))}]
                raise
            ids[name].append(upload_id)
            fetches.append(found)
    return ids, fetches


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


def _url(given: Any) -> str:
    """Return the URL of an input, as the routes parse it or as JSON.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    try:
        return (given if isinstance(given, UrlInput) else UrlInput.model_validate(given)).url
    except ValidationError:
        message = 'An input is the id of an upload, or {"url": "https://…"}.'
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message) from None
