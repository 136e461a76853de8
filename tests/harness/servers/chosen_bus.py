"""The bus of tests that do not choose one: a single nats-server, or with ``--cluster`` three with three replicas."""

from __future__ import annotations

from pathlib import Path

from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.embedded import EmbeddedNats, NatsServer

_makers: list[type[EmbeddedNats] | type[EmbeddedCluster]] = [EmbeddedNats]


def choose_cluster() -> None:
    """Let every test of this process that does not choose a bus have a cluster."""
    _makers.append(EmbeddedCluster)


def chosen_bus(folder: Path) -> NatsServer:
    """Make the bus, which is not started yet."""
    return _makers[-1](folder)
