"""The closed set of error codes: HTTP status, whether trying again helps, and what the user can do.

The same code stands in a problem+json answer, in a ``job.failed`` event and in a webhook.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class ErrorKind:
    """What is always true of one error code."""

    status: int
    title: str
    hint: str
    retryable: bool = False


class ErrorCode(StrEnum):
    """Every error a user can meet."""

    # the request
    MALFORMED_REQUEST = "malformed_request"
    BODY_TOO_LARGE = "body_too_large"
    INVALID_PARAMETER = "invalid_parameter"
    UNKNOWN_PARAMETER = "unknown_parameter"
    UNKNOWN_WORKLOAD = "unknown_workload"
    BACKEND_NOT_INSTALLED = "backend_not_installed"
    MISSING_INPUT = "missing_input"
    UNKNOWN_INPUT = "unknown_input"
    URL_INPUT_NOT_ALLOWED = "url_input_not_allowed"
    WRONG_INPUT_MEDIA = "wrong_input_media"
    IDEMPOTENCY_KEY_INVALID = "idempotency_key_invalid"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    CURSOR_INVALID = "cursor_invalid"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    RATE_LIMITED = "rate_limited"
    # uploads
    UPLOAD_NOT_FOUND = "upload_not_found"
    UPLOAD_NOT_COMPLETED = "upload_not_completed"
    UPLOAD_ALREADY_ENDED = "upload_already_ended"
    UPLOAD_IN_USE = "upload_in_use"
    UPLOAD_EMPTY = "upload_empty"
    UPLOAD_TOO_LARGE = "upload_too_large"
    UPLOAD_BYTES_MISSING = "upload_bytes_missing"
    UPLOAD_SIZE_MISMATCH = "upload_size_mismatch"
    UPLOAD_CHECKSUM_MISMATCH = "upload_checksum_mismatch"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    MEDIA_UNDECODABLE = "media_undecodable"
    MEDIA_NO_VIDEO = "media_no_video"
    MEDIA_TOO_LARGE = "media_too_large"
    ARCHIVE_UNREADABLE = "archive_unreadable"
    ARCHIVE_UNSAFE = "archive_unsafe"
    ARCHIVE_ENCRYPTED = "archive_encrypted"
    ARCHIVE_NESTED = "archive_nested"
    ARCHIVE_TOO_LARGE = "archive_too_large"
    ARCHIVE_EMPTY = "archive_empty"
    # jobs
    JOB_NOT_FOUND = "job_not_found"
    JOB_ALREADY_ENDED = "job_already_ended"
    JOB_NOT_RETRYABLE = "job_not_retryable"
    JOB_IN_PIPELINE = "job_in_pipeline"
    SEQUENCE_CONFLICT = "sequence_conflict"
    ARTIFACT_NOT_FOUND = "artifact_not_found"
    ARTIFACTS_NOT_READY = "artifacts_not_ready"
    SCRATCH_REMOVED = "scratch_removed"
    # live sessions
    SESSION_NOT_FOUND = "session_not_found"
    SESSION_ENDED = "session_ended"
    SESSION_NOT_STARTED = "session_not_started"
    SESSION_RECORD_EXPIRED = "session_record_expired"
    SESSIONS_NOT_CONFIGURED = "sessions_not_configured"
    FRAME_EMPTY = "frame_empty"
    FRAME_TOO_LARGE = "frame_too_large"
    FRAME_UNREADABLE = "frame_unreadable"
    FRAME_SIZE_CHANGED = "frame_size_changed"
    JOINTS_INVALID = "joints_invalid"
    JOINTS_MISSING = "joints_missing"
    # webhooks
    WEBHOOK_NOT_FOUND = "webhook_not_found"
    WEBHOOK_CHANGED = "webhook_changed"
    WEBHOOK_DISABLED = "webhook_disabled"
    TOO_MANY_WEBHOOKS = "too_many_webhooks"
    DELIVERY_NOT_FOUND = "delivery_not_found"
    WEBHOOKS_NOT_CONFIGURED = "webhooks_not_configured"
    # how a job fails: the input
    INPUT_UNREADABLE = "input_unreadable"
    CLIP_TOO_SHORT = "clip_too_short"
    CLIP_STATIC = "clip_static"
    CLIPS_DIFFERENT_PLACES = "clips_different_places"
    CLIPS_OPPOSITE_DIRECTIONS = "clips_opposite_directions"
    CAPTURE_REFUSED = "capture_refused"
    POSES_NOT_FOUND = "poses_not_found"
    POSES_SPLIT = "poses_split"
    # how a job fails: the machine
    OUT_OF_MEMORY = "out_of_memory"
    STORAGE_FULL = "storage_full"
    WORKER_LOST = "worker_lost"
    WORKER_BROKEN = "worker_broken"
    WORKER_NOT_STARTED = "worker_not_started"
    TIMED_OUT = "timed_out"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    COST_CAP_REACHED = "cost_cap_reached"
    # the service
    BUS_UNAVAILABLE = "bus_unavailable"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    SERVICE_UNAVAILABLE = "service_unavailable"
    INTERNAL = "internal"


def _kind(status: int, title: str, hint: str, *, retryable: bool = False) -> ErrorKind:
    return ErrorKind(status, title, hint, retryable)


_C = ErrorCode
KINDS: dict[ErrorCode, ErrorKind] = {
    _C.MALFORMED_REQUEST: _kind(400, "The request could not be read", "Send valid JSON as the API reference at /docs describes."),
    _C.BODY_TOO_LARGE: _kind(413, "The request body is too large", "Upload files by POST /v1/uploads and send only their ids."),
    _C.INVALID_PARAMETER: _kind(422, "A value is not allowed", "See the schema of this workload under GET /v1/workloads."),
    _C.UNKNOWN_PARAMETER: _kind(422, "There is no such parameter", "See the schema of this workload under GET /v1/workloads."),
    _C.UNKNOWN_WORKLOAD: _kind(422, "There is no such workload", "GET /v1/workloads lists those there are."),
    _C.BACKEND_NOT_INSTALLED: _kind(422, "This option needs a backend that is not installed here", "Leave the option at its default, or run on a worker that has the backend."),
    _C.MISSING_INPUT: _kind(422, "An input is missing", "See the inputs of this workload under GET /v1/workloads."),
    _C.UNKNOWN_INPUT: _kind(422, "There is no such input", "See the inputs of this workload under GET /v1/workloads."),
    _C.URL_INPUT_NOT_ALLOWED: _kind(422, "This server does not fetch inputs from URLs", "Upload the file by POST /v1/uploads and send its id."),
    _C.WRONG_INPUT_MEDIA: _kind(422, "This upload is not what the input takes", "Send an upload of the media that GET /v1/workloads names for the input."),
    _C.IDEMPOTENCY_KEY_INVALID: _kind(400, "The Idempotency-Key cannot be used", "Send 1 to 255 printable ASCII characters, a fresh UUID for example."),
    _C.IDEMPOTENCY_KEY_REUSED: _kind(409, "This Idempotency-Key came before with another body", "Use a new key for a new request."),
    _C.CURSOR_INVALID: _kind(400, "The cursor is not one of ours", "Send back next_cursor unchanged, or leave the cursor out."),
    _C.NOT_FOUND: _kind(404, "There is nothing here", "See /docs for the routes there are."),
    _C.METHOD_NOT_ALLOWED: _kind(405, "This route does not take that method", "See /docs for the methods it takes."),
    _C.UNAUTHENTICATED: _kind(401, "No valid API key", "Send Authorization: Bearer <key>."),
    _C.FORBIDDEN: _kind(403, "The API key may not do this", "Use a key with the scope that this route needs."),
    _C.HOST_NOT_ALLOWED: _kind(403, "This Host is not served here", "Call the server by the address it printed when it started."),
    _C.ORIGIN_NOT_ALLOWED: _kind(403, "Pages of this origin may not call this server", "Add the origin to the allowed origins in the settings."),
    _C.RATE_LIMITED: _kind(429, "Too many requests", "Wait for the seconds in Retry-After and try again.", retryable=True),
    _C.UPLOAD_NOT_FOUND: _kind(404, "There is no such upload", "Create one by POST /v1/uploads."),
    _C.UPLOAD_NOT_COMPLETED: _kind(409, "The upload is not complete", "Send the bytes, then POST /v1/uploads/{id}/complete."),
    _C.UPLOAD_ALREADY_ENDED: _kind(409, "The upload has ended already", "Create a new one by POST /v1/uploads."),
    _C.UPLOAD_IN_USE: _kind(409, "A job that has not ended uses this upload", "Cancel the job or wait for its end."),
    _C.UPLOAD_EMPTY: _kind(422, "The file is empty", "Check that the file was written before you sent it."),
    _C.UPLOAD_TOO_LARGE: _kind(413, "The file is too large", "Cut the clip or encode it smaller."),
    _C.UPLOAD_BYTES_MISSING: _kind(409, "The bytes have not arrived", "PUT the file to the presigned URL, then complete the upload."),
    _C.UPLOAD_SIZE_MISMATCH: _kind(422, "The file has another size than was declared", "Create a new upload with the true size."),
    _C.UPLOAD_CHECKSUM_MISMATCH: _kind(422, "The file has another SHA-256 than was declared", "The bytes changed on the way: upload the file again."),
    _C.UNSUPPORTED_MEDIA_TYPE: _kind(415, "This media type is not taken", "Send a video or a picture and its true content type."),
    _C.MEDIA_UNDECODABLE: _kind(422, "No decoder opens this file", "Check that the file plays, or opens in a viewer, then upload it again; a cut-off recording can often be repaired with ffmpeg."),
    _C.MEDIA_NO_VIDEO: _kind(422, "The file has no video in it", "Send a file with a video track."),
    _C.MEDIA_TOO_LARGE: _kind(422, "The picture is larger than the decoder is allowed to open", "Scale it down: a video to at most 8192 pixels on each side, a photo to 12,000 and to 64 megapixels."),
    _C.ARCHIVE_UNREADABLE: _kind(422, "The ZIP cannot be read", "Pack the photos again as a plain ZIP, stored or deflated, and send it whole."),
    _C.ARCHIVE_UNSAFE: _kind(422, "The ZIP holds what no ZIP of photos holds", "Pack the photos themselves: no links, no absolute names, nothing that unpacks to a multiple of its size."),
    _C.ARCHIVE_ENCRYPTED: _kind(422, "The ZIP is encrypted", "Pack the photos without a password."),
    _C.ARCHIVE_NESTED: _kind(422, "There is an archive inside the ZIP", "Unpack it and put its photos into the ZIP themselves."),
    _C.ARCHIVE_TOO_LARGE: _kind(422, "The ZIP is larger than is taken", "Leave out what is no photo, or send fewer or smaller photos."),
    _C.ARCHIVE_EMPTY: _kind(422, "There is no photo in the ZIP", "Put JPEG, PNG, WebP or HEIC photos into it."),
    _C.JOB_NOT_FOUND: _kind(404, "There is no such job", "GET /v1/jobs lists your jobs."),
    _C.JOB_ALREADY_ENDED: _kind(409, "The job has ended already", "Nothing needs to be done; retry a failed or cancelled job by POST /v1/jobs/{id}/retry."),
    _C.JOB_NOT_RETRYABLE: _kind(409, "Only a failed or cancelled job can be retried", "Wait for the job to end, or submit a new one."),
    _C.JOB_IN_PIPELINE: _kind(409, "The job is a part of a pipeline", "Cancel or retry the pipeline itself: it decides about its stages."),
    _C.SEQUENCE_CONFLICT: _kind(409, "The job has newer events than this one was made for", "Read the job again and decide again."),
    _C.ARTIFACT_NOT_FOUND: _kind(404, "The job has no such artifact", "GET /v1/jobs/{id}/artifacts lists those it has."),
    _C.ARTIFACTS_NOT_READY: _kind(409, "The job has not left its artifacts yet", "Wait for job.succeeded."),
    _C.SCRATCH_REMOVED: _kind(410, "What the job could go on from is removed", "Submit a new job; the results of this one are still there."),
    _C.SESSION_NOT_FOUND: _kind(404, "There is no such session", "Check the id; POST /v1/sessions opens one."),
    _C.SESSION_ENDED: _kind(409, "The session has ended", "Open a new one with POST /v1/sessions."),
    _C.SESSION_NOT_STARTED: _kind(409, "The session has nothing to show yet", "Send frames, and try again.", retryable=True),
    _C.SESSION_RECORD_EXPIRED: _kind(410, "What was sent into the session is not kept any more", "Telemetry is kept for 6 hours: export or replay a session before that."),
    _C.SESSIONS_NOT_CONFIGURED: _kind(501, "Workers here cannot reach NATS, which live sessions need", "Have the operator make NATS reachable for workers and set GATEWAY_WORKER_BUS (docs/worker_access.md), or run workers locally."),
    _C.FRAME_EMPTY: _kind(422, "The frame has no bytes", "Send one JPEG or PNG picture a request."),
    _C.FRAME_TOO_LARGE: _kind(413, "The frame is too large", "Send frames of at most 1,000 kB and 4096 px a side; JPEG at quality 85 is plenty."),
    _C.FRAME_UNREADABLE: _kind(422, "The frame cannot be read", "Send a whole JPEG or PNG picture."),
    _C.FRAME_SIZE_CHANGED: _kind(422, "The frame has another size than those before", "Keep the camera's resolution, or reset the session."),
    _C.JOINTS_INVALID: _kind(422, "The joint values cannot be used", "Send one finite value a joint, in radians, in the order of the names."),
    _C.JOINTS_MISSING: _kind(422, "No joint positions belong to this frame", "Send joint positions in radians while frames are sent, with capture times of the same clock."),
    _C.WEBHOOK_NOT_FOUND: _kind(404, "There is no such webhook endpoint", "GET /v1/webhooks lists yours."),
    _C.WEBHOOK_CHANGED: _kind(409, "Somebody else changed the endpoint at the same moment", "Read it again and decide again.", retryable=True),
    _C.WEBHOOK_DISABLED: _kind(409, "The endpoint is disabled", "Enable it first: PATCH /v1/webhooks/{id} with enabled true."),
    _C.TOO_MANY_WEBHOOKS: _kind(409, "You have as many webhook endpoints as there may be", "Delete one that is not needed any more."),
    _C.DELIVERY_NOT_FOUND: _kind(404, "There is no such delivery", "GET /v1/webhooks/{id}/deliveries lists them; they are kept for 30 days."),
    _C.WEBHOOKS_NOT_CONFIGURED: _kind(501, "This server sends no webhooks", "Have the operator set NOTIFIER_SECRET_KEY; until then follow the event streams."),
    _C.INPUT_UNREADABLE: _kind(422, "A video could not be decoded", "Check that the file plays to its end; repair or re-encode it with ffmpeg."),
    _C.CLIP_TOO_SHORT: _kind(422, "A clip is too short", "Send clips of at least two seconds."),
    _C.CLIP_STATIC: _kind(422, "Nothing moves in a clip", "Send a clip filmed from a moving car."),
    _C.CLIPS_DIFFERENT_PLACES: _kind(422, "The clips do not show the same road", "Send two laps of the same circuit in the same direction."),
    _C.CLIPS_OPPOSITE_DIRECTIONS: _kind(422, "The clips run in opposite directions", "Send two laps driven in the same direction."),
    _C.POSES_NOT_FOUND: _kind(422, "It could not be found out where the photos were taken from", "Photograph the object from all sides, each photo showing most of what the one before it shows, sharp, on a textured ground."),
    _C.POSES_SPLIT: _kind(422, "The photos fall into parts that do not show the same thing", "Send the photos of one object only, or take photos that connect the parts."),
    _C.CAPTURE_REFUSED: _kind(422, "No model can be made of these photos", "preflight.json says what to shoot again; send ignore_verdict true to go on all the same."),
    _C.OUT_OF_MEMORY: _kind(500, "The worker ran out of memory", "Try again with a smaller input, or ask for a larger device.", retryable=True),
    _C.STORAGE_FULL: _kind(507, "There is no room left on the disk", "Free some space and retry the job.", retryable=True),
    _C.WORKER_LOST: _kind(500, "The worker disappeared too often", "Retry the job; its finished stages are kept.", retryable=True),
    _C.WORKER_BROKEN: _kind(500, "The worker failed on a fault of its own", "Tell us the job id; a retry will most likely end the same way."),
    _C.WORKER_NOT_STARTED: _kind(503, "No worker could be started", "Retry the job later.", retryable=True),
    _C.TIMED_OUT: _kind(504, "The job took longer than it may", "Send shorter clips, or retry on a faster device."),
    _C.DEADLINE_EXCEEDED: _kind(504, "The job was not done before its deadline", "Submit it again with a later deadline."),
    _C.COST_CAP_REACHED: _kind(402, "The job reached its cost cap", "Raise max_cost_usd and submit it again."),
    _C.BUS_UNAVAILABLE: _kind(503, "The event bus does not answer", "Nothing was lost: try again in a few seconds.", retryable=True),
    _C.STORAGE_UNAVAILABLE: _kind(503, "The bucket does not answer", "Nothing was lost: try again in a few seconds.", retryable=True),
    _C.SERVICE_UNAVAILABLE: _kind(503, "A service behind this address does not answer", "It is being started again: try again in a few seconds.", retryable=True),
    _C.INTERNAL: _kind(500, "Something broke on our side", "Try again; if it stays, tell us the request id.", retryable=True),
}  # fmt: skip


class ErrorBody(BaseModel):
    """An error inside a job object or an event."""

    model_config = ConfigDict(frozen=True)

    code: ErrorCode
    message: str
    hint: str


class SaccadeError(Exception):
    """An error with a stable code, to be shown to a user as it is."""

    def __init__(self, code: ErrorCode, message: str = "", *, hint: str = "", **extra: Any) -> None:
        """Keep the code and what is special about this case; ``extra`` goes into problem+json."""
        self.code = code
        self.kind = KINDS[code]
        self.message = message or self.kind.title
        self.hint = hint or self.kind.hint
        self.extra = extra
        super().__init__(f"{code}: {self.message}")

    def body(self) -> ErrorBody:
        """Give the error as it stands in a job and in an event."""
        return ErrorBody(code=self.code, message=self.message, hint=self.hint)
