"""Composition of one notifier's webhooks: projector, queue and sender, connected in both directions here only."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime

from kit.bus.event_store import EventStore
from kit.history.history import History
from kit.tasks import first_of
from services.notifier.metrics import NotifierMetrics
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_projector import DeliveryProjector
from services.notifier.webhooks.deliveries.delivery_service import DeliveryService
from services.notifier.webhooks.deliveries.recent_events import RecentEvents
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.sending.attempt_sender import AttemptSender
from services.notifier.webhooks.sending.endpoint_disabler import EndpointDisabler
from services.notifier.webhooks.sending.engine import SendingEngine
from services.notifier.webhooks.sending.receiver import WebhookReceivers
from services.notifier.webhooks.sending.submissions import Submissions
from services.notifier.webhooks.signing import Signer

log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class WebhookDelivery:
    """The webhooks of one notifier; pass every event to ``recent_events`` and all progress to ``on_progress``."""

    def __init__(
        self,
        events: EventStore,
        endpoints: EndpointStore,
        file: DeliveryFile,
        sender: AttemptSender,
        signer: Signer,
        *,
        epoch: str,
        head: int,
        metrics: NotifierMetrics,
        history: History | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        """Start after the event ``head`` of the stream's incarnation ``epoch``: newer ones will be passed in.

        ``history`` has the events that the stream has deleted; without it, their deliveries are not sent.
        """
        self.file = file
        history = history or History(events)
        self.recent_events = RecentEvents(events, head, history)
        self.projector = DeliveryProjector(
            file, events, endpoints, recent_events=self.recent_events, history=history, now=now
        )
        self.service = DeliveryService(self.projector, endpoints, history, self.recent_events, now)
        submissions = Submissions(events, history)
        self.receivers = WebhookReceivers(
            self.projector.receivers, endpoints, signer, submissions=submissions, epoch=epoch, now=now
        )
        self.engine = SendingEngine(
            events.client,
            self.projector,
            endpoints=endpoints,
            recent_events=self.recent_events,
            sender=sender,
            receivers=self.receivers,
            disabler=EndpointDisabler(events, self.projector.receivers, endpoints, now),
            metrics=metrics,
            now=now,
        )
        self.on_progress = self.engine.on_progress
        #: Say how much is read of what webhooks depend on (kit/http/readiness.py).
        self.reading = {"endpoints": endpoints.reading, "deliveries": self._reading_deliveries}
        endpoints.on_change(self.projector.on_endpoint)
        endpoints.on_change(self.engine.on_endpoint)
        self.projector.on_planned(self.engine.on_planned)

    def _reading_deliveries(self) -> str | None:
        return self.projector.tail.reading()  # of the tail that it has now

    async def run(self) -> None:
        """Plan, send and record; when the disk fails, the projection is rebuilt in memory.

        Raises:
            EpochChanged: a stream was recreated.
        """
        while True:
            try:
                await first_of(self.projector.run(self.engine.enqueue), self.engine.run())
            except sqlite3.Error as error:
                log.error("webhooks: deliveries are kept in memory until the next start: %s", error)  # noqa: TRY400
                self.file.reopen_in_memory()

    async def stop(self, grace_s: float) -> None:
        """Start no further attempt and wait up to ``grace_s`` for those in flight."""
        await self.engine.stop(grace_s)

    def close(self) -> None:
        """Commit and close the projection."""
        try:
            self.file.close()
        except sqlite3.Error as error:
            log.warning("webhooks: deliveries are read again at the next start: %s", error)
