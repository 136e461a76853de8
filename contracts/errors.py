"""Closed set of error codes: HTTP status, whether a retry may help, and what the user can do.

The same code is used in problem+json responses, in ``job.failed`` events and in webhooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class ErrorKind:
    """Fixed properties of one error code."""

    status: int
    title: str
    hint: str
    retryable: bool = False


class ErrorCode(StrEnum):
    """Every error that a user can get."""

    # the request
    MALFORMED_REQUEST = "malformed_request"
    REQUEST_TIMEOUT = "request_timeout"
    TARGET_TOO_LONG = "target_too_long"
    HEAD_TOO_LARGE = "head_too_large"
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
    POINT_IN_FUTURE = "point_in_future"
    POINT_UNKNOWN = "point_unknown"
    NOT_CREATED_YET = "not_created_yet"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    HOST_NOT_ALLOWED = "host_not_allowed"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    TLS_REQUIRED = "tls_required"
    BROWSER_SESSIONS_NOT_CONFIGURED = "browser_sessions_not_configured"
    EMBEDDING_NOT_CONFIGURED = "embedding_not_configured"
    READ_ONLY = "read_only"
    WRONG_PARTITION = "wrong_partition"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
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
    # inputs by URL
    URL_INVALID = "url_invalid"
    URL_ADDRESS_REFUSED = "url_address_refused"
    URL_UNREACHABLE = "url_unreachable"
    URL_TOO_SLOW = "url_too_slow"
    URL_STATUS_ERROR = "url_status_error"
    URL_TOO_MANY_REDIRECTS = "url_too_many_redirects"
    URL_SIZE_MISMATCH = "url_size_mismatch"
    URL_NOT_MEDIA = "url_not_media"
    URL_ANSWER_INVALID = "url_answer_invalid"
    URL_FETCH_PENDING = "url_fetch_pending"
    # jobs
    JOB_NOT_FOUND = "job_not_found"
    JOB_ALREADY_ENDED = "job_already_ended"
    JOB_NOT_RETRYABLE = "job_not_retryable"
    JOB_IN_PIPELINE = "job_in_pipeline"
    JOB_ARCHIVED = "job_archived"
    SEQUENCE_CONFLICT = "sequence_conflict"
    ARTIFACT_NOT_FOUND = "artifact_not_found"
    ARTIFACTS_NOT_READY = "artifacts_not_ready"
    SCRATCH_REMOVED = "scratch_removed"
    RESULTS_REMOVED = "results_removed"
    JOBS_CHANGED = "jobs_changed"
    JOB_PLAN_NOT_FOUND = "job_plan_not_found"
    # history
    HISTORY_EXPIRED = "history_expired"
    SEGMENT_DAMAGED = "segment_damaged"
    # erasures
    ERASURE_NOT_FOUND = "erasure_not_found"
    ERASURE_BLOCKED = "erasure_blocked"
    # budgets
    BUDGET_EXCEEDED = "budget_exceeded"
    BUDGET_NOT_FOUND = "budget_not_found"
    # rules
    RULE_NOT_FOUND = "rule_not_found"
    TOO_MANY_RULES = "too_many_rules"
    RULE_LIMIT_REACHED = "rule_limit_reached"
    RULE_LOOP = "rule_loop"
    # live sessions
    SESSION_NOT_FOUND = "session_not_found"
    SESSION_ENDED = "session_ended"
    SESSION_NOT_STARTED = "session_not_started"
    SESSION_RECORD_EXPIRED = "session_record_expired"
    SESSIONS_NOT_CONFIGURED = "sessions_not_configured"
    TOO_MANY_PROMPTS = "too_many_prompts"
    ANSWER_SCHEMA_INVALID = "answer_schema_invalid"
    PROMPTS_NOT_SUPPORTED = "prompts_not_supported"
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
    EMAIL_NOT_CONFIGURED = "email_not_configured"
    # operators
    DEAD_LETTER_NOT_FOUND = "dead_letter_not_found"
    DEAD_LETTER_NOT_REDRIVABLE = "dead_letter_not_redrivable"
    DEAD_LETTER_SETTLED = "dead_letter_settled"
    DEAD_LETTERS_CHANGED = "dead_letters_changed"
    DEAD_LETTER_PLAN_NOT_FOUND = "dead_letter_plan_not_found"
    NO_STANDBY = "no_standby"
    # replays
    REPLAY_NOT_FOUND = "replay_not_found"
    REPLAY_COUNT_DIFFERS = "replay_count_differs"
    REPLAY_STATE_CONFLICT = "replay_state_conflict"
    TOO_MANY_REPLAYS = "too_many_replays"
    REPLAY_TARGET_REFUSED = "replay_target_refused"
    SANDBOX_NOT_CONFIGURED = "sandbox_not_configured"
    # how a job fails: the input
    INPUT_UNREADABLE = "input_unreadable"
    CLIP_TOO_SHORT = "clip_too_short"
    CLIP_STATIC = "clip_static"
    CLIPS_DIFFERENT_PLACES = "clips_different_places"
    CLIPS_OPPOSITE_DIRECTIONS = "clips_opposite_directions"
    COURT_NOT_FOUND = "court_not_found"
    CAPTURE_REFUSED = "capture_refused"
    COURT_KEYPOINTS_INVALID = "court_keypoints_invalid"
    POSES_NOT_FOUND = "poses_not_found"
    POSES_SPLIT = "poses_split"
    # how a job fails: the machine
    MODEL_FILE_INVALID = "model_file_invalid"
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
    EVENTS_FULL = "events_full"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    SERVICE_UNAVAILABLE = "service_unavailable"
    STARTING = "starting"
    INTERNAL = "internal"


def _kind(status: int, title: str, hint: str, *, retryable: bool = False) -> ErrorKind:
    return ErrorKind(status, title, hint, retryable)


_C = ErrorCode
KINDS: dict[ErrorCode, ErrorKind] = {
    _C.MALFORMED_REQUEST: _kind(400, "The request could not be read", "Send valid JSON as the API reference at /docs describes."),
    _C.REQUEST_TIMEOUT: _kind(408, "The request was not received in time", "Send it again, faster: on a slow link in smaller pieces.", retryable=True),
    _C.TARGET_TOO_LONG: _kind(414, "The request's target is too long", "Shorten the query: leave out filters, or ask for fewer values at once."),
    _C.HEAD_TOO_LARGE: _kind(431, "The head of the request is too large", "Send fewer or shorter headers, without cookies of other sites."),
    _C.BODY_TOO_LARGE: _kind(413, "The request body is too large", "Upload files with POST /v1/uploads and send only their ids."),
    _C.INVALID_PARAMETER: _kind(422, "A value is not allowed", "See the schema of this workload under GET /v1/workloads."),
    _C.UNKNOWN_PARAMETER: _kind(422, "There is no such parameter", "See the schema of this workload under GET /v1/workloads."),
    _C.UNKNOWN_WORKLOAD: _kind(422, "There is no such workload", "GET /v1/workloads lists the available workloads."),
    _C.BACKEND_NOT_INSTALLED: _kind(422, "This needs a package that is not installed where workers run", "GET /v1/workloads says for each workload what is missing, and what installs it."),
    _C.MISSING_INPUT: _kind(422, "An input is missing", "See the inputs of this workload under GET /v1/workloads."),
    _C.UNKNOWN_INPUT: _kind(422, "There is no such input", "See the inputs of this workload under GET /v1/workloads."),
    _C.URL_INPUT_NOT_ALLOWED: _kind(422, "This server does not fetch inputs from URLs", "Upload the file with POST /v1/uploads and send its id."),
    _C.WRONG_INPUT_MEDIA: _kind(422, "The upload has the wrong media type for this input", "Send an upload of the media type that GET /v1/workloads lists for the input."),
    _C.IDEMPOTENCY_KEY_INVALID: _kind(400, "The Idempotency-Key is invalid", "Send 1 to 255 printable ASCII characters, for example a new UUID."),
    _C.IDEMPOTENCY_KEY_REUSED: _kind(409, "This Idempotency-Key was used before with another body", "Use a new key for a new request."),
    _C.CURSOR_INVALID: _kind(400, "The cursor is invalid", "Send next_cursor back unchanged, or omit the cursor."),
    _C.POINT_IN_FUTURE: _kind(422, "This point of the history has not come yet", "Leave the point out to read the present state."),
    _C.POINT_UNKNOWN: _kind(410, "The cursor belongs to another history", "The server was restored from a backup, or set up anew, since: name the point by its time."),
    _C.NOT_CREATED_YET: _kind(404, "It did not exist yet at this point of the history", "Choose a later point; created_at of the problem is the earliest one."),
    _C.NOT_FOUND: _kind(404, "There is no such route or resource", "See /docs for the list of routes."),
    _C.METHOD_NOT_ALLOWED: _kind(405, "This route does not support the method", "See /docs for the methods of each route."),
    _C.UNAUTHENTICATED: _kind(401, "No valid API key", "Send Authorization: Bearer <key>."),
    _C.FORBIDDEN: _kind(403, "The API key has no permission for this", "Use a key with the scope that this route requires."),
    _C.HOST_NOT_ALLOWED: _kind(403, "This Host is not allowed", "Use the address that the server printed when it started."),
    _C.ORIGIN_NOT_ALLOWED: _kind(403, "This origin is not allowed", "Add the origin to the allowed origins in the settings."),
    _C.TLS_REQUIRED: _kind(403, "Nobody can log in here without TLS", "Open the server by https://; where a proxy ends TLS, have it send X-Forwarded-Proto: https. On this machine http://127.0.0.1 works too."),
    _C.BROWSER_SESSIONS_NOT_CONFIGURED: _kind(501, "Nobody can log in to this server in a browser", "Ask the operator to set NOTIFIER_TICKET_KEY for gateway and notifier."),
    _C.EMBEDDING_NOT_CONFIGURED: _kind(403, "No other page may show the webhooks of this server", "Ask the operator to set GATEWAY_EMBED_ORIGINS to the origins of those pages."),
    _C.READ_ONLY: _kind(403, "This server shows an imported window and changes nothing", "Send the request to the server that the window came from."),
    _C.WRONG_PARTITION: _kind(421, "This server does not serve this tenant", "Send the request to the one address of the whole system, not to one of its servers. Its operator: SACCADE_PARTITION of that server and the origin's table of slots must agree (docs/scale.md)."),
    _C.RATE_LIMITED: _kind(429, "Too many requests", "Wait for the seconds in Retry-After and try again.", retryable=True),
    _C.QUOTA_EXCEEDED: _kind(409, "Your quota is used up", "The message says which; it is freed by what ends or is deleted (docs/quotas.md)."),
    _C.UPLOAD_NOT_FOUND: _kind(404, "There is no such upload", "Create an upload with POST /v1/uploads."),
    _C.UPLOAD_NOT_COMPLETED: _kind(409, "The upload is not complete", "Send the bytes, then POST /v1/uploads/{id}/complete."),
    _C.UPLOAD_ALREADY_ENDED: _kind(409, "The upload has already ended", "Create a new upload with POST /v1/uploads."),
    _C.UPLOAD_IN_USE: _kind(409, "An unfinished job uses this upload", "Cancel the job or wait until it ends."),
    _C.UPLOAD_EMPTY: _kind(422, "The file is empty", "Check that the file was written before you upload it."),
    _C.UPLOAD_TOO_LARGE: _kind(413, "The file is too large", "Shorten the clip, or encode it with a lower bit rate."),
    _C.UPLOAD_BYTES_MISSING: _kind(409, "The bytes of the upload are missing", "PUT the file to the presigned URL, then complete the upload."),
    _C.UPLOAD_SIZE_MISMATCH: _kind(422, "The size of the file differs from the declared size", "Create a new upload with the correct size."),
    _C.UPLOAD_CHECKSUM_MISMATCH: _kind(422, "The SHA-256 of the file differs from the declared one", "The bytes changed during the transfer: upload the file again."),
    _C.UNSUPPORTED_MEDIA_TYPE: _kind(415, "This media type is not supported", "Send a video or a picture with its correct content type."),
    _C.MEDIA_UNDECODABLE: _kind(422, "The file cannot be decoded", "Check that the file plays, or opens in a viewer, then upload it again; an incomplete recording can often be repaired with ffmpeg."),
    _C.MEDIA_NO_VIDEO: _kind(422, "The file contains no video", "Send a file with a video track."),
    _C.MEDIA_TOO_LARGE: _kind(422, "The picture is too large to decode", "Scale it down: a video to at most 8192 pixels per side, a photo to at most 12,000 pixels per side and 64 megapixels."),
    _C.ARCHIVE_UNREADABLE: _kind(422, "The ZIP cannot be read", "Pack the photos again as a plain ZIP (stored or deflated) and upload the complete file."),
    _C.ARCHIVE_UNSAFE: _kind(422, "The ZIP contains an unsafe entry", "Pack only the photos: no links, no absolute names, no files that unpack to many times their size."),
    _C.ARCHIVE_ENCRYPTED: _kind(422, "The ZIP is encrypted", "Pack the photos without a password."),
    _C.ARCHIVE_NESTED: _kind(422, "There is an archive inside the ZIP", "Unpack the inner archive and add its photos to the ZIP directly."),
    _C.ARCHIVE_TOO_LARGE: _kind(422, "The ZIP is too large", "Remove files that are not photos, or send fewer or smaller photos."),
    _C.ARCHIVE_EMPTY: _kind(422, "There is no photo in the ZIP", "Add JPEG, PNG, WebP or HEIC photos to it."),
    _C.URL_INVALID: _kind(422, "The URL cannot be fetched as it is written", "Send a URL like https://example.com/clip.mp4, without user name, password or fragment."),
    _C.URL_ADDRESS_REFUSED: _kind(422, "The URL leads to an address that this server does not connect to", "Send a URL on the public internet, or upload the file with POST /v1/uploads."),
    _C.URL_UNREACHABLE: _kind(422, "The server of the URL cannot be reached", "Check that the URL opens in a browser outside your network, then try again."),
    _C.URL_TOO_SLOW: _kind(422, "The server of the URL is too slow", "Try again later, or upload the file with POST /v1/uploads."),
    _C.URL_STATUS_ERROR: _kind(422, "The server of the URL answered with an error", "Check that the URL is complete and has not expired: it must answer a plain GET with the file."),
    _C.URL_TOO_MANY_REDIRECTS: _kind(422, "The URL is redirected too often", "Send the URL that the redirects end at."),
    _C.URL_SIZE_MISMATCH: _kind(422, "The server of the URL did not send as many bytes as it announced", "Try again, or upload the file with POST /v1/uploads."),
    _C.URL_NOT_MEDIA: _kind(422, "The URL leads to a page, not to a file", "Send the direct link of the file: a page that shows or downloads it is not the file."),
    _C.URL_ANSWER_INVALID: _kind(422, "The answer of the server of the URL is not a plain file over HTTP", "Serve the file without Content-Encoding, or upload it with POST /v1/uploads."),
    _C.URL_FETCH_PENDING: _kind(503, "The inputs of the job are still being fetched", "Wait: the job is submitted when they are complete. With an Idempotency-Key, send the same request again to wait for it.", retryable=True),
    _C.JOB_NOT_FOUND: _kind(404, "There is no such job", "GET /v1/jobs lists your jobs."),
    _C.JOB_ALREADY_ENDED: _kind(409, "The job has already ended", "Nothing needs to be done; retry a failed or cancelled job with POST /v1/jobs/{id}/retry."),
    _C.JOB_NOT_RETRYABLE: _kind(409, "Only a failed or cancelled job can be retried", "Wait until the job ends, or submit a new one."),
    _C.JOB_IN_PIPELINE: _kind(409, "The job belongs to a pipeline", "Cancel or retry the pipeline: it controls the jobs of its stages."),
    _C.JOB_ARCHIVED: _kind(409, "The job is too old: its events are in the archive only", "Submit it again with POST /v1/jobs, and name this one in retry_of."),
    _C.SEQUENCE_CONFLICT: _kind(409, "The job has newer events", "Read the job again, then decide again."),
    _C.ARTIFACT_NOT_FOUND: _kind(404, "The job has no such artifact", "GET /v1/jobs/{id}/artifacts lists the artifacts of the job."),
    _C.ARTIFACTS_NOT_READY: _kind(409, "The artifacts of the job are not ready yet", "Wait for job.succeeded."),
    _C.SCRATCH_REMOVED: _kind(410, "The scratch files of the job were removed", "Submit a new job; the results of this one are still available."),
    _C.RESULTS_REMOVED: _kind(410, "The results of the job were deleted: their retention is over", "Submit the job again with POST /v1/jobs, and name this one in retry_of."),
    _C.JOBS_CHANGED: _kind(409, "The jobs are not as many as expected", "Look at them again, then send the number that is there now."),
    _C.JOB_PLAN_NOT_FOUND: _kind(404, "No such plan", "Check the id that POST /v1/job-plans gave."),
    _C.HISTORY_EXPIRED: _kind(410, "These events are not stored any more", "Begin later: the message names the first event that is stored."),
    _C.SEGMENT_DAMAGED: _kind(500, "A segment of the archive is missing or was changed", "Ask the operator to put the object that the message names back from a copy of the bucket (docs/archive.md)."),
    _C.ERASURE_NOT_FOUND: _kind(404, "There is no such erasure", "Check the id: the answer to the request for it names it."),
    _C.ERASURE_BLOCKED: _kind(409, "What is to be erased is still in use", "Cancel the jobs and sessions that the message names, wait until they have ended, and send the request again."),
    _C.BUDGET_EXCEEDED: _kind(402, "The budget does not allow this", "GET /v1/budgets shows what is left and when the period ends; raise the budget with PUT /v1/budgets, or wait."),
    _C.BUDGET_NOT_FOUND: _kind(404, "No budget is set", "Set one with PUT /v1/budgets."),
    _C.RULE_NOT_FOUND: _kind(404, "There is no such rule", "GET /v1/rules lists your rules."),
    _C.TOO_MANY_RULES: _kind(409, "You have reached the maximum number of rules", "Delete a rule that you do not need any more."),
    _C.RULE_LIMIT_REACHED: _kind(429, "The rule has reached a limit", "Raise jobs_per_day with PATCH /v1/rules/{id}, or wait until groups of the rule close: the message says which."),
    _C.RULE_LOOP: _kind(409, "The file is a result of this rule's own jobs", "Nothing needs to be done: a rule does not apply to its own results."),
    _C.SESSION_NOT_FOUND: _kind(404, "There is no such session", "Check the id; POST /v1/sessions opens a session."),
    _C.SESSION_ENDED: _kind(409, "The session has ended", "Open a new session with POST /v1/sessions."),
    _C.SESSION_NOT_STARTED: _kind(409, "The session has no result yet", "Send frames, then try again.", retryable=True),
    _C.SESSION_RECORD_EXPIRED: _kind(410, "The recorded input of the session has expired", "Telemetry is kept for 6 hours: export or replay a session within that time."),
    _C.SESSIONS_NOT_CONFIGURED: _kind(501, "Live sessions need NATS, which the workers of this server cannot reach", "Ask the operator to make NATS reachable for workers and to set GATEWAY_WORKER_BUS (docs/worker_access.md), or run workers locally."),
    _C.TOO_MANY_PROMPTS: _kind(429, "Too many questions of this session wait for their answer", "Wait for the answers, then ask again.", retryable=True),
    _C.ANSWER_SCHEMA_INVALID: _kind(422, "The JSON Schema of the answer cannot be used", "Send a JSON Schema of an object with typed properties, at most 8 KiB, without $ref to other documents."),
    _C.PROMPTS_NOT_SUPPORTED: _kind(409, "The workload of this session takes no questions", "Open a session of a workload that describes video, such as vision_stream."),
    _C.FRAME_EMPTY: _kind(422, "The frame is empty", "Send one JPEG or PNG picture per request."),
    _C.FRAME_TOO_LARGE: _kind(413, "The frame is too large", "Send frames of at most 1,000 kB and 4096 pixels per side; JPEG at quality 85 is sufficient."),
    _C.FRAME_UNREADABLE: _kind(422, "The frame cannot be decoded", "Send a complete JPEG or PNG picture."),
    _C.FRAME_SIZE_CHANGED: _kind(422, "The size of the frame differs from the previous frames", "Keep the resolution of the camera, or reset the session."),
    _C.JOINTS_INVALID: _kind(422, "The joint values are invalid", "Send one finite value per joint, in radians, in the order of the names."),
    _C.JOINTS_MISSING: _kind(422, "There are no joint positions for this frame", "Send joint positions in radians while you send frames, with capture times of the same clock. For a camera without a robot, open the session with missing_joints: zeros."),
    _C.WEBHOOK_NOT_FOUND: _kind(404, "There is no such webhook endpoint", "GET /v1/webhooks lists your endpoints."),
    _C.WEBHOOK_CHANGED: _kind(409, "Another request changed the endpoint at the same time", "Read the endpoint again, then decide again.", retryable=True),
    _C.WEBHOOK_DISABLED: _kind(409, "The endpoint is disabled", "Enable it with PATCH /v1/webhooks/{id} and enabled true."),
    _C.TOO_MANY_WEBHOOKS: _kind(409, "You have reached the maximum number of webhook endpoints", "Delete an endpoint that you do not need any more."),
    _C.DELIVERY_NOT_FOUND: _kind(404, "There is no such delivery", "GET /v1/webhooks/{id}/deliveries lists them. They are kept for 30 days."),
    _C.WEBHOOKS_NOT_CONFIGURED: _kind(501, "Webhooks are not configured on this server", "Ask the operator to set NOTIFIER_SECRET_KEY; until then use the event streams."),
    _C.EMAIL_NOT_CONFIGURED: _kind(501, "This server sends no e-mail", "Ask the operator to set NOTIFIER_SMTP_HOST and NOTIFIER_SMTP_FROM (docs/messages.md), or choose another format."),
    _C.DEAD_LETTER_NOT_FOUND: _kind(404, "There is no such dead letter", "`saccade deadletters ls --state all` shows them; they are kept for 90 days."),
    _C.DEAD_LETTER_NOT_REDRIVABLE: _kind(409, "The dead letter cannot be handled again by a command", "Correct the cause, then discard the letter."),
    _C.DEAD_LETTER_SETTLED: _kind(409, "The dead letter was settled before", "GET /v1/dead-letters/{id} says by whom. A further fault opens it again."),
    _C.DEAD_LETTERS_CHANGED: _kind(409, "The dead letters are not as many as expected", "Look at them again, then send the number that is there now."),
    _C.DEAD_LETTER_PLAN_NOT_FOUND: _kind(404, "No such plan", "Check the id that POST /v1/dead-letter-plans gave."),
    _C.NO_STANDBY: _kind(409, "No other process can take the lease", "Start a second dispatcher, then rotate the lease."),
    _C.REPLAY_NOT_FOUND: _kind(404, "There is no such replay", "GET /v1/replays lists those of the last 90 days."),
    _C.REPLAY_COUNT_DIFFERS: _kind(409, "The replay has another number of events than you expected", "Read the plan (GET /v1/replays/{id}), then start it with its count, or plan anew."),
    _C.REPLAY_STATE_CONFLICT: _kind(409, "The replay is in another state", "GET /v1/replays/{id} shows its state. A plan that has expired is planned anew."),
    _C.TOO_MANY_REPLAYS: _kind(409, "Too many of your replays are running", "Wait until one has ended, or cancel one; paused replays count too."),
    _C.REPLAY_TARGET_REFUSED: _kind(409, "The replay cannot be sent to this target", "Choose another target: sse, a file, a sandbox, or an endpoint whose format is cloudevents."),
    _C.SANDBOX_NOT_CONFIGURED: _kind(501, "This server has no sandbox for replays", "Replay into sse, a file or a webhook, or ask the operator to set up the sandbox (docs/replays.md)."),
    _C.INPUT_UNREADABLE: _kind(422, "A video could not be decoded", "Check that the file plays to its end; repair it or encode it again with ffmpeg."),
    _C.CLIP_TOO_SHORT: _kind(422, "A clip is too short", "Send clips of at least two seconds."),
    _C.CLIP_STATIC: _kind(422, "Nothing moves in a clip", "Send a clip filmed from a moving car."),
    _C.CLIPS_DIFFERENT_PLACES: _kind(422, "The clips do not show the same road", "Send two laps of the same circuit in the same direction."),
    _C.CLIPS_OPPOSITE_DIRECTIONS: _kind(422, "The clips run in opposite directions", "Send two laps driven in the same direction."),
    _C.COURT_NOT_FOUND: _kind(422, "The badminton court was not found in the video", "Film the whole court from a camera that stands still, or send the four corners in the parameter court_keypoints."),
    _C.POSES_NOT_FOUND: _kind(422, "The camera positions of the photos could not be determined", "Take sharp photos of the object from all sides, on a textured surface; each photo should overlap most of the previous one."),
    _C.POSES_SPLIT: _kind(422, "The photos form groups without a common view", "Send photos of one object only, or take photos that connect the groups."),
    _C.CAPTURE_REFUSED: _kind(422, "These photos are not suitable for a model", "preflight.json lists what to photograph again; send ignore_verdict true to continue anyway."),
    _C.COURT_KEYPOINTS_INVALID: _kind(422, "The points of the court cannot be those of a court", "Send the four corners as the camera sees them (top_left and top_right are the far ones), in pixels of the upright video, each inside the picture."),
    _C.MODEL_FILE_INVALID: _kind(500, "A model file of the worker is missing or cannot be used", "Ask the operator to install the file that the message names, or choose another backend."),
    _C.OUT_OF_MEMORY: _kind(500, "The worker ran out of memory", "Try again with a smaller input, or choose a larger device.", retryable=True),
    _C.STORAGE_FULL: _kind(507, "The disk is full", "Free some space, then retry the job.", retryable=True),
    _C.WORKER_LOST: _kind(500, "The worker disappeared too many times", "Retry the job; its finished stages are kept.", retryable=True),
    _C.WORKER_BROKEN: _kind(500, "The worker failed because of an internal error", "Report the job id to us; a retry will probably fail in the same way."),
    _C.WORKER_NOT_STARTED: _kind(503, "No worker could be started", "Retry the job later.", retryable=True),
    _C.TIMED_OUT: _kind(504, "The job exceeded its time limit", "Send shorter clips, or retry on a faster device."),
    _C.DEADLINE_EXCEEDED: _kind(504, "The job was not done before its deadline", "Retry the job: it has its whole time again."),
    _C.COST_CAP_REACHED: _kind(402, "The job reached its cost cap", "Raise max_cost_usd and submit it again."),
    _C.BUS_UNAVAILABLE: _kind(503, "The event bus does not answer", "No data was lost: try again in a few seconds.", retryable=True),
    _C.EVENTS_FULL: _kind(507, "The server has no room for more events", "Nothing was stored. The oldest events are moved to the archive: try again after the seconds in Retry-After.", retryable=True),
    _C.STORAGE_UNAVAILABLE: _kind(503, "The bucket does not answer", "No data was lost: try again in a few seconds.", retryable=True),
    _C.SERVICE_UNAVAILABLE: _kind(503, "A service behind this address does not answer", "It is being restarted: try again in a few seconds.", retryable=True),
    _C.STARTING: _kind(503, "The server is starting", "It is reading its history, which may take minutes: try again later.", retryable=True),
    _C.INTERNAL: _kind(500, "Internal error", "Try again; if the error persists, report the request id to us.", retryable=True),
}  # fmt: skip


#: Codes of events that the archive cannot give, until somebody puts a segment back.
UNREADABLE_EVENTS: frozenset[ErrorCode] = frozenset({ErrorCode.HISTORY_EXPIRED, ErrorCode.SEGMENT_DAMAGED})


class ErrorBody(BaseModel):
    """Error in a job object or an event."""

    model_config = ConfigDict(frozen=True)

    code: ErrorCode
    message: str
    hint: str


class SaccadeError(Exception):
    """Error with a stable code; its message and hint are shown to the user unchanged."""

    def __init__(self, code: ErrorCode, message: str = "", *, hint: str = "", **extra: Any) -> None:
        """Set the code, and message and hint if they differ from the code's; ``extra`` is added to problem+json."""
        self.code = code
        self.kind = KINDS[code]
        self.message = message or self.kind.title
        self.hint = hint or self.kind.hint
        self.extra = extra
        super().__init__(f"{code}: {self.message}")

    def body(self) -> ErrorBody:
        """Return the error for a job object or an event."""
        return ErrorBody(code=self.code, message=self.message, hint=self.hint)
