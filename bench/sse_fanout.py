"""Measures the notifier: CPU per delivered event, latency from publish to client, memory per idle client.

    python -m bench.sse_fanout --clients 100 500 1000 --rate 8 --seconds 8

Real nats-server, the notifier in a process of its own, clients over raw sockets in this one. Client and server share
the machine, so compare figures of one run, not of two machines.
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
from services.kit.event_store import EventStore
from services.kit.nats import connect, declare
from tests.contract.sse_harness import NotifierProcess
from tests.servers import HOST, EmbeddedNats

_STAMP = re.compile(rb'"stage":"(\d+)"')


class Reader(asyncio.Protocol):
    """One client: counts events and notes how long each was on its way."""

    def __init__(self, path: str, port: int, latencies_ns: list[int]) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()
        self._latencies_ns = latencies_ns
        self.ready = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count what came."""
        self.ready.set()
        now = time.monotonic_ns()
        self._latencies_ns += [now - int(stamp) for stamp in _STAMP.findall(data)]


async def measure(nats: EmbeddedNats, clients: int, rate_hz: float, seconds: float) -> dict[str, float]:
    with NotifierProcess(nats.settings) as notifier:
        client = await connect(nats.settings, "bench")
        await declare(client)
        store = EventStore(client)
        assert notifier.process
        server = psutil.Process(notifier.process.pid)
        idle_bytes = server.memory_info().rss
        latencies_ns: list[int] = []
        readers = []
        connect_one = partial(Reader, "/v1/events?types=job.stage_completed", notifier.port, latencies_ns)
        for _ in range(clients):
            _, reader = await asyncio.get_running_loop().create_connection(connect_one, HOST, notifier.port)
            await reader.ready.wait()
            readers.append(reader)
        await asyncio.sleep(0.5)
        joined_bytes = server.memory_info().rss
        cpu = sum(server.cpu_times()[:2])
        job_id = new_id("job")
        sent = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            data = JobStageCompleted(attempt=1, run_id="run", stage=str(time.monotonic_ns()), duration_s=0)
            await store.publish(encode(data, tenant="local", subject_id=job_id, source="/bench"))
            sent += 1
            await asyncio.sleep(1 / rate_hz)
        await asyncio.sleep(1.0)
        cpu_s = sum(server.cpu_times()[:2]) - cpu
        for reader in readers:
            reader.transport.abort()
        await client.close()
    latencies_ns.sort()
    return {
        "clients": clients,
        "events": sent,
        "delivered": len(latencies_ns),
        "missing": sent * clients - len(latencies_ns),
        "cpu_us_per_delivery": round(cpu_s * 1e6 / len(latencies_ns), 1),
        "p50_ms": round(latencies_ns[len(latencies_ns) // 2] / 1e6, 2),
        "p99_ms": round(latencies_ns[len(latencies_ns) * 99 // 100] / 1e6, 2),
        "idle_rss_mb": round(idle_bytes / 1e6, 1),
        "kb_per_client": round((joined_bytes - idle_bytes) / clients / 1e3, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--rate", type=float, default=8.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    for clients in arguments.clients:
        with tempfile.TemporaryDirectory() as folder, EmbeddedNats(Path(folder)) as nats:
            print(json.dumps(asyncio.run(measure(nats, clients, arguments.rate, arguments.seconds))), flush=True)


if __name__ == "__main__":
    main()
