"""``saccade up`` started by a parent that ignores SIGINT: SIGTERM stops it and all its children."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from saccade_client import Client

from cli.embedded.processes import children_of
from kit.process_tree import marked_processes
from tests.system.embedded import SystemProcess, alive, up, wait_until

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
        assert system.process.wait(60) == 0
        assert not [process for process in processes if alive(process.pid)]
        assert not children_of(system.data)
        assert not workers_of(system)


def test_sigint_stops_it_too_where_the_parent_ignores_sigint(tmp_path: Path) -> None:
    with sigint_ignored(), up(tmp_path / "data") as system:
        wait_until(lambda: children_of(system.data), "a child runs")
        # Stopped while it starts, or just after.
        system.signal(signal.SIGINT)
        assert system.process.wait(60) == 0
        assert not children_of(system.data)
