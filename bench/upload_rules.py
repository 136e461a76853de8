"""Benchmark of upload rules: CPU time and memory of dispatcher and notifier, and the time from an upload to its job.

    python -m bench.upload_rules --rules 0 3 --rate 100 --seconds 20

A real nats-server, the dispatcher in its own process with jobs that wait, and a notifier with webhooks and no endpoint.
First nobody uploads, then uploads are completed at a steady rate; of three rules two make a job of each, and one makes
a job of each pair.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server")

import argparse
import asyncio
import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from contracts.events.base import decode, encode
from contracts.events.rule import RuleCreated, RuleDefinition
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated
from contracts.ids import new_id
from contracts.workload import Input
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import as_environment
from tests.harness.dispatch.dispatcher import workload
from tests.harness.rules.dispatcher_process import dispatch
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.harness.streams.notifier import NotifierProcess

TENANT = "acme"
PHOTOS = dataclasses.replace(workload("photos"), inputs=(Input("photos", "image", "Photos", maximum=8),))
RULES = (
    RuleDefinition(name="each", workload="photos", jobs_per_day=100_000),
    RuleDefinition(name="each JPEG", workload="photos", match={"filename": "*.jpg"}, jobs_per_day=100_000),
    RuleDefinition(name="pairs", workload="photos", group={"by": "metadata.pair", "needs": 2}, jobs_per_day=100_000),
)
#: Of the dispatcher, to fold the stream and to lead.
_START_S = 5.0


class Meter:
    """CPU time of a process over a while."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._cpu_s, self._at = self._used_s(), datetime.now(UTC)

    def _used_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def percent(self) -> float:
        """Return the CPU time since the start, as a share of one core."""
        return 100 * (self._used_s() - self._cpu_s) / (datetime.now(UTC) - self._at).total_seconds()

    def rss_mib(self) -> float:
        """Return the memory of the process."""
        return float(self._process.memory_info().rss / 2**20)


def _used(*meters: Meter) -> str:
    return " | ".join(f"{meter.percent():.1f} | {meter.rss_mib():.0f}" for meter in meters)


async def upload(store: EventStore, number: int) -> None:
    """Publish the two events of one upload."""
    upload_id = new_id("upl")
    created = UploadCreated(
        key="k",
        filename=f"{number}.jpg",
        content_type="image/jpeg",
        size_bytes=10,
        metadata={"pair": f"{number // 2}"},
    )
    media = MediaFacts(media="image", container="jpeg", codec="jpeg", width_px=2, height_px=2)
    completed = UploadCompleted(size_bytes=10, sha256=f"{number:064x}", media=media)
    for data in (created, completed):
        await store.publish(encode(data, tenant=TENANT, subject_id=upload_id, source="/gateway"))


async def publish_at(store: EventStore, rate_hz: float, seconds: float) -> int:
    """Publish uploads at a steady rate and return their number."""
    loop = asyncio.get_running_loop()
    start, count = loop.time(), round(rate_hz * seconds)
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / rate_hz - loop.time()))
            tasks.create_task(upload(store, number))
    return count


async def latencies_ms(store: EventStore) -> list[float]:
    """Return the time from the newest upload of each job to the job, by the times of the events."""
    at = {
        (event := decode(stored.body)).subject: event.time
        async for stored in store.history(0, "saccade.evt.*.upload.*.completed")
    }
    found: list[timedelta] = []
    async for stored in store.history(0, "saccade.evt.*.job.*.submitted"):
        event = decode(stored.body)
        found.append(event.time - max(at[upload_id] for upload_id in event.data["rule"]["upload_ids"]))
    return [latency.total_seconds() * 1000 for latency in found]


async def measure(rules: int, rate_hz: float, seconds: float, folder: Path) -> None:
    """Print one line of the table for each state of the dispatcher."""
    (folder / "nats").mkdir()
    (folder / "s3").mkdir()
    with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
        client = await connect(nats.settings, "bench")
        await declare(client)
        store = EventStore(client)
        for definition in RULES[:rules]:
            message = encode(RuleCreated(rule=definition), tenant=TENANT, subject_id=new_id("rul"), source="/gateway")
            await store.publish(message)
        command = [sys.executable, "-m", "bench.upload_rules", "--dispatch"]
        environment = as_environment(nats.settings, s3.settings)
        process = subprocess.Popen(command, env=environment)
        with contextlib.ExitStack() as stack:
            stack.callback(process.wait)
            stack.callback(process.kill)
            notifier = stack.enter_context(NotifierProcess(nats.settings, **environment, NOTIFIER_SECRET_KEY="k" * 32))
            assert notifier.process
            await asyncio.sleep(_START_S)
            meters = Meter(process.pid), Meter(notifier.process.pid)
            await asyncio.sleep(seconds)
            print(f"| {rules} rules, idle | {_used(*meters)} | | | |", flush=True)
            meters = Meter(process.pid), Meter(notifier.process.pid)
            count = await publish_at(store, rate_hz, seconds)
            await asyncio.sleep(1.0)
            found = await latencies_ms(store)
            quantiles = statistics.quantiles(found, n=100) if found else [float("nan")] * 99
            print(
                f"| {rules} rules, {rate_hz:g} uploads/s | {_used(*meters)} |"
                f" {len(found)} of {count} uploads | {quantiles[49]:.1f} | {quantiles[98]:.1f} |",
                flush=True,
            )
        await client.close()


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dispatch", action="store_true", help="be the dispatcher that is measured")
    parser.add_argument("--rules", type=int, nargs="+", default=[0, 3])
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    if given.dispatch:
        asyncio.run(dispatch([PHOTOS], asyncio.Event()))
        return
    print(f"load {os.getloadavg()[0]:.1f}")
    heads = (
        "dispatcher CPU % of a core",
        "RSS MiB",
        "notifier CPU %",
        "RSS MiB",
        "jobs",
        "upload to job p50 ms",
        "p99 ms",
    )
    print(f"| | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for rules in given.rules:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(rules, given.rate, given.seconds, Path(folder)))


if __name__ == "__main__":
    main()
