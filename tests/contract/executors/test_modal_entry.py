"""Entry point of a worker's Modal function, in a separate process as on Modal, without Modal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from contracts.assignment import Assignment
from contracts.job import State
from contracts.launch import BusAccess, Launch
from kit.settings import as_environment, inherited_environment
from modal_workers.runtime import modal_entry
from services.dispatcher.executors.run_access import RunAccess
from tests.harness.runtime.executor_environment import processes_of_run
from tests.harness.runtime.job_driver import WAIT_S, JobDriver, open_job_driver
from tests.harness.servers.embedded import ROOT, EmbeddedS3, OperatorNats
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.modal_loopback.interpreter import make_interpreter

pytestmark = pytest.mark.anyio

#: Reads one launch per line and writes one answer per line: a container that is reused for the next input.
BODY = """
import json, sys
from modal_workers.runtime import modal_entry
for line in sys.stdin:
    try:
        print("answer", json.dumps(modal_entry.run(json.loads(line), "fc-7")), flush=True)
    except BaseException as error:
        print("answer", json.dumps(type(error).__name__), flush=True)
"""


#: Signal settings of background jobs of a shell without job control.
IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


@dataclass
class Container:
    """Imitation of a container: our source is in the working folder, is not installed, and no variable names it."""

    folder: Path
    nats: OperatorNats
    s3: EmbeddedS3
    driver: JobDriver
    python: Path
    made: list[subprocess.Popen[str]] = field(default_factory=list)
    #: Lines printed by each container, by process id; None at the end.
    printed: dict[int, queue.Queue[str | None]] = field(default_factory=dict)
    readers: dict[int, threading.Thread] = field(default_factory=dict)

    def start(self, *, ignores_interrupts: bool = False) -> subprocess.Popen[str]:
        """Start the process; with ``ignores_interrupts`` as a shell's background job."""
        self.folder.mkdir(exist_ok=True)
        environment = inherited_environment(("PATH", "LANG")) | as_environment(None, self.s3.settings)
        environment |= {"TMPDIR": str(self.folder), "HOME": str(self.folder), "WORKER_CATALOG": "tests.workers"}
        environment |= {"MODAL_TASK_ID": "ta-1", "SOMEBODY_S_SECRET": "7"} | ONE_AUTHORITY
        self.made.append(
            subprocess.Popen(
                [self.python, "-c", (IGNORE_INTERRUPTS if ignores_interrupts else "") + BODY],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        lines = self.printed[self.made[-1].pid] = queue.Queue()
        self.readers[self.made[-1].pid] = threading.Thread(target=_read_lines, args=(self.made[-1], lines), daemon=True)
        self.readers[self.made[-1].pid].start()
        return self.made[-1]

    def close(self, process: subprocess.Popen[str]) -> None:
        """Close the pipes of a process that has ended."""
        self.readers[process.pid].join(timeout=30)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert pipe
                pipe.close()

    def launch(self, assignment: Assignment) -> dict[str, Any]:
        access = RunAccess(self.nats.tokens, "nats", self.nats.url)
        return Launch(assignment=assignment, bus=access.of(assignment, 60.0)).argument()

    async def give(self, container: subprocess.Popen[str], launch: dict[str, Any]) -> None:
        assert container.stdin
        container.stdin.write(json.dumps(launch) + "\n")
        container.stdin.flush()

    async def answer(self, container: subprocess.Popen[str]) -> Any:
        lines, end = self.printed[container.pid], time.monotonic() + WAIT_S
        while (line := await asyncio.to_thread(lines.get, timeout=max(0.0, end - time.monotonic()))) is not None:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise AssertionError("the container gave no answer")

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("saccade-*"))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OperatorNats, EmbeddedS3, Path]]:
    with ExitStack() as stack:
        nats = stack.enter_context(OperatorNats(tmp_path_factory.mktemp("nats")))
        s3 = stack.enter_context(EmbeddedS3(tmp_path_factory.mktemp("s3")))
        yield nats, s3, make_interpreter(tmp_path_factory.mktemp("environment") / "python")


@pytest.fixture
async def container(tmp_path: Path, servers: tuple[OperatorNats, EmbeddedS3, Path]) -> AsyncIterator[Container]:
    nats, s3, python = servers
    async with open_job_driver(nats.settings, s3.settings) as driver:
        container = Container(tmp_path / "t", nats, s3, driver, python)
        yield container
        for process in container.made:
            process.kill()
            process.wait(timeout=30)
            container.close(process)


async def test_a_worker_finds_our_source_and_leaves_no_process_or_file(container: Container) -> None:
    process = container.start()
    assignment = await container.driver.submit("children", "work 0.1")
    await container.give(process, container.launch(assignment))
    assert await container.answer(process) == {"exit_code": 0, "out_of_memory": False}
    job = await container.driver.job(assignment.job_id)
    assert (job.state, job.call_id) == (State.SUCCEEDED, "fc-7")
    assert processes_of_run(assignment) == []
    assert container.left() == []


async def test_a_worker_gets_only_the_environment_that_it_needs(container: Container) -> None:
    process = container.start()
    assignment = await container.driver.submit("work 30")
    await container.give(process, container.launch(assignment))
    await container.driver.until(assignment.job_id, State.RUNNING)
    (worker,) = processes_of_run(assignment)
    known = worker.environ()
    assert {"MODAL_TASK_ID", "SOMEBODY_S_SECRET"} & known.keys() == set()
    assert {"NATS_CREDENTIALS", "S3_SECRET_ACCESS_KEY", "WORKER_CATALOG", "WORKER_CALL_ID"} <= known.keys()
    assert known["OMP_WAIT_POLICY"] == "PASSIVE"
    assert assignment.job_id not in " ".join(worker.cmdline()), "the assignment must not be visible to other users"
    process.send_signal(signal.SIGINT)
    assert await container.answer(process) == "KeyboardInterrupt"


