"""Benchmark of the time machine: random points of random jobs and sessions, live and from the archive, and lists.

    python -m bench.time_machine --jobs 2000 --points 1000

A real nats-server with the history of as many jobs, led by the dispatcher's own code on a market of GPUs, and a gateway
in this process, asked over HTTP. The points are of the life of a job, so its history must be read. Then the archive
takes what it can, the stream forgets that, and a gateway with a new view is asked the same.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone")

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from kit.auth.api_keys import AuthSettings
from tests.harness.history.archive_stage import archive_stage
from tests.harness.history.random_histories import RandomHistory, random_history
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.harness.servers.gateway import RunningGateway, keys_file, running_gateway

TENANTS = ("flood", "quiet0", "quiet1", "quiet2", "quiet3")


async def timed(running: RunningGateway, path: str, tenant: str, taken: list[float], **query: Any) -> int:
    """Send a request, note its milliseconds, and return its status."""
    headers = {"Authorization": f"Bearer {tenant}.secret"}
    began = time.perf_counter()
    answer = await running.http.get(path, params=query, headers=headers)
    taken.append((time.perf_counter() - began) * 1e3)
    if answer.is_error:
        print(path, query, answer.text)
    return answer.status_code


async def read_points(where: str, running: RunningGateway, history: RandomHistory, options: argparse.Namespace) -> None:
    """Read points of jobs and sessions, what changed between two of them, and lists as of them."""
    epoch, everything, chance = running.tail.epoch, history.subjects(), random.Random(options.seed)
    by_id: dict[str, list[int]] = {}
    for message, sequence in zip(history.messages, history.sequences, strict=True):
        by_id.setdefault(message.subject.split(".")[4], []).append(sequence)
    taken: dict[str, list[float]] = {"job": [], "session": [], "changes": [], "list of 50 jobs": []}
    for _ in range(options.points):
        tenant, noun, subject_id = chance.choice(everything)
        own = by_id[subject_id]
        sequence = chance.randrange(own[0], own[-1] + 1) if chance.random() < 0.5 else chance.choice(own)
        path, at = f"/v1/{noun}s/{subject_id}", f"{epoch}.{sequence}"
        assert await timed(running, path, tenant, taken[noun], at=at) == 200
        if chance.random() < 0.1:
            assert await timed(running, f"{path}/changes", tenant, taken["changes"], since=at) == 200
            listed = taken["list of 50 jobs"]
            assert await timed(running, "/v1/jobs", tenant, listed, at=at, limit=50) == 200
    for what, milliseconds in taken.items():
        ordered = sorted(milliseconds)
        p95, longest = ordered[int(0.95 * len(ordered))], ordered[-1]
        print(f"| {where} | {what} | {len(ordered)} | {statistics.median(ordered):.1f} | {p95:.1f} | {longest:.1f} |")


async def measure(
    nats: EmbeddedNats, s3: EmbeddedS3, folder: Path, history: RandomHistory, options: argparse.Namespace
) -> None:
    auth = AuthSettings(api_keys_file=keys_file(folder, *TENANTS))
    async with running_gateway(nats.settings, s3.settings, folder, auth=auth) as running:
        await history.store(running.store)
        assert await running.tail.wait_for(history.sequences[-1], 120)
        print(f"{len(history.messages)} events, {len(history.subjects())} jobs and sessions\n")
        print("| from | what | requests | median ms | p95 ms | longest ms |\n|---|---|---|---|---|---|")
        await read_points("stream", running, history, options)
    async with archive_stage(nats, s3, segment_bytes=1_000_000) as stage:
        await stage.archive_all()
        await stage.purge_archived()
        first = (await stage.history.bounds()).first_in_stream
    (folder / "new").mkdir()
    async with running_gateway(nats.settings, s3.settings, folder / "new", auth=auth) as running:
        await read_points("archive", running, history, options)
    print(f"\nthe archive held the first {first - 1} events")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    history = random_history(options.seed, options.jobs, options.sessions)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nats").mkdir()
        (folder / "s3").mkdir()
        with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
            asyncio.run(measure(nats, s3, folder, history, options))


if __name__ == "__main__":
    main()
