"""A test that hangs fails by its name, and the tests after it run, in one process and in those of pytest-xdist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.preloaded.start_request import ROOT

_CONFTEST = """
import pytest
from tests.harness.deadlines import Deadlines

def pytest_configure(config):
    config.pluginmanager.register(Deadlines(config))

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def server(tmp_path_factory):
    yield
    print("server ended")
"""
_COROUTINE = """
import asyncio, pytest

@pytest.mark.anyio
async def test_waits(server):
    await asyncio.Event().wait()

def test_after():
    pass
"""
_FINALIZER = """
import pytest, threading

@pytest.fixture
def deaf():
    yield
    threading.Event().wait()

def test_with_deaf_finalizer(deaf):
    assert False, "its timer ends when a test has failed"

def test_after():
    pass
"""
_SWALLOWED = """
import threading

def test_catches_everything():
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            continue

def test_after():
    pass
"""


def _run(folder: Path, tests: str, timeout_s: int, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(_CONFTEST)
    (folder / "test_hanging.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--timeout",
        str(timeout_s),
        *options,
        folder,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # noqa: TID251 - of another pytest
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_coroutine_that_hangs_is_cancelled_and_its_fixtures_are_finalized(tmp_path: Path) -> None:
    run = _run(tmp_path, _COROUTINE, 16, "-rA")
    assert run.returncode == 1, run.stdout
    assert "1 failed, 1 passed" in run.stdout, run.stdout
    assert "TimeoutError" in run.stdout, run.stdout
    assert "await asyncio.Event().wait()" in run.stdout, run.stdout
    assert "server ended" in run.stdout, run.stdout


@pytest.mark.parametrize(
    ("tests", "name"), [(_FINALIZER, "test_with_deaf_finalizer"), (_SWALLOWED, "test_catches_everything")]
)
def test_what_cannot_be_cancelled_ends_its_process_and_the_others_run(tmp_path: Path, tests: str, name: str) -> None:
    run = _run(tmp_path, tests, 5, "-n", "1")
    assert run.returncode == 1, run.stdout
    assert "crashed while running" in run.stdout, run.stdout
    assert name in run.stdout, run.stdout
    assert "1 passed" in run.stdout, run.stdout
    # The stack of each thread says where it hung.
    assert "Timeout (0:00:06" in run.stderr, run.stderr
    assert "threading.py" in run.stderr, run.stderr
