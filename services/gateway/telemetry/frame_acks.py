"""Frame acknowledgements of workers: counts accepted, dropped and rejected frames; resumes requests that wait."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from contracts.events.session import SessionFrameAcked
from contracts.telemetry import FrameAck
from services.gateway.metrics import GatewayMetrics
from services.gateway.telemetry.frames_under_way import FramesUnderWay

log = logging.getLogger(__name__)

_ACK_SUBJECTS: Final = "saccade.tele.*.session.*.acks"

#: Session id, source and sequence number of a frame.
FrameId = tuple[str, str, int]


class PendingFrameAck:
    """Acknowledgement of one frame, once it has arrived."""

    def __init__(self) -> None:
        """Start without an acknowledgement."""
        self._arrived: asyncio.Future[FrameAck] = asyncio.get_running_loop().create_future()

    def resolve(self, ack: FrameAck) -> None:
        """Set the acknowledgement; the first one counts."""
        if not self._arrived.done():
            self._arrived.set_result(ack)

    async def wait(self, timeout_s: float) -> FrameAck | None:
        """Return the acknowledgement; None if it has not arrived after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._arrived)
        except TimeoutError:
            return None


class FrameAcks:
    """Acknowledgements of the frames of all sessions."""

    def __init__(self, client: Client, metrics: GatewayMetrics) -> None:
        """Use a connection; nothing is received before ``start``."""
        self._client = client
        self._metrics = metrics
        self.under_way = FramesUnderWay()
        self._pending: dict[FrameId, set[PendingFrameAck]] = {}

    async def start(self) -> None:
        """Subscribe to acknowledgements; the subscription survives reconnects."""
        await self._client.subscribe(_ACK_SUBJECTS, cb=self._on_acks)

    @contextlib.contextmanager
    def expect(self, frame: FrameId) -> Iterator[PendingFrameAck]:
        """Receive the acknowledgement of a frame; to be entered before the frame is sent."""
        pending = PendingFrameAck()
        self._pending.setdefault(frame, set()).add(pending)
        try:
            yield pending
        finally:
            others = self._pending.get(frame, set())
            others.discard(pending)
            if not others:
                self._pending.pop(frame, None)

    async def _on_acks(self, msg: Msg) -> None:
        session_id = msg.subject.split(".")[4]
        try:
            acked = SessionFrameAcked.model_validate_json(msg.data)
        except ValidationError:
            log.warning("invalid frame acknowledgements of %s", session_id)
            return
        for ack in acked.acks:
            self._metrics.frames.labels(ack.status).inc()
            self.under_way.remove(session_id, ack.source, ack.seq)
            for pending in self._pending.get((session_id, ack.source, ack.seq), ()):
                pending.resolve(ack)
