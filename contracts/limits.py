"""Sizes and times that two processes must agree on."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

#: Longest request line, and longest head of a request; deploy/origin.conf has the same values.
REQUEST_LINE_BYTES: Final = 16 * KIB
REQUEST_HEAD_BYTES: Final = 64 * KIB
#: Largest JSON request body that the gateway accepts.
REQUEST_BODY_BYTES: Final = 256 * KIB
#: Largest message on the bus, such as a frame; nats-server's max_payload has the same value.
MESSAGE_BYTES: Final = 1 * MIB
#: Largest durable event with its headers: what one request stores for 90 days.
EVENT_BYTES: Final = 64 * KIB
#: Inputs of a job that take more than this in its first event are stored by their ids only.
INLINE_INPUTS_BYTES: Final = 32 * KIB
#: Largest upload.
UPLOAD_BYTES: Final = 20 * GIB
#: Largest upload with one presigned PUT; larger uploads are multipart (the limit of S3 is 5 GiB).
SINGLE_PUT_BYTES: Final = 1 * GIB
#: Largest file of a client that sends it by one PUT and does not say its size before: the limit of S3 for one PUT.
UNSIZED_PUT_BYTES: Final = 5 * GIB
#: Size of every part of a multipart upload except the last (S3 requires at least 5 MiB and at most 10,000 parts).
PART_BYTES: Final = 16 * MIB
PART_COUNT: Final = 10_000
#: Lifetime of a presigned URL, and of an upload that is never completed.
PRESIGNED_URL_S: Final = 3600
UPLOAD_EXPIRES_S: Final = 24 * 3600
#: Longest URL of an input; presigned URLs with a session token have two thousand characters.
INPUT_URL_CHARS: Final = 8192
#: Longest `Prefer: wait=N`.
WAIT_S: Final = 60
#: Page sizes of lists.
PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200
#: Hours after a job's end for which its scratch files (checkpoints, intermediate files) are kept by default.
SCRATCH_RETENTION_H: Final = 48.0
#: Interval of a worker's heartbeats, and time without one after which the worker counts as lost.
WORKER_HEARTBEAT_S: Final = 2.0
WORKER_SILENT_S: Final = 30.0
#: Time between the request to stop a worker and the kill of its processes.
WORKER_GRACE_S: Final = 1.0
#: Maximum rate of a worker's progress events (state events are not limited).
PROGRESS_HZ: Final = 10.0
#: Lifetime of an idempotency key.
IDEMPOTENCY_S: Final = 24 * 3600
IDEMPOTENCY_KEY_CHARS: Final = 255
#: Interval of the comment lines that keep an idle event stream open through proxies.
SSE_HEARTBEAT_S: Final = 15.0
#: Maximum width and height of a video.
PICTURE_SIDE_PX: Final = 8192
#: Maximum side and pixel count of a photo: a camera of 61 megapixels takes 9504 x 6336 (Sony ILCE-7RM5, data sheet).
PHOTO_SIDE_PX: Final = 12_000
PHOTO_PX: Final = 64_000_000
METADATA_BYTES: Final = 4 * KIB
#: Most rules of a tenant.
RULES: Final = 100
#: Free space on a disk that uploads leave for events, views and results; a disk with less is full.
DISK_RESERVE_BYTES: Final = 64 * MIB

#: Largest frame of a live session; with its headers it stays below MESSAGE_BYTES. Typical frames have a tenth of it.
FRAME_BYTES: Final = MESSAGE_BYTES - 16 * KIB
FRAME_SIDE_PX: Final = 4096
#: Maximum number of joints of a robot, and of samples in one batch.
JOINTS: Final = 64
JOINT_SAMPLES: Final = 1000
#: Time without a frame after which a live session ends, and maximum length of a session.
SESSION_IDLE_S: Final = 300.0
SESSION_LENGTH_S: Final = 4 * 3600.0
#: Questions of a session that may wait for their answer; a question's length, characters; bytes of an answer's schema.
SESSION_PROMPTS: Final = 16
PROMPT_CHARS: Final = 2000
ANSWER_SCHEMA_BYTES: Final = 8 * KIB
#: Number of accepted frames after which a session exports a chunk.
CHUNK_FRAMES: Final = 50
