"""Projection of deliveries: plans each stored event, applies each attempt record, and plans requested redeliveries.

Every notifier keeps its own projection, whether or not it is the one that sends, so that each can answer for all
deliveries and can take over at any moment. After a start, planning continues where the projection, or the stored
planned position, had got to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from contracts.errors import SaccadeError
from contracts.events.base import Envelope, decode_at
from contracts.events.delivery import WebhookDelivered, WebhookFailed, WebhookRedeliveryRequested
from contracts.streams import DELIVERIES, EVENTS, LIVE_DELIVERIES
from kit.bus.dead_letter_writer import DeadLetterWriter
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.leader_reads import newest_sequence
from kit.bus.lineage import StreamPosition
from kit.bus.tail import EpochChanged, EventTail
from kit.history.history import History
from kit.tasks import first_of
from services.notifier.webhooks.deliveries.delivery import DeliveryAttempt, DeliveryState, PlannedDelivery
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.earlier_planning import EarlierPlanning
from services.notifier.webhooks.deliveries.erased_records import ErasedRecords
from services.notifier.webhooks.deliveries.event_lineage import EventLineage
from services.notifier.webhooks.deliveries.event_planning import Enqueue, EventPlanning
from services.notifier.webhooks.deliveries.event_ranges import EventRanges
from services.notifier.webhooks.deliveries.file_upkeep import JOB_URLS_KEPT, keep_up
from services.notifier.webhooks.deliveries.planned_position import PlannedPosition
from services.notifier.webhooks.deliveries.planner import lane_of_url, plan_for
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables
from services.notifier.webhooks.deliveries.recent_events import RecentEvents
from services.notifier.webhooks.deliveries.resume import resume
from services.notifier.webhooks.deliveries.retry_schedule import is_gone
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore

log = logging.getLogger(__name__)

_RETRY_S: Final = 0.5
_POLL_S: Final = 0.02
_POLLS: Final = 50


class DeliveryProjector:
    """The only writer of the projection."""

    def __init__(
        self,
        file: DeliveryFile,
        events: EventStore,
        endpoints: EndpointStore,
        *,
        recent_events: RecentEvents,
        history: History,
        now: Callable[[], datetime],
    ) -> None:
        """Project ``recent_events`` and the records of attempts into ``file``; ``history`` has older events."""
        self.file = file
        self.deliveries = DeliveryTables(file)
        self.receivers = ReceiverTables(file)
        self.records = EventStore(events.client, DELIVERIES.name)
        self.tail = self._new_tail()
        self._events = events
        self._ranges = EventRanges(events, history)
        # Under the name of the tail of this process, which refuses the same events: one dead letter comes of both.
        self._dead_letters = DeadLetterWriter(events, "notifier")
        self._erased = ErasedRecords(self.records)
        file.hold_while(lambda: self._dead_letters.unsettled or self._erased.unsettled or self._earlier.lacks_job_urls)
        self._planning = EventPlanning(
            file,
            self.deliveries,
            self.receivers,
            endpoints=endpoints,
            recent_events=recent_events,
            erased=self._erased,
            dead_letters=self._dead_letters,
            now=now,
        )
        parts = (self._planning, self._ranges, self.deliveries, self.receivers)
        self._earlier = EarlierPlanning(
            *parts, endpoints=endpoints, changed=recent_events.changed, on_planned=self._tell_planned
        )
        self._endpoints = endpoints
        self._recent_events = recent_events
        self._position = PlannedPosition(events.client)
        self._now = now
        #: Set when the endpoints are known and the projection belongs to the current streams.
        self._started = asyncio.Event()
        self._observers: list[Callable[[str, datetime], None]] = []
        self._planned_observers: list[Callable[[Endpoint], None]] = []
        self._record_waiters: dict[int, asyncio.Future[None]] = {}
        self.event_lineage = EventLineage()
        #: Set when another process has written of an epoch that this one does not know yet.
        self._is_behind = asyncio.Event()

    async def run(self, enqueue: Enqueue) -> None:
        """Keep the projection current, and pass each delivery that becomes pending to ``enqueue``.

        Raises:
            EpochChanged: a stream was created anew, restored or set back.
            sqlite3.Error: the disk does not accept a write.
        """
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
        self._planning.prepare(self.event_lineage, enqueue)
        self._earlier.prepare(self.event_lineage)
        records = self.tail.run(self.file.recorded, self.file.records_epoch)
        try:
            await first_of(
                records,
                self._plan_events(),
                keep_up(self.file, self._events.client, self._ranges, self._now),
                self._leave_when_behind(),
            )
        finally:
            self._planning.close()
            await self._earlier.stop()
            await self._dead_letters.stop()
            await self._erased.stop()

    @property
    def lacks_earlier(self) -> bool:
        """Whether events before the planned position are still to be planned."""
        return bool(self._planning.to_backfill or self._planning.gaps.first())

    def is_missing_for(self, endpoint: Endpoint) -> bool:
        """Return whether events before its next ones may still be planned for an endpoint."""
        return self._earlier.is_missing_for(endpoint)

    def is_erased(self, delivery: PlannedDelivery) -> bool:
        """Return whether the event of a delivery was erased."""
        return self._planning.is_erased(delivery)

    async def wait_until_current(self) -> None:
        """Wait until everything that is stored by now is planned and projected; not for a bucket that does not answer.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._started.wait()
        client = self._events.client
        while True:
            events, records = [await newest_sequence(client, stream) for stream in (EVENTS.name, DELIVERIES.name)]
            for _ in range(_POLLS):
                projected = self.file.recorded >= records and self.file.planned >= events
                if projected and (self._earlier.is_late or self.receivers.next_redelivery() is None):
                    return
                await asyncio.sleep(_POLL_S)
            # What was the newest then may have been deleted before it was read: an erasure does.

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
        stored = self._ranges.of_tenant(endpoint.tenant, after, until)
        return sum([len(plan_for(receiver, event)) async for event in stored])

    def on_attempt(self, observer: Callable[[str, datetime], None]) -> None:
        """Call ``observer`` with endpoint and time of each attempt that any notifier records, replays' excepted."""
        self._observers.append(observer)

    def on_planned(self, observer: Callable[[Endpoint], None]) -> None:
        """Call ``observer`` with each endpoint for which no earlier event is to be planned any more."""
        self._planned_observers.append(observer)

    def is_live_waiting(self, endpoint: Endpoint) -> bool:
        """Return whether deliveries to an endpoint are due or under way, whichever notifier sends them."""
        find = self.deliveries.heads if endpoint.ordered else self.deliveries.due
        first = find(endpoint.id, 1)
        return bool(first) and first[0].due <= self._now()

    def on_endpoint(self, endpoint: Endpoint) -> None:
        """Plan for an endpoint that was created or changed; cancel what is pending for one that is not active."""
        self._planning.forget_endpoints(endpoint.tenant)
        if self.event_lineage.endpoint_is_ahead(endpoint):
            self._is_behind.set()
            return
        self._planning.to_backfill[endpoint.id] = endpoint
        if self._endpoints.active(endpoint.tenant, endpoint.id) is None:
            self.deliveries.cancel(endpoint.id)
        self._recent_events.changed.set()

    def _tell_planned(self, endpoint: Endpoint) -> None:
        for observer in self._planned_observers:
            observer(endpoint)

    def _new_tail(self) -> EventTail:
        return EventTail(self.records, self._on_record, live=LIVE_DELIVERIES, name="webhooks")

    # -- start

    async def _start(self) -> None:
        await self._endpoints.caught_up.wait()
        self.event_lineage, events = await resume(self.file, self._events.client, self._endpoints)
        await self._erased.load(self._events)
        if not self.file.planned:
            await self._rebuild(events)
        for tenant, endpoint_id in self.deliveries.receivers_with_pending():
            if self._endpoints.find(endpoint_id) is not None and self._endpoints.active(tenant, endpoint_id) is None:
                self.deliveries.cancel(endpoint_id)
        self._planning.to_backfill = {endpoint.id: endpoint for endpoint in self._endpoints.all()}

    async def _rebuild(self, events: StreamPosition) -> None:
        """Start an empty projection at the stored position: every event before it is planned and in DELIVERIES."""
        position = await self._position.load(events.lineage, events.last)
        await self._earlier.rebuild_job_urls(position, self._now() - JOB_URLS_KEPT)
        if position:
            for endpoint in self._endpoints.all():
                self.receivers.store_planned_since(endpoint.id, endpoint.tenant, self.event_lineage.since(endpoint))
        self.file.advance(planned=position)

    # -- events

    async def _plan_events(self) -> None:
        # Records first: those of an earlier incarnation of EVENTS must not be taken for deliveries of this one.
        await self.tail.caught_up.wait()
        self._planning.open()
        while True:
            self._recent_events.changed.clear()
            try:
                await self._earlier.step()
                pause_s = await self._planning.step()
            except SaccadeError as error:
                log.warning("webhooks: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            if pause_s is None:
                await self._recent_events.changed.wait()
            else:
                await asyncio.sleep(pause_s)  # let other tasks run, event streams above all

    # -- records of attempts

    async def _leave_when_behind(self) -> None:
        """Wait until another process has written of an epoch that began after this one has started.

        Raises:
            EpochChanged: always.
        """
        await self._is_behind.wait()
        raise EpochChanged(EVENTS.name)

    def _on_record(self, stored: StoredEvent) -> None:
        if self._is_behind.is_set():
            return
        try:
            envelope = decode_at(stored.subject, stored.body)
            data = envelope.parsed()
        except (KeyError, ValueError, ValidationError) as error:
            log.warning("record %d is skipped: %s", stored.sequence, error)
        else:
            applied = data if isinstance(data, WebhookRedeliveryRequested | WebhookDelivered | WebhookFailed) else None
            if applied and self.event_lineage.is_ahead(applied.epoch, stored.sequence):
                self._is_behind.set()
                return
            if self._erased.covers_record(envelope, data):
                self._erased.delete(stored.sequence)
            elif applied:
                self._apply_record(applied, envelope, stored)
        self.file.advance(recorded=stored.sequence)
        # In the order in which they began to wait, which is about that of the records: one may have been deleted.
        while (first := next(iter(self._record_waiters), None)) is not None and first <= stored.sequence:
            self._end_waiting(first)
        self._end_waiting(stored.sequence)

    def _end_waiting(self, record: int) -> None:
        if (waiter := self._record_waiters.pop(record, None)) and not waiter.done():
            waiter.set_result(None)

    def _apply_record(
        self,
        data: WebhookRedeliveryRequested | WebhookDelivered | WebhookFailed,
        envelope: Envelope,
        stored: StoredEvent,
    ) -> None:
        if isinstance(data, WebhookRedeliveryRequested):
            self.receivers.add_redelivery(stored.sequence, stored.body)
            self._recent_events.changed.set()
        elif self.event_lineage.has(data.epoch, data.sequence):  # else its event is lost
            self._apply_attempt(data, envelope.tenant, envelope.time, stored.sequence)

    def _apply_attempt(self, data: WebhookDelivered | WebhookFailed, tenant: str, at: datetime, record: int) -> None:
        endpoint_id, of_job = data.endpoint_id, not data.endpoint_id.startswith("whk_")
        failed = data if isinstance(data, WebhookFailed) else None
        endpoint = self._endpoints.find(endpoint_id)
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
            *(data.url_origin, data.signed_at, data.signature),
        )
        state = DeliveryState.DELIVERED
        gone = failed is not None and is_gone(failed.status, failed.error)
        if failed:
            state = DeliveryState.PENDING if next_attempt_at else DeliveryState.FAILED
            if next_attempt_at and endpoint is not None and self._endpoints.active(tenant, endpoint_id) is None:
                state = DeliveryState.CANCELLED
            if endpoint is None or not endpoint.deleted:
                self.receivers.record_failure(endpoint_id, tenant, at, data.status, gone=gone)
        else:
            self.receivers.record_success(endpoint_id)
        self.deliveries.record_attempt(
            PlannedDelivery(endpoint_id, data.sequence, tenant, lane, *event), attempt, state
        )  # fmt: skip
        if of_job and gone:
            self.deliveries.cancel(endpoint_id)
        for observer in self._observers:
            observer(endpoint_id, at)
