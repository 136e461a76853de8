"""Default session of each tenant, opened on first use: clients of the replaced splat server know no sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import WAIT_S
from contracts.session import Session, SessionState, telemetry_subject
from contracts.telemetry import Clock, JointBatch, JointSample
from kit.bus.event_store import EventStore
from kit.bus.idempotency import idempotency_key
from modal_workers import catalog
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.jobs.submission import check_params
from services.gateway.sessions.service import SessionRequest, SessionService
from services.gateway.telemetry.joint_check import joint_limits_rad
from services.gateway.telemetry.publisher import FrameHeader
from services.gateway.telemetry.session_ingest import SessionIngest
from services.gateway.telemetry.stored_frames import count_frames_since, count_stored_frames

WORKLOAD: Final = "live_splat"
_METADATA: Final = {"opened_by": "replaced_splat"}
_SOURCE: Final = "replaced"
_REFUSALS: Final = frozenset({ErrorCode.FRAME_EMPTY, ErrorCode.FRAME_TOO_LARGE, ErrorCode.FRAME_UNREADABLE})


class DefaultSessions:
    """The default sessions of all tenants."""

    def __init__(
        self, sessions: SessionService, ingest: SessionIngest, telemetry: EventStore, backends: ReportedBackends
    ) -> None:
        """``telemetry`` is the stream from which the latest joints and the number of frames are read."""
        self._backends = backends
        self._sessions = sessions
        self._ingest = ingest
        self._telemetry = telemetry
        self._opening: dict[str, asyncio.Lock] = {}
        #: By session: sequence of its last reset event, and the number of frames before it.
        self._frames_before_reset: dict[str, tuple[int, int]] = {}
        #: By session: sequence of its last reset event, and the number of frames that were refused here since then.
        self._refused: dict[str, tuple[int, int]] = {}

    def newest(self, tenant: str) -> Session | None:
        """Return the tenant's newest default session, which may have ended; None if it was reset after its end."""
        session = self._newest(tenant)
        return None if session and session.cleared else session

    def _newest(self, tenant: str) -> Session | None:
        return self._sessions.newest_with_metadata(tenant, _METADATA)

    async def accept_frames(self, tenant: str) -> bool:
        """Return whether a frame can be sent; without a session, the first frame opens one."""
        if session := self.current(tenant):
            return session.state in (SessionState.READY, SessionState.RUNNING)
        try:
            check_params(catalog.workload(WORKLOAD), {}, await self._backends.known())
        except SaccadeError:
            return False
        return True

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
            before = self._newest(tenant)
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
        try:
            await self._ingest.send_frame(session, FrameHeader(captured_at_s=now_s, clock_offset_s=0.0), picture)
        except SaccadeError as error:
            if error.code in _REFUSALS:
                self._count_refused(session)
            raise
        return await self.frame_count(session)

    async def reject_frame(self, session: Session, error: SaccadeError) -> None:
        """Count a frame that was refused before it was read.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._ingest.reject_frame(session, FrameHeader(), error)
        self._count_refused(session)

    def _count_refused(self, session: Session) -> None:
        self._refused[session.id] = session.reset_sequence, self._refused_here(session) + 1

    def _refused_here(self, session: Session) -> int:
        reset_sequence, count = self._refused.get(session.id, (session.reset_sequence, 0))
        return count if reset_sequence == session.reset_sequence else 0

    def refused_count(self, session: Session, rejected: int = 0) -> int:
        """Return the number of refused frames since the session was opened or reset.

        ``rejected`` is the worker's count since the session was opened: it includes those that were refused by another
        gateway, or by this one before a restart.
        """
        return max(self._refused_here(session), 0 if session.reset_sequence else rejected)

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

    async def frame_count(self, session: Session, rejected: int = 0) -> int:
        """Return the number of frames since the session was opened or reset, without those that were refused.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return max(0, await self._sent_count(session) - self.refused_count(session, rejected))

    async def _sent_count(self, session: Session) -> int:
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

    async def reset(self, tenant: str) -> None:
        """Discard the model and the number of frames, also of a session that has ended.

        Raises:
            SaccadeError: SESSION_ENDED, if the session is still stopping after a minute; BUS_UNAVAILABLE.
        """
        if session := self.current(tenant):
            await self._sessions.reset(tenant, session.id)
        elif session := self.newest(tenant):
            await self._sessions.get(tenant, session.id, WAIT_S)
            await self._sessions.clear(tenant, session.id)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the joints' names, in the order of their angles."""
        return tuple(joint_limits_rad(WORKLOAD))

    def _batch(self, angles_rad: Sequence[float], at_s: float) -> JointBatch:
        sample = JointSample(time.time_ns() // 1000, at_s, tuple(angles_rad))
        return JointBatch(
            source=_SOURCE, names=self.names, unit="rad", samples=(sample,), clock=Clock(offset_s=0.0, error_s=0.0)
        )
