"""Rules behind the HTTP routes of deliveries: list deliveries and attempts, request redeliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from contracts.commands import AskedRedelivery, RedeliveryAccepted
from contracts.errors import UNREADABLE_EVENTS, ErrorCode, SaccadeError
from contracts.events.base import Cursor, encode
from contracts.events.delivery import WebhookRedeliveryRequested
from contracts.replay import ReplaySelection
from contracts.streams import EVENTS
from kit.bus.connection import epoch_of
from kit.bus.lineage import Lineage
from kit.history.history import History
from services.notifier.webhooks.deliveries.delivery import DeliveryAttempt, DeliveryState, TrackedDelivery
from services.notifier.webhooks.deliveries.delivery_projector import DeliveryProjector
from services.notifier.webhooks.deliveries.recent_events import RecentEvents
from services.notifier.webhooks.deliveries.replayed_deliveries import ReplayedDeliveries, ReplayedDelivery
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore

_JOB: Final = "job_"
#: Time in which the archive has to say that it has no event for an endpoint: a request waits for it.
_ARCHIVE_S: Final = 10.0


class DeliveryService:
    """Deliveries as users read and repeat them. All operations are tenant-scoped."""

    def __init__(
        self,
        projector: DeliveryProjector,
        endpoints: EndpointStore,
        history: History,
        events: RecentEvents,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Answer from the projection; ``history`` finds the events since a time, and ``events`` reads one of them."""
        self._projector = projector
        self._endpoints = endpoints
        self._history = history
        self._events = events
        self._now = now

    @property
    def epoch(self) -> str:
        """Epoch of EVENTS that the deliveries belong to."""
        return self._projector.file.events_epoch

    @property
    def _lineage(self) -> Lineage:
        return self._projector.event_lineage.lineage

    def list_deliveries(
        self, tenant: str, receiver_id: str, state: DeliveryState | None, limit: int, before: Cursor | None
    ) -> tuple[tuple[TrackedDelivery, ...], Cursor | None]:
        """Return the deliveries to an endpoint, or to the URL that a job named, newest first, and the next cursor.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, CURSOR_INVALID.
        """
        self._check_receiver(tenant, receiver_id)
        sequence = self._lineage.position_of(before) if before is not None else None
        if before is not None and sequence is None:
            raise SaccadeError(ErrorCode.CURSOR_INVALID)
        found, following = self._projector.deliveries.list(receiver_id, state, limit, sequence)
        return found, None if following is None else Cursor(self.epoch, following)

    async def list_replayed(
        self,
        tenant: str,
        endpoint_id: str,
        replay_id: str,
        *,
        state: DeliveryState | None,
        limit: int,
        after: Cursor | None,
    ) -> tuple[list[ReplayedDelivery], Cursor | None]:
        """Return what a replay has sent to an endpoint, in its order, and the next cursor; not part of other lists.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, CURSOR_INVALID, BUS_UNAVAILABLE.
        """
        self._endpoints.require(tenant, endpoint_id)
        epoch = self._projector.file.records_epoch
        if after is not None and after.epoch != epoch:
            raise SaccadeError(ErrorCode.CURSOR_INVALID)
        read = ReplayedDeliveries(self._projector.records)
        position = after.sequence if after else 0
        found, following = await read.page(tenant, endpoint_id, replay_id, state=state, limit=limit, after=position)
        return found, None if following is None else Cursor(epoch, following)

    def attempts(self, tenant: str, receiver_id: str, delivery: Cursor) -> tuple[DeliveryAttempt, ...]:
        """Return the attempts of a delivery, in order.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, DELIVERY_NOT_FOUND.
        """
        self._check_receiver(tenant, receiver_id)
        return self._projector.deliveries.attempts(receiver_id, self._sequence_of(receiver_id, delivery))

    def delivery(self, receiver_id: str, delivery: Cursor) -> TrackedDelivery:
        """Return a delivery to a receiver that was checked.

        Raises:
            SaccadeError: DELIVERY_NOT_FOUND.
        """
        found = self._projector.deliveries.delivery(receiver_id, self._sequence_of(receiver_id, delivery))
        if found is None:
            raise SaccadeError(ErrorCode.DELIVERY_NOT_FOUND)
        return found

    async def redeliver(self, tenant: str, endpoint_id: str, what: Cursor | datetime, *, all_since: bool) -> int:
        """Request that one event be sent again, or all subscribed events after a cursor or since a time.

        Return the number of these events. Events older than the endpoint were never sent to it and are left out;
        nothing else is: the request is refused if the stream has deleted some, or nothing tells that it has not.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_DISABLED, DELIVERY_NOT_FOUND, CURSOR_INVALID, HISTORY_EXPIRED,
                BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        endpoint = self._endpoints.require(tenant, endpoint_id)
        if not endpoint.enabled:
            raise SaccadeError(ErrorCode.WEBHOOK_DISABLED)
        fields: dict[str, Any]
        if isinstance(what, datetime):
            fields = {"since_sequence": await self._sequence_before(what)}
        elif not all_since:
            fields = {"sequences": [await self._readable(self._sequence_of(endpoint_id, what))]}
        elif (position := self._lineage.position_of(what)) is None:
            message = "This cursor is not one of today's stream: the stream was restored or created anew."
            raise SaccadeError(ErrorCode.CURSOR_INVALID, message, hint="Send a time instead.")
        else:
            fields = {"since_sequence": position}
        count = 1
        if "sequences" not in fields:
            created = await self._sequence_before(endpoint.created_at)
            begin = max(fields["since_sequence"], created)
            fields["since_sequence"] = await self._begin_in_stream(endpoint, begin)
            fields["until_sequence"] = (await epoch_of(self._endpoints.store.client, EVENTS.name))[1]
            count = await self._projector.count_subscribed(endpoint, fields["since_sequence"], fields["until_sequence"])
        requested = WebhookRedeliveryRequested(endpoint_id=endpoint_id, epoch=self.epoch, **fields)
        await self._projector.records.publish(
            encode(requested, tenant=tenant, subject_id=endpoint_id, source="/notifier", time=self._now())
        )
        return count

    async def redeliver_for(self, request: AskedRedelivery) -> RedeliveryAccepted:
        """Send an event again at the request of an operator, who is recorded by the service that asks.

        Raises:
            SaccadeError: as ``redeliver``.
        """
        delivery = Cursor(self.epoch, request.sequence)
        await self.redeliver(request.tenant, request.endpoint_id, delivery, all_since=False)
        return RedeliveryAccepted(endpoint_id=request.endpoint_id, sequence=request.sequence)

    async def _sequence_before(self, moment: datetime) -> int:
        """Return the last sequence before a time; 0 if its archive cannot tell, or events since are stored nowhere.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        try:
            return 0 if await self._history.is_lost_since(moment) else await self._history.sequence_before(moment)
        except SaccadeError as error:
            if error.code is ErrorCode.BUS_UNAVAILABLE:
                raise
            return 0  # the archive is only read for times before the first event of the stream

    async def _begin_in_stream(self, endpoint: Endpoint, after: int) -> int:
        """Return the sequence after which the stream has all events for an endpoint that follow ``after``.

        What is planned of them needs no archive then, which may not answer.

        Raises:
            SaccadeError: HISTORY_EXPIRED, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        first = await self._history.first_in_stream()
        if after >= first - 1 or await self._is_nothing_for(endpoint, after, first - 1):
            return max(after, first - 1)
        begin = Cursor(self.epoch, first - 1)
        raise SaccadeError(
            ErrorCode.HISTORY_EXPIRED,
            f"Events up to {begin} are not in the stream any more. Send since {begin} for those after it; "
            "a replay into the endpoint sends what the archive has of them.",
            first=first,
        )

    async def _is_nothing_for(self, endpoint: Endpoint, after: int, until: int) -> bool:
        """Return whether the archive says that it has no event of an endpoint's tenant and types in a range.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        filters = ReplaySelection(tenants=(endpoint.tenant,), types=endpoint.types).filters()
        try:
            async with asyncio.timeout(_ARCHIVE_S):
                return not await self._history.count(after, until, filters)
        except TimeoutError:
            return False
        except SaccadeError as error:
            if error.code not in UNREADABLE_EVENTS:
                raise
            return False

    async def _readable(self, sequence: int) -> int:
        """Return the sequence of an event that is stored in the stream or its archive.

        Raises:
            SaccadeError: HISTORY_EXPIRED, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if await self._events.read_body(sequence) is None:
            raise SaccadeError(ErrorCode.HISTORY_EXPIRED, "The event of this delivery is not stored any more.")
        return sequence

    def _check_receiver(self, tenant: str, receiver_id: str) -> None:
        if not (receiver_id.startswith(_JOB) and self._projector.receivers.job_url(receiver_id, tenant)):
            self._endpoints.require(tenant, receiver_id)

    def _sequence_of(self, receiver_id: str, delivery: Cursor) -> int:
        """Return the sequence of a delivery's event.

        Raises:
            SaccadeError: DELIVERY_NOT_FOUND.
        """
        sequence = self._lineage.position_of(delivery)
        if sequence is None or not self._projector.deliveries.delivery(receiver_id, sequence):
            raise SaccadeError(ErrorCode.DELIVERY_NOT_FOUND)
        return sequence
