"""Storing of attempts' records, which alone count: retries, final states and disabled endpoints follow from them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import datetime
from typing import Final

from contracts.errors import SaccadeError
from contracts.events.base import Message
from services.notifier.webhooks.deliveries.delivery import TrackedDelivery
from services.notifier.webhooks.deliveries.delivery_projector import DeliveryProjector
from services.notifier.webhooks.sending.attempt_record import attempt_record
from services.notifier.webhooks.sending.attempt_sender import AttemptRequest
from services.notifier.webhooks.sending.endpoint_disabler import EndpointDisabler
from services.notifier.webhooks.sending.receiver import WebhookReceiver
from services.notifier.webhooks.sending.sender import SendResult

log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0


class AttemptRecorder:
    """Stores the records of one engine's attempts."""

    def __init__(
        self, projector: DeliveryProjector, disabler: EndpointDisabler, now: Callable[[], datetime]
    ) -> None:  # fmt: skip
        """Store in the stream that ``projector`` reads."""
        self._projector, self._disabler, self._now = projector, disabler, now

    async def record(
        self, receiver: WebhookReceiver, request: AttemptRequest, delivery: TrackedDelivery, result: SendResult
    ) -> None:
        """Store the record of an attempt, however long that takes, and wait until it is projected.

        None is stored of an event that was erased meanwhile.
        """
        chance = random.random()  # noqa: S311 - spreads retries, not a secret
        epoch = self._projector.file.events_epoch
        record = attempt_record(delivery, request, result, self._now(), chance, epoch=epoch)
        if (sequence := await self._store(record, delivery)) is None:
            return
        await self._projector.wait_for_record(sequence)
        if result.error is not None and receiver.endpoint is not None:
            await self._disabler.check(receiver.endpoint.tenant, receiver.endpoint.id)

    async def _store(self, record: Message, delivery: TrackedDelivery) -> int | None:
        while not self._projector.is_erased(delivery):
            try:
                return await self._projector.records.publish(record)
            except SaccadeError as error:
                log.warning("webhooks: an attempt is not recorded yet: %s", error)
                await asyncio.sleep(_RETRY_S)
        return None
