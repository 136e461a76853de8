"""A service ends on SIGTERM at any moment of its start and after it, whatever its servers do at that moment.

Rounds are drawn: the service, what fails and from when on, and the moment of the signal. ``--seed`` plays those of a
failure again; ``make soak`` plays many.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from kit.settings import as_environment
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port
from tests.harness.servers.running_process import why_it_runs

SERVICES = ("gateway", "dispatcher", "notifier", "bucket_proxy")
#: What does not answer from some moment on: processes that are stopped, with their connections open.
FAULTS = ("nothing", "nothing", "NATS", "bucket", "both", "no NATS")
#: A deadline, not a measure: the machine may be busy.
PATIENCE_S = 60.0
#: What is not counted when the deadline of the stop has ended a service: it waited that long for a processor.
STARVED_S = 2.0
FORCED = ("the stop has not ended within", "Timeout (")
#: The first second is the start of a fork on an idle machine, and what a service does for longer is a wait for servers.
LATEST_SIGNAL_S = 4.0


#: Makes the program after it the first process of a namespace, as a container engine does; it ends with us.
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


def can_make_namespaces() -> bool:
    """Return whether this is Linux and the user may do so."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True, timeout=30).returncode == 0


@dataclass(frozen=True)
class Round:
    """What happens in one round."""

    service: str
    fault: str
    fault_s: float
    signal_s: float
    number: signal.Signals

    @classmethod
    def drawn(cls, chance: random.Random) -> Round:
        signal_s = chance.choice((chance.uniform(0, 1), chance.uniform(0, LATEST_SIGNAL_S)))
        number = chance.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGINT))
        return cls(chance.choice(SERVICES), chance.choice(FAULTS), chance.uniform(0, signal_s), signal_s, number)


@dataclass(frozen=True)
class Servers:
    """Servers of all rounds, and an address that accepts connections and answers nothing: the collector of traces."""

    nats: EmbeddedNats
    s3: EmbeddedS3
    collector: str

    def pause(self, fault: str) -> None:
        if fault in ("NATS", "both"):
            self.nats.pause()
        if fault in ("bucket", "both"):
            self.s3.pause()

    def resume(self) -> None:
        self.nats.resume()
        self.s3.resume()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    for name in ("nats", "s3"):
        (tmp_path / name).mkdir()
    with (
        EmbeddedNats(tmp_path / "nats") as nats,
        EmbeddedS3(tmp_path / "s3") as s3,
        socket.create_server((HOST, 0)) as silent,
    ):
        yield Servers(nats, s3, f"http://{HOST}:{silent.getsockname()[1]}")


def environment(drawn: Round, servers: Servers, folder: Path) -> dict[str, str]:
    own = dict(os.environ)  # noqa: TID251 - of another program
    settings = as_environment(servers.nats.settings, servers.s3.settings)
    if drawn.fault == "no NATS":
        settings["NATS_URL"] = f"nats://{HOST}:{free_port()}"
    name = drawn.service.upper()
    return {
        **own,
        **settings,
        f"{name}_HOST": HOST,
        f"{name}_PORT": str(free_port()),
        f"{name}_DATA_DIR": str(folder),
        "BUCKET_PROXY_UPSTREAM_URL": servers.s3.settings.endpoint_url,
        "NOTIFIER_SECRET_KEY": "k" * 32,
        "OTEL_EXPORTER_OTLP_ENDPOINT": servers.collector,
    }


