"""Paths, bodies and options of the API's requests. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

from saccade_client.errors import ClientError
from saccade_client.views import UploadView

#: An input of a job: an upload or its id, or several where the input takes several.
InputFile = UploadView | str
Inputs = Mapping[str, InputFile | Sequence[InputFile]]
#: A moment: a cursor (in event streams and of the history), an RFC 3339 time, or seconds before now.
Since = str | int | datetime

BUDGETS_PATH: Final = "/v1/budgets"
SPEND_PATH: Final = "/v1/spend"
DEAD_LETTER_PLANS_PATH: Final = "/v1/dead-letter-plans"
DEAD_LETTERS_PATH: Final = "/v1/dead-letters"
ERASURES_PATH: Final = "/v1/erasures"
JOB_PLANS_PATH: Final = "/v1/job-plans"
REPLAYS_PATH: Final = "/v1/replays"
RULES_PATH: Final = "/v1/rules"
SESSIONS_PATH: Final = "/v1/sessions"
WEBHOOKS_PATH: Final = "/v1/webhooks"
DEFAULT_WEBHOOK_PATH: Final = "/v1/webhooks/default"
#: The longest that the server lets a read wait.
LONGEST_WAIT_S: Final = 60
_REQUEST_S: Final = 30.0


def json_bytes(body: Any) -> bytes:
    """Return a body as it is sent.

    Raises:
        ClientError: ``malformed_request``, it has NaN, an infinite number or a text that is not Unicode.
    """
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        message = f"The request cannot be written as JSON ({error})."
        raise ClientError("malformed_request", message, "Numbers must be finite, and texts Unicode.") from error


def path_segment(text: str) -> str:
    """Quote an id as one segment of a path."""
    return quote(text, safe="")


def located_url(server_url: str, location: str) -> str:
    """Return the URL that an answer's ``Location`` names."""
    if not location.startswith("/") or location.startswith("//"):
        return urljoin(f"{server_url}/", location)
    # The server may be below a path of which it knows nothing, or know of one that this client's address is not below.
    if (start := location.find("/v1/")) >= 0:
        return server_url + location[start:]
    prefix = urlsplit(server_url).path
    return urljoin(server_url, location) if prefix and location.startswith(f"{prefix}/") else server_url + location


def session_path(session_id: str, *more: str) -> str:
    """Return the path of a session, or of something below it."""
    return "/".join([SESSIONS_PATH, path_segment(session_id), *more])


def replay_path(replay_id: str, *more: str) -> str:
    """Return the path of a replay, or of something below it."""
    return "/".join([REPLAYS_PATH, path_segment(replay_id), *more])


def webhook_path(webhook_id: str, *more: str) -> str:
    """Return the path of a webhook endpoint, or of something below it."""
    return "/".join([WEBHOOKS_PATH, path_segment(webhook_id), *map(path_segment, more)])


def format_moment(since: Since | None) -> str | None:
    """Format a moment as the API takes it."""
    if isinstance(since, datetime):
        return since.astimezone().isoformat()
    return None if since is None else str(since)


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields whose value is not None."""
    return {name: value for name, value in fields.items() if value is not None}


def wait_options(wait_s: float | None) -> dict[str, Any]:
    """Return the request options of a read that waits up to ``wait_s`` (RFC 7240, ``Prefer: wait``)."""
    whole_s = min(LONGEST_WAIT_S, math.ceil(wait_s or 0))
    return {"headers": {"Prefer": f"wait={whole_s}"}, "timeout": _REQUEST_S + whole_s} if whole_s else {}


def point_options(at: Since | None) -> dict[str, Any]:
    """Return the request options of a read as of a point of the history."""
    return {} if at is None else {"params": {"at": format_moment(at)}}


def job_path(job_id: str) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{path_segment(job_id)}"


def job_body(workload: str, inputs: Inputs, params: Mapping[str, Any] | None, **options: Any) -> dict[str, Any]:
    """Return the body that submits a job; inputs are uploads or their ids."""

    def ids(value: InputFile | Sequence[InputFile]) -> str | list[str]:
        if isinstance(value, UploadView):
            return value.id
        if isinstance(value, str):
            return value
        return [upload.id if isinstance(upload, UploadView) else upload for upload in value]

    named = {name: ids(value) for name, value in inputs.items()}
    return {"workload": workload, "inputs": named, "params": dict(params or {})} | without_none(options)


def session_body(workload: str, params: Mapping[str, Any] | None, **options: Any) -> dict[str, Any]:
    """Return the body that opens a session."""
    return {"workload": workload, "params": dict(params or {})} | without_none(options)


def frame_fields(
    seq: int | None, captured_at_s: float | None, clock_offset_s: float | None, source: str | None
) -> dict[str, Any]:
    """Return what is known of a frame, by the names of its headers."""
    return {"Seq": seq, "Captured-At": captured_at_s, "Clock-Offset": clock_offset_s, "Source": source}


def origin_fields(metadata: Mapping[str, str] | None, from_job: str | None) -> dict[str, Any]:
    """Return what a client says about a file, as fields of the body that creates an upload."""
    return ({"metadata": dict(metadata)} if metadata else {}) | without_none({"from_job": from_job})


def webhook_body(
    url: str, types: Sequence[str], description: str, headers: Mapping[str, str] | None, **options: Any
) -> dict[str, Any]:
    """Return the body that creates a webhook endpoint."""
    named = {"url": url, "types": list(types), "description": description, "headers": dict(headers or {})}
    return without_none(named | options)
