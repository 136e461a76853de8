"""Position of a replay into an endpoint whose records have expired: what may have been sent is not sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.replay import (
    Replay,
    ReplayCounts,
    ReplayInto,
    ReplayPace,
    ReplayPlan,
    ReplaySelection,
    ReplayState,
    ReplayWindow,
)
from kit.network.address_guard import AddressGuard
from services.notifier.metrics import NotifierMetrics
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.target import Checkpoint
from services.notifier.replays.targets.webhook import WebhookTargetKind
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from services.notifier.webhooks.sending.attempt_sender import AttemptSender
from services.notifier.webhooks.sending.sender import Sender
from tests.harness.servers.embedded import NatsServer
from tests.harness.webhooks.delivery import run_webhooks

pytestmark = pytest.mark.anyio


def started_replay(endpoint: Endpoint, days_ago: float, counts: ReplayCounts | None) -> Replay:
    at = datetime.now(UTC) - timedelta(days=days_ago)
    plan = ReplayPlan(
        into=ReplayInto(kind="webhook", name=endpoint.id),
        selection=ReplaySelection(tenants=(endpoint.tenant,)),
        window=ReplayWindow(epoch="e", after=0, until=9, since_time=None, until_time=at),
        pace=ReplayPace(),
        count=9,
        by_type={"job.failed": 9},
        takes=9,
        first=(),
        last=(),
        seconds=0,
        expires_at=at,
    )
    return Replay(
        id=new_id("rpl"),
        tenant=endpoint.tenant,
        plan=plan,
        state=ReplayState.RUNNING,
        by="ada",
        by_verified=True,
        why="test",
        request_id=new_id("req"),
        planned_at=at,
        started_at=at,
        paused_counts=counts,
    )


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
            target = await kind.open(started_replay(endpoint, days_ago, counts))
            return await target.resume_after()

        assert await resume(29, None) is None
        assert await resume(29, ReplayCounts(skipped=3)) is None
        for days_ago, counts in ((31, None), (1, ReplayCounts(sent=1)), (1, ReplayCounts(failed=1))):
            with pytest.raises(SaccadeError) as refused:
                await resume(days_ago, counts)
            assert refused.value.code is ErrorCode.REPLAY_TARGET_REFUSED
