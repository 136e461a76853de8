"""The ``gap`` event of a stream: a client's cursor, compared with the stream, shows that it missed events.

``stream_history.py`` asks for it when a stream begins, and writes it. A gap is followed by a ``snapshot`` of the job or
session, so that the client knows its state all the same.
"""

from __future__ import annotations

from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from kit.bus.connection import request
from kit.bus.event_store import EventStore
from services.notifier.metrics import NotifierMetrics
from services.notifier.streams.aggregate_history import AggregateHistory
from services.notifier.streams.hub import Hub
from services.notifier.streams.snapshot import snapshot_frame
from services.notifier.streams.sse import control_frame

_TIMEOUT_S: Final = 3.0


class GapDetector:
    """Compares cursors with what the stream still has."""

    def __init__(self, events: EventStore, hub: Hub, metrics: NotifierMetrics) -> None:
        """Compare with the stream of ``events``, whose newest events are in ``hub``."""
        self._events = events
        self._hub = hub
        self._metrics = metrics

    async def resume_position(self, cursor: Cursor, history: AggregateHistory | None) -> int | None:
        """Return the position from which the client gets events after a gap; None when it missed none.

        After a restore to an older point that is where the client's history and today's part.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        position = self._hub.lineage.position_of(cursor)
        if position is not None and self._hub.floor <= position <= self._hub.head:
            return None
        state = await self._stream_state()
        if position is None:
            return self._hub.lineage.shared_with(cursor)
        if position > state["last_seq"]:
            return 0
        if position + 1 >= state["first_seq"] or (history is not None and history.complete):
            return None
        return position

    async def frames(
        self, after: str | None, history: AggregateHistory | None, position: int = 0
    ) -> tuple[int, list[bytes]]:
        """Return the frames of a gap after the cursor ``after`` (None: from the beginning), and the snapshot.

        The first value is the position after which the events follow: ``position``, unless the stream begins later.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        first = max(min(await self.first_in_stream(), self._hub.floor + 1), position + 1)
        frames = [self.frame(after, first)]
        if history is not None and history.state is not None:
            frames.append(snapshot_frame(history.state))
        return first - 1, frames

    def frame(self, after: str | None, first: int) -> bytes:
        """Return the frame of a gap after which the event ``first`` follows."""
        self._metrics.gaps.inc()
        return control_frame("gap", {"after": after, "first_available": str(Cursor(self._hub.epoch, first))})

    async def first_in_stream(self) -> int:
        """Return the first sequence that the stream still has.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return int((await self._stream_state())["first_seq"])

    async def _stream_state(self) -> dict[str, Any]:
        info = await request(self._events.client, f"STREAM.INFO.{self._events.stream}", {}, _TIMEOUT_S)
        if "error" in info:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {info['error'].get('description')}.")
        state: dict[str, Any] = info["state"]
        return state
