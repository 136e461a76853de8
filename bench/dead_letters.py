"""Benchmark of dead letters: the first list of a gateway, later lists, and acts on many letters.

    python -m bench.dead_letters --letters 20000 --plan 1000

A real nats-server with as many letters of each kind (events, deliveries, jobs), and the gateway's index in this
process. A plan discards letters, each with an intent and an outcome in the audit log.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server")

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from contracts.audit import Attribution
from contracts.ids import new_id
from contracts.streams import OPS
from kit.bus.audit_log import AuditLog
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.bus.recorded_act import recorded
from services.gateway.audit.audit_reader import AuditFilter, AuditReader
from services.gateway.dead_letters.reader import DeadLetterReader
from services.gateway.dead_letters.selection import LetterFilter, groups, select
from tests.harness.dead_letters import LetterMaker
from tests.harness.servers.embedded import EmbeddedNats

_AT_ONCE = 100
_REPEATS = 20


async def _all(coroutines: list[Coroutine[Any, Any, Any]]) -> None:
    for at in range(0, len(coroutines), _AT_ONCE):
        await asyncio.gather(*coroutines[at : at + _AT_ONCE])


async def _fill(make: LetterMaker, letters: int) -> None:
    endpoint = new_id("whk")
    await _all([make.event(error=f"KeyError: {number % 7}") for number in range(letters)])
    await _all([make.delivery(endpoint, number) for number in range(1, letters + 1)])
    await _all([make.job(f"frame {number} is broken") for number in range(letters)])


async def main() -> None:
    """Fill the streams, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=5000, help="of each kind")
    parser.add_argument("--plan", type=int, default=500, help="letters that are discarded")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedNats(Path(folder)) as nats:
        client = await connect(nats.settings, "bench")
        await declare(client)
        await _fill(LetterMaker(client), arguments.letters)
        memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        reader = DeadLetterReader(client)
        began = time.perf_counter()
        index = await reader.catch_up()
        first_s = time.perf_counter() - began
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kib
        later_ms = []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            await reader.catch_up()
            found = select(index, LetterFilter())
            groups(found)
            later_ms.append((time.perf_counter() - began) * 1000)
        assert len(found) == 3 * arguments.letters
        audit, attribution = (
            AuditLog(EventStore(client, OPS.name), "/bench"),
            Attribution(by="bench", why="measured", request_id=new_id("req")),
        )
        began = time.perf_counter()
        for letter in found[: arguments.plan]:
            await recorded(audit, attribution, letter.act(), verb="discard", done="discarded")
            await reader.catch_up()
        each_ms = (time.perf_counter() - began) * 1000 / arguments.plan
        page = AuditReader(EventStore(client, OPS.name))
        began = time.perf_counter()
        await page.page(AuditFilter(tenant="acme"), before=None, limit=50)
        page_ms = (time.perf_counter() - began) * 1000
        began = time.perf_counter()
        chain = await page.chain()
        chain_ms = (time.perf_counter() - began) * 1000
        assert not chain.faults
        await client.close()
    head = "letters | first list s | later lists ms | grown MiB | discard each ms | audit page ms | verified per s"
    print(f"| {head} |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {3 * arguments.letters:,} | {first_s:.2f} | {statistics.median(later_ms):.0f} | {grown_kib / 1024:.0f} | "
        f"{each_ms:.1f} | {page_ms:.0f} | {chain.records / chain_ms * 1000:,.0f} |"
    )


if __name__ == "__main__":
    asyncio.run(main())
