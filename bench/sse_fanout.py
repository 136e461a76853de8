"""Stress benchmark of event streams: clients that never read, more events than can be written, SIGTERM.

    python -m bench.sse_fanout --stalled 1000 --clients 1000

A real nats-server, and the notifier in its own process. ``sse_peers.py`` compares the cost of normal deliveries.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.needs import needs

needs("nats-server", "cc")

from bench.sse.load import OTHER_CORES, Load, ProcessTree, compiled_loader, publish_evenly
from contracts.ids import new_id
from kit.bus.connection import connect, declare
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.streams.notifier import NotifierProcess, Publisher, submitted, succeeded
from tests.harness.streams.raw_client import follow

PATH = "/v1/events?types=job.stage_completed"
MB = 1e6


@asynccontextmanager
async def notifier() -> AsyncIterator[tuple[NotifierProcess, ProcessTree, Publisher]]:
    """Run nats-server and the notifier, and connect a publisher."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedNats(Path(folder)) as nats:
        client = await connect(nats.settings, "bench")
        await declare(client)
        with NotifierProcess(nats.settings) as process:
            assert process.process
            yield process, ProcessTree(process.process.pid), Publisher(client)
        await client.close()


async def peak_of(tree: ProcessTree, until: asyncio.Future[None]) -> int:
    """Return the peak memory of a process tree until a future is done."""
    peak = tree.rss_bytes()
    while not until.done():
        await asyncio.sleep(0.1)
        peak = max(peak, tree.rss_bytes())
    return peak


async def stalled(program: str, reading: int, stalled_clients: int, seconds: float) -> None:
    """Stall some clients while others read: 20 events of 20 kB per second, far beyond the backlog limit."""
    count = round(20 * seconds)
    async with notifier() as (process, tree, jobs):
        with Load(program, process.port, PATH, reading, stalled_clients) as load:
            await asyncio.sleep(1.0)
            before = tree.rss_bytes()
            publish = publish_evenly(jobs.store.publish, 20, range(count), filler_bytes=20_000)
            peak = await peak_of(tree, asyncio.ensure_future(publish))
            counted = await load.delivered(count * reading)
    print(
        f"| {stalled_clients:,} | {reading} | {count * reading - counted['delivered']} "
        f"| {counted['p50_us'] / 1e3:.1f} ms | {counted['p99_us'] / 1e3:.1f} ms "
        f"| {before / MB:.0f} MB | {(peak - before) / MB:.0f} MB |",
        flush=True,
    )


async def overloaded(program: str, clients: int, rate_hz: float, seconds: float) -> None:
    """Publish several times as many events as can be written."""
    count = round(rate_hz * seconds)
    async with notifier() as (process, tree, jobs):
        with Load(program, process.port, PATH, clients) as load:
            await asyncio.sleep(1.0)
            before, started = tree.rss_bytes(), time.monotonic()
            writing = asyncio.ensure_future(publish_and_wait(jobs, load, rate_hz, count, clients))
            peak = await peak_of(tree, writing)
            counted, took_s = load.report(), time.monotonic() - started
    missing = count * clients - counted["delivered"] + counted["gaps"] + counted["repeats"]
    print(
        f"overload: {rate_hz:.0f} events/s to {clients:,} clients for {seconds:.0f} s; all written after "
        f"{took_s:.0f} s, {counted['delivered'] / took_s:,.0f} /s; missing {missing}, streams lost {counted['lost']}, "
        f"memory {before / MB:.0f} MB, at most {(peak - before) / MB:.0f} MB more",
        flush=True,
    )


async def publish_and_wait(jobs: Publisher, load: Load, rate_hz: float, count: int, clients: int) -> None:
    """Publish, and wait until all events are delivered."""
    await publish_evenly(jobs.store.publish, rate_hz, range(count))
    await load.delivered(count * clients, 120)


async def terminated(streams: int) -> None:
    """Restart the notifier with many open streams while events are published, and check what each client got."""
    async with notifier() as (process, _, jobs):
        job_id = new_id("job")
        await jobs.say(job_id, submitted())
        following = [
            asyncio.ensure_future(follow(process.url, f"/v1/jobs/{job_id}/events", 120)) for _ in range(streams)
        ]
        await asyncio.sleep(5 + streams / 200)
        publishing = asyncio.ensure_future(publish_evenly(jobs.store.publish, 20, range(100), job_id))
        await asyncio.sleep(1.0)
        started = time.monotonic()
        code = await asyncio.to_thread(process.stop, signal.SIGTERM)
        ended_s = time.monotonic() - started
        process.start()
        await publishing
        await jobs.say(job_id, succeeded())
        stored = [event.sequence async for event in jobs.store.history(0, f"saccade.evt.local.job.{job_id}.*")]
        results = await asyncio.gather(*following)
        complete = sum([int(cursor.partition(".")[2]) for cursor in cursors] == stored for cursors, _ in results)
        incomplete = sum(not whole for _, ends in results for whole in ends)
    print(
        f"SIGTERM with {streams:,} open streams: exit code {code} after {ended_s:.2f} s, {incomplete} streams cut off; "
        f"{complete:,} clients resumed and have every event once",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--stalled", type=int, default=1000)
    parser.add_argument("--overload", type=float, default=300.0, help="events per second to all clients")
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, OTHER_CORES)
    with compiled_loader() as program:
        print("| stalled | reading | missing | p50 | p99 | memory before | increase at most |")
        print("|---|---|---|---|---|---|---|")
        for count in (0, arguments.stalled):
            asyncio.run(stalled(program, 100, count, arguments.seconds))
        asyncio.run(overloaded(program, arguments.clients, arguments.overload, arguments.seconds))
    asyncio.run(terminated(arguments.clients))
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
