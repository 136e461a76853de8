"""Outbox of a session's worker, besides its durable events: acknowledgements in order; newest figures, newest text."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from contracts.errors import SaccadeError
from contracts.events.base import Message
from contracts.events.session import SessionProgressed, SessionTextDelta
from modal_workers.runtime.retry import while_unavailable
from modal_workers.runtime.sessions.frame_joiner import FrameJoiner
from modal_workers.runtime.sessions.session_bus import SessionBus
from modal_workers.runtime.stop import StopFlag

log = logging.getLogger(__name__)

#: Minimum interval between two published figures.
_FIGURES_INTERVAL_S: Final = 0.25


class SessionOutbox:
    """Outbox of one run: filled by the session's thread, sent by ``run`` on the loop thread."""

    def __init__(
        self, bus: SessionBus, joiner: FrameJoiner, run_id: str, cost_usd: Callable[[], float], stop: StopFlag
    ) -> None:
        """Send the acknowledgements of ``joiner``."""
        self._bus = bus
        self._joiner = joiner
        self._run_id = run_id
        self._cost_usd = cost_usd
        self._stop = stop
        self._pending: deque[tuple[Message, Message]] = deque()
        self._lock = threading.Lock()
        self._figures: tuple[dict[str, Any], float | None] | None = None
        self._delta: SessionTextDelta | None = None
        self._published_at_s = 0.0

    def enqueue_acks(self, *, reset: bool = False, last_idle_steps: int | None = None) -> None:
        """Queue the acknowledgements since the last call, in an event of their own if there are none."""
        with self._lock:
            acks, totals = self._joiner.queue.take_acks()
            self._pending.extend(self._bus.encode_acks(acks, totals, reset=reset, last_idle_steps=last_idle_steps))

    def flush_acks(self) -> None:
        """Wait until every acknowledgement so far is stored.

        Raises:
            Stopped: a stop was requested meanwhile.
        """
        self._enqueue_new()
        while self._pending:
            self._stop.check()
            time.sleep(0.01)

    def set_figures(self, figures: dict[str, Any], age_s: float | None) -> None:
        """Set the figures to publish next; never blocks."""
        self._figures = (figures, age_s)

    def set_delta(self, delta: SessionTextDelta | None) -> None:
        """Set the newest part of a text, None when the text is complete; never blocks."""
        self._delta = delta
        if delta is not None:
            self._joiner.notify()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            self._enqueue_new()
            while self._pending:
                telemetry, progress = self._pending[0]
                publish = partial(self._bus.publish_acks, telemetry, progress)
                await while_unavailable(publish, "acknowledgements")
                with self._lock:
                    self._pending.popleft()
            await self._publish_delta()
            await self._publish_figures()
            await self._joiner.wait_for_change(0.05)

    def _enqueue_new(self) -> None:
        # Under the lock: the two threads must queue acknowledgements in the order in which they took them.
        with self._lock:
            acks, totals = self._joiner.queue.take_acks()
            if acks:
                self._pending.extend(self._bus.encode_acks(acks, totals))

    async def _publish_delta(self) -> None:
        delta, self._delta = self._delta, None
        if delta is None:
            return
        try:
            await self._bus.publish_delta(delta)
        except SaccadeError as error:  # the next one has the whole text
            log.warning("a part of a text was not published: %s", error)

    async def _publish_figures(self) -> None:
        now_s = time.monotonic()
        if self._figures is None or now_s - self._published_at_s < _FIGURES_INTERVAL_S:
            return
        (figures, age_s), self._figures, self._published_at_s = self._figures, None, now_s
        progressed = SessionProgressed(
            run_id=self._run_id,
            totals=self._joiner.queue.totals,
            figures=figures,
            frame_age_s=age_s,
            cost_usd=self._cost_usd(),
        )
        await while_unavailable(lambda: self._bus.publish_figures(progressed), "figures")
