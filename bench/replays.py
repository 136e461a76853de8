"""Replays: time of a plan, deviation from the events' own pace, time to pause, events per second.

``PYTHONPATH=. .venv/bin/python bench/replays.py [--events 100000]``
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server")

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from nats.aio.client import Client

from contracts.events.base import encode
from contracts.events.job import JobFailed, JobQueued, JobRetrying, JobStarted, JobStarting, JobSubmitted, JobSucceeded
from contracts.ids import new_id
from contracts.replay import SPEED_FACTORS, Speed
from kit.tasks import end
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.streams.notifier import (
    RUN_ID,
    NotifierProcess,
    Reader,
    Stream,
    failed,
    publisher,
    retrying,
    submitted,
    succeeded,
)

_BATCH = 2000


async def publish(client: Client, count: int) -> list[str]:
    """Publish the events of jobs of three tenants, seven each, and return the ids."""
    jetstream = client.jetstream(publish_async_max_pending=_BATCH)
    ids = [new_id("job") for _ in range(-(-count // 7))]
    story = [
        submitted("x" * 300),
        JobQueued(position=0),
        JobStarting(attempt=1, run_id=RUN_ID, executor="local", device="cpu"),
        JobStarted(attempt=1, run_id=RUN_ID, device="cpu", worker="w"),
        failed(),
        retrying(),
        succeeded(),
    ]
    assert [type(data) for data in story] == [
        JobSubmitted, JobQueued, JobStarting, JobStarted, JobFailed, JobRetrying, JobSucceeded
    ]  # fmt: skip
    waiting = []
    for number in range(count):
        data, job_id = story[number % 7], ids[number // 7]
        message = encode(data, tenant=("local", "one", "two")[number // 7 % 3], subject_id=job_id, source="/bench")
        headers = {"Nats-Msg-Id": message.id}
        waiting.append(await jetstream.publish_async(message.subject, message.body, headers=headers))
        if len(waiting) == _BATCH:
            await asyncio.gather(*waiting)
            waiting = []
    await asyncio.gather(*waiting)
    return ids


async def plan(http: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    """Plan a replay."""
    answer = await http.post(
        "/v1/replays", json={"into": "sse", "since": "86400", "speed": "max", "why": "bench"} | wanted
    )
    answer.raise_for_status()
    made: dict[str, Any] = answer.json()
    return made


async def act(http: httpx.AsyncClient, replay: dict[str, Any], verb: str, **body: Any) -> None:
    """Start, pause or cancel a replay."""
    (await http.post(f"/v1/replays/{replay['id']}/{verb}", json=body)).raise_for_status()


async def measure_plans(http: httpx.AsyncClient, ids: list[str]) -> None:
    """Print how long plans take."""
    print("| plan | events | median ms | longest of 10 |\n|---|---|---|---|")
    for label, wanted in (
        ("everything", {"tenants": ["*"]}),
        ("one tenant", {}),
        ("one type", {"types": ["job.failed"]}),
        ("two types of two tenants", {"tenants": ["local", "one"], "types": ["job.failed", "job.succeeded"]}),
        ("one job", {"subjects": [ids[len(ids) // 2 // 3 * 3]]}),
    ):
        times, count = [], 0
        for _ in range(10):
            began = time.perf_counter()
            made = await plan(http, **wanted)
            times.append((time.perf_counter() - began) * 1000)
            count = made["plan"]["count"]
            await act(http, made, "cancel")  # a tenant has a limited number of them
        print(f"| {label} | {count} | {statistics.median(times):.0f} | {max(times):.0f} |", flush=True)


async def measure_throughput(reader: Reader) -> None:
    """Print how fast a stream at full speed is."""
    replay = await plan(reader.http, tenants=["*"])
    await act(reader.http, replay, "start", expected_count=replay["plan"]["count"])
    began, received = time.perf_counter(), 0
    async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream:
        async for _ in stream.response.aiter_raw():
            received += 1
    seconds = time.perf_counter() - began
    rate = replay["plan"]["count"] / seconds
    print(
        f"\nFull speed into sse: {replay['plan']['count']} events in {seconds:.1f} s, {rate:.0f} a second", flush=True
    )


async def measure_pace(reader: Reader, say: Any, seconds: float) -> None:
    """Print how late events are against their own times."""
    job_id = new_id("job")
    first = last = 0
    began = time.monotonic()
    number = 0
    while time.monotonic() - began < seconds:
        last = await say(job_id, submitted())
        first = first or last
        number += 1
        await asyncio.sleep((0.01, 0.05, 0.2, 0.5)[number % 4])
    print("\n| pace | events | took s | wanted s | error of the whole | median late ms | p99 late ms |")
    print("|---|---|---|---|---|---|---|")
    speeds: tuple[Speed, ...] = ("1x", "4x")
    for speed in speeds:
        replay = await plan(reader.http, subjects=[job_id], speed=speed)
        await act(reader.http, replay, "start", expected_count=replay["plan"]["count"])
        at: list[float] = []
        async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream:
            async for block in stream:
                if block.event == "job.submitted":
                    at += [time.monotonic()]
        times = [event_time async for event_time in stored_times(reader, job_id)]
        factor = SPEED_FACTORS[speed]
        late = [(now - at[0]) - (moment - times[0]) / factor for now, moment in zip(at, times, strict=True)]
        took, wanted = at[-1] - at[0], (times[-1] - times[0]) / factor
        p99 = statistics.quantiles(late, n=100)[-1] * 1000
        print(
            f"| {speed} | {len(at)} | {took:.3f} | {wanted:.3f} | {100 * (took / wanted - 1):+.2f} % | "
            f"{statistics.median(late) * 1000:.1f} | {p99:.1f} |",
            flush=True,
        )


async def stored_times(reader: Reader, job_id: str) -> Any:
    """Yield when the server stored each event of a job: the times that a file of a replay has."""
    replay = await plan(reader.http, subjects=[job_id], into="file")
    await act(reader.http, replay, "start", expected_count=replay["plan"]["count"])
    from kit.history.event_lines import parse_timestamp

    async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream:
        async for block in stream:
            if block.event == "job.submitted":
                yield parse_timestamp(block.json["time"]).timestamp()


async def note_moments(stream: Stream, moments: list[float]) -> None:
    """Note when each event arrives."""
    async for _ in stream:
        moments += [time.monotonic()]


async def measure_pause(reader: Reader) -> None:
    """Print how long events still come after a request to pause."""
    times = []
    for _ in range(10):
        replay = await plan(reader.http, rate_per_s=2000)
        await act(reader.http, replay, "start", expected_count=replay["plan"]["count"])
        moments: list[float] = []
        async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream:
            reading = asyncio.ensure_future(note_moments(stream, moments))
            while len(moments) < 200:
                await asyncio.sleep(0.01)
            asked = time.monotonic()
            await act(reader.http, replay, "pause")
            await asyncio.sleep(1.5)
            assert not reading.done()
            times.append((moments[-1] - asked) * 1000)
            await end(reading)
        await act(reader.http, replay, "cancel")
    print(f"\nPause: no event after {statistics.median(times):.0f} ms (median), {max(times):.0f} ms (longest of 10)")


async def main(events: int, seconds: float) -> None:
    """Measure all."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedNats(Path(folder)) as server:
        async with publisher(server.settings) as jobs:
            ids = await publish(jobs.client, events)
            with NotifierProcess(server.settings) as process:
                reader = Reader(process.url)
                await measure_plans(reader.http, ids)
                await measure_throughput(reader)
                await measure_pause(reader)
                await measure_pace(reader, jobs.say, seconds)
                await reader.http.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the story whose pace is measured")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.events, arguments.seconds))
