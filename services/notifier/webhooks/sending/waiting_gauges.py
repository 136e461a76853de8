"""Metrics of the deliveries that wait: their number, and the age of the oldest of their events."""

from __future__ import annotations

import contextlib

from contracts.errors import SaccadeError
from contracts.events.base import decode
from services.notifier.metrics import NotifierMetrics
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.recent_events import RecentEvents


class WaitingGauges:
    """Measured once a second by the engine that sends."""

    def __init__(self, deliveries: DeliveryTables, recent_events: RecentEvents, metrics: NotifierMetrics) -> None:
        """Measure ``deliveries``."""
        self._deliveries, self._recent_events, self._metrics = deliveries, recent_events, metrics
        #: The oldest event with a pending delivery, and its time.
        self._oldest: tuple[int | None, float | None] = (None, None)

    async def measure(self, now_s: float) -> None:
        """Set how many deliveries wait, and how old the oldest of their events is."""
        self._metrics.webhooks_waiting.set(self._deliveries.count_pending())
        oldest = self._deliveries.oldest_pending()
        if oldest != self._oldest[0]:
            at = None
            with contextlib.suppress(SaccadeError, ValueError):  # not stored any more, or not read now
                body = None if oldest is None else await self._recent_events.read_body(oldest)
                at = decode(body).time.timestamp() if body else None
            self._oldest = oldest, at
        at = self._oldest[1]
        self._metrics.webhooks_oldest.set(0.0 if at is None else max(0.0, now_s - at))
