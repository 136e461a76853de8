"""Benchmark of the embedded system: submits per second, submit to worker start, idle memory.

``make bench`` runs it with the tests' scripted worker in the catalog. Everything is on loopback, on free ports, in a
temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.needs import needs

needs("nats-server", "rclone", "saccade_client")

import aiohttp
import psutil
from saccade_client import Client

from cli.embedded.system import EmbeddedSystem
from tests.harness.servers.embedded import free_port


def percentile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` of all values lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def submit_rate(url: str, jobs: int, at_once: int) -> tuple[float, list[float], int]:
    """Submit jobs over ``at_once`` connections; return jobs per second, latencies in ms, number of refusals."""
    body = {"workload": "scripted", "inputs": {}, "params": {"script": []}}
    left = iter(range(jobs))
    taken: list[float] = []
    refused = 0

    async def submit(session: aiohttp.ClientSession) -> None:
        nonlocal refused
        for _ in left:
            start = time.perf_counter()
            async with session.post(f"{url}/v1/jobs", json=body) as answer:
                await answer.read()
                refused += answer.status != 202
            taken.append((time.perf_counter() - start) * 1e3)

    async with aiohttp.ClientSession() as session:
        start = time.perf_counter()
        await asyncio.gather(*(submit(session) for _ in range(at_once)))
        return jobs / (time.perf_counter() - start), taken, refused


def start_times(url: str, jobs: int) -> tuple[list[float], list[float]]:
    """Submit jobs one by one to an idle system; return the ms from submitted to launched and to started."""
    launched, started = [], []
    with Client(url) as client:
        for _ in range(jobs):
            job = client.submit("scripted", {}, {"script": []})
            at = {event.type: event.envelope["time"] for event in client.events(job.id)}
            seconds = {name: _seconds(time_text) for name, time_text in at.items()}
            launched.append((seconds["job.launched"] - seconds["job.submitted"]) * 1e3)
            started.append((seconds["job.started"] - seconds["job.submitted"]) * 1e3)
    return launched, started


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def memory_mb(process_ids: dict[str, int]) -> dict[str, float]:
    """Return each child's resident memory in MB."""
    return {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in process_ids.items()}


async def measure(jobs: int) -> None:
    """Run all measurements and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        system = EmbeddedSystem(Path(folder) / "data", "127.0.0.1", port, print)
        await system.start()
        try:
            url = f"http://127.0.0.1:{port}"
            await asyncio.sleep(2)
            idle = memory_mb(system.process_ids())
            launched, started = await asyncio.to_thread(start_times, url, 15)
            print(f"submitted -> launched   p50 {statistics.median(launched):7.1f} ms  max {max(launched):7.1f} ms")
            print(f"submitted -> started    p50 {statistics.median(started):7.1f} ms  max {max(started):7.1f} ms")
            for at_once in (1, 8):
                rate, taken, refused = await submit_rate(url, jobs, at_once)
                print(
                    f"POST /v1/jobs, {at_once} at once: {rate:6.0f} /s  p50 {percentile(taken, 0.5):6.1f} ms  "
                    f"p99 {percentile(taken, 0.99):6.1f} ms  refused {refused}"
                )
            for name, megabytes in idle.items():
                print(f"idle memory     {name:12} {megabytes:6.0f} MB")
        finally:
            system.kill()
            await system.stop()


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=300)
    asyncio.run(measure(parser.parse_args().jobs))


if __name__ == "__main__":
    sys.exit(main())
