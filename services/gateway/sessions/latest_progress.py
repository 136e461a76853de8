"""What workers say of live sessions while they work: newest figures and counts, and the verdict on each frame.

Advisory: heard live and kept in memory; what was said before this process began is asked for once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from contracts.errors import SaccadeError
from contracts.events.base import ADVISORY, decode_at, subject_of
from contracts.events.session import FrameTotals, SessionFrameAcked, SessionProgressed
from contracts.session import Session
from contracts.telemetry import FrameAck
from kit.bus.event_store import EventStore
from services.gateway.metrics import GatewayMetrics

log = logging.getLogger(__name__)

_REMEMBERED: Final = 10_000
_LIVE: Final = "live.saccade.prog.*.session.*.*"
_ACKS: Final = "saccade.tele.*.session.*.acks"

#: A frame of a session: the session's id, its source, its number.
Frame = tuple[str, str, int]


@dataclass(frozen=True)
class SessionStatus:
    """What a session's worker said last."""

    totals: FrameTotals = field(default_factory=FrameTotals)
    progress: SessionProgressed | None = None


class Verdict:
    """What becomes of one frame, once that is known."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._arrived: asyncio.Future[FrameAck] = asyncio.get_running_loop().create_future()

    def come(self, ack: FrameAck) -> None:
        """Hear it; the first counts."""
        if not self._arrived.done():
            self._arrived.set_result(ack)

    async def within(self, timeout_s: float) -> FrameAck | None:
        """Wait for it; None when it has not come by then."""
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._arrived)
        except TimeoutError:
            return None


class LatestSessionProgress:
    """What is known of each session beside its events."""

    def __init__(self, client: Client, metrics: GatewayMetrics, on_advisory: Callable[[str, str, bytes], None]) -> None:
        """Use a connection; ``on_advisory`` is told session, type and bytes of each advisory event."""
        self._client = client
        self._store = EventStore(client, "PROGRESS")
        self._metrics = metrics
        self._on_advisory = on_advisory
        self._told: OrderedDict[str, SessionStatus] = OrderedDict()
        self._verdicts: dict[Frame, set[Verdict]] = {}

    async def start(self) -> None:
        """Listen from now on, over every reconnect."""
        await self._client.subscribe(_LIVE, cb=self._on_live)
        await self._client.subscribe(_ACKS, cb=self._on_acks)

    def known(self, session: Session) -> SessionStatus:
        """Give what was last said of a session; the end of a session says the last of it."""
        told = self._told.get(session.id, SessionStatus())
        # A chunk may have counted a frame that waited for its verdict, and has it by now.
        totals = session.totals if session.stopped is not None else _newer(session.totals, told.totals)
        return SessionStatus(totals, told.progress)

    async def of(self, session: Session) -> SessionStatus:
        """Give what was last said of a session; what came before this process began is read once."""
        if session.id not in self._told:
            self._keep(session.id, SessionStatus())
            try:
                subjects = subject_of(ADVISORY, session.tenant, "session", session.id, "*")
                for stored in await self._store.load(subjects, deadline_s=1.0):
                    self._take(stored.subject, stored.body)
            except SaccadeError:
                self._told.pop(session.id, None)
        return self.known(session)

    @contextlib.contextmanager
    def expecting(self, frame: Frame) -> Iterator[Verdict]:
        """Listen for what becomes of a frame, from before it is sent."""
        verdict = Verdict()
        self._verdicts.setdefault(frame, set()).add(verdict)
        try:
            yield verdict
        finally:
            expecting = self._verdicts.get(frame, set())
            expecting.discard(verdict)
            if not expecting:
                self._verdicts.pop(frame, None)

    async def _on_live(self, msg: Msg) -> None:
        self._take(msg.subject, msg.data, live=True)

    async def _on_acks(self, msg: Msg) -> None:
        session_id = msg.subject.split(".")[4]
        try:
            acked = SessionFrameAcked.model_validate_json(msg.data)
        except ValidationError:
            log.warning("verdicts on frames of %s could not be read", session_id)
            return
        for ack in acked.acks:
            self._metrics.frames.labels(ack.status).inc()
            for verdict in self._verdicts.get((session_id, ack.source, ack.seq), ()):
                verdict.come(ack)

    def _take(self, subject: str, body: bytes, *, live: bool = False) -> None:
        try:
            envelope = decode_at(subject, body)
            data = envelope.parsed()
        except (KeyError, ValueError):
            log.warning("what was said on %s could not be read", subject)
            return
        told = self._told.get(envelope.subject, SessionStatus())
        if isinstance(data, SessionProgressed):
            self._keep(envelope.subject, SessionStatus(_newer(told.totals, data.totals), data))
        elif isinstance(data, SessionFrameAcked):
            self._keep(envelope.subject, SessionStatus(_newer(told.totals, data.totals), told.progress))
        if live:
            self._on_advisory(envelope.subject, envelope.type, body)

    def _keep(self, session_id: str, told: SessionStatus) -> None:
        self._told[session_id] = told
        self._told.move_to_end(session_id)
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)


def _newer(one: FrameTotals, other: FrameTotals) -> FrameTotals:
    """Give the later of two counts, which only grow; of two of the same frames the one with more verdicts."""
    return max(one, other, key=lambda totals: (totals.sent, -totals.waiting))
