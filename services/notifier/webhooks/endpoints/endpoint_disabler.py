"""Disables endpoints that want no more, or have only failed for days, and says so by ``webhook.disabled``.

The event comes first and the endpoint after it: a process that dies between the two decides the same again, under the
same event id, when it judges the endpoint the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from contracts.events.base import decode, encode, subject_of
from contracts.events.delivery import WebhookDisabled
from kit.bus.event_store import Conflict, EventStore
from services.notifier.webhooks.deliveries.delivery_projector import Ledger
from services.notifier.webhooks.deliveries.retry_schedule import why_disable
from services.notifier.webhooks.endpoints.endpoint_store import Endpoints

log = logging.getLogger(__name__)


class Disabling:
    """Judges endpoints by their run of failures."""

    def __init__(self, events: EventStore, ledger: Ledger, endpoints: Endpoints, now: Callable[[], datetime]) -> None:
        """Judge by what ``ledger`` knows."""
        self._events = events
        self._ledger = ledger
        self._endpoints = endpoints
        self._now = now

    async def judge_all(self) -> None:
        """Judge every endpoint whose last attempt failed: who sent before may have died over it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        for endpoint_id in self._ledger.receivers.failing():
            health = self._ledger.receivers.health(endpoint_id)
            if health is not None and endpoint_id.startswith("whk_"):
                await self.judge(health.tenant, endpoint_id)

    async def judge(self, tenant: str, endpoint_id: str) -> None:
        """Disable an endpoint if its failures say so.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        endpoint, health = self._ledger.active(tenant, endpoint_id), self._ledger.receivers.health(endpoint_id)
        reason = why_disable(health, endpoint.updated_at) if endpoint and health else None
        if endpoint is None or health is None or reason is None:
            return
        sequence = self._endpoints.sequence(endpoint_id)
        data = WebhookDisabled(
            endpoint_id=endpoint_id,
            reason=reason,
            since=health.failed_at if health.gone else health.failing_since,
            last_status=health.status,
        )
        event_id = f"{endpoint_id}.disabled.{sequence}"
        subject = subject_of("evt", tenant, "webhook", endpoint_id, "disabled")
        said = await self._events.load(subject)
        if not said or decode(said[-1].body).id != event_id:
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
            log.info("endpoint %s was changed while it was being disabled; it is judged again", endpoint_id)
        else:
            log.warning("endpoint %s is disabled: %s", endpoint_id, reason)
