"""Objects of the gateway's dead letters, and their background work."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from nats.aio.client import Client

from contracts.errors import SaccadeError
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency
from kit.history.dead_letter_events import DeadLetterEvents
from kit.history.history import History
from kit.tasks import first_of
from services.gateway.dead_letters.acts import DeadLetterActs
from services.gateway.dead_letters.letter_items import LetterItems
from services.gateway.dead_letters.plan import JOB_PLAN, NOUN, PlanItems
from services.gateway.dead_letters.plan_runner import PlanRunner
from services.gateway.dead_letters.reader import DeadLetterReader
from services.gateway.dead_letters.service import AllDeadLetters
from services.gateway.jobs.service import JobService
from services.gateway.metrics import GatewayMetrics

log = logging.getLogger(__name__)

#: Interval between two counts for the metrics.
_COUNT_S: Final = 5.0


class DeadLetterWork:
    """Dead letters of one gateway."""

    def __init__(
        self,
        client: Client,
        jobs: JobService,
        idempotency: Idempotency,
        metrics: GatewayMetrics,
        job_items: PlanItems,
        *,
        history: History,
    ) -> None:
        """Count open letters in ``metrics``; ``job_items`` acts on the jobs of plans, ``history`` has older events."""
        self.reader = DeadLetterReader(client)
        self._metrics = metrics
        acts = DeadLetterActs(client, jobs)
        self.audit, self.idempotency = acts.audit, idempotency
        items = {NOUN: LetterItems(self.reader, acts), JOB_PLAN: job_items}
        self.runner = PlanRunner(client, self.reader, self.audit, items)
        self.service = AllDeadLetters(
            self.reader, acts, self.runner, idempotency, DeadLetterEvents(EventStore(client), history)
        )

    async def run(self) -> None:
        """Count letters and carry plans out until cancelled."""
        await first_of(self._count(), self.runner.run())

    async def _count(self) -> None:
        while True:
            try:
                await self.reader.prune()
                self._metrics.set_dead_letters((await self.reader.catch_up()).counts())
            except SaccadeError as error:
                log.warning("dead letters are not counted: %s", error.message)
            await asyncio.sleep(_COUNT_S)
