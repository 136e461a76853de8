"""One session a tenant, opened on first use: for clients of the system that this one replaces, which knew none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from contracts.session import Session, telemetry_subject
from contracts.telemetry import Clock, JointBatch, JointSample
from kit.bus.event_store import EventStore
from kit.bus.idempotency import idempotency_key
from services.gateway.sessions.service import SessionRequest, SessionService
from services.gateway.telemetry.joint_check import joint_limits_rad
from services.gateway.telemetry.publisher import FrameHeader, frames_since, stored_frames
from services.gateway.telemetry.session_ingest import SessionIngest

WORKLOAD: Final = "live_splat"
_MARK: Final = {"opened_by": "replaced_splat"}
_SOURCE: Final = "replaced"


class DefaultSessions:
    """The default session of every tenant."""

    def __init__(self, sessions: SessionService, door: SessionIngest, telemetry: EventStore) -> None:
        """Open by ``sessions``, send by ``door``, and read what was sent from the stream of telemetry."""
        self._sessions = sessions
        self._door = door
        self._telemetry = telemetry
        self._opening: dict[str, asyncio.Lock] = {}
        #: By session: the event with which it began anew, and how many frames were sent before that.
        self._forgotten: dict[str, tuple[int, int]] = {}

    def newest(self, tenant: str) -> Session | None:
        """Give the tenant's default session, or the last one that it had."""
        return self._sessions.newest_marked(tenant, _MARK)

    def current(self, tenant: str) -> Session | None:
        """Give the tenant's default session, if there is one that takes frames."""
        session = self.newest(tenant)
        return session if session and not session.stop_requested and not session.state.ended else None

    async def open(self, tenant: str) -> Session:
        """Give the tenant's default session, and open one where there is none.

        Raises:
            SaccadeError: UNKNOWN_WORKLOAD; BUS_UNAVAILABLE.
        """
        async with self._opening.setdefault(tenant, asyncio.Lock()):
            if session := self.current(tenant):
                return session
            before = self.newest(tenant)
            # Gateways that are asked at one time open the same one: that which follows the last.
            named = before.id if before else "none"
            key = idempotency_key(tenant, "default session", named, {})
            return await self._sessions.open(tenant, SessionRequest(WORKLOAD, {}, metadata=dict(_MARK)), key)

    async def frame(self, session: Session, picture: bytes) -> int:
        """Take a frame, taken at this moment with the joints as they were told last; give how many there are.

        Raises:
            SaccadeError: what is wrong with it; BUS_UNAVAILABLE.
        """
        now_s = time.time()
        await self._door.joints(session, self._batch(await self.angles_rad(session), now_s))
        await self._door.frame(session, FrameHeader(captured_at_s=now_s, clock_offset_s=0.0), picture)
        return await self.frame_count(session)

    async def turn(self, session: Session, angles_rad: Sequence[float]) -> None:
        """Take the joints' angles, in the order of the workload's names.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._door.joints(session, self._batch(angles_rad, time.time()))

    async def angles_rad(self, session: Session) -> tuple[float, ...]:
        """Give the angles that were told last; zeros until some are.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        stored = await self._telemetry.load(telemetry_subject(session.tenant, session.id, "joints"))
        try:
            return JointBatch.model_validate_json(stored[-1].body).samples[-1].positions
        except (IndexError, ValidationError):
            return (0.0,) * len(self.names)

    async def frame_count(self, session: Session) -> int:
        """Count the frames that were sent since the session was opened, or began anew.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        client, began_anew = self._telemetry.client, session.reset_sequence
        count = await stored_frames(client, session)
        if not began_anew:
            return count
        known = self._forgotten.get(session.id)
        if known is None or known[0] != began_anew:
            # Asked of the bus: another gateway may have been told, or this one before it was started anew.
            known = (began_anew, count - await frames_since(client, session, began_anew))
            self._forgotten[session.id] = known
        return max(0, count - known[1])

    async def reset(self, session: Session) -> None:
        """Begin anew.

        Raises:
            SaccadeError: SESSION_ENDED; BUS_UNAVAILABLE.
        """
        await self._sessions.reset(session.tenant, session.id)

    @property
    def names(self) -> tuple[str, ...]:
        """Name the joints, in the order in which their angles come."""
        return tuple(joint_limits_rad(WORKLOAD))

    def _batch(self, angles_rad: Sequence[float], at_s: float) -> JointBatch:
        sample = JointSample(time.time_ns() // 1000, at_s, tuple(angles_rad))
        return JointBatch(
            source=_SOURCE, names=self.names, unit="rad", samples=(sample,), clock=Clock(offset_s=0.0, error_s=0.0)
        )
