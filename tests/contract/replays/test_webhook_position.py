"""What a replay into an endpoint keeps: its position, which may expire, and the limits of what it may send."""

from __future__ import annotations

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.replay import Replay, ReplayCounts, ReplayInto
from kit.network.address_guard import AddressGuard
from services.notifier.metrics import NotifierMetrics
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.target import Checkpoint
from services.notifier.replays.targets.webhook import WebhookTargetKind
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.sending.attempt_sender import AttemptSender
from services.notifier.webhooks.sending.sender import Sender
from tests.harness.replays.plans import started_replay
from tests.harness.servers.embedded import NatsServer
from tests.harness.webhooks.delivery import run_webhooks

pytestmark = pytest.mark.anyio


def replay_into(endpoint: Endpoint, days_ago: float, counts: ReplayCounts | None) -> Replay:
    return started_replay(ReplayInto(kind="webhook", name=endpoint.id), endpoint.tenant, days_ago, counts)


async def test_the_limits_of_an_endpoint_are_kept_until_it_is_deleted(nats_server: NatsServer) -> None:
    async with (
        run_webhooks(nats_server.settings) as webhooks,
        Sender(AddressGuard.allowing([]), https_only=True) as http,
    ):
        kind = WebhookTargetKind(
            webhooks.webhooks, webhooks.endpoints, AttemptSender(http), NotifierMetrics(), traffic=LiveTraffic()
        )
        endpoints = [await webhooks.make("https://receiver.example") for _ in range(2)]
        for endpoint in endpoints:
            await kind.open(replay_into(endpoint, 1, None))
        kept, deleted = endpoints
        await webhooks.change(kept, description="another")
        await webhooks.change(deleted, deleted=True)
        assert list(kind._lanes) == [kept.id]


async def test_what_has_lost_its_records_does_not_begin_again(nats_server: NatsServer) -> None:
    async with (
        run_webhooks(nats_server.settings) as webhooks,
        Sender(AddressGuard.allowing([]), https_only=True) as http,
    ):
        endpoint = await webhooks.make("https://receiver.example")
        kind = WebhookTargetKind(
            webhooks.webhooks, webhooks.endpoints, AttemptSender(http), NotifierMetrics(), traffic=LiveTraffic()
        )

        async def resume(days_ago: float, counts: ReplayCounts | None) -> Checkpoint | None:
            target = await kind.open(replay_into(endpoint, days_ago, counts))
            return await target.resume_after()

        assert await resume(29, None) is None
        assert await resume(29, ReplayCounts(skipped=3)) is None
        for days_ago, counts in ((31, None), (1, ReplayCounts(sent=1)), (1, ReplayCounts(failed=1))):
            with pytest.raises(SaccadeError) as refused:
                await resume(days_ago, counts)
            assert refused.value.code is ErrorCode.REPLAY_TARGET_REFUSED
