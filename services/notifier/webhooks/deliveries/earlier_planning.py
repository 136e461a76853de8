"""Planning of what is not new: events before an endpoint was known, redeliveries, gaps, and URLs that jobs once named.

It may read the archive, which can be slow, or not answer at all. Newer events wait for it for a moment only, so that
they keep their order, and so that an outage of the bucket delays no tenant that does not need it. What is to be planned
from the stream does not wait for what needs the archive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode
from contracts.events.delivery import WebhookRedeliveryRequested
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.event_lineage import EventLineage
from services.notifier.webhooks.deliveries.event_planning import EventPlanning
from services.notifier.webhooks.deliveries.event_ranges import EventRanges
from services.notifier.webhooks.deliveries.planner import EventSubject, may_name_url, plan_for, plan_for_url
from services.notifier.webhooks.deliveries.planning_pass import PlanningPass
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore

log = logging.getLogger(__name__)

#: Time for which a start waits for the archive's submissions.
_START_S: Final = 30.0


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
        on_planned: Callable[[Endpoint], None],
    ) -> None:
        """Plan what ``ranges`` has; set ``changed`` when ``step`` should be called again.

        Call ``on_planned`` with each endpoint that lacks no earlier event any more.
        """
        self._planning, self._ranges = planning, ranges
        self._deliveries, self._receivers = deliveries, receivers
        self._endpoints, self._on_planned = endpoints, on_planned
        self._event_lineage = EventLineage()
        self._of_endpoints = PlanningPass(self._plan_endpoints, changed)
        self._of_redeliveries = PlanningPass(self._plan_redeliveries, changed)
        self._of_archive = PlanningPass(self._plan_archived, changed)
        #: Endpoints and redeliveries with events that the stream has deleted.
        self._archived_endpoints: dict[str, Endpoint] = {}
        self._archived_redeliveries: set[int] = set()
        #: The arguments of ``store_job_urls``, where the archive did not answer.
        self._job_urls_missing: tuple[int, datetime] | None = None

    def prepare(self, event_lineage: EventLineage) -> None:
        """Use the epochs of a start."""
        self._event_lineage = event_lineage
        self._archived_endpoints.clear()
        self._archived_redeliveries.clear()

    @property
    def is_late(self) -> bool:
        """Whether newer events are planned before what is still to be done."""
        return any(planning.is_late for planning in (self._of_endpoints, self._of_redeliveries, self._of_archive))

    @property
    def lacks_job_urls(self) -> bool:
        """Whether jobs may have named URLs that are not known yet."""
        return self._job_urls_missing is not None

    def is_missing_for(self, endpoint: Endpoint) -> bool:
        """Return whether events before those that are planned now may still be planned for an endpoint."""
        if endpoint.id in self._planning.to_backfill:
            return True
        return self._event_lineage.since(endpoint) < self._planning.gaps.end()

    async def step(self) -> None:
        """Begin passes if there is something to do, and wait a moment for their end; take note of those that ended.

        Raises:
            sqlite3.Error: the disk does not accept a write.
        """
        await self._of_endpoints.step(has_work=bool(self._new_endpoints()))
        await self._of_redeliveries.step(has_work=self._new_redelivery() is not None)
        needs_archive = self._archived_endpoints or self._archived_redeliveries or self._job_urls_missing
        await self._of_archive.step(has_work=bool(needs_archive or self._planning.gaps.first()))

    async def stop(self) -> None:
        """Cancel the passes that run."""
        for planning in (self._of_endpoints, self._of_redeliveries, self._of_archive):
            await planning.stop()

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

    # -- passes

    def _new_endpoints(self) -> list[Endpoint]:
        """Return the endpoints that wait and are not known to need the archive."""
        waiting = self._planning.to_backfill.values()
        return [known for known in waiting if self._archived_endpoints.get(known.id) is not known]

    async def _plan_endpoints(self) -> None:
        """Plan for the endpoints whose events are in the stream.

        Raises:
            SaccadeError: BUS_UNAVAILABLE; STORAGE_UNAVAILABLE, when the stream has deleted some of them meanwhile.
            sqlite3.Error: the disk does not accept a write.
        """
        first = await self._ranges.first_in_stream()
        while endpoints := self._new_endpoints():
            for endpoint in endpoints:
                since = self._event_lineage.since(endpoint)
                if 0 < since < first - 1 and self._lacks_events(endpoint):
                    self._archived_endpoints[endpoint.id] = endpoint
                else:
                    await self._backfill(endpoint)

    def _new_redelivery(self) -> tuple[int, bytes] | None:
        """Return the oldest redelivery that waits and is not known to need the archive."""
        requested = self._receivers.next_redelivery()
        while requested is not None and requested[0] in self._archived_redeliveries:
            requested = self._receivers.next_redelivery(requested[0])
        return requested

    async def _plan_redeliveries(self) -> None:
        """Plan the redeliveries whose events are in the stream.

        Raises:
            SaccadeError, sqlite3.Error: as ``_plan_endpoints``.
        """
        first = await self._ranges.first_in_stream()
        while requested := self._new_redelivery():
            record, body = requested
            data = WebhookRedeliveryRequested.model_validate(decode(body).data)
            begin = self._event_lineage.shared(data.epoch, data.since_sequence or 0)
            if data.sequences is None and begin < first - 1:
                self._archived_redeliveries.add(record)
            else:
                await self._plan_redelivery(record, body)

    async def _plan_archived(self) -> None:
        """Plan what needs the archive.

        Raises:
            SaccadeError: BUS_UNAVAILABLE; STORAGE_UNAVAILABLE, after everything was tried.
            sqlite3.Error: the disk does not accept a write.
        """
        failures: list[SaccadeError] = []
        if self._job_urls_missing is not None:
            planned, since = self._job_urls_missing
            if await _tried(self._store_job_urls(planned, since, is_late=True), failures):
                self._job_urls_missing = None
        while gap := self._planning.gaps.first():
            if not await _tried(self._plan_gap(*gap), failures):
                break
        for endpoint in list(self._archived_endpoints.values()):
            is_planned = self._planning.to_backfill.get(endpoint.id) is not endpoint
            if is_planned or await _tried(self._backfill(endpoint), failures):
                self._forget(endpoint)
        for record in sorted(self._archived_redeliveries):
            requested = self._receivers.next_redelivery(record - 1)
            waits = requested is not None and requested[0] == record
            if requested is None or not waits or await _tried(self._plan_redelivery(*requested), failures):
                self._archived_redeliveries.discard(record)
        if failures:
            raise failures[-1]

    def _forget(self, endpoint: Endpoint) -> None:
        """Take an endpoint from those that need the archive, unless it was changed meanwhile."""
        if self._archived_endpoints.get(endpoint.id) is endpoint:
            del self._archived_endpoints[endpoint.id]

    # -- what is planned

    async def _store_job_urls(self, planned: int, since: datetime | None, *, is_late: bool = False) -> None:
        """Store the URLs in the submissions up to ``planned``, after ``since`` or in the stream.

        When that is late, also plan the newer events of their jobs.
        """
        async with aclosing(self._ranges.submissions(planned, since)) as submissions:
            async for submission in submissions:
                subject = EventSubject.of(submission.subject)
                is_known = subject and self._receivers.job_url(subject.subject_id, subject.tenant)
                try:
                    self._planning.store_job_url(submission, subject)
                except ValueError as error:  # of an earlier version, or damaged: it names no URL
                    log.warning("webhooks: submission %d is left out: %s", submission.sequence, error)
                    continue
                if is_late and not is_known:
                    await self._plan_for_job_url(submission, planned)

    async def _plan_gap(self, after: int, until: int) -> None:
        """Plan events that the stream had deleted when they were to be planned."""
        async with aclosing(self._ranges.of_all(after, until)) as events:
            async for stored in events:
                for _ in self._planning.pieces(stored):
                    await asyncio.sleep(0)
                await self._plan_for_job_url(stored, until)
                if stored.sequence < until:
                    self._planning.gaps.advance(until, stored.sequence)
                await asyncio.sleep(0)  # let other tasks run
        self._planning.gaps.advance(until, until)
        for endpoint in self._endpoints.all():
            self._on_planned(endpoint)

    async def _plan_for_job_url(self, submission: StoredEvent, after: int) -> None:
        """Plan the events of a job after a sequence: they were planned before the URL was known that it names."""
        subject = EventSubject.of(submission.subject)
        if subject is None or not may_name_url(subject):
            return
        if (url := self._receivers.active_job_url(subject.subject_id, subject.tenant)) is None:
            return
        job = subject.tenant, subject.subject_id
        async with aclosing(self._ranges.of_job(*job, after, self._planning.read_to)) as events:
            async for stored in events:
                self._planning.add_pending(plan_for_url(url, stored))

    def _lacks_events(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint gets events that are not planned for it."""
        since = self._event_lineage.since(endpoint)
        return endpoint.active and since != self._receivers.planned_since(endpoint.id)

    async def _backfill(self, endpoint: Endpoint) -> None:
        """Plan the events stored after an endpoint was created and before this process knew of it."""
        if self._lacks_events(endpoint):
            # Of those that are being planned, some may have passed this endpoint.
            receiver = self._event_lineage.as_of_today(endpoint)
            async with aclosing(self._ranges.since_creation(receiver, self._planning.read_to)) as events:
                async for stored in events:
                    self._planning.add_pending(plan_for(receiver, stored))
            self._receivers.store_planned_since(endpoint.id, endpoint.tenant, receiver.since_sequence)
        now = self._endpoints.find(endpoint.id) or endpoint
        if now.deleted or self._planning.is_of_erased(now):
            self._receivers.remove_endpoint(endpoint.id)
        if self._planning.to_backfill.get(endpoint.id) is endpoint:
            del self._planning.to_backfill[endpoint.id]
            self._on_planned(endpoint)

    async def _plan_redelivery(self, record: int, body: bytes) -> None:
        """Make the requested deliveries pending again, except those attempted after the request."""
        envelope = decode(body)
        requested = WebhookRedeliveryRequested.model_validate(envelope.data)
        endpoint = self._endpoints.active(envelope.tenant, requested.endpoint_id)
        if endpoint is not None:
            parts = (self._deliveries, self._event_lineage, self._planning.read_to)
            async with aclosing(self._ranges.planned(requested, endpoint, *parts)) as redeliveries:
                async for planned in redeliveries:
                    if self._planning.is_erased(planned):
                        continue
                    if delivery := self._deliveries.redeliver(planned, record, envelope.time):
                        self._planning.enqueue(delivery, delivery.due)
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
