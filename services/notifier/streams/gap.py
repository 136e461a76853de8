"""The ``gap`` event of a stream: a client's cursor, compared with the stream, shows that it missed events.

A gap is followed by a ``snapshot`` of the job or session, so that the client knows its state all the same.
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
        """Return the position after the missed events; None when the client missed none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if cursor.epoch == self._hub.epoch and self._hub.floor <= cursor.sequence <= self._hub.head:
            return None
        state = await self._stream_state()
        if cursor.epoch != self._hub.epoch or cursor.sequence > state["last_seq"]:
            return 0
        if cursor.sequence + 1 >= state["first_seq"] or (history is not None and history.complete):
            return None
        return cursor.sequence

    async def frames(self, after: str | None, history: AggregateHistory | None) -> list[bytes]:
        """Return the frames of a gap after the cursor ``after`` (None: from the beginning), and the snapshot.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        state = await self._stream_state()
        first = str(Cursor(self._hub.epoch, int(state["first_seq"])))
        self._metrics.gaps.inc()
        frames = [control_frame("gap", {"after": after, "first_available": first})]
        if history is not None and history.state is not None:
            frames.append(snapshot_frame(history.state))
        return frames

    async def _stream_state(self) -> dict[str, Any]:
        info = await request(self._events.client, f"STREAM.INFO.{self._events.stream}", {}, _TIMEOUT_S)
        if "error" in info:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {info['error'].get('description')}.")
        state: dict[str, Any] = info["state"]
        return state
