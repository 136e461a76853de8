"""Real servers for tests: one protocol for NATS and S3, made from the embedded binaries or from containers."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import SecretStr

from cli.embedded.s3_options import S3_SERVER_OPTIONS
from contracts.limits import GIB
from kit.auth.bus_token import BusToken, BusTokenIssuer
from kit.settings import NatsSettings, S3Settings

ROOT = Path(__file__).resolve().parents[3]
HOST = "127.0.0.1"
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "test-key", "test-secret"


#: Below the range from which Linux takes the ports of outgoing connections (ip_local_port_range): none takes the port
#: of a server that is about to start, or that a test has killed and starts again.
_PORTS = range(10_240, 32_000)
#: Each process begins elsewhere, so that two seldom try the same port at the same moment.
_next_ports = itertools.cycle(range(len(_PORTS)))
_first_port = random.SystemRandom().randrange(len(_PORTS))


def free_port() -> int:
    """Return a port that nothing listens on, and that this process has not returned lately."""
    for number in itertools.islice(_next_ports, len(_PORTS)):
        port = _PORTS[(_first_port + number) % len(_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise AssertionError("no port is free")


def binary(name: str) -> str:
    """Return the path of a program of this virtual environment."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed: make install"
    return found


def wait_for_port(port: int, process: subprocess.Popen[bytes] | None = None, timeout_s: float = 60.0) -> None:
    """Wait until something listens."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        assert process is None or process.poll() is None, f"the server ended with {process and process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


def wait_until_ready(port: int, process: subprocess.Popen[Any] | None = None, timeout_s: float = 60.0) -> None:
    """Wait until a service of ours has read its history."""
    end, said = time.monotonic() + timeout_s, ""
    while time.monotonic() < end:
        assert process is None or process.poll() is None, f"the service ended with {process and process.returncode}"
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/ready", timeout=10):
                return
        except OSError as error:  # also an answer that is none of success
            said = repr(error)
        time.sleep(0.02)
    raise TimeoutError(f"the service on port {port} is not ready: {said}")


class NatsServer(AbstractContextManager["NatsServer"], Protocol):
    """A nats-server with JetStream that keeps its data and its port over a kill and a start."""

    @property
    def settings(self) -> NatsSettings:
        """How to reach it."""

    def start(self) -> None:
        """Start it, or start it again."""

    def kill(self) -> None:
        """Kill -9."""


class S3Server(AbstractContextManager["S3Server"], Protocol):
    """An S3 server."""

    @property
    def settings(self) -> S3Settings:
        """How to reach it."""


class EmbeddedNats:
    """nats-server from its wheel."""

    def __init__(self, folder: Path, sync_always: bool = False) -> None:
        self._folder = folder
        self._port = free_port()
        self._sync_always = sync_always
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> NatsSettings:
        return NatsSettings(url=self.url)

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self._port}"

    def _more_configuration(self) -> str:
        return ""

    def start(self) -> None:
        config = self._folder / "nats.conf"
        sync = ", sync_interval: always" if self._sync_always else ""
        # By default the server takes a share of the free space, and refuses the streams on a disk that is nearly full.
        store = f'store_dir: "{self._folder / "jetstream"}", max_file_store: {64 * GIB}{sync}'
        config.write_text(f"jetstream {{ {store} }}\n" + self._more_configuration())
        command = [binary("nats-server"), "-c", str(config), "-a", HOST, "-p", str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self._port, self._process)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait(timeout=30)

    def pause(self) -> None:
        """Stop its process, which keeps its connections and accepts further ones, and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=30)


@functools.cache
def _shared_operator_keys() -> Path:
    """Make the keys that the servers of this process share; they are removed with the process."""
    folder = Path(tempfile.mkdtemp(prefix="operator-keys-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _make_operator_keys(folder / "keys")
    return folder / "keys"


def _make_operator_keys(folder: Path) -> None:
    command = [sys.executable, "-m", "deploy.nats_operator", "--folder", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=60)


class OperatorNats(EmbeddedNats):
    """nats-server in operator mode, with keys of deploy/nats_operator.py; ``settings`` are the services'.

    With ``own_keys`` no other server of this process has the same keys.
    """

    def __init__(self, folder: Path, *, own_keys: bool = False) -> None:
        super().__init__(folder)
        self.keys = folder / "keys"
        if own_keys:
            _make_operator_keys(self.keys)
        else:
            shutil.copytree(_shared_operator_keys(), self.keys)
        self.tokens = BusTokenIssuer(SecretStr((self.keys / "workers.seed").read_text()))

    @property
    def settings(self) -> NatsSettings:
        return NatsSettings(url=self.url, credentials_file=str(self.keys / "services.creds"))

    def settings_of(self, token: BusToken) -> NatsSettings:
        """Return the settings of a worker with this token."""
        return NatsSettings(url=self.url, credentials=token.credentials, inbox_prefix=token.inbox_prefix)

    def _more_configuration(self) -> str:
        return "include keys/operator.conf\nmax_payload: 1MB\n"


@dataclass(frozen=True)
class SharedS3(AbstractContextManager["SharedS3"]):
    """One bucket on an S3 server that others use too; it cannot be stopped."""

    settings: S3Settings

    def __exit__(self, *_: object) -> None:
        return


#: Buckets of a server that all tests of a process share.
SHARED_BUCKETS = 2000


def _bucket_name(number: int) -> str:
    return f"saccade-{number}"


class EmbeddedS3:
    """``rclone serve s3`` from its wheel; ``new_buckets`` is how many ``with_new_bucket`` can make."""

    def __init__(self, folder: Path, *, new_buckets: int = 0) -> None:
        self._folder = folder
        self._new_buckets = new_buckets
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._buckets = 0

    @property
    def settings(self) -> S3Settings:
        return self.settings_of("saccade")

    def settings_of(self, bucket: str) -> S3Settings:
        """Return the settings that lead to one of its buckets."""
        return S3Settings(
            endpoint_url=f"http://{HOST}:{self._port}",
            bucket=bucket,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SecretStr(SECRET_ACCESS_KEY),
        )

    def __enter__(self) -> Self:
        # All buckets before the start: rclone caches the list of its folders and may miss a later one.
        for name in ("saccade", *(_bucket_name(number) for number in range(1, self._new_buckets + 1))):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        command = [
            binary("rclone"),
            "serve",
            "s3",
            "--config",
            "",
            "--addr",
            f"{HOST}:{self._port}",
            *S3_SERVER_OPTIONS,
        ]
        command += ["--auth-key", f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(self._port, self._process)
        return self

    def pause(self) -> None:
        """Stop its process, which keeps its connections and accepts further ones, and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def with_new_bucket(self) -> SharedS3:
        """Return a bucket that no other test uses."""
        self._buckets += 1
        assert self._buckets <= self._new_buckets
        return SharedS3(self.settings_of(_bucket_name(self._buckets)))

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(timeout=30)
