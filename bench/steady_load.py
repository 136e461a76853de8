"""Jobs at a steady rate through gateway, dispatcher and notifier: latency, and the memory of each process over time.

    python -m bench.steady_load --rate 50 --seconds 3600

A real nats-server and bucket; each service is its own process. The dispatcher's workers are tasks inside it that end at
once: a process for each job would take half a second of CPU time, and measure that. One client submits, and uploads
anew each minute; another follows the ends of all jobs by SSE. With ``--keep-events`` and ``--keep-keys-s`` nats-server
keeps less than the 72 hours of events and the day of keys of production, so that a short run reaches its plateau.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone", "psutil")

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from nats.aio.client import Client

from bench.load.client_upload import uploaded
from contracts.ids import new_id
from contracts.streams import EVENTS, IDEMPOTENCY
from kit.bus.connection import connect
from kit.bus.jetstream_api import request, stream_info
from kit.settings import NatsSettings
from tests.harness.dispatch import quick_dispatcher
from tests.harness.rules.dispatcher_process import DispatcherProcess
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port, wait_until_ready
from tests.harness.servers.gateway_process import environment as gateway_environment
from tests.harness.servers.gateway_process import process
from tests.harness.streams.notifier import NotifierProcess
from tests.harness.webhooks.delivery import environment as notifier_environment

_MIB = 1024 * 1024
#: Interval between two uploads of the client: the stream still has the events of the one that new jobs use.
_UPLOAD_S = 60.0


@dataclass
class Counts:
    """Counts since the start, and latencies since the last line."""

    sent: int = 0
    ended: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    submit_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class MeasuredServers:
    """Addresses of the servers, beside the gateway, and the processes whose memory is measured."""

    notifier: str
    nats: NatsSettings
    pids: dict[str, int]


async def new_job(client: aiohttp.ClientSession, gateway: str) -> dict[str, Any]:
    """Upload a video and return the body that submits a job with it."""
    upload_id = await uploaded(client, gateway)
    return {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": [upload_id]}}


async def submit(client: aiohttp.ClientSession, url: str, job: dict[str, Any], counts: Counts) -> None:
    """Submit one job."""
    begun = time.perf_counter()
    try:
        async with client.post(url, json=job, headers={"Idempotency-Key": new_id("evt")}) as answer:
            await answer.read()
        if answer.status != 202:
            counts.refused[str(answer.status)] += 1
    except (aiohttp.ClientError, TimeoutError) as error:
        counts.refused[type(error).__name__] += 1
    counts.submit_ms.append((time.perf_counter() - begun) * 1000)


async def follow(client: aiohttp.ClientSession, notifier: str, counts: Counts) -> None:
    """Count the jobs that end; the notifier closes each stream after about an hour, and the next goes on after it."""
    url, forever = f"{notifier}/v1/events?types=job.succeeded", aiohttp.ClientTimeout(total=None)
    resumed: dict[str, str] = {}
    while True:
        async with client.get(url, timeout=forever, headers=resumed) as stream:
            async for line in stream.content:
                counts.ended += line.startswith(b"data: ")
                if line.startswith(b"id: "):
                    resumed = {"Last-Event-ID": line[4:].decode().strip()}


async def load(gateway: str, measured: MeasuredServers, arguments: argparse.Namespace) -> None:
    """Submit at a steady rate, and print a line from time to time."""
    counts, tasks = Counts(), set()
    timeout = aiohttp.ClientTimeout(total=60)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as client,
        await connect(measured.nats, "bench") as bus,
    ):
        if arguments.keep_keys_s:
            await keep_for(bus, IDEMPOTENCY.name, arguments.keep_keys_s)
        following = asyncio.ensure_future(follow(client, measured.notifier, counts))
        job, begun, next_line_s, next_upload_s = await new_job(client, gateway), time.monotonic(), 0.0, _UPLOAD_S
        while (now_s := time.monotonic() - begun) < arguments.seconds:
            if now_s >= next_upload_s:
                next_upload_s += _UPLOAD_S
                job = await new_job(client, gateway)
            while counts.sent < now_s * arguments.rate:
                task = asyncio.ensure_future(submit(client, f"{gateway}/v1/jobs", job, counts))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                counts.sent += 1
            if now_s >= next_line_s:
                next_line_s += arguments.every
                stored = {stream.name: await stored_in(bus, stream.name) for stream in (EVENTS, IDEMPOTENCY)}
                print(json.dumps(line(now_s, counts, measured.pids) | {"stored": stored}), flush=True)
            await asyncio.sleep(0.01)
        following.cancel()


async def keep_for(bus: Client, stream: str, seconds: float) -> None:
    """Set the time after which a stream deletes its messages."""
    config = (await stream_info(bus, stream))["config"] | {"max_age": int(seconds * 1e9)}
    answer = await request(bus, f"STREAM.UPDATE.{stream}", config)
    assert "error" not in answer, answer


async def stored_in(bus: Client, stream: str) -> int:
    """Return the number of messages in a stream."""
    return int((await stream_info(bus, stream))["state"]["messages"])


def line(now_s: float, counts: Counts, pids: dict[str, int]) -> dict[str, Any]:
    """Return what happened, and begin the next latencies."""
    taken, counts.submit_ms = sorted(counts.submit_ms), []
    found = {name: psutil.Process(pid) for name, pid in pids.items()}
    return {
        "s": round(now_s),
        "sent": counts.sent,
        "ended": counts.ended,
        "refused": dict(counts.refused),
        "p50_ms": round(taken[len(taken) // 2], 1) if taken else None,
        "p99_ms": round(taken[int(len(taken) * 0.99)], 1) if taken else None,
        "mib": {name: round(service.memory_info().rss / _MIB) for name, service in found.items()},
        "cpu_s": {name: round(sum(service.cpu_times()[:2])) for name, service in found.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50.0, help="jobs a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two lines")
    parser.add_argument("--keep-events", type=int, help="EVENTS_KEEP_MESSAGES of the dispatcher, with no hours kept")
    parser.add_argument("--keep-keys-s", type=float, help="seconds for which an Idempotency-Key is kept")
    arguments = parser.parse_args()
    kept = {"EVENTS_KEEP_MESSAGES": str(arguments.keep_events), "EVENTS_KEEP_HOURS": "0"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for part in ("nats", "s3", "gateway"):
            (folder / part).mkdir()
        with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
            port, log = free_port(), folder / "dispatcher.log"
            environment = gateway_environment((nats.settings, s3.settings), folder / "gateway", port)
            with process(environment) as gateway:
                wait_until_ready(port, None)  # it declares the streams, without which no dispatcher starts
                trimming = kept if arguments.keep_events else {}
                module = quick_dispatcher.__name__
                with (
                    DispatcherProcess(nats.settings, s3.settings, log, module=module, **trimming) as dispatcher,
                    NotifierProcess(nats.settings, **notifier_environment()) as notifier,
                ):
                    assert notifier.process
                    server = next(child for child in psutil.Process().children() if "nats-server" in child.name())
                    pids = {"gateway": gateway.pid, "notifier": notifier.process.pid}
                    pids |= {"dispatcher": dispatcher.pid, "nats-server": server.pid}
                    measured = MeasuredServers(notifier.url, nats.settings, pids)
                    asyncio.run(load(f"http://{HOST}:{port}", measured, arguments))


if __name__ == "__main__":
    main()
