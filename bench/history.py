"""Benchmark of a long history: time and memory to start each service after N jobs, and of queries of the list of jobs.

    python -m bench.history --jobs 20000
    python -m bench.history --jobs 100000 --only gateway
    python -m bench.history --jobs 200000 --keep 150000 --only gateway    # archived, and trimmed to so many events

A job is an upload and a job, 8 events, of one of 20 tenants; the last 200 jobs wait for their next attempt. The history
is restored into a stream, which is faster than to publish it. Each service is its own process: "started" is the time
until a dispatcher leads, or a gateway or notifier is ready; memory is that of the process then.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone", "psutil")

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from kit.bus.connection import connect
from kit.bus.jetstream_api import stream_info
from kit.settings import as_environment, inherited_environment, numeric_library_threads
from tests.harness.history.long_history import SPAN, restore_history
from tests.harness.process_memory import peak_mib
from tests.harness.servers.embedded import HOST, ROOT, EmbeddedNats, EmbeddedS3, free_port

SERVICES: Final = ("dispatcher", "gateway", "notifier")
_MIB: Final = 1024 * 1024
_TIMEOUT_S: Final = 3600.0
#: Lists that clients ask for, and that have to stay fast whatever the history.
_QUERIES: Final = {
    "newest": {},
    "workload": {"workload": "nerf"},
    "absent workload": {"workload": "train"},
    "state": {"state": "failed"},
    "workload and state": {"workload": "nerf", "state": "failed"},
    "since, all": {"since": (datetime.now(UTC) - 2 * SPAN).isoformat()},
    "since, none": {"since": (datetime.now(UTC) + SPAN).isoformat()},
    "until, none": {"until": (datetime.now(UTC) - 2 * SPAN).isoformat()},
    "text that all have": {"q": "job_"},
    "text that none has": {"q": "nobody has this"},
    "text that none has, and state": {"q": "nobody has this", "state": "failed"},
}
_COUNTS: Final[dict[str, dict[str, str]]] = {
    "all": {},
    "workload": {"workload": "nerf"},
    "text": {"q": "job_"},
}


async def fill(nats: EmbeddedNats, jobs: int, folder: Path) -> int:
    """Restore a stream with the events of so many jobs; return their number."""
    state = await restore_history(nats.settings, folder, jobs)
    print(f"{state['messages']} events, {state['bytes'] / _MIB:.0f} MiB, {state['num_subjects']} subjects")
    return int(state["messages"])


def trimmed(nats: EmbeddedNats, server: psutil.Process, folder: Path, inherited: dict[str, str], keep: int) -> None:
    """Archive the history, delete all but ``keep`` events from the stream, and print what each took."""
    environment = inherited | {"EVENTS_KEEP_MESSAGES": str(keep), "ARCHIVE_POLL_S": "0.1"}
    del environment["ARCHIVE_SEGMENT_S"], environment["ARCHIVE_SEGMENT_BYTES"]
    began, events = time.perf_counter(), asyncio.run(stored(nats))
    with started("dispatcher", folder, environment, events) as url:
        while (now := asyncio.run(stored(nats))) > keep:
            assert time.perf_counter() - began < _TIMEOUT_S, httpx.get(f"{url}/metrics", trust_env=False).text
            time.sleep(1.0)
    print(f"\narchived and trimmed to {now} events in {time.perf_counter() - began:.0f} s")
    status = Path("/proc", str(server.pid), "status")
    print(f"nats-server: {resident_mib(server.pid):.0f} MiB after that, {peak_mib(status):.0f} at the most")


async def stored(nats: EmbeddedNats) -> int:
    """Return how many events the stream has."""
    client = await connect(nats.settings, "history")
    try:
        return int((await stream_info(client, "EVENTS"))["state"]["messages"])
    finally:
        await client.close()


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    return float(psutil.Process(pid).memory_info().rss) / _MIB


@contextmanager
def started(name: str, folder: Path, inherited: dict[str, str], events: int) -> Iterator[str]:
    """Start a service, print the time and memory that it took, and yield its URL."""
    port, log = free_port(), folder / f"{name}.log"
    own = {f"{name.upper()}_PORT": str(port), f"{name.upper()}_DATA_DIR": str(folder / name)}
    began = time.perf_counter()
    with log.open("wb") as output:
        command = [sys.executable, "-m", f"services.{name}"]
        process = subprocess.Popen(command, env=inherited | own, stderr=output, cwd=folder)
    url = f"http://{HOST}:{port}"
    try:
        wait_until_ready(name, url, process)
        seconds, times = time.perf_counter() - began, psutil.Process(process.pid).cpu_times()
        cpu_s = times.user + times.system
        print(f"| {name} | {seconds:.1f} | {cpu_s:.1f} | {events / cpu_s:.0f} | {resident_mib(process.pid):.0f} |")
        yield url
    finally:
        process.terminate()
        process.wait(60)


def wait_until_ready(name: str, url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a dispatcher leads, or another service has folded the history."""
    end = time.monotonic() + _TIMEOUT_S
    with httpx.Client(timeout=10, trust_env=False) as client:
        while time.monotonic() < end:
            assert process.poll() is None, f"{name} ended with {process.returncode}"
            try:
                answer = client.get(f"{url}/{'health' if name == 'dispatcher' else 'ready'}")
                if name != "dispatcher" and answer.is_success:
                    return
                if name == "dispatcher" and answer.json()["checks"]["lease"].get("detail") == "leading":
                    return
            except (httpx.HTTPError, ValueError, KeyError):
                pass
            time.sleep(0.1)
    raise TimeoutError(name)


