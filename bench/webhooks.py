"""Benchmark of webhooks: throughput, and the effect of dead endpoints on the others.

    python -m bench.webhooks --dead 0 1 10 --rate 2 --seconds 10

A real nats-server, the notifier in its own process, and a hundred receivers with a port each in this process; dead
receivers accept every connection and never answer. First events at a steady rate, each for all endpoints: their latency
between publisher and receiver. Then a burst: how many webhooks per second reach the live receivers.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server")

import argparse
import asyncio
import json
import re
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil

from contracts.events.base import encode
from contracts.events.job import JobStageCompleted
from contracts.ids import new_id
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from tests.harness.servers.embedded import HOST, EmbeddedNats
from tests.harness.streams.notifier import NotifierProcess
from tests.harness.webhooks.delivery import edit_endpoints, environment

_STAMP = re.compile(rb'"stage":"(\d+)"')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class BenchReceiver(asyncio.Protocol):
    """One connection to one receiver: records the latency of each webhook, and answers if it is alive."""

    def __init__(self, arrived: list[int], *, alive: bool) -> None:
        self._arrived = arrived
        self._alive = alive
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Record a request once it is complete."""
        self._read += data
        head = self._read.find(b"\r\n\r\n")
        if not self._alive or head < 0 or not (length := _LENGTH.search(self._read, 0, head)):
            return
        if len(self._read) < head + 4 + int(length[1]):
            return
        if stamp := _STAMP.search(self._read, head):
            self._arrived.append(time.monotonic_ns() - int(stamp[1]))
        self._read.clear()
        self._transport.write(_OK)


class ReceiverFarm:
    """A hundred receivers, some of them dead."""

    def __init__(self, count: int, dead: int) -> None:
        self.latencies_ns: list[int] = []
        self.live_count = count - dead
        self._alive = [number >= dead for number in range(count)]
        self._servers: list[asyncio.Server] = []

    async def listen(self) -> list[str]:
        """Start listening and return the URLs."""
        loop = asyncio.get_running_loop()
        for alive in self._alive:
            factory = partial(BenchReceiver, self.latencies_ns, alive=alive)
            self._servers.append(await loop.create_server(factory, HOST, 0))
        return [f"http://{HOST}:{server.sockets[0].getsockname()[1]}/hook" for server in self._servers]

    def close(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.close()

    async def wait(self, count: int, timeout_s: float) -> float:
        """Wait until ``count`` webhooks have arrived and return the elapsed seconds."""
        started = time.monotonic()
        while len(self.latencies_ns) < count and time.monotonic() < started + timeout_s:
            await asyncio.sleep(0.01)
        return time.monotonic() - started


async def publish(store: EventStore, job_id: str) -> None:
    data = JobStageCompleted(attempt=1, run_id="run", stage=str(time.monotonic_ns()), duration_s=0)
    await store.publish(encode(data, tenant="local", subject_id=job_id, source="/bench"))


async def measure(nats: EmbeddedNats, arguments: argparse.Namespace, dead: int) -> dict[str, float]:
    receivers = ReceiverFarm(arguments.endpoints, dead)
    urls = await receivers.listen()
    async with edit_endpoints(nats.settings) as here:
        for url in urls:
            await here.make(url)
        client = await connect(nats.settings, "bench")
        await declare(client)
        with NotifierProcess(nats.settings, **environment()) as notifier:
            assert notifier.process
            server, store, job_id = psutil.Process(notifier.process.pid), EventStore(client), new_id("job")
            for _ in range(arguments.warm):
                await publish(store, job_id)
            await receivers.wait(arguments.warm * receivers.live_count, 20)
            receivers.latencies_ns.clear()
            cpu = sum(server.cpu_times()[:2])
            steady = round(arguments.rate * arguments.seconds)
            for _ in range(steady):
                await publish(store, job_id)
                await asyncio.sleep(1 / arguments.rate)
            await receivers.wait(steady * receivers.live_count, 20)
            latencies = sorted(receivers.latencies_ns)
            cpu_s = sum(server.cpu_times()[:2]) - cpu
            receivers.latencies_ns.clear()
            for _ in range(arguments.burst):
                await publish(store, job_id)
            burst_s = await receivers.wait(arguments.burst * receivers.live_count, 120)
            burst = len(receivers.latencies_ns)
            rss_bytes = server.memory_info().rss
        await client.close()
    receivers.close()
    return {
        "dead": dead,
        "live": receivers.live_count,
        "delivered_percent": round(100 * len(latencies) / (steady * receivers.live_count), 2),
        "p50_ms": round(latencies[len(latencies) // 2] / 1e6, 1),
        "p99_ms": round(latencies[len(latencies) * 99 // 100] / 1e6, 1),
        "cpu_us_per_webhook": round(cpu_s * 1e6 / len(latencies)),
        "burst_delivered_percent": round(100 * burst / (arguments.burst * receivers.live_count), 2),
        "burst_per_s": round(burst / burst_s),
        "rss_mb": round(rss_bytes / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--dead", type=int, nargs="+", default=[0, 1, 10])
    parser.add_argument("--rate", type=float, default=2.0, help="events per second, each for every endpoint")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--burst", type=int, default=50, help="events at once")
    parser.add_argument("--warm", type=int, default=5)
    arguments = parser.parse_args()
    for dead in arguments.dead:
        with tempfile.TemporaryDirectory() as folder, EmbeddedNats(Path(folder)) as nats:
            print(json.dumps(asyncio.run(measure(nats, arguments, dead))), flush=True)


if __name__ == "__main__":
    main()
