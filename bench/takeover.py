"""Benchmark of a takeover: the dispatcher that leads is killed, and another one leads and launches a new job.

    python -m bench.takeover --jobs 0 20000 100000 --rounds 10

"lease" is the time from the kill to the next holder, "launch" from there to the ``job.starting`` of a job that was
submitted after the kill. Both dispatchers have the default settings (a lease of 3 s, snapshots, archive); the one that
was killed is the standby of the next round, as soon as it has folded what it has missed.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone", "psutil")

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from nats.aio.client import Client

from kit.bus.connection import connect
from kit.bus.lease import Lease
from services.dispatcher.app import LEASE_NAME
from tests.harness.dispatch.dispatcher_pair import TENANT, DispatcherService, by_role, submit_job
from tests.harness.history.long_history import restore_history
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3


async def takeover(client: Client, leader: DispatcherService) -> tuple[float, float]:
    """Kill the leader; return the seconds until another leads, and from then until that one launches a job."""
    lease = Lease(client, LEASE_NAME)
    holder, launched = await lease.current_holder(), await client.subscribe(f"live.saccade.evt.{TENANT}.job.*.starting")
    leader.kill()
    began = time.perf_counter()
    submitting = asyncio.create_task(submit_job(client))
    while await lease.current_holder() in (holder, None):
        await asyncio.sleep(0.01)
    leads = time.perf_counter()
    job_id = await submitting
    while job_id not in (await launched.next_msg(timeout=60)).subject:
        continue
    starts = time.perf_counter()
    await launched.unsubscribe()
    return leads - began, starts - leads


async def measure(jobs: int, rounds: int, folder: Path) -> None:
    """Print a line of the table."""
    for name in ("nats", "s3"):
        (folder / name).mkdir()
    with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
        events = (await restore_history(nats.settings, folder, jobs, unfinished=0))["messages"] if jobs else 0
        client = await connect(nats.settings, "bench")
        settings = (nats.settings, s3.settings, folder)
        with DispatcherService(*settings, "first") as first, DispatcherService(*settings, "second") as second:
            times = []
            for _ in range(rounds):
                leader, _ = await asyncio.to_thread(by_role, first, second)
                times.append(await takeover(client, leader))
                leader.start()
        await client.close()
    print(
        f"| {jobs:,} | {events:,} | {summary([lease for lease, _ in times])} | "
        f"{summary([launch for _, launch in times])} | {max(map(sum, times)):.1f} |",
        flush=True,
    )


def summary(seconds: list[float]) -> str:
    """Return median and maximum."""
    return f"{statistics.median(seconds):.2f}, {max(seconds):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, nargs="*", default=[0, 20_000])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print("| jobs | events | lease s: median, most | launch s: median, most | both s, most |\n|---|---|---|---|---|")
    for jobs in asked.jobs:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(jobs, asked.rounds, Path(folder)))
    print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
