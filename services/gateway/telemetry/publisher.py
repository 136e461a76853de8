"""Publisher of telemetry that arrives by HTTP or WebSocket, in the form in which a robot publishes it by NATS."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.picture_header import PictureHeader
from contracts.session import telemetry_subject
from contracts.streams import TELEMETRY
from contracts.telemetry import (
    FRAME_CAPTURED,
    FRAME_CLOCK_OFFSET,
    FRAME_REFUSED,
    FRAME_SEQ,
    FRAME_SOURCE,
    JointBatch,
    Name,
    OffsetS,
    Seq,
    TimeS,
)
from kit.bus.event_store import EventStore
from services.gateway.metrics import GatewayMetrics

#: A frame that cannot be stored in this time is stale; its sender gets an error and sends the next one.
_PUBLISH_TIMEOUT_S: Final = 5.0
#: Cameras whose last number is cached. Without it, the next number is still larger: it is the time.
_CACHE_SIZE: Final = 10_000


class FrameHeader(BaseModel):
    """Metadata of a frame; times are unix seconds of the sender's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seq: Seq | None = None
    captured_at_s: TimeS | None = None
    clock_offset_s: OffsetS | None = None
    source: Name = "camera"


class TelemetryPublisher:
    """Writer of the telemetry stream."""

    def __init__(self, client: Client, metrics: GatewayMetrics) -> None:
        """Use a connection; the stream must have been declared."""
        self._store = EventStore(client, TELEMETRY.name)
        self._metrics = metrics
        self._last_seq: OrderedDict[tuple[str, str], int] = OrderedDict()

    def with_seq(self, session_id: str, header: FrameHeader) -> FrameHeader:
        """Return the header with a number; one assigned here is the time in microseconds, so it grows over restarts."""
        if header.seq is not None:
            return header
        camera = (session_id, header.source)
        seq = max(time.time_ns() // 1000, self._last_seq.get(camera, 0) + 1)
        self._last_seq[camera] = seq
        self._last_seq.move_to_end(camera)
        if len(self._last_seq) > _CACHE_SIZE:
            self._last_seq.popitem(last=False)
        return header.model_copy(update={"seq": seq})

    async def publish_frame(
        self, tenant: str, session_id: str, header: FrameHeader, frame_format: PictureHeader, body: bytes
    ) -> None:
        """Store a frame, which must have a number.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        headers = _headers(header) | {"Content-Type": frame_format.content_type}
        await self._publish(telemetry_subject(tenant, session_id, "frames"), body, headers)
        self._metrics.frames.labels("received").inc()

    async def publish_rejection(self, tenant: str, session_id: str, header: FrameHeader, code: ErrorCode) -> None:
        """Store that a frame was rejected before it was stored, so that the worker counts it as sent and rejected.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        headers = _headers(header) | {FRAME_REFUSED: str(code)}
        await self._publish(telemetry_subject(tenant, session_id, "frames"), b"", headers)
        self._metrics.frames.labels("refused").inc()

    async def publish_joints(self, tenant: str, session_id: str, batch: JointBatch) -> None:
        """Store a batch of joint positions.

        Raises:
            SaccadeError: BODY_TOO_LARGE, if it exceeds the stream's message limit; BUS_UNAVAILABLE.
        """
        body = batch.model_dump_json(exclude_none=True).encode()
        if len(body) > TELEMETRY.max_message_bytes:
            raise SaccadeError(ErrorCode.BODY_TOO_LARGE, hint="Send smaller batches, more often.")
        await self._publish(
            telemetry_subject(tenant, session_id, "joints"), body, {"Content-Type": "application/json"}
        )  # fmt: skip
        self._metrics.joint_samples.inc(len(batch.samples))

    async def _publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        # A fresh id per request: if a camera repeats a number, the worker decides what to do, not the stream.
        message = Message(subject, new_id("evt"), body)
        await self._store.publish(message, deadline_s=_PUBLISH_TIMEOUT_S, headers=headers)


def _headers(header: FrameHeader) -> dict[str, str]:
    headers = {
        FRAME_SEQ: str(header.seq),
        FRAME_CAPTURED: repr(time.time() if header.captured_at_s is None else header.captured_at_s),
        FRAME_SOURCE: header.source,
    }
    if header.clock_offset_s is not None:
        headers[FRAME_CLOCK_OFFSET] = repr(header.clock_offset_s)
    elif header.captured_at_s is None:
        # The time was set by this server's clock.
        headers[FRAME_CLOCK_OFFSET] = "0.0"
    return headers
