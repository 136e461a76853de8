"""Input of a session through the gateway, by HTTP or WebSocket: checks frames and joints and publishes them."""

from __future__ import annotations

from contracts.errors import SaccadeError
from contracts.session import Session
from contracts.telemetry import FrameAck, JointBatch
from services.gateway.telemetry.frame_acks import FrameAcks
from services.gateway.telemetry.frame_check import check_frame
from services.gateway.telemetry.joint_check import joint_limits_rad, joint_warnings
from services.gateway.telemetry.publisher import FrameHeader, TelemetryPublisher


class SessionIngest:
    """Accepts frames and joints for all sessions."""

    def __init__(self, publisher: TelemetryPublisher, acks: FrameAcks) -> None:
        """Publish by ``publisher``; ``acks`` receives the workers' answers."""
        self._publisher = publisher
        self._acks = acks

    async def send_frame(self, session: Session, header: FrameHeader, picture: bytes) -> FrameHeader:
        """Check and publish a frame; return its header with the number that it has now.

        Raises:
            SaccadeError: FRAME_EMPTY, FRAME_TOO_LARGE, FRAME_UNREADABLE (the worker counts it); BUS_UNAVAILABLE.
        """
        header = self._publisher.with_seq(session.id, header)
        try:
            frame_format = check_frame(picture)
        except SaccadeError as error:
            await self.reject_frame(session, header, error)
            raise
        await self._publisher.publish_frame(session.tenant, session.id, header, frame_format, picture)
        return header

    async def reject_frame(self, session: Session, header: FrameHeader, error: SaccadeError) -> None:
        """Publish that a frame was sent and rejected, and add the frame's source and number to the error.

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