def play(drawn: Round, servers: Servers, folder: Path) -> float:
    """Play a round and return how long the service took to end.

    Raises:
        AssertionError: it did not end, was ended by the deadline of its stop, or failed.
    """
    folder.mkdir()
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{drawn.service}"],
            env=environment(drawn, servers, folder / "data"),
            stdout=out,
            stderr=out,
            text=True,
        )
    try:
        time.sleep(drawn.fault_s)
        servers.pause(drawn.fault)
        time.sleep(drawn.signal_s - drawn.fault_s)
        assert process.poll() is None, f"it ended before its signal, with {process.returncode}: {log.read_text()}"
        process.send_signal(drawn.number)
        took_s, starved_s = ended(process, log)
    finally:
        servers.resume()
        process.kill()
        process.wait(timeout=30)
    said = log.read_text()
    if any(words in said for words in FORCED):
        assert starved_s > STARVED_S, said
    else:
        # A service that has no handlers yet is ended by the signal; Python ends by SIGINT with a traceback.
        assert process.returncode in (0, -drawn.number) or said.endswith("KeyboardInterrupt\n"), said
    return took_s


def ended(process: subprocess.Popen[str], log: Path) -> tuple[float, float]:
    """Wait for the end of a service; return the seconds that it took, and for how many it waited for a processor.

    Raises:
        AssertionError: it does not end.
    """
    began, before_s, starved_s = time.monotonic(), starved(process), 0.0
    while process.poll() is None:
        assert time.monotonic() - began < PATIENCE_S, f"it has not ended\n{why_it_runs(process, [], [log])}"
        starved_s = max(starved_s, starved(process) - before_s)
        time.sleep(0.02)
    return time.monotonic() - began, starved_s


def starved(process: subprocess.Popen[str]) -> float:
    """Return for how many seconds a process has been ready to run while others ran (proc(5), schedstat)."""
    try:
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):  # it has just ended, or this is no Linux
        return 0.0


@pytest.mark.soak
@pytest.mark.timeout(3600)  # a soak is long; each wait in it has a limit of its own
def test_a_service_ends_at_any_moment(servers: Servers, tmp_path: Path, seed: int, soak_runs: int) -> None:
    chance, slowest = random.Random(seed), (0.0, "")
    for number in range(soak_runs):
        drawn = Round.drawn(chance)
        try:
            slowest = max(slowest, (play(drawn, servers, tmp_path / str(number)), str(drawn)))
        except BaseException as error:
            error.add_note(f"round {number} of --seed {seed}: {drawn}")
            raise
    print(f"slowest of {soak_runs} rounds of --seed {seed}: {slowest[0]:.2f} s, {slowest[1]}")
    with contextlib.suppress(psutil.Error):
        assert not [child for child in psutil.Process().children() if "services." in " ".join(child.cmdline())]


def inner(process: subprocess.Popen[str]) -> psutil.Process:
    """Return the first process of a namespace that ``unshare`` has made."""
    end = time.monotonic() + PATIENCE_S
    while not (children := psutil.Process(process.pid).children()):
        assert process.poll() is None, "unshare has ended"
        assert time.monotonic() < end
        time.sleep(0.005)
    return children[0]


def handles_sigterm(process: psutil.Process) -> bool:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    return bool(int(fields["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.real_starts
@pytest.mark.skipif(not can_make_namespaces(), reason="this user may not make a namespace of processes")
@pytest.mark.parametrize("service", SERVICES)
def test_the_first_process_of_a_container_hears_of_its_end_while_it_imports(service: str, tmp_path: Path) -> None:
    """The kernel drops a signal to such a process that it does not handle: the service started in spite of it."""
    own = dict(os.environ)  # noqa: TID251 - of another program
    settings = {"NATS_URL": f"nats://{HOST}:{free_port()}", "BUCKET_PROXY_UPSTREAM_URL": f"http://{HOST}:{free_port()}"}
    process = subprocess.Popen(
        [*NAMESPACE, sys.executable, "-m", f"services.{service}"],
        env={**own, **settings, f"{service.upper()}_DATA_DIR": str(tmp_path), f"{service.upper()}_PORT": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first, end = inner(process), time.monotonic() + PATIENCE_S
        while not handles_sigterm(first):
            assert time.monotonic() < end
            time.sleep(0.002)
        first.terminate()
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 128 + signal.SIGTERM, said
    finally:
        process.kill()
        process.wait(timeout=30)
