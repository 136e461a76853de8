"""Disabling of endpoints that answered 410 or have only failed for days, announced by ``webhook.disabled``.

The event is published before the endpoint is changed: a process that dies between the two decides the same again, under
the same event id, when it next checks the endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from contracts.events.base import decode, encode, subject_of
from contracts.events.delivery import WebhookDisabled
from kit.bus.event_store import Conflict, EventStore
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables
from services.notifier.webhooks.deliveries.retry_schedule import disable_reason
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore

log = logging.getLogger(__name__)


class EndpointDisabler:
    """Checks endpoints by their run of failures."""

    def __init__(
        self, events: EventStore, receivers: ReceiverTables, endpoints: EndpointStore, now: Callable[[], datetime]
    ) -> None:
        """Decide by the failures in ``receivers``."""
        self._events = events
        self._receivers = receivers
        self._endpoints = endpoints
        self._now = now

    async def check_all(self) -> None:
        """Check every endpoint whose last attempt failed: the process that sent before may have died before it did.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        for endpoint_id in self._receivers.failing_receivers():
            failures = self._receivers.failure_run(endpoint_id)
            if failures is not None and endpoint_id.startswith("whk_"):
                await self.check(failures.tenant, endpoint_id)

    async def check(self, tenant: str, endpoint_id: str) -> None:
        """Disable an endpoint if its run of failures requires it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        endpoint, failures = self._endpoints.active(tenant, endpoint_id), self._receivers.failure_run(endpoint_id)
        reason = disable_reason(failures, endpoint.updated_at) if endpoint and failures else None
        if endpoint is None or failures is None or reason is None:
            return
        sequence = self._endpoints.sequence(endpoint_id)
        data = WebhookDisabled(
            endpoint_id=endpoint_id,
            reason=reason,
            since=failures.failed_at if failures.gone else failures.failing_since,
            last_status=failures.status,
        )
        event_id = f"{endpoint_id}.disabled.{sequence}"
        subject = subject_of("evt", tenant, "webhook", endpoint_id, "disabled")
        published = await self._events.load(subject)
        if not published or decode(published[-1].body).id != event_id:
            await self._events.publish(
                encode(
                    data,
                    tenant=tenant,
                    subject_id=endpoint_id,
                    source="/notifier",
                    event_id=event_id,
                    time=self._now(),
                )
            )
        disabled = replace(endpoint, enabled=False, disabled_reason=reason, updated_at=self._now())
        try:
            await self._endpoints.put(disabled, sequence)
        except Conflict:
            log.info("endpoint %s was changed while it was being disabled; it is checked again", endpoint_id)
        else:
            log.warning("endpoint %s is disabled: %s", endpoint_id, reason)
