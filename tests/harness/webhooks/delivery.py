"""The webhooks of one notifier in this event loop, with a clock that can jump, and endpoints made as the API does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

from contracts.events.base import encode
from contracts.events.delivery import WebhookRedeliveryRequested
from contracts.ids import new_id
from contracts.streams import DELIVERIES, WEBHOOKS
from kit.bus.connection import connect, declare, epoch_of
from kit.bus.event_store import EventStore
from kit.history.archive_reader import ArchiveReader
from kit.history.history import History
from kit.network.address_guard import AddressGuard
from kit.settings import NatsSettings
from kit.tasks import end
from services.notifier.ended_subjects import EndedSubjects
from services.notifier.metrics import NotifierMetrics
from services.notifier.on_event import follow_events, follow_progress
from services.notifier.webhooks.deliveries.delivery import DeliveryState, TrackedDelivery
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.endpoints.secret_encryption import SecretEncryption
from services.notifier.webhooks.sending.attempt_sender import AttemptSender
from services.notifier.webhooks.sending.sender import Sender
from services.notifier.webhooks.sending.smtp_sender import SmtpSender
from services.notifier.webhooks.signing import Signer
from services.notifier.webhooks.webhook_delivery import WebhookDelivery
from tests.harness.webhooks.listeners import ReceivedRequest

TENANT = "local"
SECRET_KEY = "k" * 32


class Clock:
    """The time of day, which can jump ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class EndpointEditor:
    """Creates and changes endpoints and requests redeliveries, as the API does."""

    def __init__(self, endpoints: EndpointStore, clock: Clock) -> None:
        self.endpoints = endpoints
        self.clock = clock

    async def make(self, url: str, **options: Any) -> Endpoint:
        """Make an endpoint as POST /v1/webhooks does."""
        epoch, head = await epoch_of(self.endpoints.store.client, "EVENTS")
        head = options.pop("since", head)
        now = datetime.now(UTC)
        given = {"tenant": TENANT, "types": (), "secrets": (EndpointSecret.new(),)} | options
        endpoint = Endpoint(
            id=new_id("whk"),
            url=url,
            description="",
            signing=given.pop("signing", "v1"),
            headers=given.pop("headers", {}),
            rate_per_s=given.pop("rate_per_s", None),
            ordered=given.pop("ordered", False),
            enabled=True,
            disabled_reason=None,
            since_sequence=head,
            since_epoch=given.pop("since_epoch", epoch),
            created_at=now,
            updated_at=now,
            deleted=False,
            **given,
        )
        await self.endpoints.put(endpoint, 0)
        return endpoint

    async def change(self, endpoint: Endpoint, **changes: Any) -> Endpoint:
        """Change an endpoint as PATCH does."""
        changed = replace(endpoint, updated_at=self.clock(), **changes)
        await self.endpoints.put(changed, self.endpoints.sequence(endpoint.id))
        return changed

    async def redeliver(self, endpoint: Endpoint, **asked: Any) -> None:
        """Request a redelivery as POST …/redeliver does."""
        data = WebhookRedeliveryRequested.model_validate({"endpoint_id": endpoint.id, **asked})
        message = encode(data, tenant=endpoint.tenant, subject_id=endpoint.id, source="/notifier")
        await EventStore(self.endpoints.store.client, DELIVERIES.name).publish(message)


class RunningWebhooks(EndpointEditor):
    """One notifier's webhooks."""

    def __init__(self, webhooks: WebhookDelivery, endpoints: EndpointStore, clock: Clock) -> None:
        super().__init__(endpoints, clock)
        self.webhooks = webhooks
        self.view = webhooks.projector.deliveries
        self.service = webhooks.service

    def pass_(self, **time: float) -> None:
        """Advance the clock."""
        self.clock.ahead += timedelta(**time)
        self.webhooks.engine.recheck()

    def states(self, receiver_id: str) -> list[str]:
        """List the states of all deliveries to one receiver, oldest event first."""
        return [str(one.state) for one in reversed(self.view.list(receiver_id, limit=10_000)[0])]

    async def until(self, condition: Callable[[], object], timeout_s: float = 15.0) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def settled(
        self, receiver_id: str, count: int, state: str = "delivered", timeout_s: float = 15.0
    ) -> list[TrackedDelivery]:
        """Wait until so many deliveries to a receiver are in a state."""
        found: list[TrackedDelivery] = []

        def enough() -> bool:
            found[:] = self.view.list(receiver_id, DeliveryState(state), limit=10_000)[0]
            return len(found) >= count

        await self.until(enough, timeout_s)
        return found


@contextlib.asynccontextmanager
async def run_webhooks(
    settings: NatsSettings,
    folder: Path | None = None,
    clock: Clock | None = None,
    endpoints_after_s: float = 0.0,
    *,
    smtp: SmtpSender | None = None,
    archive: ArchiveReader | None = None,
) -> AsyncIterator[RunningWebhooks]:
    """Run the webhooks of a notifier; its endpoints may be read late."""
    client = await connect(settings, "webhooks")
    await declare(client)
    store = EventStore(client)
    epoch, head = await epoch_of(client, "EVENTS")
    clock = clock or Clock()
    async with Sender(AddressGuard.allowing(["127.0.0.0/8"]), https_only=False) as http:
        endpoints = make_endpoints(EventStore(client, WEBHOOKS.name))
        signer = Signer.from_secret_key(SECRET_KEY)
        webhooks = WebhookDelivery(
            store,
            endpoints,
            DeliveryFile(folder),
            AttemptSender(http, smtp),
            signer,
            epoch=epoch,
            head=head,
            metrics=NotifierMetrics(),
            now=clock,
            history=History(store, archive),
        )
        ended = EndedSubjects()
        tail = follow_events(store, ended.on_event, webhooks.recent_events.on_event)
        await follow_progress(client, ended, webhooks.on_progress)
        tasks = [
            asyncio.ensure_future(one)
            for one in (tail.run(head, epoch), _late(endpoints, endpoints_after_s), webhooks.run())
        ]
        try:
            yield RunningWebhooks(webhooks, endpoints, clock)
            for task in tasks:
                assert not task.done(), task.result()
        finally:
            await webhooks.stop(0.5)
            await end(*tasks)
            webhooks.close()
            await client.close()


async def _late(endpoints: EndpointStore, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await endpoints.run()


def make_endpoints(store: EventStore) -> EndpointStore:
    """Read and write endpoints with the key that the tests' notifiers have."""
    return EndpointStore(store, SecretEncryption(SECRET_KEY))


def environment(folder: Path | None = None) -> dict[str, str]:
    """Return the environment of a notifier process that may send to this machine."""
    given = {"NOTIFIER_SECRET_KEY": SECRET_KEY, "NOTIFIER_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    return given | {"NOTIFIER_WEBHOOK_HTTPS_ONLY": "false"} | ({"NOTIFIER_DATA_DIR": str(folder)} if folder else {})


@contextlib.asynccontextmanager
async def edit_endpoints(settings: NatsSettings) -> AsyncIterator[EndpointEditor]:
    """Open an editor of endpoints that runs beside the notifiers."""
    client = await connect(settings, "desk")
    await declare(client)
    endpoints = make_endpoints(EventStore(client, WEBHOOKS.name))
    following = asyncio.ensure_future(endpoints.run())
    try:
        yield EndpointEditor(endpoints, Clock())
    finally:
        await end(following)
        await client.close()


def check(got: ReceivedRequest, secret: EndpointSecret) -> None:
    """Verify a signature by the published library."""
    Webhook(secret.secret.get_secret_value()).verify(got.body, got.headers)
