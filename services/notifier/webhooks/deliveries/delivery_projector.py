"""Projection of deliveries: plans each stored event, applies each attempt record, and plans requested redeliveries.

Every notifier keeps its own projection, whether or not it is the one that sends, so that each can answer for all
deliveries and can take over at any moment. After a start, planning continues where the projection, or the stored
planned position, had got to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from contracts.errors import SaccadeError
from contracts.events.base import DURABLE, decode, decode_at, subject_of
from contracts.events.delivery import WebhookDelivered, WebhookFailed, WebhookRedeliveryRequested
from contracts.events.job import JobSubmitted
from contracts.streams import DELIVERIES, EVENTS, LIVE_DELIVERIES
from kit.bus.connection import epoch_of, request
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EventTail
from kit.tasks import first_of
from services.notifier.webhooks.deliveries.delivery import (
    DeliveryAttempt,
    DeliveryState,
    PlannedDelivery,
    TrackedDelivery,
)
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.planned_position import PlannedPosition
from services.notifier.webhooks.deliveries.planner import EventSubject, lane_of_url, may_name_url, plan_deliveries
from services.notifier.webhooks.deliveries.receiver_tables import PAUSE, ReceiverTables
from services.notifier.webhooks.deliveries.recent_events import RecentEvents
from services.notifier.webhooks.deliveries.retry_schedule import is_gone
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore

log = logging.getLogger(__name__)

#: Passes a delivery that became pending to the send queue.
Enqueue = Callable[[TrackedDelivery], None]

_COMMIT_S: Final = 0.25
_PRUNE_S: Final = 10.0
#: Deliveries that are planned before other tasks run.
_BATCH_DELIVERIES: Final = 50
_RETRY_S: Final = 0.5
_POLL_S: Final = 0.02


class DeliveryProjector:
    """The only writer of the projection."""

    def __init__(
        self,
        file: DeliveryFile,
        events: EventStore,
        endpoints: EndpointStore,
        recent_events: RecentEvents,
        now: Callable[[], datetime],
    ) -> None:
        """Project ``recent_events`` and the records of attempts into ``file``."""
        self.file = file
        self.deliveries = DeliveryTables(file)
        self.receivers = ReceiverTables(file)
        self.records = EventStore(events.client, DELIVERIES.name)
        self.tail = self._new_tail()
        self._enqueue: Enqueue = lambda _: None
        self._events = events
        self._endpoints = endpoints
        self._recent_events = recent_events
        self._position = PlannedPosition(events.client)
        self._now = now
        #: Set when the endpoints are known and the projection belongs to the current streams.
        self._started = asyncio.Event()
        self._record_waiters: dict[int, asyncio.Future[None]] = {}
        self._to_backfill: dict[str, Endpoint] = {}
        #: Endpoints of an earlier incarnation of the stream: they get all events of this one.
        self._stale: set[str] = set()

    async def run(self, enqueue: Enqueue) -> None:
        """Keep the projection current, and pass each delivery that becomes pending to ``enqueue``.

        Raises:
            EpochChanged: a stream was recreated.
            sqlite3.Error: the disk does not accept a write.
        """
        self._enqueue = enqueue
        self._started.clear()
        while True:
            try:
                await self._start()
                break
            except SaccadeError as error:
                log.warning("webhooks: waiting for the streams: %s", error)
                await asyncio.sleep(_RETRY_S)
        self._started.set()
        self.tail = self._new_tail()
        records = self.tail.run(self.file.recorded, self.file.records_epoch)
        await first_of(records, self._plan_events(), self._commit_and_prune())

    async def wait_until_current(self) -> None:
        """Wait until everything that is stored by now is planned and projected.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._started.wait()
        events, records = await self._stream_state(EVENTS.name), await self._stream_state(DELIVERIES.name)
        while True:
            projected = not records["messages"] or self.file.recorded >= records["last_seq"]
            if projected and self.file.planned >= events["last_seq"] and self.receivers.next_redelivery() is None:
                return
            await asyncio.sleep(_POLL_S)

    async def wait_for_record(self, record: int) -> None:
        """Wait until a record of DELIVERIES is projected."""
        if self.file.recorded < record:
            await self._record_waiters.setdefault(record, asyncio.get_running_loop().create_future())

    async def count_subscribed(self, endpoint: Endpoint, after: int, until: int) -> int:
        """Return the number of stored events in a range that an endpoint subscribes to.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        receiver = replace(endpoint, since_sequence=0)
        return sum(
            [len(self._planned_for(receiver, stored)) async for stored in self._history(endpoint.tenant, after, until)]
        )

    def on_endpoint(self, endpoint: Endpoint) -> None:
        """Plan for an endpoint that was created or changed; cancel what is pending for one that is not active."""
        self._to_backfill[endpoint.id] = endpoint
        if self._endpoints.active(endpoint.tenant, endpoint.id) is None:
            self.deliveries.cancel(endpoint.id)
        self._recent_events.changed.set()

    def _new_tail(self) -> EventTail:
        return EventTail(self.records, self._on_record, live=LIVE_DELIVERIES, name="webhooks")

    # -- start

    async def _start(self) -> None:
        await self._endpoints.caught_up.wait()
        epoch, last = await epoch_of(self._events.client, EVENTS.name)
        records_epoch, last_record = await epoch_of(self._events.client, DELIVERIES.name)
        file = self.file
        self._stale = {endpoint.id for endpoint in self._endpoints.all() if endpoint.since_sequence > last}
        same = (file.events_epoch, file.records_epoch) == (epoch, records_epoch)
        if not same or file.planned > last or file.recorded > last_record:
            file.reset(epoch, records_epoch)
            await self._rebuild(epoch, last)
        for tenant, endpoint_id in self.deliveries.receivers_with_pending():
            if self._endpoints.find(endpoint_id) is not None and self._endpoints.active(tenant, endpoint_id) is None:
                self.deliveries.cancel(endpoint_id)
        self._to_backfill = {endpoint.id: endpoint for endpoint in self._endpoints.all()}

    async def _rebuild(self, epoch: str, last: int) -> None:
        """Start an empty projection at the stored position: every event before it is planned and in DELIVERIES."""
        position = await self._position.load(epoch, last)
        async for submission in self._events.history(0, subject_of(DURABLE, "*", "job", "*", "submitted")):
            if submission.sequence > position:
                break
            self._store_job_url(submission, EventSubject.of(submission.subject))
        if position:
            for endpoint in self._endpoints.all():
                self.receivers.store_planned_since(endpoint.id, self._since(endpoint))
        self.file.advance(planned=position)

    # -- events

    async def _plan_events(self) -> None:
        # Records first: those of an earlier incarnation of EVENTS must not be taken for deliveries of this one.
        await self.tail.caught_up.wait()
        while True:
            self._recent_events.changed.clear()
            try:
                while self._to_backfill:
                    await self._backfill(next(iter(self._to_backfill.values())))
                while requested := self.receivers.next_redelivery():
                    await self._plan_redelivery(*requested)
                events, read_to = await self._recent_events.read_after(self.file.planned)
            except SaccadeError as error:
                log.warning("webhooks: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            planned = 0
            for stored in events:
                planned += self._plan(stored)
                self.file.advance(planned=stored.sequence)
                if planned >= _BATCH_DELIVERIES:
                    planned = 0
                    await asyncio.sleep(0)  # let other tasks run, event streams above all
            if read_to > self.file.planned:
                self.file.advance(planned=read_to)
            if events:
                await asyncio.sleep(0)
            else:
                await self._recent_events.changed.wait()

    def _plan(self, stored: StoredEvent) -> int:
        """Plan the deliveries of an event and return their number."""
        subject = EventSubject.of(stored.subject)
        if subject is None:
            return 0
        try:
            self._store_job_url(stored, subject)
            of_job = subject.noun == "job"
            job_url = self.receivers.active_job_url(subject.subject_id, subject.tenant) if of_job else None
            deliveries = plan_deliveries(stored, subject, self._endpoints_of(subject.tenant), job_url)
        except ValueError as error:  # the hub's tail keeps it as a dead letter
            log.warning("event %d is not delivered by webhook: %s", stored.sequence, error)
            return 0
        for planned in deliveries:
            self._add_pending(planned)
        return len(deliveries)

    def _store_job_url(self, stored: StoredEvent, subject: EventSubject | None) -> None:
        if subject is None or not may_name_url(subject) or b'"webhook_url":"' not in stored.body:
            return
        submitted = decode_at(stored.subject, stored.body).parsed()
        if isinstance(submitted, JobSubmitted) and submitted.webhook_url:
            self.receivers.store_job_url(subject.subject_id, subject.tenant, submitted.webhook_url, stored.sequence)

    def _add_pending(self, planned: PlannedDelivery) -> None:
        if self.deliveries.add(planned, self._now()) and (delivery := self.deliveries.delivery(*planned.key)):
            self._enqueue(delivery)

    def _endpoints_of(self, tenant: str) -> list[Endpoint]:
        endpoints = self._endpoints.of_tenant(tenant)
        if not self._stale:
            return endpoints
        return [replace(endpoint, since_sequence=self._since(endpoint)) for endpoint in endpoints]

    def _since(self, endpoint: Endpoint) -> int:
        return 0 if endpoint.id in self._stale else endpoint.since_sequence

    # -- endpoints

    async def _backfill(self, endpoint: Endpoint) -> None:
        """Plan the events stored after an endpoint was created and before this process knew of it."""
        since, done = self._since(endpoint), self.receivers.planned_since(endpoint.id)
        until = self.file.planned
        if endpoint.deleted:
            self.receivers.remove_endpoint(endpoint.id)
        elif endpoint.enabled and since != done:
            if since < until:
                async for stored in self._history(endpoint.tenant, since, until):
                    for planned in self._planned_for(endpoint, stored):
                        self._add_pending(planned)
            self.receivers.store_planned_since(endpoint.id, since)
        if self._to_backfill.get(endpoint.id) is endpoint:
            del self._to_backfill[endpoint.id]

    def _planned_for(self, endpoint: Endpoint, stored: StoredEvent) -> list[PlannedDelivery]:
        subject = EventSubject.of(stored.subject)
        if subject is None or subject.tenant != endpoint.tenant:
            return []
        try:
            return plan_deliveries(stored, subject, [endpoint], None)
        except ValueError:
            return []

    async def _history(self, tenant: str, after: int, until: int) -> AsyncIterator[StoredEvent]:
        async for stored in self._events.history(after, f"saccade.evt.{tenant}.>"):
            if stored.sequence > until:
                return
            yield stored

    # -- redeliveries

    async def _plan_redelivery(self, record: int, body: bytes) -> None:
        """Make the requested deliveries pending again, except those attempted after the request."""
        envelope = decode(body)
        requested = WebhookRedeliveryRequested.model_validate(envelope.data)
        endpoint = self._endpoints.active(envelope.tenant, requested.endpoint_id)
        if endpoint is not None:
            every_type = requested.sequences is not None
            receiver = replace(endpoint, since_sequence=0, types=() if every_type else endpoint.types)
            async for stored in self._requested_events(requested, envelope.tenant):
                for planned in self._planned_for(receiver, stored):
                    if delivery := self.deliveries.redeliver(planned, record, envelope.time):
                        self._enqueue(delivery)
        self.receivers.remove_redelivery(record)

    async def _requested_events(
        self, requested: WebhookRedeliveryRequested, tenant: str
    ) -> AsyncIterator[StoredEvent]:  # fmt: skip
        if requested.sequences is None:
            after = requested.since_sequence or 0
            async for stored in self._history(tenant, after, requested.until_sequence or self.file.planned):
                yield stored
            return
        for sequence in requested.sequences:
            found, _ = await self._events.batch(sequence - 1, size=1)
            if found and found[0].sequence == sequence:
                yield found[0]

    # -- records of attempts

    def _on_record(self, stored: StoredEvent) -> None:
        try:
            envelope = decode_at(stored.subject, stored.body)
            data = envelope.parsed()
        except (KeyError, ValueError, ValidationError) as error:
            log.warning("record %d is skipped: %s", stored.sequence, error)
        else:
            if isinstance(data, WebhookRedeliveryRequested):
                self.receivers.add_redelivery(stored.sequence, stored.body)
                self._recent_events.changed.set()
            elif isinstance(data, WebhookDelivered | WebhookFailed):
                self._apply_attempt(data, envelope.tenant, envelope.time, stored.sequence)
        self.file.advance(recorded=stored.sequence)
        if (waiter := self._record_waiters.pop(stored.sequence, None)) and not waiter.done():
            waiter.set_result(None)

    def _apply_attempt(self, data: WebhookDelivered | WebhookFailed, tenant: str, at: datetime, record: int) -> None:
        endpoint_id, of_job = data.endpoint_id, not data.endpoint_id.startswith("whk_")
        failed = data if isinstance(data, WebhookFailed) else None
        next_attempt_at = failed.next_attempt_at if failed else None
        lane = lane_of_url(tenant, data.url_origin) if of_job else endpoint_id
        event = (data.event_id, data.event_type, data.event_subject)
        attempt = DeliveryAttempt(
            data.attempt,
            record,
            at,
            data.status,
            failed.error if failed else None,
            data.latency_ms,
            data.response_excerpt,
            next_attempt_at,
            data.url_origin,
        )
        state = DeliveryState.DELIVERED
        if failed:
            state = DeliveryState.PENDING if next_attempt_at else DeliveryState.FAILED
            known = self._endpoints.find(endpoint_id) is not None
            if next_attempt_at and known and self._endpoints.active(tenant, endpoint_id) is None:
                state = DeliveryState.CANCELLED
            self.receivers.record_failure(endpoint_id, tenant, at, data.status, gone=is_gone(data.status))
        else:
            self.receivers.record_success(endpoint_id)
        self.deliveries.record_attempt(
            PlannedDelivery(endpoint_id, data.sequence, tenant, lane, *event), attempt, state
        )  # fmt: skip
        if of_job and is_gone(data.status):
            self.deliveries.cancel(endpoint_id)

    # -- the file

    async def _commit_and_prune(self) -> None:
        """Commit a few times a second, and regularly remove what is past retention."""
        loop = asyncio.get_running_loop()
        prune_at = loop.time()
        while True:
            await asyncio.sleep(_COMMIT_S)
            self.file.commit()
            if loop.time() >= prune_at:
                prune_at = loop.time() + _PRUNE_S
                try:
                    events = await self._stream_state(EVENTS.name)
                    records = await self._stream_state(DELIVERIES.name)
                except SaccadeError:
                    continue  # pruned next time
                self.deliveries.prune(events["first_seq"], records["first_seq"])
                self.receivers.prune(events["first_seq"], self._now() - 2 * PAUSE - timedelta(days=30))

    async def _stream_state(self, stream: str) -> dict[str, Any]:
        info = await request(self._events.client, f"STREAM.INFO.{stream}", {})
        return dict(info.get("state", {"first_seq": 0, "last_seq": 0, "messages": 0}))