@pytest.mark.parametrize("ignores_interrupts", [False, True])
async def test_a_preempted_container_lets_its_worker_publish_the_interruption(
    container: Container, ignores_interrupts: bool
) -> None:
    process = container.start(ignores_interrupts=ignores_interrupts)
    assignment = await container.driver.submit("children", "progress 0.5", "work 60")
    await container.give(process, container.launch(assignment))
    await container.driver.until_progress(assignment.job_id)
    for _ in range(200):  # a second signal must not shorten the grace period of the first
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.0005)
    assert await container.answer(process) == "KeyboardInterrupt"
    job = await container.driver.job(assignment.job_id)
    assert (job.state, job.failure) == (State.INTERRUPTED, "preempted")
    assert processes_of_run(assignment) == []
    assert container.left() == []


async def test_a_worker_that_ignores_signals_is_killed_with_its_children(container: Container) -> None:
    process = container.start()
    assignment = await container.driver.submit("ignore_signals", "children", "progress 0.5", "sleep 60")
    await container.give(process, container.launch(assignment))
    await container.driver.until_progress(assignment.job_id)
    for worker in processes_of_run(assignment):
        if "modal_workers.runtime.worker_process" in worker.cmdline():
            worker.suspend()  # a stopped process cannot handle any signal
    process.send_signal(signal.SIGINT)
    assert await container.answer(process) == "KeyboardInterrupt"
    assert processes_of_run(assignment) == []
    assert container.left() == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (("exit 3",), {"exit_code": 3, "out_of_memory": False}),
        (("kill",), {"exit_code": 137, "out_of_memory": False}),
        (("progress 0.1", "hoard_in_children", "sleep 60"), {"exit_code": 137, "out_of_memory": True}),
        (("hoard",), {"exit_code": 10, "out_of_memory": False}),  # the worker publishes this itself
    ],
)
async def test_the_answer_contains_how_the_worker_ended(
    container: Container, script: tuple[str, ...], expected: dict[str, Any]
) -> None:
    process = container.start()
    assignment = await container.driver.submit(*script)
    await container.give(process, container.launch(assignment))
    assert await container.answer(process) == expected
    assert processes_of_run(assignment) == []


async def test_only_the_first_run_of_a_container_is_billed_for_its_start(container: Container) -> None:
    assignments = [await container.driver.submit("work 0.01") for _ in range(2)]
    await asyncio.sleep(0.5)  # it waits for its device
    process = container.start()
    created_s = psutil.Process(process.pid).create_time()
    since = []
    for assignment in assignments:
        given_s = time.time()
        await container.give(process, container.launch(assignment))
        assert await container.answer(process) == {"exit_code": 0, "out_of_memory": False}
        job = await container.driver.job(assignment.job_id)
        assert job.billed_since is not None
        assert job.costs[assignment.run_id].startup_s > 0
        since.append((job.billed_since.timestamp(), given_s))
    assert since[0][0] == pytest.approx(created_s, abs=0.05)
    assert since[1][0] == pytest.approx(since[1][1], abs=0.5)


async def test_what_a_warm_container_waited_for_its_run_is_not_billed(container: Container) -> None:
    process = container.start()
    await asyncio.sleep(3.0)
    assignment = await container.driver.submit("work 0.01")
    await container.give(process, container.launch(assignment))
    assert await container.answer(process) == {"exit_code": 0, "out_of_memory": False}
    job = await container.driver.job(assignment.job_id)
    assert job.billed_since is not None
    assert job.starting_at is not None
    assert job.billed_since.timestamp() == pytest.approx(job.starting_at.timestamp(), abs=0.5)
    cost = job.costs[assignment.run_id]
    assert job.finished_at is not None
    assert cost.seconds <= (job.finished_at - job.starting_at).total_seconds() + 0.5


async def test_an_assignment_may_be_stored_in_the_bucket(container: Container) -> None:
    process = container.start()
    assignment = await container.driver.submit("work 0.01")
    key = container.driver.bucket.key("scratch", assignment.job_id, "runs", assignment.run_id, "assignment.json")
    await container.driver.bucket.put(key, assignment.model_dump_json().encode())
    launch = container.launch(assignment) | {"assignment": None, "assignment_key": key}
    await container.give(process, launch)
    assert await container.answer(process) == {"exit_code": 0, "out_of_memory": False}
    await container.give(process, launch | {"assignment_key": f"{key}.not"})
    assert isinstance(await container.answer(process), str), "a missing assignment is an error"


@pytest.mark.parametrize(
    "launch",
    [
        {},
        {"bus": {"secret": "eyes only", "kind": "nats", "url": "x"}},
        {"assignment_key": "k", "bus": {"secret": "eyes only", "kind": "carrier pigeon", "url": "x"}},
        {"assignment_key": "k", "bus": {"secret": "eyes only"}},
        {"assignment_key": "k", "bus": {"secret": ["eyes only"], "kind": "nats", "url": "x"}},
    ],
)
def test_an_invalid_launch_is_refused_without_showing_its_secrets(launch: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        modal_entry.run(launch, None)
    assert "eyes only" not in f"{raised.value} {raised.value!r}"


def test_a_launch_shows_its_secret_only_in_its_argument() -> None:
    launch = Launch(assignment_key="k", bus=BusAccess(kind="ingest", url="https://x.example", secret="eyes only"))
    assert "eyes only" not in f"{launch} {launch!r} {launch.model_dump()} {launch.model_dump_json()}"
    assert launch.argument()["bus"]["secret"] == "eyes only"
    assert Launch.model_validate(launch.argument()) == launch
