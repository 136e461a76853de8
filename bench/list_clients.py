"""Lists, searches and counts of jobs by ten clients at once, and what other requests of the gateway wait beside them.

    python -m bench.list_clients --jobs 20000 --before ../another-checkout

The history is that of ``bench.history``. With ``--before``, a gateway of another checkout runs too, and the two take
turns within one run. The clients ask as fast as they are answered, for one kind at a time; beside them another client
asks for ``/health`` and for the newest job ten times a second. Each client's time is its own, on the same machine.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone", "psutil")

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.history import fill, started
from kit.settings import as_environment, inherited_environment, numeric_library_threads
from tests.harness.servers.embedded import ROOT, EmbeddedNats, EmbeddedS3

_SPAWN: Final = multiprocessing.get_context("spawn")
_CLIENTS: Final = 10
_PAUSE_S: Final = 0.1
#: Path and query of each kind of request.
_KINDS: Final[Mapping[str, tuple[str, dict[str, str]]]] = {
    "nothing": ("", {}),
    "list": ("/v1/jobs", {}),
    "search": ("/v1/jobs", {"q": "nobody has this"}),
    "counts": ("/v1/jobs/counts", {}),
    "counts, text": ("/v1/jobs/counts", {"q": "job_"}),
}
#: What is asked for beside them.
_BESIDE: Final[Mapping[str, tuple[str, dict[str, str]]]] = {
    "/health": ("/health", {}),
    "newest job": ("/v1/jobs", {"limit": "1"}),
}
Times = dict[str, list[float]]


async def _client(
    url: str, name: str, asked: tuple[str, dict[str, str]], *, until: float, times: Times, pause_s: float = 0
) -> None:
    path, query = asked
    async with aiohttp.ClientSession(url) as session:
        while time.monotonic() < until:
            began = time.perf_counter()
            async with session.get(path, params=query) as answer:
                await answer.read()
                times[name if answer.ok else f"{name}: {answer.status}"].append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(pause_s)


def _ask(url: str, kind: str, seconds: float, begins: Any, answers: Any) -> None:
    """Run the ten clients in a process of their own, for their work is not to delay the others' requests."""
    times: Times = defaultdict(list)

    async def run() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(_client(url, kind, _KINDS[kind], until=until, times=times) for _ in range(_CLIENTS)))

    begins.set()
    asyncio.run(run())
    answers.put(dict(times))


def measure(url: str, kind: str, seconds: float) -> Times:
    """Return the times of one kind of request and of those beside it."""
    begins, answers = _SPAWN.Event(), _SPAWN.Queue()
    asking = _SPAWN.Process(target=_ask, args=(url, kind, seconds, begins, answers))
    if kind != "nothing":
        asking.start()
        begins.wait(60)
    times: Times = defaultdict(list)

    async def run() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(_client(url, *each, until=until, times=times, pause_s=_PAUSE_S) for each in _BESIDE.items())
        )

    asyncio.run(run())
    if kind != "nothing":
        for name, found in answers.get(timeout=120).items():
            times[name] += found
        asking.join()
    return dict(times)


def report(gateways: Mapping[str, str], seconds: float, rounds: int) -> None:
    """Print the times of each gateway; they take turns."""
    print("\n| load | request | gateway | count | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    for kind in _KINDS:
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for _ in range(rounds):
            for gateway, url in gateways.items():
                for name, times in measure(url, kind, seconds).items():
                    found[name, gateway] += times
        for (name, gateway), times in sorted(found.items()):
            times.sort()
            p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
            print(f"| {kind} | {name} | {gateway} | {len(times)} | {p50:.1f} | {p99:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--before", type=Path, help="another checkout, whose gateway is measured too")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    trees = {"now": ROOT} | ({"before": asked.before.resolve()} if asked.before else {})
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        for name in ("nats", "s3", *trees):
            (folder / name).mkdir()
        nats = stack.enter_context(EmbeddedNats(folder / "nats"))
        s3 = stack.enter_context(EmbeddedS3(folder / "s3"))
        events = asyncio.run(fill(nats, asked.jobs, folder))
        common = inherited_environment() | as_environment(nats.settings, s3.settings) | numeric_library_threads(1)
        print(f"| start, load {os.getloadavg()[0]:.1f} | s | CPU s | events/CPU s | MiB |\n|---|---|---|---|---|")
        gateways = {
            name: stack.enter_context(started("gateway", folder / name, common | {"PYTHONPATH": str(tree)}, events))
            for name, tree in trees.items()
        }
        report(gateways, asked.seconds, asked.rounds)
        print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
