"""What a replay into a sandbox keeps: its copies are its position, and may expire or be lost."""

from __future__ import annotations

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.replay import ReplayCounts, ReplayInto
from kit.bus.connection import connect, declare
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.target import Checkpoint
from services.notifier.replays.targets.sandbox import SandboxTargetKind, SandboxWriter
from tests.harness.replays.plans import started_replay
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio


async def test_what_has_lost_its_copies_does_not_begin_again(nats_server: NatsServer) -> None:
    client, writer = await connect(nats_server.settings, "test"), SandboxWriter(nats_server.settings)
    await declare(client)
    kind = SandboxTargetKind(writer, client, LiveTraffic())

    async def resume(days_ago: float, counts: ReplayCounts | None) -> Checkpoint | None:
        into = ReplayInto(kind="sandbox", name="staging")
        target = await kind.open(started_replay(into, "acme", days_ago, counts))
        return await target.resume_after()

    try:
        assert await resume(0.9, None) is None
        assert await resume(0.9, ReplayCounts()) is None
        for days_ago, counts in ((1.1, None), (0.1, ReplayCounts(sent=1)), (0.1, ReplayCounts(failed=1))):
            with pytest.raises(SaccadeError) as refused:
                await resume(days_ago, counts)
            assert refused.value.code is ErrorCode.REPLAY_TARGET_REFUSED
    finally:
        await writer.close()
        await client.close()
