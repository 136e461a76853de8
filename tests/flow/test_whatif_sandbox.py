"""The process of a what-if, in which no socket, process or file can be opened, and the command that asks it."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import saccade
from contracts.events.base import decode, encode
from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.streams import aggregate
from kit.bus.event_store import StoredEvent
from kit.history.event_lines import HistoryEvent
from kit.history.segments import encode_segment
from modal_workers import catalog
from services.dispatcher.lifecycle.lifecycle_rules import lifecycle_rules
from services.dispatcher.scheduling.slot_pools import slot_limits
from services.whatif.memory_store import MemoryStore
from services.whatif.replay_settings import ReplaySettings
from services.whatif.virtual_time import now, run
from tests.harness.dispatch.gpu_market import Pool
from tests.harness.dispatch.gpu_market_run import DispatcherSeries, MarketRun
from tests.harness.dispatch.varied_run import SETTINGS

ESCAPES = """
import asyncio, ctypes, os, pathlib, shutil, socket, subprocess, sys, urllib.request
from services.whatif.lockdown import lock_down
loop = asyncio.new_event_loop()
fold = sys.argv[1]
open(fold + "/there", "w").close()
wanted = {
    "socket": lambda: socket.socket(),
    "unix socket": lambda: socket.socket(socket.AF_UNIX),
    "connection": lambda: socket.create_connection(("127.0.0.1", 1), 0.1),
    "name": lambda: socket.getaddrinfo("localhost", 1),
    "asyncio": lambda: loop.run_until_complete(asyncio.open_connection("127.0.0.1", 1)),
    "url": lambda: urllib.request.urlopen("http://127.0.0.1:1/"),
    "file": lambda: open(fold + "/a", "w"),
    "append": lambda: open(fold + "/there", "a"),
    "os.open": lambda: os.open(fold + "/b", os.O_WRONLY | os.O_CREAT),
    "os.open to read and write": lambda: os.open(fold + "/there", os.O_RDWR),
    "path": lambda: pathlib.Path(fold, "c").write_text("x"),
    "folder": lambda: os.mkdir(fold + "/d"),
    "removal": lambda: os.remove(fold + "/there"),
    "renaming": lambda: os.rename(fold + "/there", fold + "/e"),
    "copy": lambda: shutil.copy(fold + "/there", fold + "/f"),
    "process": lambda: subprocess.run(["true"]),
    "fork": lambda: os._exit(0) if os.fork() == 0 else None,
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "shell": lambda: os.system("true"),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "native code": lambda: ctypes.CDLL(None),
    "signal": lambda: os.kill(os.getppid(), 0),
}
lock_down()
print("environment", dict(os.environ))
for name, attempt in wanted.items():
    try:
        attempt()
        print("DONE", name)
    except PermissionError as refused:
        print("refused", name)
    except BaseException as error:
        print("DONE OTHERWISE", name, repr(error))
print("read", open(fold + "/there").read() == "")
"""


def test_nothing_outside_can_be_opened(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-I", "-c", ESCAPES, str(tmp_path)],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = child.stdout.splitlines()
    assert [line for line in lines if line.startswith("DONE")] == []
    assert sum(line.startswith("refused") for line in lines) == 22
    assert lines[-1] == "read True"
    assert {path.name for path in tmp_path.iterdir()} == {"there"}


async def record_laps(count: int) -> list[StoredEvent]:
    """Record jobs of a workload that every installation has."""
    settings = ReplaySettings(SETTINGS).dispatcher
    store = MemoryStore(random.Random(1))
    series = DispatcherSeries(
        1,
        store,
        ReplaySettings(SETTINGS).operator_limits,
        workloads=catalog.workloads(),
        rules=lifecycle_rules(settings),
        slots=slot_limits(settings),
    )
    series.market.pools |= {"cpu": Pool(3), "T4": Pool(3), "L4": Pool(3)}
    series.begin()
    listening = asyncio.create_task(series.listen(MarketRun(1, store, series.market)))
    for _ in range(count):
        job_id = new_id("job")
        data = JobSubmitted(
            workload="lap_compare",
            workload_version="1",
            inputs={},
            params={},
            deadline=now() + timedelta(hours=2),
        )
        message = encode(data, tenant="acme", subject_id=job_id, source="/gateway", time=now())
        await store.publish(message, after=0, among=aggregate("acme", "job", job_id))
    await asyncio.sleep(3000)
    listening.cancel()
    await series.kill()
    return store.log


@pytest.fixture(scope="module")
def window_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    events = [
        HistoryEvent(one.sequence, one.subject, decode(one.body).time.isoformat(), decode(one.body).id, one.body)
        for one in run(record_laps(12))
    ]
    segment = encode_segment(events, stream="EVENTS", epoch="e", first=1, last=len(events))
    file = tmp_path_factory.mktemp("window") / "window.ndjson.zst"
    file.write_bytes(segment.data)
    return file


def recorded_with() -> list[str]:
    return [argument for name, value in SETTINGS.items() for argument in ("--recorded-with", f"{name}={value}")]


def test_the_command_answers_for_a_file_in_a_process_without_network(window_file: Path) -> None:
    asked = CliRunner().invoke(saccade, ["whatif", "--file", str(window_file), *recorded_with(), "--json"])
    assert asked.exit_code == 0, asked.output
    answer = json.loads(asked.output)
    assert answer["answer"] == "same"
    assert answer["jobs"] == 12
    assert answer["money"] is None
    other = ["whatif", "--file", str(window_file), *recorded_with(), "--set", "tenant_concurrency=2"]
    told = CliRunner().invoke(saccade, other)
    assert told.exit_code == 0, told.output
    assert told.output.startswith("Different: today's dispatcher decides otherwise.")
    assert "First that differs" in told.output
    assert "modelled" in told.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slotz=3", "There is no setting 'slotz'. Did you mean slots?"),
        ("slots", "--set slots: a name and a value are needed."),
        ("slots=0", "slots=0 is not possible"),
        ("slots=many", "slots=many is not possible"),
        ("host=x", "There is no setting 'host'."),
        ("budget.acme.daily_usd=-1", "budget.acme.daily_usd=-1 is not possible"),
        ("environment=test", "environment=test is not possible"),
    ],
)
def test_a_setting_that_is_none_is_refused(window_file: Path, text: str, message: str) -> None:
    asked = CliRunner().invoke(saccade, ["whatif", "--file", str(window_file), "--set", text])
    assert asked.exit_code != 0
    assert message in str(asked.exception), (asked.exception, asked.output)
