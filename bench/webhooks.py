"""Measures webhooks: how many a second, and what dead endpoints cost the others.

    python -m bench.webhooks --dead 0 1 10 --rate 2 --seconds 10

Real nats-server, the notifier in a process of its own, a hundred receivers on ports of their own in this one; the dead
ones take every connection and never answer. First a steady rate of events, each for all endpoints: the time from
publish to the receiver. Then all at once: how many webhooks a second reach the living.
"""

from __future__ import annotations

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
from tests.harness.webhooks.delivery import desk, environment

_STAMP = re.compile(rb'"stage":"(\d+)"')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection of one endpoint: notes how long each webhook was on its way, and answers if it lives."""

    def __init__(self, arrived: list[int], *, alive: bool) -> None:
        self._arrived = arrived
        self._alive = alive
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Note what came, once it is whole."""
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


class Endpoints:
    """A hundred receivers, some of them dead."""

    def __init__(self, count: int, dead: int) -> None:
        self.latencies_ns: list[int] = []
        self.living = count - dead
        self._lives = [number >= dead for number in range(count)]
        self._servers: list[asyncio.Server] = []

    async def listen(self) -> list[str]:
        """Begin to listen; give the URLs."""
        loop = asyncio.get_running_loop()
        for alive in self._lives:
            make = partial(Receiver, self.latencies_ns, alive=alive)
            self._servers.append(await loop.create_server(make, HOST, 0))
        return [f"http://{HOST}:{one.sockets[0].getsockname()[1]}/hook" for one in self._servers]

    def close(self) -> None:
        """Listen no more."""
        for server in self._servers:
            server.close()

    async def wait(self, count: int, timeout_s: float) -> float:
        """Wait until so many have come; give how long that took."""
        began = time.monotonic()
        while len(self.latencies_ns) < count and time.monotonic() < began + timeout_s:
            await asyncio.sleep(0.01)
        return time.monotonic() - began


async def say(store: EventStore, job_id: str) -> None:
    data = JobStageCompleted(attempt=1, run_id="run", stage=str(time.monotonic_ns()), duration_s=0)
    await store.publish(encode(data, tenant="local", subject_id=job_id, source="/bench"))


async def measure(nats: EmbeddedNats, arguments: argparse.Namespace, dead: int) -> dict[str, float]:
    endpoints = Endpoints(arguments.endpoints, dead)
    urls = await endpoints.listen()
    async with desk(nats.settings) as here:
        for url in urls:
            await here.make(url)
        client = await connect(nats.settings, "bench")
        await declare(client)
        with NotifierProcess(nats.settings, **environment()) as notifier:
            assert notifier.process
            server, store, job_id = psutil.Process(notifier.process.pid), EventStore(client), new_id("job")
            for _ in range(arguments.warm):
                await say(store, job_id)
            await endpoints.wait(arguments.warm * endpoints.living, 20)
            endpoints.latencies_ns.clear()
            cpu = sum(server.cpu_times()[:2])
            steady = round(arguments.rate * arguments.seconds)
            for _ in range(steady):
                await say(store, job_id)
                await asyncio.sleep(1 / arguments.rate)
            await endpoints.wait(steady * endpoints.living, 20)
            latencies = sorted(endpoints.latencies_ns)
            cpu_s = sum(server.cpu_times()[:2]) - cpu
            endpoints.latencies_ns.clear()
            for _ in range(arguments.burst):
                await say(store, job_id)
            burst_s = await endpoints.wait(arguments.burst * endpoints.living, 120)
            burst = len(endpoints.latencies_ns)
            rss_bytes = server.memory_info().rss
        await client.close()
    endpoints.close()
    return {
        "dead": dead,
        "living": endpoints.living,
        "delivered_percent": round(100 * len(latencies) / (steady * endpoints.living), 2),
        "p50_ms": round(latencies[len(latencies) // 2] / 1e6, 1),
        "p99_ms": round(latencies[len(latencies) * 99 // 100] / 1e6, 1),
        "cpu_us_per_webhook": round(cpu_s * 1e6 / len(latencies)),
        "burst_delivered_percent": round(100 * burst / (arguments.burst * endpoints.living), 2),
        "burst_per_s": round(burst / burst_s),
        "rss_mb": round(rss_bytes / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--dead", type=int, nargs="+", default=[0, 1, 10])
    parser.add_argument("--rate", type=float, default=2.0, help="events a second, each for every endpoint")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--burst", type=int, default=50, help="events at once")
    parser.add_argument("--warm", type=int, default=5)
    arguments = parser.parse_args()
    for dead in arguments.dead:
        with tempfile.TemporaryDirectory() as folder, EmbeddedNats(Path(folder)) as nats:
            print(json.dumps(asyncio.run(measure(nats, arguments, dead))), flush=True)


if __name__ == "__main__":
    main()
