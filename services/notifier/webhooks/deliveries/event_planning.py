"""Planning of stored events: each becomes a pending delivery for every endpoint that gets it, in order for each tenant.

An event of a tenant with few endpoints and nothing that waits is planned when it arrives. All others take turns
(planning_turns.py), whose loop the projector runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from contracts.audit import SYSTEM
from contracts.events.base import decode_at
from contracts.events.erasure import ErasureCompleted
from contracts.events.job import JobSubmitted
from kit.bus.dead_letter_writer import DeadLetterWriter
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.delivery import PlannedDelivery
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.erased_deliveries import erase_deliveries
from services.notifier.webhooks.deliveries.erased_records import ErasedRecords, parse_erasure
from services.notifier.webhooks.deliveries.event_lineage import EventLineage
from services.notifier.webhooks.deliveries.gap_table import GapTable
from services.notifier.webhooks.deliveries.planner import EventSubject, may_name_url, plan_deliveries
from services.notifier.webhooks.deliveries.planning_turns import PIECE_DELIVERIES, PlanningTurns
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables
from services.notifier.webhooks.deliveries.recent_events import RecentEvents
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore

log = logging.getLogger(__name__)

#: Passes a delivery that became pending, and when it is due, to the send queue.
Enqueue = Callable[[PlannedDelivery, datetime], None]

_PIECE_PAUSE_S: Final = 0.001
#: Events that are planned on arrival in one iteration of the event loop; the tail passes in up to 500 of a burst.
_AT_ONCE: Final = 8


class EventPlanning:
    """Plans the events of one notifier into its projection."""

    def __init__(
        self,
        file: DeliveryFile,
        deliveries: DeliveryTables,
        receivers: ReceiverTables,
        *,
        endpoints: EndpointStore,
        recent_events: RecentEvents,
        erased: ErasedRecords,
        dead_letters: DeadLetterWriter,
        now: Callable[[], datetime],
    ) -> None:
        """Plan ``recent_events`` for ``endpoints``; nothing of what is ``erased``."""
        self.gaps = GapTable(file)
        self._erased = erased
        self._file, self._deliveries, self._receivers = file, deliveries, receivers
        self._endpoints, self._recent_events = endpoints, recent_events
        self._dead_letters, self._now = dead_letters, now
        self.enqueue: Enqueue = lambda *_: None
        self._event_lineage = EventLineage()
        self._turns = PlanningTurns(self.pieces)
        #: Every event up to it is planned, or is being planned.
        self.read_to = 0
        #: Endpoints whose earlier events are not planned yet.
        self.to_backfill: dict[str, Endpoint] = {}
        #: Events that were planned on arrival in this iteration of the event loop.
        self._arrived = 0
        #: Whether events are planned when they arrive, and what ended that.
        self._is_open = False
        self._failure: Exception | None = None
        #: The endpoints of tenants with the positions of today's stream, until one of them changes.
        self._of_today: dict[str, list[Endpoint]] = {}
        recent_events.plan_on_arrival(self._on_arrival)

    def prepare(self, event_lineage: EventLineage, enqueue: Enqueue) -> None:
        """Use the epochs of a start, and pass what becomes pending to ``enqueue``."""
        self._event_lineage, self.enqueue = event_lineage, enqueue
        self._of_today.clear()

    def open(self) -> None:
        """Begin after what the projection has planned."""
        self._turns, self.read_to = PlanningTurns(self.pieces), self._file.planned
        self._is_open, self._failure = True, None

    def close(self) -> None:
        """Plan nothing more until it is opened again."""
        self._is_open = False

    def forget_endpoints(self, tenant: str) -> None:
        """Take note that an endpoint of a tenant was created, changed or deleted."""
        self._of_today.pop(tenant, None)

    async def step(self) -> float | None:
        """Read what is new and plan a piece of what waits.

        Return the pause before the next one; None when nothing waits.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
            sqlite3.Error: the disk does not accept a write.
        """
        if self._failure is not None:
            raise self._failure
        before, events = self.read_to, list[StoredEvent]()
        if self._turns.has_room:
            events, self.read_to, is_gap = await self._recent_events.read_after(before)
            if is_gap:
                self.gaps.add(before, self.read_to)
        for stored in events:
            self._turns.put(stored)
        pause_s = _PIECE_PAUSE_S if self._turns.step() else 0.0
        self._advance()
        # Of a range that is lost, or erased, there are no events.
        return pause_s if self._turns or events or self.read_to > before else None

    def _on_arrival(self, stored: StoredEvent, after: int) -> bool:
        """Plan an event that follows ``after``, if nothing is before it; return whether nothing waits then.

        To wait for the projector's loop takes an iteration of the event loop, with a piece of each other tenant's work.
        """
        is_next = self.read_to == after and self._turns.has_room
        if not self._is_open or not is_next or self._arrived >= _AT_ONCE:
            return False
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._begin_iteration)
        self._arrived += 1
        tenant = stored.subject.split(".", 3)[2]
        try:
            self.read_to = stored.sequence
            self._turns.put(stored)
            if self._is_small(tenant):
                self._turns.step_of(tenant)
            self._advance()
        except Exception as error:  # noqa: BLE001 - raised where the projector ends by it, and not in the tail
            self._is_open, self._failure = False, error
            return False
        return not self._turns

    def _begin_iteration(self) -> None:
        self._arrived = 0

    def _is_small(self, tenant: str) -> bool:
        """Return whether each event of a tenant is one piece, and no earlier one has to be planned first."""
        if tenant == SYSTEM or len(self._endpoints_of(tenant)) >= PIECE_DELIVERIES:
            return False
        return not any(endpoint.tenant == tenant for endpoint in self.to_backfill.values())

    def _advance(self) -> None:
        if (planned := self._turns.planned(self.read_to)) > self._file.planned:
            self._file.advance(planned=planned)

    def pieces(self, stored: StoredEvent) -> Iterator[None]:
        """Plan an event, in pieces."""
        planned = self._plan(stored)
        for first in range(0, len(planned), PIECE_DELIVERIES):
            if first:
                yield
            self.add_pending(planned[first : first + PIECE_DELIVERIES])

    def _plan(self, stored: StoredEvent) -> list[PlannedDelivery]:
        """Return the deliveries of an event."""
        subject = EventSubject.of(stored.subject)
        if subject is None:
            return []
        try:
            if subject.type == ErasureCompleted.type and subject.tenant == SYSTEM:
                self._erase(stored)
                return []
            self.store_job_url(stored, subject)
            of_job = subject.noun == "job"
            job_url = self._receivers.active_job_url(subject.subject_id, subject.tenant) if of_job else None
            return plan_deliveries(stored, subject, self._endpoints_of(subject.tenant), job_url)
        except ValueError as error:
            log.warning("event %d is not delivered by webhook: %s", stored.sequence, error)
            self._dead_letters.add(stored, error, self._event_lineage.epoch)
            return []

    def _erase(self, stored: StoredEvent) -> None:
        """Apply the event ``erasure.completed``.

        Raises:
            ValueError: it cannot be read.
            sqlite3.Error: the disk does not accept a write.
        """
        erasure = parse_erasure(stored)
        self._erased.apply(erasure, decode_at(stored.subject, stored.body).time)
        self._of_today.clear()
        erase_deliveries(self._file, erasure)

    def store_job_url(self, stored: StoredEvent, subject: EventSubject | None) -> None:
        """Store the URL for a job's events, if this one names it.

        Raises:
            ValueError: the event cannot be read.
        """
        if subject is None or not may_name_url(subject) or b'"webhook_url":"' not in stored.body:
            return
        submitted = decode_at(stored.subject, stored.body).parsed()
        if self._erased.covers(subject.tenant, subject.subject_id, stored.sequence):
            return
        if isinstance(submitted, JobSubmitted) and submitted.webhook_url:
            self._receivers.store_job_url(subject.subject_id, subject.tenant, submitted.webhook_url, stored.sequence)

    def add_pending(self, planned: list[PlannedDelivery]) -> None:
        """Add an event's deliveries and queue them, except to endpoints that were disabled or deleted meanwhile.

        What was erased meanwhile is not added either: it may have been read before.
        """
        if planned and self.is_erased(planned[0]):
            return
        find = self._endpoints.find
        due = [plan for plan in planned if (endpoint := find(plan.endpoint_id)) is None or endpoint.active]
        now = self._now()
        for delivery in self._deliveries.add_all(due, now):
            self.enqueue(delivery, now)

    def is_erased(self, planned: PlannedDelivery) -> bool:
        """Return whether the event of a delivery was erased."""
        return self._erased.covers(planned.tenant, planned.event_subject, planned.sequence)

    def is_of_erased(self, endpoint: Endpoint) -> bool:
        """Return whether the tenant of an endpoint was erased after it was created: this process knows it still."""
        # Both: clocks differ, and of an endpoint that was made for a stream that is lost the position is 0.
        since = self._event_lineage.since(endpoint)
        is_before = self._erased.covers_all_of(endpoint.tenant, endpoint.created_at)
        return is_before and self._erased.covers(endpoint.tenant, endpoint.id, since)

    def _endpoints_of(self, tenant: str) -> list[Endpoint]:
        """Return a tenant's endpoints with their positions in today's stream."""
        if (known := self._of_today.get(tenant)) is None:
            of_tenant = [known for known in self._endpoints.of_tenant(tenant) if not self.is_of_erased(known)]
            known = [self._event_lineage.as_of_today(endpoint) for endpoint in of_tenant]
            self._of_today[tenant] = known
        return known
