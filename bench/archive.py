"""Benchmark of the archive: size and speed of its segments beside gzip, of its writer and readers, and of live streams.

    python -m bench.archive --events 100000 --seconds 15

Events as the services publish them, of jobs of three tenants that run at the same time. First the format alone, in
memory; then a real nats-server and an S3 server, with everything archived and deleted from the stream; last a notifier
in its own process, with a live client, while others read the archive from its beginning again and again.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone", "curl")

import argparse
import asyncio
import contextlib
import gzip
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import zstandard

from contracts.events.base import Message, encode
from contracts.events.job import JobArtifactReady, JobQueued, JobStageCompleted, JobStarted, JobStarting
from contracts.ids import new_id
from contracts.manifest import Artifact
from kit.history.event_lines import HistoryEvent, encode_line
from kit.history.segments import SegmentFile, encode_segment
from kit.settings import as_environment
from tests.harness.history.archive_stage import ArchiveStage, archive_stage
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.harness.streams.notifier import (
    NotifierProcess,
    Publisher,
    Reader,
    failed,
    retrying,
    submitted,
    succeeded,
)  # fmt: skip

MB = 1e6
#: An event stream of a notifier without keys is that of the tenant `local`.
TENANTS = ("local", "beta", "gamma")
RUNS = 3


def messages(count: int) -> Iterator[Message]:
    """Yield the events of jobs, some of them at a time."""
    running: list[Iterator[Message]] = []
    while True:
        while len(running) < 40:
            running.append(job_events())
        story = random.choice(running)
        message = next(story, None)
        if message is None:
            running.remove(story)
            continue
        yield message
        count -= 1
        if not count:
            return


def job_events() -> Iterator[Message]:
    """Yield the events of one job: one in ten fails once and is retried."""
    tenant, job_id = random.choice(TENANTS), new_id("job")
    run = {"attempt": 1, "run_id": new_id("run")}
    story: list[Any] = [submitted(f"lap {random.randrange(1000)}"), JobQueued(position=random.randrange(9))]
    for _ in range(2 if random.random() < 0.1 else 1):
        story += [
            JobStarting(**run, executor="modal", device="A10"),
            JobStarted(**run, device="A10", worker=f"worker-{random.randrange(100)}"),
        ]
        story += [
            JobStageCompleted(**run, stage=stage, duration_s=random.uniform(1, 60))
            for stage in ("decode", "extract", "match", "align", "render")
        ]
        story += [
            JobArtifactReady(
                **run,
                artifact=Artifact(
                    name=name,
                    key=f"results/{job_id}/{name}",
                    bytes=random.randrange(10**7),
                    media_type="application/json",
                    sha256=f"{random.getrandbits(256):064x}",
                ),
            )
            for name in ("report.json", "alignment.json", "overlay.mp4")
        ]  # fmt: skip
        story += [failed(), retrying()]
    for data in [*story[:-2], succeeded()]:
        yield encode(data, tenant=tenant, subject_id=job_id, source="/dispatcher")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the median CPU time of some runs, which another load of the machine changes least, and the result."""
    taken = []
    for _ in range(RUNS):
        began = time.process_time()
        result = work()
        taken.append(time.process_time() - began)
    return statistics.median(taken), result


