"""An embedded system in real processes: it starts, stops, starts again, heals, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from saccade_client import Client

from cli.embedded.processes import MARK, children_of
from kit.process_tree import marked_processes
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.system.embedded import CHILDREN, ROOT, alive, environment, run, up, wait_until


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", verify=NO_CERTIFICATES).json()["status"] == "ok"
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def test_it_starts_answers_stops_and_finds_its_data_again(tmp_path: Path) -> None:
    content = b"bytes that stay"
    runs = tmp_path / "data" / "dispatcher" / "runs"
    with up(tmp_path / "data", WORKER_CATALOG="tests.workers") as system:
        ready = system.ready()
        assert set(ready["processes"]) == CHILDREN
        assert healthy(ready["url"])
        body = {"filename": "clip.mp4", "content_type": "video/mp4", "size_bytes": len(content)}
        created = httpx.post(f"{ready['url']}/v1/uploads", json=body)
        assert created.status_code == 201, created.text
        upload = created.json()
        sent = httpx.put(upload["url"], content=content, headers=upload["headers"])
        assert sent.is_success, sent.text
        with Client(ready["url"]) as client:
            paused = run("pause", "hasty", "--why", "no GPUs today", "--data", str(system.data), cwd=tmp_path)
            assert (paused.returncode, paused.stderr) == (0, "")
            held = client.submit("hasty", {}, {"script": ["stage first"]})
            expected = "Waiting: the operator has paused hasty (no GPUs today)."
            wait_until(lambda: client.job(held.id).message == expected, "the job says why it waits")
            job = client.submit("scripted", {}, {"script": ["stage first", "work 1"]})
            wait_until(lambda: client.job(job.id).state == "running", "the job runs")
        assert system.stop() == 0
        assert system.process.stderr
        assert system.process.stderr.read() == ""
        assert not children_of(system.data)
        assert not any(marked_processes(folder) for folder in runs.glob("run_*"))
    with up(tmp_path / "data", WORKER_CATALOG="tests.workers") as system:
        url = system.ready()["url"]
        again = httpx.get(f"{url}/v1/uploads/{upload['id']}")
        assert again.status_code == 200, again.text
        assert again.json()["id"] == upload["id"]
        assert content in [file.read_bytes() for file in (system.data / "bucket").rglob("*") if file.is_file()]
        with Client(url) as client:
            wait_until(lambda: client.job(job.id).state == "succeeded", "the job that was stopped goes on and ends")
            wait_until(lambda: client.job(held.id).message == expected, "the other one says again why it waits")
            assert client.job(held.id).state == "queued"
            resumed = run("resume", "hasty", "--why", "GPUs", "--data", str(system.data), "--json", cwd=tmp_path)
            assert json.loads(resumed.stdout)["waiting"] == 1, resumed.stderr
            wait_until(lambda: client.job(held.id).state == "succeeded", "the job that was held back ends")
        system.signal(signal.SIGINT)
        system.signal(signal.SIGINT)
        assert system.ended() in (0, 130)
        assert not children_of(system.data)


def test_a_second_one_on_the_same_folder_is_told_where_the_first_answers(tmp_path: Path) -> None:
    with up(tmp_path / "data") as system:
        wait_until(lambda: children_of(system.data), "a child runs")
        second = run("up", "--port", "0", "--data", str(tmp_path / "data"), cwd=tmp_path)
        assert second.returncode == 1
        assert "(already_running)" in second.stderr
        assert " at http://127.0.0.1:" in second.stderr
        # Stopped while it starts, or just after.
        assert system.stop() == 0
        assert not children_of(system.data)


def test_every_child_that_is_killed_comes_back(tmp_path: Path) -> None:
    with up(tmp_path / "data") as system:
        ready = system.ready()
        for name in sorted(CHILDREN):
            os.kill(ready["processes"][name], signal.SIGKILL)
            said = system.wait_for(lambda said, name=name: name in said.get("message", ""))
            assert "SIGKILL" in said["message"]
        wait_until(lambda: healthy(ready["url"]), "all is well again")
        wait_until(lambda: len(children_of(system.data)) >= len(CHILDREN), "every child runs")
        assert not [pid for pid in ready["processes"].values() if alive(pid)]
        assert system.stop() == 0
        assert not children_of(system.data)


def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    with up(tmp_path / "data") as system:
        children = system.ready()["processes"]
        system.signal(signal.SIGKILL)
        system.process.wait(timeout=30)
        wait_until(lambda: not any(alive(pid) for pid in children.values()), "the children end with it")


def test_what_an_earlier_run_left_behind_is_ended_with_a_note(tmp_path: Path) -> None:
    data = (tmp_path / "data").resolve()
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    names = ("nats-server", "services.gateway")
    left = [
        subprocess.Popen([*sleeper, name], env=environment() | {MARK: str(data)}, start_new_session=True)
        for name in names
    ]
    try:
        with up(data) as system:
            note = system.wait_for(lambda said: said["event"] == "note")
            assert all(str(process.pid) in note["message"] for process in left)
            assert all(process.wait(30) != 0 for process in left)
            system.ready()
            assert system.stop() == 0
    finally:
        for process in left:
            process.kill()
            process.wait(timeout=30)


def test_the_watchdog_ends_the_children_where_the_kernel_does_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    ours = subprocess.Popen(sleeper, env=environment() | {MARK: str(data.resolve())}, start_new_session=True)
    other = subprocess.Popen(sleeper, env=environment() | {MARK: str(tmp_path / "other")}, start_new_session=True)
    watchdog = subprocess.Popen(
        [sys.executable, "-m", "cli.embedded.watchdog", str(data.resolve())],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
    )
    try:
        assert watchdog.stdin
        assert ours.poll() is None
        watchdog.stdin.close()
        assert watchdog.wait(30) == 0
        assert ours.wait(30) != 0
        assert other.poll() is None
    finally:
        for process in (ours, other, watchdog):
            process.kill()
            process.wait(timeout=30)
