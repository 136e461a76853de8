"""``saccade up`` ends on a signal with all its children: where the parent ignores SIGINT, and where the stop hangs."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from saccade_client import Client

from cli.embedded.processes import children_of
from kit.process_tree import marked_processes
from tests.harness.servers.process_output import read_line
from tests.system.embedded import TIMEOUT_S, SystemProcess, alive, environment, up, wait_until

# They are about signals that come while programs start: the starts are what they are for users.
pytestmark = pytest.mark.real_starts


@contextmanager
def sigint_ignored() -> Iterator[None]:
    """Ignore SIGINT as a background shell does; child processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ignores_sigint(process_id: int) -> bool:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{process_id}/status").read_text().splitlines() if ":" in line
    )
    return bool(int(fields["SigIgn"], 16) & 1 << (signal.SIGINT - 1))


def workers_of(system: SystemProcess) -> list[psutil.Process]:
    return [process for run in (system.data / "dispatcher" / "runs").glob("run_*") for process in marked_processes(run)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads signal dispositions from /proc")
def test_sigterm_stops_everything_where_the_parent_ignores_sigint(tmp_path: Path) -> None:
    with sigint_ignored(), up(tmp_path / "data", WORKER_CATALOG="tests.workers") as system:
        ready = system.ready()
        with Client(ready["url"]) as client:
            job = client.submit("scripted", {}, {"script": ["stage first", "work 600"]})
            wait_until(lambda: client.job(job.id).state == "running", "the job runs")
        processes = {*children_of(system.data), *workers_of(system)}
        assert {*ready["processes"].values()} < {process.pid for process in processes}, "services and a worker run"
        assert not [process for process in processes if ignores_sigint(process.pid)]
        system.signal(signal.SIGTERM)
        assert system.ended() == 0
        assert not [process for process in processes if alive(process.pid)]
        assert not children_of(system.data)
        assert not workers_of(system)


def test_sigint_stops_it_too_where_the_parent_ignores_sigint(tmp_path: Path) -> None:
    with sigint_ignored(), up(tmp_path / "data") as system:
        wait_until(lambda: children_of(system.data), "a child runs")
        # Stopped while it starts, or just after.
        system.signal(signal.SIGINT)
        assert system.ended() == 0
        assert not children_of(system.data)


#: `saccade up` whose workers cannot be looked for when it stops, as where the machine's list of processes hangs.
HANGING = """
import sys, time
from cli.embedded import leftover_processes, up
from cli.__main__ import main
up._STOP_S = 4.0
leftover_processes.end_workers = lambda *given, **named: time.sleep(600)
sys.argv[1:] = ["up", "--json", "--port", "0", "--data", sys.argv[1]]
main()
"""


def test_a_stop_that_hangs_is_ended_says_where_and_leaves_no_child(tmp_path: Path) -> None:
    data = (tmp_path / "data").resolve()
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(data)],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout
        while '"ready"' not in (line := read_line(process.stdout, TIMEOUT_S)):
            assert line, process.communicate(timeout=30)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert said.startswith("Saccade is killed: the stop has not ended within 4 s: ending the process.\n")
        assert "EmbeddedSystem._stop_workers (embedded/system.py:" in said
        assert "thread asyncio_" in said
        wait_until(lambda: not children_of(data), "the children end with it", 30)
    finally:
        process.kill()
        process.wait(timeout=30)


@pytest.mark.soak
@pytest.mark.timeout(3600)  # a soak is long; each wait in it has a limit of its own
def test_it_stops_at_any_moment_of_its_start(tmp_path: Path, seed: int, soak_runs: int) -> None:
    """One round in the short suite: each starts a whole system."""
    chance = random.Random(seed)
    for number in range(max(1, soak_runs // 6)):
        signal_s = chance.uniform(0.5, 8.0)
        with up(tmp_path / f"data{number}") as system:
            wait_until(lambda folder=system.data: (folder / "lock").exists(), "it begins")
            time.sleep(signal_s)
            system.signal(chance.choice((signal.SIGTERM, signal.SIGINT)))
            code = system.ended()
            assert system.process.stderr
            said = system.process.stderr.read()
            assert (code, said) in ((0, ""), (-signal.SIGTERM, "")) or said.endswith("Stopped.\n"), (
                f"--seed {seed}, round {number}, after {signal_s:.2f} s: {code} {said}"
            )
            assert not children_of(system.data)
