"""CPU time of a start: each service until it answers, a worker with the smallest job, the command line.

Each is started on a bus and a bucket of its own, ``--starts`` times after one that is not counted; the table has the
median of user and system time. Everything is on loopback, on free ports, in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.needs import needs

needs("nats-server", "rclone", "psutil")

import psutil

from contracts.assignment import Assignment
from kit.settings import as_environment, inherited_environment, numeric_library_threads
from tests.harness.runtime.job_driver import open_job_driver
from tests.harness.servers.embedded import ROOT, EmbeddedNats, EmbeddedS3, free_port, wait_until_ready

SERVICES = ("gateway", "dispatcher", "notifier")
COMMANDS = (("--version",), ("--help",), ("jobs", "--help"), ("up", "--help"))
TIMEOUT_S = 30.0


def environment(nats: EmbeddedNats, s3: EmbeddedS3) -> dict[str, str]:
    """Return what services and workers inherit, with both servers."""
    inherited = inherited_environment() | as_environment(nats.settings, s3.settings) | numeric_library_threads(1)
    return inherited | {"PYTHONPATH": str(ROOT), "WORKER_CATALOG": "tests.workers"}


def service_start(name: str, folder: Path, inherited: dict[str, str]) -> float:
    """Start a service, and return its CPU time in seconds when its port is open or it says that it leads."""
    port, log = free_port(), folder / f"{name}.log"
    own = {f"{name.upper()}_PORT": str(port), f"{name.upper()}_DATA_DIR": str(folder / name)}
    with log.open("wb") as output:
        command = [sys.executable, "-m", f"services.{name}"]
        process = subprocess.Popen(command, env=inherited | own, stderr=output, cwd=folder)
    try:
        wait_until_ready(port, process, TIMEOUT_S)
        times = psutil.Process(process.pid).cpu_times()
        return float(times.user + times.system)
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def worker_run(assignment: Assignment, folder: Path, inherited: dict[str, str]) -> float:
    """Run a worker with a job of no steps, and return its CPU time in seconds from start to end."""
    before = _of_children()
    run_folder = folder / assignment.run_id
    run_folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "modal_workers.runtime.worker_process"],
        input=assignment.model_dump_json().encode(),
        env=inherited | {"WORKER_RUN_FOLDER": str(run_folder)},
        cwd=run_folder,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    return _of_children() - before


def command_run(arguments: Iterable[str]) -> float:
    """Run a command of the command line, and return its CPU time in seconds."""
    before = _of_children()
    subprocess.run(
        [sys.executable, "-m", "cli", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True, timeout=TIMEOUT_S
    )
    return _of_children() - before


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(name: str, starts: int, start: Callable[[], float]) -> None:
    """Print the row of one kind of process."""
    start()  # compiles what was changed, and warms the file cache
    taken = sorted(start() for _ in range(starts))
    print(f"{name:24} {statistics.median(taken):8.2f} {taken[0]:8.2f} {taken[-1]:8.2f}", flush=True)


async def assignments(nats: EmbeddedNats, s3: EmbeddedS3, count: int) -> list[Assignment]:
    """Submit jobs of no steps, each ready for its first worker."""
    async with open_job_driver(nats.settings, s3.settings) as driver:
        return [await driver.submit() for _ in range(count)]


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--starts", type=int, default=7)
    starts = parser.parse_args().starts
    print(f"{'CPU seconds':24} {'median':>8} {'least':>8} {'most':>8}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("nats", "s3"):
            (folder / name).mkdir()
        with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
            inherited = environment(nats, s3)
            for name in SERVICES:
                report(name, starts, lambda name=name: service_start(name, folder, inherited))
            pending = iter(asyncio.run(assignments(nats, s3, starts + 1)))
            report("worker", starts, lambda: worker_run(next(pending), folder, inherited))
    for arguments in COMMANDS:
        report(f"saccade {' '.join(arguments)}", starts, lambda arguments=arguments: command_run(arguments))


if __name__ == "__main__":
    main()
