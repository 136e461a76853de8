"""Dispatchers that are killed while they trim the stream: every event is in the history, once and in its place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from contracts.events.base import encode
from contracts.ids import new_id
from kit.history.stream_reader import StreamReader
from kit.tasks import end
from tests.harness.history import trimming_dispatcher
from tests.harness.history.archive_stage import ArchiveStage, archive_stage
from tests.harness.rules.dispatcher_process import DispatcherProcess
from tests.harness.rules.rule_events import completed, created
from tests.harness.servers.embedded import NatsServer, S3Server

pytestmark = pytest.mark.anyio
_KEEP = 60
_KILLS = 3


@pytest.fixture
async def stage(nats_server: NatsServer, s3_server: S3Server) -> AsyncIterator[ArchiveStage]:
    async with archive_stage(nats_server, s3_server, segment_bytes=8_000) as opened:
        yield opened


async def until(holds: Callable[[], Awaitable[bool]], timeout_s: float = 120.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await asyncio.sleep(0.02)


async def test_no_event_is_lost_or_doubled_by_a_dispatcher_that_is_killed_while_it_trims(
    stage: ArchiveStage, nats_server: NatsServer, s3_server: S3Server, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    rng, reader = random.Random(seed), StreamReader(stage.store)

    async def live() -> None:
        """Store uploads, as clients do meanwhile."""
        while True:
            tenant, upload_id = rng.choice(("acme", "beta")), new_id("upl")
            for data in (created(), completed()):
                await stage.store.publish(encode(data, tenant=tenant, subject_id=upload_id, source="/test"))
            await asyncio.sleep(0.05)

    async def first() -> int:
        return (await reader.state()).first

    settings = {
        "EVENTS_KEEP_MESSAGES": str(_KEEP),
        "EVENTS_KEEP_HOURS": "0",
        "ARCHIVE_SEGMENT_BYTES": "8000",
        "ARCHIVE_POLL_S": "0.05",
    }
    publishing = asyncio.create_task(live())
    log, module = tmp_path / "dispatcher.log", trimming_dispatcher.__name__
    try:
        with DispatcherProcess(nats_server.settings, s3_server.settings, log, module=module, **settings) as dispatcher:
            for _ in range(_KILLS):
                begun = await first()

                async def trims(begun: int = begun) -> bool:
                    assert not dispatcher.ended(), log.read_text()[-4000:]
                    return await first() > begun

                await until(trims)
                await asyncio.sleep(rng.uniform(0, 0.2))
                dispatcher.kill()
                dispatcher.start()
            await end(publishing)
            state = await reader.state()

            async def trimmed() -> bool:
                chain, _ = await stage.audit()
                # The dispatcher is killed at the end: not while it stores a segment.
                return (await reader.state()).first > state.last - 3 * _KEEP and not chain.open_intents

            await until(trimmed)
    finally:
        publishing.cancel()
    history = [event async for event in stage.history.read(0, state.last)]
    assert [event.sequence for event in history] == list(range(1, state.last + 1)), f"seed {seed}"
    assert len({event.body for event in history}) == len(history), f"seed {seed}"
    segments = await stage.stored()
    assert [one.first for one in segments] == [1, *(one.last + 1 for one in segments[:-1])], f"seed {seed}"
    chain, _ = await stage.audit()
    assert chain.open_intents == {}, f"seed {seed}"
