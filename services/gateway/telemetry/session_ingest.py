"""The one door by which frames and joints come into a session through the gateway, by HTTP or WebSocket."""

from __future__ import annotations

from contracts.errors import SaccadeError
from contracts.session import Session
from contracts.telemetry import FrameAck, JointBatch
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.telemetry.frame_check import check_frame
from services.gateway.telemetry.joint_check import joint_limits_rad, warnings_of
from services.gateway.telemetry.publisher import FrameHeader, TelemetryPublisher


class SessionIngest:
    """Checks what comes and passes it on."""

    def __init__(self, telemetry: TelemetryPublisher, live: LatestSessionProgress) -> None:
        """Pass on to ``telemetry``; verdicts are heard from ``live``."""
        self._telemetry = telemetry
        self._live = live

    async def frame(self, session: Session, head: FrameHeader, picture: bytes) -> FrameHeader:
        """Take a frame, and give its head with the number that it has now.

        Raises:
            SaccadeError: FRAME_EMPTY, FRAME_TOO_LARGE, FRAME_UNREADABLE (the worker counts it); BUS_UNAVAILABLE.
        """
        head = self._telemetry.numbered(session.id, head)
        try:
            form = check_frame(picture)
        except SaccadeError as error:
            await self.refuse(session, head, error)
            raise
        await self._telemetry.frame(session.tenant, session.id, head, form, picture)
        return head

    async def refuse(self, session: Session, head: FrameHeader, error: SaccadeError) -> None:
        """Have a frame counted that was sent and not taken.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        head = self._telemetry.numbered(session.id, head)
        error.extra |= {"source": head.source, "seq": head.seq}
        await self._telemetry.refused(session.tenant, session.id, head, error.code)

    async def frame_and_verdict(
        self, session: Session, head: FrameHeader, picture: bytes, wait_s: float
    ) -> tuple[FrameHeader, FrameAck | None]:
        """Take a frame and wait for what becomes of it; None when nothing has by then.

        Raises:
            SaccadeError: as ``frame`` does.
        """
        head = self._telemetry.numbered(session.id, head)
        assert head.seq is not None
        with self._live.expecting((session.id, head.source, head.seq)) as verdict:
            await self.frame(session, head, picture)
            return head, await verdict.within(wait_s)

    async def joints(self, session: Session, batch: JointBatch) -> list[str]:
        """Take a batch of joint positions and say what looks wrong with it.

        Raises:
            SaccadeError: BODY_TOO_LARGE; BUS_UNAVAILABLE.
        """
        await self._telemetry.joints(session.tenant, session.id, batch)
        return warnings_of(batch, joint_limits_rad(session.opened.workload))
