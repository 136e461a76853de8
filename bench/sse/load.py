"""Load of the SSE benchmarks: many clients in one process, and one publisher."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psutil

from contracts.events.base import Message, encode
from contracts.events.job import JobStageCompleted
from contracts.ids import new_id

JOB_ID = new_id("job")
#: The server has one core and everything else the others, if there are several.
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES, OTHER_CORES = ([CORES[0]], CORES[1:]) if len(CORES) > 1 else (CORES, CORES)

Publish = Callable[[Message], Awaitable[Any]]


@contextlib.contextmanager
def compiled_loader() -> Iterator[str]:
    """Compile loader.c and delete the program afterwards."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("error: no C compiler\n  hint: install one, gcc for instance; only this measurement needs it")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/loader"
        subprocess.run([compiler, "-O2", "-o", program, str(Path(__file__).with_name("loader.c"))], check=True)
        yield program


class Load:
    """The open streams of one measurement."""

    def __init__(self, program: str, port: int, path: str, clients: int, stalled: int = 0) -> None:
        """Open the streams and wait until all are open."""
        self._process = subprocess.Popen(
            [program, str(port), path, str(clients), str(stalled)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.sched_setaffinity(self._process.pid, OTHER_CORES)
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline().strip()
        assert line, "the load generator ended"
        return line

    def _command(self, command: str) -> str:
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._line()

    def reset(self) -> None:
        """Reset the counters."""
        assert self._command("reset") == "done"

    def report(self) -> dict[str, int]:
        """Return the counters."""
        counted: dict[str, int] = json.loads(self._command("report"))
        return counted

    async def delivered(self, expected: int, timeout_s: float = 20.0) -> dict[str, int]:
        """Wait until ``expected`` events are delivered, at most ``timeout_s``, and return the counters."""
        end = time.monotonic() + timeout_s
        counted = self.report()
        while counted["delivered"] < expected and time.monotonic() < end:
            await asyncio.sleep(0.2)
            counted = self.report()
        return counted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class ProcessTree:
    """CPU time and memory of a server and its children."""

    def __init__(self, *pids: int, cores: list[int] = SERVER_CORES, children: bool = True) -> None:
        """Observe processes, with their children or without, and pin them to ``cores``."""
        roots = [psutil.Process(pid) for pid in pids]
        self._processes = roots + [child for root in roots if children for child in root.children(recursive=True)]
        for process in self._processes:
            process.cpu_affinity(cores)

    def cpu_s(self) -> float:
        """Return the user and system time so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)

    def rss_bytes(self) -> int:
        """Return the resident memory."""
        return sum(process.memory_info().rss for process in self._processes)


def event(number: int, job_id: str = JOB_ID, filler_bytes: int = 0) -> Message:
    """Return an event that contains its time of publishing."""
    stage = f"{time.monotonic_ns()}-{number}"
    data = JobStageCompleted(attempt=1, run_id="run" + "x" * filler_bytes, stage=stage, duration_s=0)
    return encode(data, tenant="local", subject_id=job_id, source="/bench")


async def publish_evenly(
    publish: Publish, rate_hz: float, numbers: range, job_id: str = JOB_ID, filler_bytes: int = 0
) -> None:
    """Publish events at a constant rate, as long as the server keeps up."""
    started = time.monotonic()
    for count, number in enumerate(numbers):
        await asyncio.sleep(max(0.0, started + count / rate_hz - time.monotonic()))
        await publish(event(number, job_id, filler_bytes))
