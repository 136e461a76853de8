"""Runs ``saccade up`` as a user does: its own process, a free port, a folder of the test's."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.embedded.leftover_processes import end_workers
from cli.embedded.processes import children_of
from kit.process_tree import MARK as WORKER_MARK
from kit.process_tree import with_environment
from tests.harness.servers.process_output import read_line
from tests.harness.servers.running_process import why_it_runs

ROOT = Path(__file__).parents[2]
CHILDREN = {"nats-server", "rclone", "gateway", "dispatcher", "notifier"}
TIMEOUT_S = 120.0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cli", *words]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SACCADE_")}  # noqa: TID251
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"} | more


def run(*words: str, cwd: Path, timeout_s: float = TIMEOUT_S, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command of saccade to its end."""
    return subprocess.run(
        command(*words),
        check=False,
        cwd=cwd,
        env=environment(**more),
        text=True,
        capture_output=True,
        timeout=timeout_s,
    )


def run_demo(name: str, *words: str, cwd: Path, needed: Sequence[str], timeout_s: float, **more: str) -> dict[str, Any]:
    """Run a demo as a user does and return what it shows; skip the test where a package is missing."""
    if missing := [package for package in needed if importlib.util.find_spec(package) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    done = subprocess.run(
        command("demo", name, *words, "--json", "--no-open", "--data", str(cwd / "data")),
        cwd=cwd,
        env=environment(**more),
        text=True,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


class SystemProcess:
    """One ``saccade up --json``."""

    def __init__(self, data: Path, *words: str, **more: str) -> None:
        self.data = data.resolve()
        self.said: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            command("up", "--json", "--port", "0", "--data", str(data), *words),
            cwd=data.parent,
            env=environment(**more),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def ready(self) -> dict[str, Any]:
        """Wait until it says that it is ready."""
        return self.wait_for(lambda said: said["event"] == "ready")

    def wait_for(self, wanted: Any) -> dict[str, Any]:
        """Read what it says until something is what is wanted."""
        assert self.process.stdout
        while line := read_line(self.process.stdout, TIMEOUT_S):
            self.said.append(json.loads(line))
            if wanted(self.said[-1]):
                return self.said[-1]
        assert self.process.stderr
        raise AssertionError(f"it ended with {self.process.wait(timeout=30)}: {self.said} {self.process.stderr.read()}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """Press Ctrl-C and give the exit code."""
        self.signal(signal.SIGINT)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end and give the exit code.

        Raises:
            AssertionError: it does not end; with the stacks of all its processes and the ends of their logs.
        """
        try:
            return self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            others = [
                *children_of(self.data),
                *with_environment(WORKER_MARK, lambda run: run.startswith(str(self.data))),
            ]
            logs = sorted((self.data / "logs").glob("*.log"))
            what = why_it_runs(self.process, others, logs)
        raise AssertionError(
            f"saccade up has not ended {TIMEOUT_S:.0f} s after its signal; it said {self.said}\n{what}"
        )

    def close(self) -> None:
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=30)
        for process in children_of(self.data):
            process.kill()
        end_workers(self.data, grace_s=0.0)


@contextmanager
def up(data: Path, *words: str, **more: str) -> Iterator[SystemProcess]:
    """Run ``saccade up`` and leave nothing behind."""
    system = SystemProcess(data, *words, **more)
    try:
        yield system
    finally:
        system.close()


def wait_until(happened: Any, what: str, patience_s: float = TIMEOUT_S) -> None:
    end = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < end, f"it did not happen: {what}"
        time.sleep(0.05)


def alive(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
