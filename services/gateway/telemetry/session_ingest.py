"""Input of a session through the gateway, by HTTP or WebSocket: checks frames and joints and publishes them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.session import Session
from contracts.telemetry import FrameAck, JointBatch
from services.gateway.telemetry.frame_acks import FrameAcks
from services.gateway.telemetry.frame_check import check_frame
from services.gateway.telemetry.frame_rate import FRAMES_HZ, FrameRate
from services.gateway.telemetry.frame_receipt import FrameReceipt
from services.gateway.telemetry.joint_check import joint_limits_rad, joint_warnings
from services.gateway.telemetry.publisher import FrameHeader, TelemetryPublisher

#: Sessions whose rate of frames is known; one that is forgotten starts with full buckets.
_SESSIONS: Final = 1000


class SessionIngest:
    """Accepts frames and joints for all sessions."""

    def __init__(self, publisher: TelemetryPublisher, acks: FrameAcks) -> None:
        """Publish by ``publisher``; ``acks`` receives the workers' answers."""
        self._publisher = publisher
        self._acks = acks
        self._rates: OrderedDict[str, FrameRate] = OrderedDict()

    async def send_frame(self, session: Session, header: FrameHeader, picture: bytes) -> FrameHeader:
        """Check and publish a frame; return its header with the number that it has now.

        Raises:
            SaccadeError: FRAME_EMPTY, FRAME_TOO_LARGE, FRAME_UNREADABLE (the worker counts it); BUS_UNAVAILABLE.
        """
        header = self._publisher.with_seq(session.id, header)
        assert header.seq is not None
        try:
            frame_format = check_frame(picture)
        except SaccadeError as error:
            await self.reject_frame(session, header, error)
            raise
        self._acks.under_way.add(session.id, header.source, header.seq)
        try:
            await self._publisher.publish_frame(session.tenant, session.id, header, frame_format, picture)
        except SaccadeError:
            self._acks.under_way.remove(session.id, header.source, header.seq)
            raise
        return header

    async def receive_frame(self, session: Session, header: FrameHeader, picture: bytes) -> FrameReceipt:
        """Check and publish a frame of a stream, within the rate limit of its camera, and return its receipt.

        Never raises SaccadeError: a frame that is refused has a receipt too. A frame above the limit is stored without
        its bytes, and the worker counts it as dropped.
        """
        header = self._publisher.with_seq(session.id, header)
        if not self._rate(session.id).admits(header.source):
            error = SaccadeError(
                ErrorCode.RATE_LIMITED,
                f"More than {FRAMES_HZ:.0f} frames per second came from one camera.",
                hint=f"Send at most {FRAMES_HZ:.0f} frames per second.",
            )
            try:
                await self.reject_frame(session, header, error)
            except SaccadeError as failure:
                error = failure
            return self.refusal(session, header, error)
        try:
            header = await self.send_frame(session, header, picture)
        except SaccadeError as error:
            return self.refusal(session, header, error)
        return FrameReceipt(header.source, header.seq, self._acks.under_way.count(session.id))

    def refusal(self, session: Session, header: FrameHeader | None, error: SaccadeError) -> FrameReceipt:
        """Return the receipt of a frame that was refused; ``header`` is None if it cannot be read."""
        depth = self._acks.under_way.count(session.id)
        source, seq = (None, None) if header is None else (header.source, header.seq)
        return FrameReceipt(source, seq, depth, error)

    def _rate(self, session_id: str) -> FrameRate:
        rate = self._rates.setdefault(session_id, FrameRate())
        self._rates.move_to_end(session_id)
        if len(self._rates) > _SESSIONS:
            self._rates.popitem(last=False)
        return rate

    async def reject_frame(self, session: Session, header: FrameHeader, error: SaccadeError) -> None:
        """Publish that a frame was sent and refused, and add the frame's source and number to the error.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        header = self._publisher.with_seq(session.id, header)
        error.extra |= {"source": header.source, "seq": header.seq}
        await self._publisher.publish_rejection(session.tenant, session.id, header, error.code)

    async def send_frame_and_wait(
        self, session: Session, header: FrameHeader, picture: bytes, wait_s: float
    ) -> tuple[FrameHeader, FrameAck | None]:
        """Send a frame and wait for its acknowledgement; None if it has not arrived after ``wait_s``.

        Raises:
            SaccadeError: as ``send_frame``.
        """
        header = self._publisher.with_seq(session.id, header)
        assert header.seq is not None
        with self._acks.expect((session.id, header.source, header.seq)) as pending:
            await self.send_frame(session, header, picture)
            return header, await pending.wait(wait_s)

    async def send_joints(self, session: Session, batch: JointBatch) -> list[str]:
        """Publish a batch of joint positions and return warnings about implausible values.

        Raises:
            SaccadeError: BODY_TOO_LARGE; BUS_UNAVAILABLE.
        """
        await self._publisher.publish_joints(session.tenant, session.id, batch)
        return joint_warnings(batch, joint_limits_rad(session.opened.workload))
