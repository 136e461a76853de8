"""Requests to a site of the replaced badminton system, and the checks of its answers, in both dialects. Pure.

The site's validators are strict: one key more than listed here, or a null, is refused with 500.
Source: coenhallie/badminton-tracker 64bfc14, convex/http.ts and convex/videos.ts; plans/convex-modal-integration.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from contracts.callback import PLAN_SUFFIX, Callback
from kit.network.urls import parse_url

Level = Literal["info", "success", "warning", "error", "debug"]
Category = Literal["processing", "detection", "model", "court", "modal"]

RESULTS_FILE: Final = "compat/results.json"
SUMMARY_FILE: Final = "compat/summary.json"
VIDEO_FILE: Final = "processed.mp4"
#: Media types of the artifacts that are stored at the site.
MEDIA_TYPES: Final = {RESULTS_FILE: "application/json", VIDEO_FILE: "video/mp4"}
#: Longer texts are cut: the site keeps them in a document of at most 1 MB, and shows them in one line.
_TEXT_CHARS: Final = 1000


class AnswerError(ValueError):
    """An answer with status 2xx is not what the request is answered with."""


@dataclass(frozen=True)
class LogEntry:
    """One entry of the video's log."""

    message: str
    level: Level = "info"
    category: Category = "processing"


@dataclass(frozen=True)
class SiteRequest:
    """A POST of JSON to one of the site's routes; without a body where the dialect sends none."""

    path: str
    body: dict[str, Any] | None
    #: Whether the answer must say ``{"success": true}``.
    confirmed: bool = True

    def encoded(self) -> bytes:
        """Return the body's bytes."""
        return b"" if self.body is None else json.dumps(self.body, allow_nan=False).encode()


def urls_of(callback: Callback, request: SiteRequest) -> tuple[str, ...]:
    """Return the URLs at which a site may answer a request, the likely one first.

    The plan writes its routes below ``callbackUrl``, which is a route itself; the site that it describes has them at
    its root.
    """
    at_root = callback.site_url + request.path
    if callback.dialect == "site" or request.path == PLAN_SUFFIX:
        return (at_root,)
    return callback.site_url + PLAN_SUFFIX + request.path, at_root


def status_request(
    callback: Callback,
    status: Literal["processing", "failed"],
    *,
    progress: float | None = None,
    frame: int | None = None,
    frame_count: int | None = None,
    error: str | None = None,
) -> SiteRequest:
    """Return the request that sets a video's status; ``progress`` in percent."""
    optional: dict[str, Any] = {"progress": progress}
    if callback.dialect == "site":
        optional |= {"currentFrame": frame, "totalFrames": frame_count}
    optional["error"] = None if error is None else error[:_TEXT_CHARS]
    body: dict[str, Any] = {"status": status}
    return _request(callback, "/updateStatus", body | _given(optional))


def log_request(callback: Callback, entry: LogEntry) -> SiteRequest:
    """Return the request that adds an entry to a video's log; only the dialect ``site`` has one."""
    body = {"message": entry.message[:_TEXT_CHARS], "level": entry.level, "category": entry.category}
    return _request(callback, "/addLog", body)


def upload_url_request(callback: Callback) -> SiteRequest:
    """Return the request for a URL to which a file can be uploaded."""
    return SiteRequest("/generateUploadUrl", {} if callback.dialect == "site" else None, confirmed=False)


def results_request(callback: Callback, figures: Mapping[str, Any]) -> SiteRequest:
    """Return the request that completes a video; ``figures`` are ``resultsMeta``, or the plan's ``results``."""
    video = callback.stored.get(VIDEO_FILE) or None  # empty: the job has none
    if callback.dialect == "plan":
        body: dict[str, Any] = {"results": dict(figures)}
        return _request(callback, PLAN_SUFFIX, body | _given({"processedVideoStorageId": video}))
    body = {"resultsMeta": dict(figures), "resultsStorageId": callback.stored[RESULTS_FILE]}
    return _request(callback, PLAN_SUFFIX, body | _given({"processedVideoStorageId": video}))


def artifacts_to_store(callback: Callback) -> tuple[str, ...]:
    """Return the artifacts that are stored at the site before it is told the results."""
    return (RESULTS_FILE, VIDEO_FILE) if callback.dialect == "site" else (VIDEO_FILE,)


def check_confirmation(answer: bytes) -> None:
    """Check the answer to a request that changes a video.

    Raises:
        AnswerError: it does not say that the change was made.
    """
    if _object(answer).get("success") is not True:
        raise AnswerError('it does not say {"success": true}')


def upload_url_of(answer: bytes) -> str:
    """Return the URL in the answer to ``generateUploadUrl``: ``{"uploadUrl": …}``, or the text alone in the plan.

    Raises:
        AnswerError: there is none, or it is not valid; the message does not contain it.
    """
    found = _json(answer)
    url = found.get("uploadUrl") if isinstance(found, dict) else found
    if not isinstance(url, str) or not url:
        raise AnswerError("it has no uploadUrl")
    try:
        parse_url(url)
    except ValueError:
        raise AnswerError("its uploadUrl is not a valid URL") from None
    return url


def storage_id_of(answer: bytes) -> str:
    """Return the id of a stored file.

    Raises:
        AnswerError: there is none.
    """
    storage_id = _object(answer).get("storageId")
    # Printable: half a surrogate pair could not be stored.
    if not isinstance(storage_id, str) or not 1 <= len(storage_id) <= 500 or not storage_id.isprintable():
        raise AnswerError("it has no storageId")
    return storage_id


def _request(callback: Callback, path: str, body: dict[str, Any]) -> SiteRequest:
    # The plan's routes are not written down: their status decides.
    return SiteRequest(path, {"videoId": callback.video_id} | body, confirmed=callback.dialect == "site")


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _json(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise AnswerError("it is not JSON") from error


def _object(answer: bytes) -> dict[str, Any]:
    found = _json(answer)
    if not isinstance(found, dict):
        raise AnswerError("it is not a JSON object")
    return found
