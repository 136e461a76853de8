"""What a replay may do beside live events: small batches, pieces of work with a rest after each."""

from __future__ import annotations

import asyncio

import pytest

from kit.bus.event_store import StoredEvent
from kit.history.stream_reader import BATCH_EVENTS
from services.notifier.replays.live_traffic import LiveTraffic

pytestmark = pytest.mark.anyio
WORKED_S = 0.004
LIVE = StoredEvent(1, "saccade.evt.acme.job.job_1.queued", b"{}")


async def rested_s(traffic: LiveTraffic) -> float:
    loop = asyncio.get_running_loop()
    before = loop.time()
    await traffic.rest(WORKED_S)
    return loop.time() - before


async def test_without_live_events_it_has_everything_for_itself() -> None:
    traffic = LiveTraffic()
    assert traffic.batch_events() == BATCH_EVENTS
    switches = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(switches.set_result, None)
    await traffic.let_pass()
    await traffic.rest(WORKED_S)
    assert not switches.done()


async def test_beside_live_events_it_reads_little_and_rests_several_times_as_long_as_it_works() -> None:
    traffic = LiveTraffic()
    traffic.on_event(LIVE)
    assert traffic.batch_events() <= BATCH_EVENTS / 10
    assert await rested_s(traffic) >= 5 * WORKED_S
    others = asyncio.ensure_future(asyncio.sleep(0))
    await traffic.let_pass()
    assert others.done()
