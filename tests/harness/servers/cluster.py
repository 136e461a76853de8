"""Three nats-servers that are one cluster: each on loopback, each can be killed, paused and started by itself."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from contracts.limits import GIB
from kit.auth.bus_token import BusToken
from kit.settings import NatsSettings
from tests.harness.servers.embedded import HOST, OperatorNats, binary, free_port, wait_for_port
from tests.harness.servers.slow_disk import SlowDisk

_NAMES = ("one", "two", "three")
_READY_S = 90.0


class ClusterNode:
    """One nats-server of a cluster; keeps its data and its ports over a kill and a start."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port, self.route_port, self.monitoring_port = free_port(), free_port(), free_port()
        #: Variables that its configuration names.
        self.environment: dict[str, str] = {}
        #: Its disk, if it can be made slow.
        self.disk: SlowDisk | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def configure(self, routes: list[int], accounts: str) -> None:
        """Write its configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        others = ", ".join(f"nats://{HOST}:{port}" for port in routes)
        (self.folder / "nats.conf").write_text(f"""
server_name: {self.name}
listen: {HOST}:{self.port}
http: {HOST}:{self.monitoring_port}
max_payload: 1MB
log_file: "{self.folder / "nats.log"}"
jetstream {{ store_dir: "{self.folder / "jetstream"}", max_file_store: {64 * GIB} }}
cluster {{ name: test, listen: {HOST}:{self.route_port}, routes: [{others}] }}
{accounts}
""")

    def start(self) -> None:
        """Start it, or start it again; return when it accepts connections."""
        if self.running:
            return
        command = [binary("nats-server"), "-c", str(self.folder / "nats.conf")]
        self._process = (
            self.disk.start(command, self.environment)
            if self.disk
            else subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        wait_for_port(self.port, self._process)

    def kill(self) -> None:
        """Kill -9; also if it is paused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)

    def stop(self) -> None:
        """Have it end in order, as an upgrade does."""
        assert self._process
        self._process.terminate()
        self._process.wait(timeout=60)

    def pause(self) -> None:
        """Stop its process, which keeps its connections: to the others it is a node that does not answer."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def jetstream_report(self) -> dict[str, Any]:
        """Return what it says about JetStream; empty if it does not answer."""
        with contextlib.suppress(OSError, ValueError):
            report: dict[str, Any] = json.loads(self._monitored("jsz?accounts=true&streams=true"))
            return report
        return {}

    def is_healthy(self) -> bool:
        """Return whether its streams and consumers are recovered and current."""
        with contextlib.suppress(OSError):  # another status than 200 is an HTTPError, which is one of them
            return bool(self._monitored("healthz"))
        return False

    def _monitored(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{HOST}:{self.monitoring_port}/{path}", timeout=2) as answer:
            return bytes(answer.read())


class EmbeddedCluster:
    """Three nats-servers from the wheel; ``kill`` and ``start`` act on all of them, as with one server."""

    def __init__(self, folder: Path, accounts: str = "", *, slow_disks: bool = False) -> None:
        """``accounts`` is added to each configuration: users, or operator mode.

        With ``slow_disks`` the disk of each node can be made slow.
        """
        self.nodes = [ClusterNode(name, folder / name) for name in _NAMES]
        for node in self.nodes:
            node.disk = SlowDisk() if slow_disks else None
        routes = [node.route_port for node in self.nodes]
        for node in self.nodes:
            self._configure(node, routes, accounts)

    def _configure(self, node: ClusterNode, routes: list[int], accounts: str) -> None:
        node.configure(routes, accounts)

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    @property
    def settings(self) -> NatsSettings:
        return NatsSettings(url=self.url, replicas=3)

    def start(self) -> None:
        """Start the nodes that do not run; return when the cluster has a leader and every node is current."""
        for node in self.nodes:
            node.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until there is a meta leader and every running node is current."""
        self._wait(lambda: bool(self.meta_leader()) and all(node.is_healthy() for node in self.nodes if node.running))

    def meta_leader(self) -> ClusterNode | None:
        """Return the node that leads the cluster's own log, if a majority runs."""
        names = [node.jetstream_report().get("meta_cluster", {}).get("leader") for node in self.nodes if node.running]
        return self._named(names[0]) if names and names[0] and len(set(names)) == 1 else None

    def leader_of(self, stream: str) -> ClusterNode:
        """Wait until a stream has a leader; return it."""
        found: list[ClusterNode] = []

        def look() -> bool:
            for node in self.nodes:
                leader = self._named(_leader(node.jetstream_report(), stream)) if node.running else None
                if leader and leader.running:
                    found[:] = [leader]
                    return True
            return False

        self._wait(look)
        return found[0]

    def kill(self) -> None:
        """Kill -9 of all nodes."""
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _named(self, name: str) -> ClusterNode | None:
        return next((node for node in self.nodes if node.name == name), None)

    def _wait(self, until: Callable[[], bool]) -> None:
        end = time.monotonic() + _READY_S
        while not until():
            assert time.monotonic() < end, f"the cluster is not ready after {_READY_S:.0f} s"
            time.sleep(0.05)


class OperatorCluster(EmbeddedCluster):
    """A cluster in operator mode, with keys of deploy/nats_operator.py; ``settings`` are the services'."""

    def __init__(self, folder: Path) -> None:
        #: One server with the same keys, which is not started: it signs tokens.
        self.keys_of = OperatorNats(folder)
        super().__init__(folder, "include ../keys/operator.conf")

    @property
    def settings(self) -> NatsSettings:
        return super().settings.model_copy(update={"credentials_file": self.keys_of.settings.credentials_file})

    def settings_of(self, token: BusToken, node: ClusterNode) -> NatsSettings:
        """Return the settings of a worker with this token, which connects to one node."""
        return self.keys_of.settings_of(token).model_copy(update={"url": node.url, "replicas": 3})


def _leader(report: dict[str, Any], stream: str) -> str:
    """Return the name of a stream's leader as a node knows it; empty if it knows none."""
    for account in report.get("account_details", []):
        for detail in account.get("stream_detail") or []:
            if detail["name"] == stream:
                return str((detail.get("cluster") or {}).get("leader") or "")
    return ""
