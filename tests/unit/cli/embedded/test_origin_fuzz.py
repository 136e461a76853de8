"""Random requests to the origin: no server error, no connection that stays open, no byte of a body changed."""

from __future__ import annotations

import asyncio
import random

import pytest

from cli.embedded.ports import LOOPBACK
from kit.http.protocol import HttpProtocol, TimeLimits
from tests.harness.network.http_fuzz import FuzzResult, exchange, run_exchange
from tests.harness.servers.origin import ECHO_PATHS, running_origin

pytestmark = pytest.mark.anyio

EXCHANGES_PER_RUN = 50
AT_ONCE = 25


class Hurried(HttpProtocol):
    """The protocol with short time limits."""

    limits = TimeLimits(head_s=1.0, body_window_s=1.0, idle_s=0.5)


@pytest.mark.soak
async def test_no_request_breaks_the_origin(soak_runs: int, seed: int) -> None:
    result, rng = FuzzResult(), random.Random(seed)
    async with running_origin("gateway", "notifier", protocol=Hurried, request_line_s=1.0) as running:
        turn = asyncio.Semaphore(AT_ONCE)

        async def run_one(number: int) -> None:
            async with turn:
                chosen = exchange(random.Random(number), tuple(ECHO_PATHS.values()))
                await run_exchange(chosen, LOOPBACK, running.port, result, limit_s=15.0)

        numbers = [rng.getrandbits(64) for _ in range(soak_runs * EXCHANGES_PER_RUN)]
        await asyncio.gather(*map(run_one, numbers))
        leaving = running.origin.arrivals
    print(f"seed {seed}: {sum(result.kinds.values())} connections, {result.kinds}, statuses {result.statuses}")
    assert not result.faults, f"seed {seed}: {len(result.faults)} faults, first: {result.faults[0]}"
    assert leaving == 0
    assert result.statuses[200] > 0
    assert all(service.requests for service in running.services.values())
    assert result.statuses[400] > 0