def formats(count: int) -> None:
    """Compare segments with gzip in memory."""
    began = datetime.now(UTC)
    events = [
        HistoryEvent(
            n, message.subject, f"{(began + timedelta(milliseconds=n)).isoformat()[:-6]}Z", message.id, message.body
        )
        for n, message in enumerate(messages(count), 1)
    ]
    raw = b"".join(map(encode_line, events))
    size = len(raw) / MB
    print(f"load {os.getloadavg()[0]:.1f}; {count} events, {size:.1f} MB of lines\n")
    print("| | bytes/event | write, MB per CPU s | read, MB per CPU s |")
    print("|---|---|---|---|")
    write_s, segment = timed(lambda: encode_segment(events, stream="EVENTS", epoch="e", first=1, last=count))
    read_s, _ = timed(lambda: sum(1 for _ in SegmentFile(segment.data).events()))
    print(
        f"| segment: lines, hashes, index | {len(segment.data) / count:.1f} "
        f"| {size / write_s:.0f} | {size / read_s:.0f} |"
    )
    frames = [raw[at : at + 700_000] for at in range(0, len(raw), 700_000)]
    packer, unpacker = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
    write_s, packed = timed(lambda: [packer.compress(frame) for frame in frames])
    read_s, _ = timed(lambda: [unpacker.decompress(frame) for frame in packed])
    print(f"| zstd -3 alone | {sum(map(len, packed)) / count:.1f} | {size / write_s:.0f} | {size / read_s:.0f} |")
    write_s, packed_whole = timed(lambda: gzip.compress(raw, 6))
    read_s, _ = timed(lambda: gzip.decompress(packed_whole))
    print(f"| gzip -6 alone | {len(packed_whole) / count:.1f} | {size / write_s:.0f} | {size / read_s:.0f} |")
    verify_s, _ = timed(SegmentFile(segment.data).verify)
    index = SegmentFile(segment.data).index
    offset, length = index.places[len(index.places) // 2]
    frame_s, _ = timed(lambda: index.read_frame(len(index.places) // 2, segment.data[offset : offset + length]))
    print(f"\nverify {size / verify_s:.0f} MB per CPU s; one frame of 1,000 events {frame_s * 1000:.1f} ms\n")


async def publish(stage: ArchiveStage, count: int) -> None:
    """Store events quickly."""
    jetstream = stage.client.jetstream(publish_async_max_pending=4000)
    waiting = []
    for message in messages(count):
        headers = {"Nats-Msg-Id": message.id}
        waiting.append(await jetstream.publish_async(message.subject, message.body, headers=headers))
    await asyncio.gather(*waiting)


async def median_ms(work: Callable[[], Any], runs: int) -> str:
    """Return median and maximum of some calls."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began) * 1000)
    return f"{statistics.median(taken):.0f} | {max(taken):.0f}"


async def history(stage: ArchiveStage, count: int) -> None:
    """Archive the stream, delete it, and read its history."""
    await publish(stage, count)
    began = time.perf_counter()
    await stage.archive_all()
    seconds = time.perf_counter() - began
    segments = await stage.stored()
    sizes = [await stage.bucket.size(segment.key) for segment in segments]
    print(f"archived {segments[-1].last} events in {seconds:.1f} s, of which the writer rests two thirds: ", end="")
    print(f"{len(segments)} segments, {sum(sizes) / segments[-1].last:.1f} bytes/event")
    await stage.purge_archived()
    first, last = 1, segments[-1].last
    reader = stage.history
    jobs: dict[str, str] = {}
    began, cpu = time.perf_counter(), time.process_time()
    async for event in reader.read(first - 1, last):
        if event.type == "job.submitted":
            jobs[event.subject_id] = event.tenant
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"read {last} events from the archive: {last / seconds:.0f} events/s, {cpu / last * 1e6:.0f} us of CPU each\n"
    )
    chosen = random.sample(sorted(jobs.items()), 30)
    draws = iter(chosen * 4)

    async def state() -> None:
        job_id, tenant = next(draws)
        assert await reader.as_of(f"saccade.evt.{tenant}.job.{job_id}.*", last)

    async def count_all() -> None:
        assert sum((await reader.count(0, last)).values()) == last

    async def count_some() -> None:
        after = random.randrange(last // 2)
        await reader.count(after, after + last // 3, ("saccade.evt.local.job.*.succeeded",))

    async def one_time() -> None:
        await reader.sequence_before(datetime.now(UTC) - timedelta(seconds=random.uniform(0, 30)))

    print("| from the archive | median ms | maximum ms |")
    print("|---|---|---|")
    print(f"| state of one job as of the end | {await median_ms(state, 30)} |")
    print(f"| count of all by type | {await median_ms(count_all, 10)} |")
    print(f"| count of a third, one tenant and type | {await median_ms(count_some, 10)} |")
    print(f"| sequence of a time | {await median_ms(one_time, 10)} |\n")


async def live(stage: ArchiveStage, nats: EmbeddedNats, s3: EmbeddedS3, seconds: float) -> None:
    """Measure live delivery while other clients read the archive."""
    print("| clients that read the archive | live p50 ms | p99 ms | maximum ms | archive events/s |")
    print("|---|---|---|---|---|")
    with NotifierProcess(nats.settings, **as_environment(None, s3.settings)) as process:
        async with contextlib.AsyncExitStack() as stack:
            reader = Reader(process.url)
            stack.push_async_callback(reader.http.aclose)
            jobs = Publisher(stage.client)
            # The first reader of a process opens the client of the bucket, which delays the loop by 60 ms once.
            async with reader.open("/v1/events?since=86400") as stream:
                await stream.take(1)
            for readers in (0, 1, 4, 0):
                taken, read = await _live_latencies(reader, jobs, process.url, readers, seconds)
                taken.sort()
                numbers = [statistics.median(taken), taken[int(len(taken) * 0.99)], taken[-1]]
                print(f"| {readers} | {' | '.join(f'{ms:.1f}' for ms in numbers)} | {read / seconds:.0f} |")


async def _live_latencies(
    reader: Reader, jobs: Publisher, url: str, readers: int, seconds: float
) -> tuple[list[float], int]:
    """Return how long events took from their publish to a client, and how many events the archive's readers got."""
    command = "while true; do curl -sN --max-time 5 \"$0\" | grep -c '^id:'; done"
    loops = [
        subprocess.Popen(
            ["sh", "-c", command, f"{url}/v1/events?since=86400"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for _ in range(readers)
    ]
    sent: dict[str, float] = {}
    taken: list[float] = []
    try:
        async with reader.open("/v1/events?types=job.queued") as stream:
            await asyncio.sleep(1)

            async def receive() -> None:
                async for block in stream:
                    if block.event == "job.queued" and block.json["subject"] in sent:
                        at = sent[block.json["subject"]]
                        taken.append((time.perf_counter() - at) * 1000)

            receiving = asyncio.ensure_future(receive())
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                job_id = new_id("job")
                sent[job_id] = time.perf_counter()
                await jobs.say(job_id, JobQueued(position=0))
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            receiving.cancel()
    finally:
        counts = 0
        for loop in loops:
            os.killpg(loop.pid, 15)
            counts += sum(int(line) for line in loop.communicate()[0].split())
    return taken, counts


async def main(count: int, seconds: float) -> None:
    formats(count)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("nats", "s3"):
            (Path(folder) / name).mkdir()
        with EmbeddedNats(Path(folder) / "nats") as nats, EmbeddedS3(Path(folder) / "s3") as s3:
            async with archive_stage(nats, s3, segment_bytes=8 * 1024 * 1024) as stage:
                await history(stage, count)
                await live(stage, nats, s3, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    asyncio.run(main(given.events, given.seconds))
