"""Planning of what is not new: events before an endpoint was known, redeliveries, and URLs that jobs named long ago.

It may read the archive, which can be slow, or not answer at all. Newer events wait for it for a moment only, so that
they keep their order, and so that an outage of the bucket delays no tenant that does not need it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode
from contracts.events.delivery import WebhookRedeliveryRequested
from kit.tasks import end
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.event_lineage import EventLineage
from services.notifier.webhooks.deliveries.event_planning import EventPlanning
from services.notifier.webhooks.deliveries.event_ranges import EventRanges
from services.notifier.webhooks.deliveries.planner import EventSubject, plan_for
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore

log = logging.getLogger(__name__)

#: Time for which newer events wait for earlier ones.
_PATIENCE_S: Final = 2.0
#: Time for which a start waits for the archive's submissions.
_START_S: Final = 30.0
#: Pause after NATS, or the bucket, did not answer.
_BUS_RETRY_S: Final = 0.5
_BUCKET_RETRY_S: Final = 5.0


class EarlierPlanning:
    """Plans in passes, of which each does all that there is to do; the loop that plans new events begins them."""

    def __init__(
        self,
        planning: EventPlanning,
        ranges: EventRanges,
        deliveries: DeliveryTables,
        receivers: ReceiverTables,
        *,
        endpoints: EndpointStore,
        changed: asyncio.Event,
    ) -> None:
        """Plan what ``ranges`` has; set ``changed`` when ``step`` should be called again."""
        self._planning, self._ranges = planning, ranges
        self._deliveries, self._receivers = deliveries, receivers
        self._endpoints, self._changed = endpoints, changed
        self._event_lineage = EventLineage()
        #: Whether newer events are planned before what is still to be done.
        self.is_late = False
        self._pass: asyncio.Task[None] | None = None
        self._rests = False
        #: The arguments of ``store_job_urls``, where the archive did not answer.
        self._job_urls_missing: tuple[int, datetime] | None = None

    def prepare(self, event_lineage: EventLineage) -> None:
        """Use the epochs of a start."""
        self._event_lineage = event_lineage

    async def step(self) -> None:
        """Begin a pass if there is something to do, and wait a moment for its end; take note of one that has ended.

        Raises:
            sqlite3.Error: the disk does not accept a write.
        """
        self._note_end()
        if self._pass is None and not self._rests and self._has_work:
            self._pass = asyncio.ensure_future(self._plan_all())
            await asyncio.wait((self._pass,), timeout=_PATIENCE_S)
            self._pass.add_done_callback(lambda _: self._changed.set())
            self._note_end()

    def _note_end(self) -> None:
        """Take note of a pass that has ended.

        Raises:
            sqlite3.Error: it has found that the disk does not accept a write.
        """
        if self._pass is None:
            return
        if not self._pass.done():
            self.is_late = True
            return
        ended, self._pass = self._pass, None
        try:
            ended.result()
            self.is_late = False
        except SaccadeError as error:
            log.warning("webhooks: earlier events are not planned yet: %s", error)
            self.is_late = self._rests = True
            pause_s = _BUS_RETRY_S if error.code is ErrorCode.BUS_UNAVAILABLE else _BUCKET_RETRY_S
            asyncio.get_running_loop().call_later(pause_s, self._retry)

    def _retry(self) -> None:
        self._rests = False
        self._changed.set()

    async def stop(self) -> None:
        """Cancel the pass that runs."""
        ended, self._pass = self._pass, None
        self.is_late = self._rests = False
        if ended is not None:
            await end(ended)

    async def rebuild_job_urls(self, planned: int, since: datetime) -> None:
        """Store the URLs that jobs named: of an empty projection whose events up to ``planned`` are planned.

        Where the archive does not answer, those in the stream; the others follow in a later pass.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
            sqlite3.Error: the disk does not accept a write.
        """
        self._job_urls_missing = None
        try:
            async with asyncio.timeout(_START_S):
                await self._store_job_urls(planned, since)
            return
        except TimeoutError:
            log.warning("webhooks: the archive's submissions are not read in %.0f s", _START_S)
        except SaccadeError as error:
            if error.code is not ErrorCode.STORAGE_UNAVAILABLE:
                raise
            log.warning("webhooks: the archive's submissions are not read yet: %s", error)
        self._job_urls_missing = planned, since
        await self._store_job_urls(planned, None)

    @property
    def _has_work(self) -> bool:
        waits = self._planning.to_backfill or self._job_urls_missing
        return bool(waits) or self._receivers.next_redelivery() is not None

    async def _plan_all(self) -> None:
        """Do all that there is to do; what needs a bucket that does not answer holds up nothing else.

        Raises:
            SaccadeError: BUS_UNAVAILABLE; STORAGE_UNAVAILABLE, after all that does not need the bucket.
            sqlite3.Error: the disk does not accept a write.
        """
        failures: list[SaccadeError] = []
        if self._job_urls_missing is not None:
            planned, since = self._job_urls_missing
            if await _tried(self._store_job_urls(planned, since), failures):
                self._job_urls_missing = None
        refused = set[str]()
        while to_backfill := [known for known in self._planning.to_backfill.values() if known.id not in refused]:
            for endpoint in to_backfill:
                if not await _tried(self._backfill(endpoint), failures):
                    refused.add(endpoint.id)
        record = 0
        while requested := self._receivers.next_redelivery(record):
            record = requested[0]
            await _tried(self._plan_redelivery(*requested), failures)
        if failures:
            raise failures[-1]

    async def _store_job_urls(self, planned: int, since: datetime | None) -> None:
        """Store the URLs in the submissions up to ``planned``, after ``since`` or in the stream."""
        while True:
            erasures = self._planning.erasures
            async with aclosing(self._ranges.submissions(planned, since)) as submissions:
                async for submission in submissions:
                    if self._planning.erasures != erasures:
                        break
                    try:
                        self._planning.store_job_url(submission, EventSubject.of(submission.subject))
                    except ValueError as error:  # of an earlier version, or damaged: it names no URL
                        log.warning("webhooks: submission %d is left out: %s", submission.sequence, error)
                else:
                    return

    async def _backfill(self, endpoint: Endpoint) -> None:
        """Plan the events stored after an endpoint was created and before this process knew of it."""
        receiver = self._event_lineage.as_of_today(endpoint)
        since, done = receiver.since_sequence, self._receivers.planned_since(endpoint.id)
        if endpoint.deleted:
            self._receivers.remove_endpoint(endpoint.id)
        elif endpoint.enabled and since != done:
            # Of those that are being planned, some may have passed this endpoint.
            await self._plan_since(receiver, self._planning.read_to)
            self._receivers.store_planned_since(endpoint.id, since)
        if self._planning.to_backfill.get(endpoint.id) is endpoint:
            del self._planning.to_backfill[endpoint.id]

    async def _plan_since(self, receiver: Endpoint, until: int) -> None:
        while receiver.since_sequence < until:
            erasures = self._planning.erasures
            async with aclosing(self._ranges.since_creation(receiver, until)) as events:
                async for stored in events:
                    if self._planning.erasures != erasures:  # it was read before, and may be erased: read it again
                        receiver = replace(receiver, since_sequence=stored.sequence - 1)
                        break
                    self._planning.add_pending(plan_for(receiver, stored))
                else:
                    return

    async def _plan_redelivery(self, record: int, body: bytes) -> None:
        """Make the requested deliveries pending again, except those attempted after the request."""
        envelope = decode(body)
        requested = WebhookRedeliveryRequested.model_validate(envelope.data)
        endpoint = self._endpoints.active(envelope.tenant, requested.endpoint_id)
        is_complete = endpoint is None
        while endpoint is not None and not is_complete:
            erasures = self._planning.erasures
            parts = (self._deliveries, self._event_lineage, self._planning.read_to)
            async with aclosing(self._ranges.planned(requested, endpoint, *parts)) as redeliveries:
                async for planned in redeliveries:
                    if self._planning.erasures != erasures:  # as in ``_plan_since``
                        break
                    if delivery := self._deliveries.redeliver(planned, record, envelope.time):
                        self._planning.enqueue(delivery, delivery.due)
                else:
                    is_complete = True
        self._receivers.remove_redelivery(record)


async def _tried(planning: Awaitable[None], failures: list[SaccadeError]) -> bool:
    """Return whether it was planned; add to ``failures`` that the bucket does not answer.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
        sqlite3.Error: the disk does not accept a write.
    """
    try:
        await planning
    except SaccadeError as error:
        if error.code is not ErrorCode.STORAGE_UNAVAILABLE:
            raise
        failures.append(error)
        return False
    return True
