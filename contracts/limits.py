"""Sizes and times on which two sides must agree."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

#: Largest JSON request body the gateway reads.
REQUEST_BODY_BYTES: Final = 256 * KIB
#: Largest event on the bus; nats-server's max_payload is set to the same.
EVENT_BYTES: Final = 1 * MIB
#: Largest upload.
UPLOAD_BYTES: Final = 20 * GIB
#: Largest upload by one presigned PUT; above it an upload is multipart (S3 itself ends at 5 GiB).
SINGLE_PUT_BYTES: Final = 1 * GIB
#: Size of every part of a multipart upload but the last (S3 wants at least 5 MiB, at most 10,000 parts).
PART_BYTES: Final = 16 * MIB
PART_COUNT: Final = 10_000
#: How long a presigned URL lives, and with it an upload that was never completed.
PRESIGNED_URL_S: Final = 3600
UPLOAD_EXPIRES_S: Final = 24 * 3600
#: Longest `Prefer: wait=N`.
WAIT_S: Final = 60
#: Page sizes of lists.
PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200
#: Hours after a job's end for which its scratch files (checkpoints, intermediate files) are kept by default.
SCRATCH_RETENTION_H: Final = 48.0
#: A worker that says nothing for this long is taken for dead; it speaks at least every WORKER_HEARTBEAT_S.
WORKER_HEARTBEAT_S: Final = 2.0
WORKER_SILENT_S: Final = 30.0
#: A worker that was asked to stop has this long before it is killed, with its children.
WORKER_GRACE_S: Final = 1.0
#: At most this many progress events leave a worker each second (state events are never held back).
PROGRESS_HZ: Final = 10.0
#: How long an idempotency key is remembered.
IDEMPOTENCY_S: Final = 24 * 3600
IDEMPOTENCY_KEY_CHARS: Final = 255
#: A comment line keeps an idle event stream open through proxies.
SSE_HEARTBEAT_S: Final = 15.0
#: Largest side of a video's picture that a decoder is asked to open.
PICTURE_SIDE_PX: Final = 8192
#: Largest side of a photo, and its pixels: cameras of 61 megapixels take 9504 x 6336 (Sony ILCE-7RM5's specifications).
PHOTO_SIDE_PX: Final = 12_000
PHOTO_PX: Final = 64_000_000
METADATA_BYTES: Final = 4 * KIB

#: Largest frame of a live session, with its headers below EVENT_BYTES; most of its kind are a tenth of it.
FRAME_BYTES: Final = EVENT_BYTES - 16 * KIB
FRAME_SIDE_PX: Final = 4096
#: Joints of a robot, and samples of them in one batch.
JOINTS: Final = 64
JOINT_SAMPLES: Final = 1000
#: A live session that gets no frame for this long ends, and so does one that lasts longer than it may.
SESSION_IDLE_S: Final = 300.0
SESSION_LENGTH_S: Final = 4 * 3600.0
#: Every so many accepted frames a session leaves a chunk.
CHUNK_FRAMES: Final = 50
