"""The view survives what happens to files, and goes on where its last commit was."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.job import Job, State
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.view import GatewayView

ROOT = Path(__file__).parents[5]
NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


def job(sequence: int, state: State = State.SUBMITTED, tenant: str = "local", at: datetime = NOW) -> Job:
    submitted = JobSubmitted(
        workload="lap_compare", workload_version="1", inputs={}, params={"sectors": 3}, deadline=at + timedelta(hours=1)
    )
    return Job(
        id=new_id("job"), tenant=tenant, submitted=submitted, created_at=at, updated_at=at, state=state,
        first_sequence=sequence, sequence=sequence,
    )  # fmt: skip


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path):
    view = GatewayView(tmp_path)
    assert (view.epoch, view.sequence) == ("", 0)
    view.reset("e1")
    kept = job(1)
    view.keep_job(kept)
    view.set_position(7)
    view.close()
    view = GatewayView(tmp_path)
    assert (view.epoch, view.sequence, view.job(kept.id)) == ("e1", 7, kept)
    view.close()


def test_a_killed_process_leaves_its_last_commit(tmp_path: Path):
    code = (
        "import os, sys; from pathlib import Path; from services.gateway.aggregates.view import GatewayView\n"
        "view = GatewayView(Path(sys.argv[1])); view.reset('e1'); view.set_position(5); view.commit()\n"
        "view.set_position(9); os.kill(os.getpid(), 9)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False, timeout=300)
    assert found.returncode == -9
    view = GatewayView(tmp_path)
    assert (view.epoch, view.sequence) == ("e1", 5)
    view.close()


@pytest.mark.parametrize("every", [50, 5000])
def test_a_full_disk_loses_nothing_that_the_position_counts(tmp_path: Path, every: int):
    code = (
        "import resource, signal, sqlite3, sys; from contextlib import suppress; from pathlib import Path\n"
        "from services.gateway.aggregates.view import GatewayView\n"
        "from tests.unit.services.gateway.aggregates.test_view import job\n"
        "view = GatewayView(Path(sys.argv[1])); view.reset('e1')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
        "for sequence in range(1, 10_001):\n"
        "    view.set_position(sequence)\n"
        "    with suppress(sqlite3.Error):\n"  # as an event that cannot be handled
        "        view.keep_job(job(sequence))\n"
        "    if sequence % int(sys.argv[2]) == 0:\n"
        "        view.commit()\n"
        "view.close()"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path), str(every)]
    found = subprocess.run(arguments, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    assert "sqlite3.OperationalError" in found.stderr
    view = GatewayView(tmp_path)
    jobs, _ = view.jobs("local", JobFilter(), limit=20_000)
    assert sorted(one.first_sequence for one in jobs) == list(range(1, view.sequence + 1))
    view.close()


@pytest.mark.parametrize("damage", ["not a database", "another version"])
def test_a_file_that_cannot_be_used_is_begun_anew(tmp_path: Path, damage: str):
    view = GatewayView(tmp_path)
    view.reset("e1")
    view.set_position(5)
    view.close()
    path = tmp_path / "view.sqlite3"
    if damage == "not a database":
        path.write_bytes(b"nonsense" * 1000)
    else:
        database = sqlite3.connect(path)
        database.execute("PRAGMA user_version = 99")
        database.close()
    view = GatewayView(tmp_path)
    assert (view.epoch, view.sequence, view.rows()["jobs"]) == ("", 0, [])
    view.close()


def test_a_second_process_is_refused(tmp_path: Path):
    view = GatewayView(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        GatewayView(tmp_path)
    view.close()


def test_another_stream_means_another_view(tmp_path: Path):
    view = GatewayView(tmp_path)
    view.keep_job(job(1))
    view.reset("e2")
    assert (view.epoch, view.sequence, view.rows()["jobs"]) == ("e2", 0, [])
    view.close()


def test_jobs_are_listed_by_tenant_state_and_time_to_the_microsecond(tmp_path: Path):
    view = GatewayView(tmp_path)
    jobs = [job(number, at=NOW + timedelta(microseconds=number)) for number in range(1, 6)]
    for one in [*jobs, job(6, tenant="other"), job(7, State.FAILED)]:
        view.keep_job(one)
    wanted = JobFilter(states=("submitted",), since=jobs[1].created_at, until=jobs[4].created_at)
    first, before = view.jobs("local", wanted, limit=2)
    second, end = view.jobs("local", wanted, before=before, limit=2)
    assert first + second == jobs[1:4][::-1]
    assert (before, end) == (3, None)
    assert view.count_jobs() == {"submitted": 6}
    view.close()


def test_old_jobs_are_forgotten_once_they_have_ended(tmp_path: Path):
    view = GatewayView(tmp_path)
    old, running = job(1, State.SUCCEEDED), job(2, State.RUNNING)
    new = job(3, State.SUCCEEDED, at=NOW + timedelta(days=2))
    for one in (old, running, new):
        view.keep_job(one)
        view.keep_inputs(one.id, ["upl"])
    view.prune_before(NOW + timedelta(days=1))
    assert [view.job(one.id) for one in (old, running, new)] == [None, running, new]
    assert view.unfinished_jobs_of("upl") == [running.id]
    view.close()
