"""Rules behind the HTTP routes of deliveries: list deliveries and attempts, request redeliveries."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor, encode
from contracts.events.delivery import WebhookRedeliveryRequested
from contracts.streams import EVENTS
from kit.bus.connection import epoch_of
from services.notifier.streams.replay import Replay
from services.notifier.streams.sse import Selection
from services.notifier.webhooks.deliveries.delivery import DeliveryAttempt, DeliveryState, TrackedDelivery
from services.notifier.webhooks.deliveries.delivery_projector import DeliveryProjector
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore

_JOB: Final = "job_"


class DeliveryService:
    """Deliveries as users read and repeat them. All operations are tenant-scoped."""

    def __init__(
        self,
        projector: DeliveryProjector,
        endpoints: EndpointStore,
        replay: Replay,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Answer from the projection; ``replay`` finds the events since a time."""
        self._projector = projector
        self._endpoints = endpoints
        self._replay = replay
        self._now = now

    @property
    def epoch(self) -> str:
        """Incarnation of EVENTS that the deliveries belong to."""
        return self._projector.file.events_epoch

    def list_deliveries(
        self, tenant: str, receiver_id: str, state: DeliveryState | None, limit: int, before: Cursor | None
    ) -> tuple[tuple[TrackedDelivery, ...], Cursor | None]:
        """Return the deliveries to an endpoint, or to the URL that a job named, newest first, and the next cursor.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, CURSOR_INVALID.
        """
        self._check_receiver(tenant, receiver_id)
        if before is not None and before.epoch != self.epoch:
            raise SaccadeError(ErrorCode.CURSOR_INVALID)
        sequence = before.sequence if before else None
        found, following = self._projector.deliveries.list(receiver_id, state, limit, sequence)
        return found, None if following is None else Cursor(self.epoch, following)

    def attempts(self, tenant: str, receiver_id: str, delivery: Cursor) -> tuple[DeliveryAttempt, ...]:
        """Return the attempts of a delivery, in order.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, DELIVERY_NOT_FOUND.
        """
        self._check_receiver(tenant, receiver_id)
        self._check_delivery(receiver_id, delivery)
        return self._projector.deliveries.attempts(receiver_id, delivery.sequence)

    async def redeliver(self, tenant: str, endpoint_id: str, what: Cursor | datetime, *, all_since: bool) -> int:
        """Request that one event be sent again, or all subscribed events after a cursor or since a time.

        Return the number of these events. Events older than the endpoint were never sent to it and are left out.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_DISABLED, DELIVERY_NOT_FOUND, CURSOR_INVALID, BUS_UNAVAILABLE.
        """
        endpoint = self._endpoints.require(tenant, endpoint_id)
        if not endpoint.enabled:
            raise SaccadeError(ErrorCode.WEBHOOK_DISABLED)
        fields: dict[str, Any]
        if isinstance(what, datetime):
            fields = {"since_sequence": await self._replay.sequence_before(what, Selection(tenant, None))}
        elif not all_since:
            self._check_delivery(endpoint_id, what)
            fields = {"sequences": [what.sequence]}
        elif what.epoch != self.epoch:
            raise SaccadeError(ErrorCode.CURSOR_INVALID, "The cursor belongs to a stream that no longer exists.")
        else:
            fields = {"since_sequence": what.sequence}
        count = 1
        if "sequences" not in fields:
            created = await self._replay.sequence_before(endpoint.created_at, Selection(tenant, None))
            fields["since_sequence"] = max(fields["since_sequence"], created)
            fields["until_sequence"] = (await epoch_of(self._endpoints.store.client, EVENTS.name))[1]
            count = await self._projector.count_subscribed(endpoint, fields["since_sequence"], fields["until_sequence"])
        requested = WebhookRedeliveryRequested(endpoint_id=endpoint_id, **fields)
        await self._projector.records.publish(
            encode(requested, tenant=tenant, subject_id=endpoint_id, source="/notifier", time=self._now())
        )
        return count

    def _check_receiver(self, tenant: str, receiver_id: str) -> None:
        if not (receiver_id.startswith(_JOB) and self._projector.receivers.job_url(receiver_id, tenant)):
            self._endpoints.require(tenant, receiver_id)

    def _check_delivery(self, receiver_id: str, delivery: Cursor) -> None:
        known = delivery.epoch == self.epoch and self._projector.deliveries.delivery(receiver_id, delivery.sequence)
        if not known:
            raise SaccadeError(ErrorCode.DELIVERY_NOT_FOUND)
