"""A program that is a fork of the preloaded process is the same as one that is started with ``python -m``."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.embedded.processes import _prepare_child
from tests.harness.preloaded import popen
from tests.harness.preloaded.popen import PRELOADED
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.harness.servers.process_output import read_line

ROOT = Path(__file__).parents[3]
PROBE = [sys.executable, "-m", "tests.harness.preloaded.probe"]


@pytest.fixture
def forks() -> Iterator[Callable[[], int]]:
    """Count the forks of a test."""
    popen.install()
    before = PRELOADED.forks
    yield lambda: PRELOADED.forks - before
    popen.uninstall()


def reported(**options: Any) -> dict[str, Any]:
    """Run the probe with a word and return its report."""
    done = subprocess.run([*PROBE, "one", "two words"], capture_output=True, check=True, timeout=60, **options)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"env": {**ONE_AUTHORITY, "NAME": "value"}, "cwd": ROOT},
        {"env": {**ONE_AUTHORITY, "PYTHONPATH": f"{ROOT}:/nowhere", "PYTHONSAFEPATH": "1"}, "cwd": "/"},
        {
            "env": {**ONE_AUTHORITY, "PYTHONUNBUFFERED": "1", "TMPDIR": "/", "TZ": "Asia/Tokyo"},
            "start_new_session": True,
        },
        {"env": {**ONE_AUTHORITY, "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}},
    ],
    ids=["inherited", "own variables", "another folder", "unbuffered in a session", "no bytecode"],
)
def test_it_has_the_same_from_its_start(options: dict[str, Any], forks: Callable[[], int]) -> None:
    options = {"cwd": ROOT, "env": dict(os.environ)} | options  # noqa: TID251 - readline has put more there in C
    forked = reported(**options)
    assert forks() == 1
    popen.uninstall()
    started = reported(**options)
    assert forks() == 1
    assert {name: forked[name] for name in forked if forked[name] != started[name]} == {}
    assert forked["parent"] == os.getpid()


def test_it_has_the_files_that_are_passed_to_it_and_no_others(forks: Callable[[], int]) -> None:
    reading, writing = os.pipe()
    other = os.dup(writing)
    os.set_inheritable(other, True)
    try:
        passed = os.dup(writing)
        found = reported(cwd=ROOT, pass_fds=(passed,), env=ONE_AUTHORITY)
        assert forks() == 1
        assert found["open files"] == [0, 1, 2, passed]
        for number in (writing, other, passed):
            os.close(number)
        os.set_blocking(reading, False)
        assert os.read(reading, 1) == b"", "a process still has the other end of the pipe"
    finally:
        os.close(reading)


def test_modules_of_its_folder_are_found_first(forks: Callable[[], int], tmp_path: Path) -> None:
    environment = {**ONE_AUTHORITY, "PYTHONPATH": str(ROOT)}
    found = reported(cwd=tmp_path, env=environment)
    assert forks() == 1
    assert found["imports"][:2] == [str(tmp_path), str(ROOT)]
    for name in ("cli.py", "json"):
        (tmp_path / name).mkdir()
        reported(cwd=tmp_path, env=environment)
        assert forks() == 1, "started: it may have imported this one"
        (tmp_path / name).rmdir()


@pytest.mark.parametrize("code", [0, 1, 75])
def test_its_exit_code_is_that_of_the_program(code: int, forks: Callable[[], int]) -> None:
    assert subprocess.run([*PROBE, "exit", str(code)], cwd=ROOT, check=False, timeout=60).returncode == code
    assert forks() == 1


def test_its_failure_is_written_and_its_code_is_1(forks: Callable[[], int]) -> None:
    failed = subprocess.run([*PROBE, "raise"], cwd=ROOT, check=False, timeout=60, capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.endswith("ValueError: asked for\n")
    assert forks() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_it_and_nothing_is_left(number: signal.Signals, forks: Callable[[], int]) -> None:
    with subprocess.Popen([*PROBE, "wait"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert read_line(process.stdout) == b"waiting\n"
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == -number
    assert forks() == 1
    assert not psutil.pid_exists(process.pid)


def test_its_session_can_be_killed_as_a_whole(forks: Callable[[], int]) -> None:
    with subprocess.Popen([*PROBE, "wait"], cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert read_line(process.stdout) == b"waiting\n"
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    assert forks() == 1


def test_it_reads_its_input_and_writes_its_output(forks: Callable[[], int], tmp_path: Path) -> None:
    text, command = "täxt\n" * 50_000, [*PROBE, "copy"]
    done = subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == text
    with (tmp_path / "in").open("w+b") as given, (tmp_path / "out").open("wb") as written:
        given.write(b"from a file")
        given.seek(0)
        subprocess.run([*PROBE, "copy"], cwd=ROOT, stdin=given, stdout=written, check=True, timeout=60)
    assert (tmp_path / "out").read_bytes() == b"from a file"
    assert forks() == 2


def test_asyncio_waits_for_it(forks: Callable[[], int]) -> None:
    async def run() -> tuple[bytes, int | None]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*PROBE, "copy", cwd=ROOT, stdin=pipe, stdout=pipe)
        output, _ = await process.communicate(b"given")
        return output, process.returncode

    assert asyncio.run(run()) == (b"given", 0)
    assert forks() == 1


def test_two_forks_draw_different_random_numbers(forks: Callable[[], int]) -> None:
    command = [*PROBE, "random"]
    drawn = [subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout for _ in range(2)]
    assert len(set(b" ".join(drawn).split())) == 4
    assert forks() == 2


def test_a_program_that_starts_others_forks_them_too(forks: Callable[[], int]) -> None:
    variables = dict(os.environ)  # noqa: TID251 - readline has put more there in C

    def lines() -> list[dict[str, Any]]:
        command = [*PROBE, "start"]
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, check=True, timeout=60)
        return [json.loads(line) for line in done.stdout.splitlines()]

    child, starter = lines()
    assert (starter["forks"], starter["code"]) == (1, 0)
    assert forks() == 1, "the inner fork is the program's own"
    popen.uninstall()
    started, starter = lines()
    assert (starter["forks"], starter["code"]) == (0, 0)
    assert {name for name in child if child[name] != started[name]} - {"parent"} == set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_preloaded_process_of_a_program_ends_with_it(number: signal.Signals, forks: Callable[[], int]) -> None:
    with subprocess.Popen([*PROBE, "start", "wait"], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert read_line(process.stdout) == b"waiting\n"
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) == 2
        (preloaded,) = (one for one in below if "preloaded" in one.cmdline())
        assert not any(preloaded.environ().values()), "no mark of the program is found in it"
        process.send_signal(number)
        process.wait(60)
        _, alive = psutil.wait_procs([preloaded], timeout=30)
        assert alive == []
        psutil.Process(next(one.pid for one in below if one != preloaded)).kill()
    assert forks() == 1


def test_a_child_of_saccade_up_is_a_fork(forks: Callable[[], int]) -> None:
    prepare = _prepare_child(os.getpid())
    with subprocess.Popen([*PROBE, "wait"], cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=prepare) as process:  # noqa: PLW1509
        assert process.stdout
        assert read_line(process.stdout) == b"waiting\n"
        process.kill()
    assert forks() == 1


def test_in_the_suite_of_the_system_the_first_start_of_a_command_is_real(forks: Callable[[], int]) -> None:
    popen.install(first_starts_are_real=True)
    words = (["copy"], ["exit", "0"], ["exit", "0"], ["copy"])
    counts = []
    for command in words:
        subprocess.run([*PROBE, *command], cwd=ROOT, check=True, timeout=60, stdin=subprocess.DEVNULL)
        counts.append(forks())
    assert counts == [0, 0, 1, 2]


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"PYTHONHASHSEED": "1"}},
        {"env": {"SSL_CERT_FILE": "/another"}},
        {"cwd": "/", "env": {**ONE_AUTHORITY, "PYTHONPATH": "/another"}},
        {"cwd": ROOT / "clients" / "python", "env": {**ONE_AUTHORITY, "PYTHONPATH": str(ROOT)}},
        {"preexec_fn": os.getpid},
        {"shell": True},
        {"umask": 0o77},
        {"process_group": 0},
        {"env": {**ONE_AUTHORITY, "LONG": "x" * 100_000}},
    ],
    ids=[
        "variables of Python",
        "another authority",
        "other modules",
        "modules in the folder",
        "preexec",
        "shell",
        "umask",
        "group",
        "long",
    ],
)
def test_what_a_fork_cannot_do_is_started(options: dict[str, Any], forks: Callable[[], int]) -> None:
    subprocess.run(
        [*PROBE, "exit", "0"], check=False, timeout=60, stdout=-3, stderr=-3, stdin=-3, **({"cwd": ROOT} | options)
    )
    assert forks() == 0


def test_other_programs_are_started(forks: Callable[[], int]) -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
    subprocess.run([sys.executable, "-m", "this"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert forks() == 0


def test_a_folder_that_is_missing_is_an_error_as_always(forks: Callable[[], int], tmp_path: Path) -> None:
    environment = {**ONE_AUTHORITY, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    with pytest.raises(FileNotFoundError):
        subprocess.run(PROBE, cwd=tmp_path / "missing", env=environment, check=False, timeout=60)
    assert forks() == 0


def test_after_the_end_of_the_preloaded_process_the_next_start_has_a_new_one(forks: Callable[[], int]) -> None:
    assert reported(cwd=ROOT)
    preloaded = PRELOADED.process_id
    assert preloaded
    psutil.Process(preloaded).kill()
    with pytest.raises(ConnectionResetError):
        reported(cwd=ROOT)
    assert reported(cwd=ROOT)
    assert PRELOADED.process_id != preloaded
    assert forks() == 2


@pytest.mark.real_starts
def test_a_test_with_the_mark_starts_programs_itself() -> None:
    assert subprocess.Popen is not popen.PreloadedPopen


def test_a_test_without_it_forks_them() -> None:
    assert subprocess.Popen is popen.PreloadedPopen
