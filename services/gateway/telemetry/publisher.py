"""What clients send into live sessions by HTTP and WebSocket, put on the bus as a robot's own connection would."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from typing import Annotated, Final

import nats.errors
from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.session import Session, telemetry_subject
from contracts.streams import EVENTS, TELEMETRY
from contracts.telemetry import (
    FRAME_CAPTURED,
    FRAME_CLOCK_OFFSET,
    FRAME_REFUSED,
    FRAME_SEQ,
    FRAME_SOURCE,
    Finite,
    JointBatch,
    Name,
    TimeS,
)
from kit.bus.connection import request
from kit.bus.event_store import EventStore
from services.gateway.metrics import GatewayMetrics
from services.gateway.telemetry.frame_check import FrameForm

#: A frame that could not be stored by then is stale; its sender hears of it and sends the next.
_DEADLINE_S: Final = 5.0
_ASKED_S: Final = 5.0
#: Cameras whose last number is remembered; a number that is forgotten is followed by a larger one all the same.
_REMEMBERED: Final = 10_000


class FrameHeader(BaseModel):
    """What is said of a frame beside its bytes; times are unix seconds of the sender's clock."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seq: Annotated[int, Field(ge=0, lt=1 << 53)] | None = None
    captured_at_s: TimeS | None = None
    clock_offset_s: Finite | None = None
    source: Name = "camera"


class TelemetryPublisher:
    """The stream of telemetry, written to."""

    def __init__(self, client: Client, metrics: GatewayMetrics) -> None:
        """Use a connection; the stream must have been declared."""
        self._store = EventStore(client, TELEMETRY.name)
        self._metrics = metrics
        self._last: OrderedDict[tuple[str, str], int] = OrderedDict()

    def numbered(self, session_id: str, head: FrameHeader) -> FrameHeader:
        """Number a frame whose sender does not, larger than any before, also after a restart: by microseconds."""
        if head.seq is not None:
            return head
        camera = (session_id, head.source)
        seq = max(time.time_ns() // 1000, self._last.get(camera, 0) + 1)
        self._last[camera] = seq
        self._last.move_to_end(camera)
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return head.model_copy(update={"seq": seq})

    async def frame(self, tenant: str, session_id: str, head: FrameHeader, form: FrameForm, body: bytes) -> None:
        """Store a numbered frame.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        headers = _headers(head) | {"Content-Type": form.content_type}
        await self._put(telemetry_subject(tenant, session_id, "frames"), body, headers)
        self._metrics.frames.labels("received").inc()

    async def refused(self, tenant: str, session_id: str, head: FrameHeader, code: ErrorCode) -> None:
        """Tell the worker of a frame that was refused at the door: it was sent, and it is rejected.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        headers = _headers(head) | {FRAME_REFUSED: str(code)}
        await self._put(telemetry_subject(tenant, session_id, "frames"), b"", headers)
        self._metrics.frames.labels("refused").inc()

    async def joints(self, tenant: str, session_id: str, batch: JointBatch) -> None:
        """Store a batch of joint positions.

        Raises:
            SaccadeError: BODY_TOO_LARGE, when it has grown beyond what the bus takes; BUS_UNAVAILABLE.
        """
        body = batch.model_dump_json(exclude_none=True).encode()
        if len(body) > TELEMETRY.max_message_bytes:
            raise SaccadeError(ErrorCode.BODY_TOO_LARGE, hint="Send smaller batches, more often.")
        await self._put(
            telemetry_subject(tenant, session_id, "joints"), body, {"Content-Type": "application/json"}
        )  # fmt: skip
        self._metrics.joint_samples.inc(len(batch.samples))

    async def _put(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        # The id is the request's, not the frame's: a number that a camera repeats is the worker's to judge.
        message = Message(subject, new_id("evt"), body)
        await self._store.publish(message, deadline_s=_DEADLINE_S, headers=headers)


async def stored_frames(client: Client, session: Session) -> int:
    """Count the frames that were sent into a session and are still kept.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    subject = telemetry_subject(session.tenant, session.id, "frames")
    info = await request(client, f"STREAM.INFO.{TELEMETRY.name}", {"subjects_filter": subject})
    return int(((info.get("state") or {}).get("subjects") or {}).get(subject, 0))


async def frames_since(client: Client, session: Session, sequence: int) -> int:
    """Count the kept frames of a session that were stored after the event of this sequence.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    event = (await request(client, f"STREAM.MSG.GET.{EVENTS.name}", {"seq": sequence})).get("message")
    if event is None:  # the event is not kept any more, and no frame of before is
        return await stored_frames(client, session)
    subject = telemetry_subject(session.tenant, session.id, "frames")
    asked = {"batch": 1, "next_by_subj": subject, "start_time": event["time"]}
    try:
        # The first of them tells in a header how many come after it (ADR-31).
        reply = await client.request(
            f"$JS.API.DIRECT.GET.{TELEMETRY.name}", json.dumps(asked).encode(), timeout=_ASKED_S
        )
    except (TimeoutError, nats.errors.Error) as error:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
    headers = reply.headers or {}
    return 0 if "Status" in headers else 1 + int(headers["Nats-Num-Pending"])


def _headers(head: FrameHeader) -> dict[str, str]:
    headers = {
        FRAME_SEQ: str(head.seq),
        FRAME_CAPTURED: repr(time.time() if head.captured_at_s is None else head.captured_at_s),
        FRAME_SOURCE: head.source,
    }
    if head.clock_offset_s is not None:
        headers[FRAME_CLOCK_OFFSET] = repr(head.clock_offset_s)
    elif head.captured_at_s is None:
        # Our own clock has stamped it.
        headers[FRAME_CLOCK_OFFSET] = "0.0"
    return headers
