"""Latest figures and frame counts that workers report of live sessions, in memory.

Advisory: received live; what was published before this process started is loaded once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.errors import SaccadeError
from contracts.events.base import ADVISORY, decode_at, subject_of
from contracts.events.session import FrameTotals, SessionFrameAcked, SessionProgressed
from contracts.session import Session
from kit.bus.event_store import EventStore

log = logging.getLogger(__name__)

_CACHE_SIZE: Final = 10_000
_LIVE_SUBJECTS: Final = "live.saccade.prog.*.session.*.*"


@dataclass(frozen=True)
class SessionStatus:
    """Latest frame counts and progress of a session's worker."""

    totals: FrameTotals = field(default_factory=FrameTotals)
    progress: SessionProgressed | None = None


class LatestSessionProgress:
    """Latest status of each session."""

    def __init__(self, client: Client, on_advisory: Callable[[str, str, bytes], None]) -> None:
        """``on_advisory`` is called with session id, event type and bytes of each advisory event."""
        self._client = client
        self._store = EventStore(client, "PROGRESS", for_display=True)
        self._on_advisory = on_advisory
        self._latest: OrderedDict[str, SessionStatus] = OrderedDict()

    async def start(self) -> None:
        """Subscribe to advisory events; the subscription survives reconnects."""
        await self._client.subscribe(_LIVE_SUBJECTS, cb=self._on_live)

    def known(self, session: Session) -> SessionStatus:
        """Return the received status of a session; the totals of a stopped session are final."""
        status = self._latest.get(session.id, SessionStatus())
        # A chunk may have counted a frame as waiting that has been accepted or rejected since.
        totals = session.totals if session.stopped is not None else _newer(session.totals, status.totals)
        return SessionStatus(totals, status.progress)

    async def load(self, session: Session) -> SessionStatus:
        """Return the status of a session; if none was received yet, load the stored one, once."""
        if session.id not in self._latest:
            self._set(session.id, SessionStatus())
            try:
                subjects = subject_of(ADVISORY, session.tenant, "session", session.id, "*")
                for stored in await self._store.load(subjects, deadline_s=1.0):
                    self._apply(stored.subject, stored.body)
            except SaccadeError:
                self._latest.pop(session.id, None)
        return self.known(session)

    async def _on_live(self, msg: Msg) -> None:
        self._apply(msg.subject, msg.data, live=True)

    def _apply(self, subject: str, body: bytes, *, live: bool = False) -> None:
        try:
            envelope = decode_at(subject, body)
            data = envelope.parsed()
        except (KeyError, ValueError):
            log.warning("invalid advisory event on %s", subject)
            return
        status = self._latest.get(envelope.subject, SessionStatus())
        if isinstance(data, SessionProgressed):
            self._set(envelope.subject, SessionStatus(_newer(status.totals, data.totals), data))
        elif isinstance(data, SessionFrameAcked):
            self._set(envelope.subject, SessionStatus(_newer(status.totals, data.totals), status.progress))
        if live:
            self._on_advisory(envelope.subject, envelope.type, body)

    def _set(self, session_id: str, status: SessionStatus) -> None:
        self._latest[session_id] = status
        self._latest.move_to_end(session_id)
        if len(self._latest) > _CACHE_SIZE:
            self._latest.popitem(last=False)


def _newer(first: FrameTotals, second: FrameTotals) -> FrameTotals:
    """Return the later of two counts: with more sent frames, else with fewer waiting ones. Counts only grow."""
    return max(first, second, key=lambda totals: (totals.sent, -totals.waiting))