def queries(url: str, rounds: int) -> None:
    """Print the times of the lists of jobs, and of /metrics."""
    print("\n| GET | p50 ms | p99 ms |\n|---|---|---|")
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for name, parameters in _QUERIES.items():
            measured(f"/v1/jobs ({name})", rounds, lambda given=parameters: client.get("/v1/jobs", params=given))
        counts = "/v1/jobs/counts"
        for name, parameters in _COUNTS.items():
            measured(f"{counts} ({name})", rounds, lambda given=parameters: client.get(counts, params=given))
        measured("/metrics", rounds, lambda: client.get("/metrics"))


def measured(name: str, rounds: int, ask: Any) -> None:
    """Print the times of one request."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask().raise_for_status()
        times.append(1000 * (time.perf_counter() - began))
    times.sort()
    print(f"| {name} | {times[len(times) // 2]:.1f} | {times[int(len(times) * 0.99)]:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--keep", type=int, default=0, help="archive all, and keep so many events in the stream")
    parser.add_argument(
        "--gateway-meanwhile", action="store_true", help="with --keep: a gateway folds the stream before it is trimmed"
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--only", choices=SERVICES, nargs="*", default=SERVICES)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("nats", "s3"):
            (folder / name).mkdir()
        with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
            began = time.perf_counter()
            events = asyncio.run(fill(nats, asked.jobs, folder))
            print(f"{asked.jobs} jobs, made in {time.perf_counter() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
            nats.kill()
            began = time.perf_counter()
            nats.start()
            asyncio.run(answers(nats))
            server = next(child for child in psutil.Process().children() if "nats-server" in child.name())
            print(f"nats-server: started in {time.perf_counter() - began:.1f} s, {resident_mib(server.pid):.0f} MiB\n")
            inherited = (
                inherited_environment() | as_environment(nats.settings, s3.settings) | numeric_library_threads(1)
            )
            inherited |= {"PYTHONPATH": str(ROOT), "ARCHIVE_SEGMENT_S": "1e9", "ARCHIVE_SEGMENT_BYTES": str(1 << 40)}
            print("| start | s | CPU s | events/CPU s | MiB |\n|---|---|---|---|---|")
            if asked.keep:
                with ThreadPoolExecutor() as threads:
                    trimming = threads.submit(trimmed, nats, server, folder, inherited, asked.keep)
                    if asked.gateway_meanwhile:
                        with started("gateway", folder, inherited, events):
                            pass
                    trimming.result()
                nats.kill()
                nats.start()
                asyncio.run(answers(nats))
                server = next(child for child in psutil.Process().children() if "nats-server" in child.name())
                print(f"nats-server: {resident_mib(server.pid):.0f} MiB after a further start\n")
            for name in asked.only:
                for _ in range(2):  # the second start has what the first one left
                    with started(name, folder, inherited, events):
                        time.sleep(5.0)  # the dispatcher writes its snapshot
            if "gateway" in asked.only:
                with started("gateway", folder, inherited, events) as url:
                    queries(url, asked.rounds)
            status = Path("/proc", str(server.pid), "status")
            most = f"{resident_mib(server.pid):.0f} MiB after that, {peak_mib(status):.0f} at the most"
            print(f"\nnats-server: {most}, load {os.getloadavg()[0]:.1f}")


async def answers(nats: EmbeddedNats) -> None:
    """Wait until the server has read its stream."""
    client = await connect(nats.settings, "history")
    await stream_info(client, "EVENTS")
    await client.close()


if __name__ == "__main__":
    main()
