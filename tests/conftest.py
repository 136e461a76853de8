"""Fixtures for every suite: real servers, one event loop library. Tests import from tests.harness, never from here."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kit.settings import numeric_library_threads
from tests.harness.cpu_times import CpuTimes
from tests.harness.deadlines import Deadlines
from tests.harness.distribution import (
    LIGHT,
    NICENESS_OF_COMPUTING,
    Lanes,
    is_collected,
    lanes_of_process,
    processes_of_machine,
)
from tests.harness.preloaded import popen
from tests.harness.process_memory import PeakMemory, release_memory
from tests.harness.servers.chosen_bus import choose_cluster, chosen_bus
from tests.harness.servers.container_engine import engine_answers
from tests.harness.servers.embedded import SHARED_BUCKETS, EmbeddedS3, NatsServer, S3Server
from tests.harness.servers.loopback_tls import trust_one_authority
from tests.harness.share import Share, Shares, share_of_run

#: The numeric libraries read this when they are loaded. The test processes share the cores already, and threads of
#: OpenMP wait in a busy loop: that took 90 % of the CPU time of the tests that train or draw splats.
THREADS = numeric_library_threads(1)
# Here, not in a hook: pytest imports the conftest of a suite that it is started with before it calls any hook.
assert not {"numpy", "torch", "cv2"} & set(sys.modules), "a library was loaded before its number of threads was set"
os.environ.update(THREADS)  # noqa: TID251 - settings of other libraries
trust_one_authority()
#: Set in many containers. Every test process and every service that a test starts would compile all its modules anew:
#: half of the CPU time of a start, and 9 s for the collection of all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # noqa: TID251 - a setting of Python
sys.dont_write_bytecode = False
#: Nothing that the imports and the collection make is garbage, and there is more of it all the time: looking through it
#: again and again took a fifth of their CPU time. `pytest_collection_finish` enables it.
gc.disable()
#: Thresholds of the processes whose tests wait for servers. With Python's own (700, 10, 10), collections took an eighth
#: of the CPU time of the gateway's tests, for the same memory. What computes keeps those: its garbage may hold tensors.
_SELDOM = (20_000, 20, 10)
#: Loggers that a command of an operator silences for its process.
_SILENCED = ("kit", "kit.bus")


# No test measures speed: a busy machine made Hypothesis fail one whose examples took long to generate.
settings.register_profile(
    "saccade",
    settings(),
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("saccade")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take how long randomised runs are, and the seed of one that failed."""
    parser.addoption("--soak-runs", type=int, default=6, help="runs of each randomised test that is marked soak")
    parser.addoption("--cluster", action="store_true", help="a cluster of three, wherever a test has one nats-server")
    parser.addoption("--share-offset", type=int, default=None, help="cases that a run took of long enumerations")
    parser.addoption("--seed", type=int, default=None, help="seed to run a randomised test again")
    parser.addoption("--cpu-times", default=None, help="file for the CPU time of each test file")
    parser.addoption("--real-starts", action="store_true", help="start every program with python -m, fork none")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process: signals, and what distributes tests or measures memory and CPU time."""
    _restore_interrupts()
    if config.getoption("--cluster"):
        choose_cluster()
    if LIGHT not in lanes_of_process(config):
        os.nice(NICENESS_OF_COMPUTING)
    if config.getoption("tx", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Lanes())
    config.pluginmanager.register(PeakMemory(config))
    config.pluginmanager.register(CpuTimes(config))
    config.pluginmanager.register(Shares(config))
    config.pluginmanager.register(Deadlines(config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Choose the processes of ``-n auto``."""
    return processes_of_machine()


def pytest_unconfigure() -> None:
    """End the process that forks programs, and the browsers."""
    if chromium := sys.modules.get("tests.harness.clients.chromium"):
        chromium.end_shared()
    popen.uninstall()
    popen.PRELOADED.close()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect the files of this process's lanes only."""
    path = collection_path.relative_to(config.rootpath).as_posix()
    return None if is_collected(path, lanes_of_process(config)) else True


def pytest_collection_finish(session: pytest.Session) -> None:
    """Collect garbage again, but never look through the modules and the collected tests."""
    gc.freeze()
    if LIGHT in lanes_of_process(session.config):
        gc.set_threshold(*_SELDOM)
    gc.enable()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Let the kit log again, which a command in this process has silenced; return memory after a file's last test."""
    for name in _SILENCED:
        logging.getLogger(name).setLevel(logging.NOTSET)
    if nextitem is None or nextitem.path != item.path:
        release_memory()


def _restore_interrupts() -> None:
    """Take SIGINT again where the parent ignores it (a background shell): every child of a test would inherit that."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def soak_runs(request: pytest.FixtureRequest) -> int:
    """Return how many runs a test marked soak makes."""
    return int(request.config.getoption("--soak-runs"))


@pytest.fixture
def share(request: pytest.FixtureRequest) -> Share:
    """Return which cases of a long enumeration this run tries: all in a soak."""
    return share_of_run(request.config)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Draw a seed, or take the one given; a test that uses it says it when it fails."""
    given = request.config.getoption("--seed")
    return random.SystemRandom().randrange(2**32) if given is None else int(given)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a container engine where none answers; choose how the test's programs start."""
    if item.get_closest_marker("engine") and not engine_answers():
        pytest.skip("no container engine answers")
    is_system_test = item.path.is_relative_to(item.config.rootpath / "tests" / "system")
    if item.get_closest_marker("real_starts") or item.config.getoption("--real-starts"):
        popen.uninstall()
    else:
        popen.install(first_starts_are_real=is_system_test)


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, which nats-py needs."""
    return "asyncio"


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """Start a nats-server of the test's own, or with ``--cluster`` three of them."""
    folder = tmp_path / "nats"
    folder.mkdir()
    with chosen_bus(folder) as server:
        yield server


@pytest.fixture(scope="session")
def shared_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    """Start the S3 server of this process; each test takes a bucket of its own."""
    with EmbeddedS3(tmp_path_factory.mktemp("shared-s3"), new_buckets=SHARED_BUCKETS) as server:
        yield server


@pytest.fixture
def s3_server(shared_s3: EmbeddedS3) -> S3Server:
    """Make a bucket of the test's own."""
    return shared_s3.with_new_bucket()


@pytest.fixture
def own_s3_server(tmp_path: Path) -> Iterator[EmbeddedS3]:
    """Start an S3 server that the test may stop."""
    folder = tmp_path / "s3"
    folder.mkdir()
    with EmbeddedS3(folder) as server:
        yield server
