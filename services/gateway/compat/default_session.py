"""Default session of each tenant, opened on first use: clients of the replaced splat server know no sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from contracts.session import Session, SessionState, telemetry_subject
from contracts.telemetry import Clock, JointBatch, JointSample
from kit.bus.event_store import EventStore
from kit.bus.idempotency import idempotency_key
from services.gateway.sessions.service import SessionRequest, SessionService
from services.gateway.telemetry.joint_check import joint_limits_rad
from services.gateway.telemetry.publisher import FrameHeader
from services.gateway.telemetry.session_ingest import SessionIngest
from services.gateway.telemetry.stored_frames import count_frames_since, count_stored_frames

WORKLOAD: Final = "live_splat"
_METADATA: Final = {"opened_by": "replaced_splat"}
_SOURCE: Final = "replaced"


def accepts_frames(session: Session | None) -> bool:
    """Return whether a frame can be sent; without a session, the first frame opens one."""
    return session is None or session.state in (SessionState.READY, SessionState.RUNNING)


class DefaultSessions:
    """The default sessions of all tenants."""

    def __init__(self, sessions: SessionService, ingest: SessionIngest, telemetry: EventStore) -> None:
        """``telemetry`` is the stream from which the latest joints and the number of frames are read."""
        self._sessions = sessions
        self._ingest = ingest
        self._telemetry = telemetry
        self._opening: dict[str, asyncio.Lock] = {}
        #: By session: sequence of its last reset event, and the number of frames before it.
        self._frames_before_reset: dict[str, tuple[int, int]] = {}

    def newest(self, tenant: str) -> Session | None:
        """Return the tenant's newest default session, which may have ended."""
        return self._sessions.newest_with_metadata(tenant, _METADATA)

    def current(self, tenant: str) -> Session | None:
        """Return the tenant's default session if it accepts frames."""
        session = self.newest(tenant)
        return session if session and not session.stop_requested and not session.state.ended else None

    async def open(self, tenant: str) -> Session:
        """Return the tenant's default session; open one if none accepts frames.

        Raises:
            SaccadeError: UNKNOWN_WORKLOAD; BUS_UNAVAILABLE.
        """
        async with self._opening.setdefault(tenant, asyncio.Lock()):
            if session := self.current(tenant):
                return session
            before = self.newest(tenant)
            # Concurrent requests to several gateways use the same key and open one session: the successor of the last.
            predecessor = before.id if before else "none"
            key = idempotency_key(tenant, "default session", predecessor, {})
            return await self._sessions.open(tenant, SessionRequest(WORKLOAD, {}, metadata=dict(_METADATA)), key)

    async def send_frame(self, session: Session, picture: bytes) -> int:
        """Send a frame, stamped with the current time and the latest joints; return the number of frames.

        Raises:
            SaccadeError: the frame is invalid; BUS_UNAVAILABLE.
        """
        now_s = time.time()
        await self._ingest.send_joints(session, self._batch(await self.latest_angles_rad(session), now_s))
        await self._ingest.send_frame(session, FrameHeader(captured_at_s=now_s, clock_offset_s=0.0), picture)
        return await self.frame_count(session)

    async def send_joints(self, session: Session, angles_rad: Sequence[float]) -> None:
        """Send the joints' angles, in the order of the workload's names.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._ingest.send_joints(session, self._batch(angles_rad, time.time()))

    async def latest_angles_rad(self, session: Session) -> tuple[float, ...]:
        """Return the latest angles of the joints, rad; zeros before the first ones.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        stored = await self._telemetry.load(telemetry_subject(session.tenant, session.id, "joints"))
        try:
            return JointBatch.model_validate_json(stored[-1].body).samples[-1].positions
        except (IndexError, ValidationError):
            return (0.0,) * len(self.names)

    async def frame_count(self, session: Session) -> int:
        """Return the number of frames since the session was opened or reset.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        client, reset_sequence = self._telemetry.client, session.reset_sequence
        count = await count_stored_frames(client, session)
        if not reset_sequence:
            return count
        known = self._frames_before_reset.get(session.id)
        if known is None or known[0] != reset_sequence:
            # From the bus: another gateway may have received the reset, or this one before a restart.
            known = (reset_sequence, count - await count_frames_since(client, session, reset_sequence))
            self._frames_before_reset[session.id] = known
        return max(0, count - known[1])

    async def reset(self, session: Session) -> None:
        """Reset the session's model.

        Raises:
            SaccadeError: SESSION_ENDED; BUS_UNAVAILABLE.
        """
        await self._sessions.reset(session.tenant, session.id)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the joints' names, in the order of their angles."""
        return tuple(joint_limits_rad(WORKLOAD))

    def _batch(self, angles_rad: Sequence[float], at_s: float) -> JointBatch:
        sample = JointSample(time.time_ns() // 1000, at_s, tuple(angles_rad))
        return JointBatch(
            source=_SOURCE, names=self.names, unit="rad", samples=(sample,), clock=Clock(offset_s=0.0, error_s=0.0)
        )
