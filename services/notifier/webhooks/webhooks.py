"""The webhooks of one notifier put together: what it is told of the streams, the view it keeps, and the sending."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime

from kit.bus.event_store import EventStore
from kit.tasks import first_of
from services.notifier.metrics import Metrics
from services.notifier.webhooks.deliveries.delivery_projector import Ledger
from services.notifier.webhooks.deliveries.recent_events import Newest
from services.notifier.webhooks.deliveries.view_file import ViewFile
from services.notifier.webhooks.endpoints.endpoint_store import Endpoints
from services.notifier.webhooks.sending.engine import Engine
from services.notifier.webhooks.sending.receiver import Receivers
from services.notifier.webhooks.sending.sender import Sender
from services.notifier.webhooks.sending.signing import Signer

log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class Webhooks:
    """All parts; ``newest`` and ``on_progress`` must be told of every event."""

    def __init__(
        self,
        events: EventStore,
        endpoints: Endpoints,
        file: ViewFile,
        sender: Sender,
        signer: Signer,
        *,
        epoch: str,
        head: int,
        metrics: Metrics,
        now: Callable[[], datetime] = _now,
    ) -> None:
        """Begin after the event ``head`` of the stream's incarnation ``epoch``: newer ones will be told."""
        self.newest = Newest(events)
        self.newest.begin(head)
        self.file = file
        self.ledger = Ledger(file, events, endpoints, self.newest, now)
        self.receivers = Receivers(self.ledger, endpoints, signer, epoch, now)
        self.engine = Engine(
            events,
            self.ledger,
            endpoints=endpoints,
            newest=self.newest,
            sender=sender,
            receivers=self.receivers,
            metrics=metrics,
            now=now,
        )
        self.on_progress = self.engine.on_progress

    async def run(self) -> None:
        """Plan, send and record, for ever; a disk that fails costs the view, which is built again in memory.

        Raises:
            EpochChanged: a stream was made anew.
        """
        while True:
            try:
                await first_of(self.ledger.run(), self.engine.run())
            except sqlite3.Error as error:
                log.error("webhooks: the view is kept in memory until the next start: %s", error)  # noqa: TRY400
                self.file.reopen_in_memory()

    async def stop(self, grace_s: float) -> None:
        """Begin no attempt any more, and let those that are out come to their end for a moment."""
        await self.engine.stop(grace_s)

    def close(self) -> None:
        """Keep the view."""
        try:
            self.file.close()
        except sqlite3.Error as error:
            log.warning("webhooks: the view is built again at the next start: %s", error)
