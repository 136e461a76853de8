"""A process whose stop hangs says where, and ends; one that does not hang says nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness.servers.process_output import read_line

ROOT = Path(__file__).parents[3]
#: What a service does: it logs, has handlers, and hangs in its own way once it is asked to stop.
PROGRAM = """
import asyncio, threading, time
from kit import stop_deadline
from kit.http import server
from kit.logs import start_logging
server.STOP_S, stop_deadline._LAST_WORDS_S = {limit_s}, 1.0

async def ignore_cancellations():
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def main():
    stop = server.stop_on_signals()
    start_logging("probe")
    print("ready", flush=True)
    {hang}

asyncio.run(main())
"""
HANGS = {
    "a thread of the executor": "asyncio.get_running_loop().run_in_executor(None, time.sleep, 600); await stop.wait()",
    "a thread that nobody joins": "threading.Thread(target=time.sleep, args=[600]).start(); await stop.wait()",
    "a task": "task = asyncio.create_task(ignore_cancellations()); await stop.wait()",
    "an event loop that is blocked": "time.sleep(600)",
    "a wait of the stop itself": "await stop.wait(); await asyncio.Event().wait()",
    "a lock of the log": "logging = __import__('logging'); await stop.wait(); logging.root.handlers[0].acquire(); "
    "await asyncio.Event().wait()",
    "no hang": "await stop.wait()",
}
SAYS = {
    "a thread of the executor": "thread asyncio_0: ",
    "a thread that nobody joins": "thread Thread-1 (sleep): ",
    "a task": ": ignore_cancellations (<string>:",
    "an event loop that is blocked": "thread MainThread: ",
    "a wait of the stop itself": ": main (<string>:",
}


def start(hang: str, limit_s: float = 1.0) -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(hang=hang, limit_s=limit_s)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout
    assert read_line(program.stdout) == "ready\n"
    return program


def ended(program: subprocess.Popen[str]) -> str:
    """Return what a program has written to standard error when it has ended by itself."""
    try:
        return program.communicate(timeout=30)[1]
    finally:
        program.kill()


@pytest.mark.parametrize("kind", HANGS)
def test_a_stop_that_hangs_is_ended_and_says_where(kind: str) -> None:
    program = start(HANGS[kind], 1.0 if kind != "no hang" else 60.0)
    program.send_signal(signal.SIGTERM)
    said = ended(program)
    assert program.returncode == (0 if kind == "no hang" else 1)
    lines: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    if kind in SAYS:
        assert [line["message"] for line in lines] == ["the stop has not ended within 1 s: ending the process"]
        assert [stack for stack in lines[0]["stacks"] if SAYS[kind] in stack], lines[0]["stacks"]
    else:
        assert lines == []


def test_stacks_are_written_on_a_signal_and_the_process_goes_on() -> None:
    program = start("waiting = asyncio.create_task(ignore_cancellations()); time.sleep(1); await asyncio.sleep(600)")
    program.send_signal(signal.SIGUSR1)
    assert program.stderr
    said = ""
    while "task Task-" not in said:
        said += read_line(program.stderr)
    assert "most recent call first" in said
    rest = read_line(program.stderr)
    assert "ignore_cancellations" in said + rest
    time.sleep(0.1)
    assert program.poll() is None
    program.kill()
    program.communicate(timeout=30)
